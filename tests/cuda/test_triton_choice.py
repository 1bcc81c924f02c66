"""Where PyTorch's kernels for GPUs are used, and where not: steps, dtypes, devices, versions; a Triton that does not work."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cuda.triton_host import MISSING, interpreted

if MISSING:
    pytest.skip(MISSING, allow_module_level=True)

import torch
from torch._subclasses import FakeTensorMode

import tacops
from tacops._core.neurons import LIFStep
from tacops.backends import torch_
from tacops.backends._torch import kernels, training

X = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def launches() -> Iterator[Any]:
    """How often each kernel was launched."""
    with interpreted() as count:
        yield count


class Soon:
    """A reset that the kernels don't know yet."""

    reset = 99


def test_unknown_steps_are_refused(launches: Any) -> None:
    """Resets, dtypes, several devices, parameters that are no rows: all go by the core."""
    step = LIFStep(torch_.BACKEND, 0.9, 1.0, "subtract").recipe
    assert step is not None
    assert training.run_kernel(step, X, None, 1) is not None
    assert training.run_kernel(step._replace(reset=Soon.reset), X, None, 1) is None  # type: ignore[arg-type]
    assert training.run_kernel(step._replace(threshold=torch.ones(2, 3)), X, None, 1) is None
    assert training.run_kernel(step, X, X[0].double(), 1) is None
    assert training.run_kernel(step, X, X[0].to("meta"), 1) is None
    assert training.run_kernel(step, X[:0], None, 1) is None
    assert training.run_kernel(step, X.to(torch.float8_e4m3fn), None, 1) is None


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is known of devices is found out anew."""
    kernels._missing.cache_clear()
    kernels._missing_layers.cache_clear()
    yield
    kernels._missing.cache_clear()
    kernels._missing_layers.cache_clear()


@pytest.mark.parametrize(
    ("capability", "spec", "said"),
    [
        ((9, 0), "found", "one Triton"),
        ((7, 0), "found", "PyTorch's operations (compute capability 7.0 is older than 7.5)"),
        ((9, 0), None, "PyTorch's operations (Triton is not installed)"),
    ],
)
def test_which_is_used(capability: Any, spec: Any, said: str, forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m tacops info` says, where there is such a device."""
    assert "neurons" not in torch_.BACKEND.describe() or torch.cuda.is_available()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    monkeypatch.setattr(torch_.TorchBackend, "devices", lambda self: ("cuda:0", "cpu"))
    monkeypatch.setattr(kernels, "find_spec", lambda name: spec)
    monkeypatch.setattr(kernels, "_try_out", lambda device: kernels._launching())
    monkeypatch.setattr(kernels, "_try_out_layer", lambda device: kernels._layers())
    assert torch_.BACKEND.describe()["neurons"].startswith(said)


def test_a_triton_that_fails_is_not_used(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that loads, but can't compile: PyTorch's own images for running have no C compiler. It is said, once."""

    def fail(*given: Any) -> Any:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(kernels, "find_spec", lambda name: "found")
    monkeypatch.setattr(kernels, "_launching", lambda: SimpleNamespace(forth=fail))
    monkeypatch.setattr(torch, "ones", lambda shape, device: X)  # there is no such device
    device = torch.device("cuda", 0)
    with pytest.warns(
        UserWarning, match=r"slower\. Triton can't be used here: RuntimeError: Failed to find C compiler\.$"
    ):
        assert kernels.missing(device) is not None
    assert kernels.describe(device).startswith("PyTorch's operations (Triton can't be used here")


def test_what_is_tried_out_sees_no_mode(launches: Any, forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first call may come from a simulation or a transform, in which no kernel could be launched."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(kernels, "find_spec", lambda name: "found")
    try_out = kernels._try_out
    monkeypatch.setattr(kernels, "_try_out", lambda device: try_out(torch.device("cpu")))
    with FakeTensorMode(), torch.device("meta"):
        assert kernels._missing("cuda", 0) is None
    assert launches.lif == 1


def test_older_versions_that_don_t_say_whether_they_export(launches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch 2.6 has no such function."""
    monkeypatch.delattr(torch.compiler, "is_exporting")
    tacops.lif(X)
    assert launches.lif == 1


def test_nothing_is_tried_out_in_a_recording(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA graph whose capture has begun gets PyTorch's operations, and it is said; the next call tries."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(kernels, "find_spec", lambda name: "found")
    monkeypatch.setattr(kernels, "_try_out", lambda device: tried.append(device))
    monkeypatch.setattr(kernels, "is_capturing", lambda: True)
    tried: list[Any] = []
    device = torch.device("cuda", 0)
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"while a CUDA graph was captured; call it once before$"):
            assert kernels.missing(device) is not None
    monkeypatch.setattr(kernels, "is_capturing", lambda: False)
    assert kernels.missing(device) is None
    assert tried == [device]
