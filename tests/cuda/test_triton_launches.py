"""What a GPU is asked for, counted without one: launches of a layer, and bytes of the neurons' kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cuda.triton_host import MISSING, interpreted

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import tacops
from tacops import surrogate
from tacops._core.neurons import LIFStep
from tacops.backends import torch_
from tacops.backends._torch import constants, kernels
from tacops.backends._torch.full import full_conv
from tacops.layers import FrozenLayer

ARCTAN = surrogate.arctan()


@pytest.fixture
def launches() -> Iterator[Any]:
    """How often each kernel was launched."""
    with interpreted() as count:
        yield count


VIEWS = {
    "view", "_unsafe_view", "expand", "permute", "transpose", "select", "slice", "detach", "alias", "unsqueeze", "squeeze", "split", "unfold"
}  # fmt: skip


class Launches(TorchDispatchMode):  # type: ignore[misc]
    """Operations that a GPU would be asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name not in VIEWS:
            self.names.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_launches(layout: Any, launches: Any) -> None:
    """A layer's: its convolution and its neurons, forwards and backwards, and nothing is copied or filled."""
    first = layout == "channels_first"
    x = torch.empty((16, 8, 2, 32, 32) if first else (16, 8, 32, 32, 2), device="meta")
    weight = torch.empty((32, 2, 3, 3) if first else (32, 3, 3, 2), device="meta")
    with Launches() as seen:
        tacops.conv_lif(x, weight, padding=1, layout=layout)
    assert seen.names == ["convolution", "neurons"]
    with Launches() as seen:
        spikes = tacops.conv_lif(x, weight.requires_grad_(), padding=1, layout=layout, surrogate=ARCTAN).spikes
    assert seen.names == ["convolution", "neurons"]
    upstream = torch.empty_like(spikes)
    with Launches() as seen:
        spikes.backward(upstream)
    assert seen.names == ["neurons_back", "convolution_backward"]


def test_launches_of_training_without_tf32(launches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where cuDNN would take TF32, a step of training takes 8 operations, however large the kernel.

    Filling zeros around the frames is two launches; of the copies one unfolds, the other is of gradients that lie channels first.
    """

    def conv(x: Any, weight: Any, bias: Any, window: Any, exact: bool) -> Any:
        return full_conv(x.movedim(-1, 1), weight.movedim(-1, 1), window).movedim(1, -1)

    monkeypatch.setattr(torch_, "conv", conv)
    x = torch.empty((16, 8, 32, 32, 2), device="meta", requires_grad=True)
    weight = torch.empty((32, 3, 3, 2), device="meta", requires_grad=True)
    with Launches() as seen:
        spikes = tacops.conv_lif(x, weight, padding=1, surrogate=ARCTAN).spikes
        torch.autograd.grad(spikes, (x, weight), torch.empty(spikes.shape, device="meta"))
    want = ["_convolution", "neurons", "neurons_back", "_convolution", "constant_pad_nd", "clone", "clone", "bmm"]
    assert [name for name in seen.names if not name.startswith("empty")] == want


@pytest.mark.parametrize("chunk_size", [1, 4])
def test_launches_of_reproducible_layers(chunk_size: int, launches: Any) -> None:
    """At inference a layer is one, after its frames are summed, and one for its weights in float16; all others are of weights."""
    x = torch.empty((16, 8, 32, 32, 2), dtype=torch.bool, device="meta")
    weight = torch.empty((32, 3, 3, 2), device="meta")
    with Launches() as seen:
        tacops.tac_conv(x, weight, chunk_size=chunk_size, aggregation="sum", padding=1, reproducible=True)
    sums = ["_to_copy"] + ["_to_copy", "add"] * 3 if chunk_size > 1 else []
    last = [*sums, "_to_copy", "layer"]
    assert seen.names[-len(last) :] == last
    assert not {"mm", "convolution", "neurons", "cat", "stack", "copy_", "clone"} & set(seen.names)
    assert len(seen.names) - len(last) <= 45


def test_launches_of_frozen_layers(launches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made of the weights is kept, until they are written to or replaced."""
    monkeypatch.setattr(constants, "_lasts", lambda x: True)
    x = torch.empty((16, 8, 32, 32, 2), dtype=torch.bool, device="meta")
    arrays = {"weight": torch.empty((32, 3, 3, 2), device="meta"), "bias": torch.empty(32, device="meta")}
    layer = FrozenLayer(arrays, {"chunk_size": 1, "padding": 1, "reproducible": True})

    def names() -> list[str]:
        with Launches() as seen:
            layer(x)
        return list(seen.names)

    first = names()
    assert len(first) > 40
    for _ in range(2):
        assert names() == ["layer"]
    with torch.inference_mode():
        assert len(names()) > 40  # what was made outside is not used inside
        assert names() == ["layer"]
    assert names() == first
    arrays["bias"].mul_(2)
    assert names() == first
    arrays["weight"] = arrays["weight"].clone()
    arrays["weight"].add_(1)
    assert names() == first
    assert names() == ["layer"]


@pytest.mark.parametrize("compact", [False, True])
def test_bytes_of_a_training_step(compact: bool) -> None:
    """Loads and stores, counted: 12 for a step of a neuron forwards in float32, and 24 in all; and membranes, once."""
    x, upstream = torch.randn(64, 2, 128), torch.randn(64, 2, 128)
    with interpreted(block=256) as launches:
        tacops.lif(x, compact=compact)
        inference = launches.bytes
        assert inference == ((5 if compact else 8) + 4 / 64) * x.numel()
        if compact:
            return
        tacops.lif(x.requires_grad_(), surrogate=ARCTAN).spikes.backward(upstream)
    assert (launches.lif, launches.lif_back) == (2, 1)
    assert launches.bytes - inference == (24 + 4 / 64) * x.numel()


def test_nothing_is_copied_twice_or_from_the_host(launches: Any) -> None:
    """Currents with gaps are copied once; float64, whose numbers go by arrays, waits for no copy from the host."""
    x = torch.randn(4, 2, 6, dtype=torch.float64)[..., ::2].requires_grad_()
    step = LIFStep(torch_.BACKEND, 0.9, 1.0, "subtract", ARCTAN).recipe
    with Launches() as seen:
        _, _, kept = kernels._launching().forth(step, x.detach(), None, 1, True)
    assert seen.names.count("clone") == 1
    with Launches() as seen:
        kernels._launching().back(step, ("arctan", 2.0), kept, None, 1, kept, None, (False, False))
    assert "lift_fresh" not in seen.names  # what torch.tensor makes of Python's numbers
