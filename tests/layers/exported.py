"""Networks that use every option of the layers, as one module for exporters: one program tests them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from tacops import Grid
from tacops.backends.torch_layers import ConvLIF, Sequential, Step, TACConv, TACLinear
from tacops.layers import Flatten, Pool2d, Scale

ALL = ("beta", "threshold", "aggregation")
PERIOD = 2
"""Frames of a call."""


def networks(reproducible: bool) -> dict[str, tuple[Any, str]]:
    """By what is special in each: a network, and the frames that it takes."""
    own: dict[str, Any] = {"reproducible": reproducible, "threshold": 0.3}
    dense: dict[str, Any] = {"chunk_size": 2, **own}
    counts: dict[str, Any] = {**dense, "reproducible": Grid(input_max=4) if reproducible else False}
    quarters: dict[str, Any] = {**own, "reproducible": Grid(input_step=0.25) if reproducible else False}
    halves: dict[str, Any] = {**dense, "reproducible": Grid(input_step=0.5) if reproducible else False}
    each: dict[str, Any] = {"beta": [0.3, 0.6, 0.9], "threshold": [0.2, 0.3, 0.4]}
    factors = np.array([0.5, 1.0, 0.5, 1.0], np.float32)
    return {
        "norm": (TACConv(2, 3, 3, padding="same", batch_norm=True, **dense), "images"),
        "window": (
            TACConv(
                2, 4, (2, 3), mode="preserve", reset="zero", stride=2, padding=((0, 1), (2, 1)), dilation=(1, 2),
                groups=2, layout="channels_first", **dense,
            ),
            "first",
        ),
        "one number each": (TACLinear(4, 3, **(dense | each), learn=("beta", "threshold"), aggregation="sum", reset="none"), "vectors"),
        "late": (TACLinear(4, 3, mode="preserve", aggregation="mean", reset="late", **dense), "vectors"),
        "synapse": (TACLinear(4, 3, learn=ALL, synapse_decay=0.6, **dense), "vectors"),
        "learned": (TACLinear(4, 3, learn=ALL, mode="preserve", aggregation="mean", batch_norm=True, **dense), "vectors"),
        "pools": (
            Sequential(
                Sequential(ConvLIF(2, 3, 3, padding=1, **own), Pool2d("max", 3, 2, padding=1)),
                ConvLIF(3, 2, 2, **own),
                Pool2d("sum", (2, 1)),
                Flatten(),
                TACLinear(4, 3, **counts),
            ),
            "images",
        ),
        "mean pool": (Sequential(Pool2d("mean", 2), ConvLIF(2, 3, (3, 1), **quarters)), "images"),
        "scale": (Sequential(Scale(factors), TACLinear(4, 3, **halves)), "vectors"),
    }  # fmt: skip


class Networks(torch.nn.Module):  # type: ignore[misc]
    """All of them, a step each."""

    def __init__(self, reproducible: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        pairs = networks(reproducible)
        self.kinds = [kind for _, kind in pairs.values()]
        self.steps = torch.nn.ModuleDict({name: Step(_settled(net, reproducible)) for name, (net, _) in pairs.items()})

    def initial(self, frames: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Of every network."""
        return [step.initial(frames[kind]) for step, kind in zip(self.steps.values(), self.kinds, strict=True)]

    def forward(self, frames: dict[str, Any], states: list[tuple[Any, ...]]) -> list[tuple[Any, tuple[Any, ...]]]:
        """The spikes and the next state of every network."""
        pairs = zip(self.steps.values(), self.kinds, states, strict=True)
        return [step(frames[kind], state) for step, kind, state in pairs]

    def whole(self, frames: dict[str, Any]) -> dict[str, Any]:
        """The trains of every network, called once."""
        pairs = zip(self.steps.items(), self.kinds, strict=True)
        return {name: step.net(frames[kind]) for (name, step), kind in pairs}


def _settled(net: Any, frozen: bool) -> Any:
    """At inference, with a norm that does something."""
    for name, array in net.named_buffers():
        array.copy_(
            torch.linspace(0.05, 0.4, len(array)) if name.endswith("mean") else torch.linspace(0.3, 0.6, len(array))
        )
    return net.eval().frozen() if frozen else net.eval()


def frames(steps: int, batch: int) -> dict[str, Any]:
    """Frames of each kind."""
    generator = torch.Generator().manual_seed(batch)
    images = (torch.rand((steps, batch, 6, 5, 2), generator=generator) < 0.4).float()
    vectors = (torch.rand((steps, batch, 4), generator=generator) < 0.4).float()
    return {"images": images, "first": images.movedim(-1, 2).contiguous(), "vectors": vectors}


def dynamic(states: list[tuple[Any, ...]]) -> Any:
    """Any number of samples, for exporters."""
    batch = torch.export.Dim("batch", min=2, max=64)
    return {kind: {1: batch} for kind in frames(1, 1)}, [tuple({0: batch} for _ in state) for state in states]


Program = Callable[[dict[str, Any], list[tuple[Any, ...]]], list[tuple[Any, tuple[Any, ...]]]]


def run(program: Program, module: Networks, x: dict[str, Any]) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Spikes of all calls, one after the other, and the last state, of every network."""
    states, spikes = module.initial(x), []
    for start in range(0, len(x["vectors"]), PERIOD):
        found = program({kind: array[start : start + PERIOD] for kind, array in x.items()}, states)
        spikes.append([fired for fired, _ in found])
        states = [tuple(state) for _, state in found]
    whole = [torch.cat(parts) for parts in zip(*spikes, strict=True)]
    return dict(zip(module.steps, zip(whole, states, strict=True), strict=True))
