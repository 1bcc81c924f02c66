"""What ``python -m bench speed`` computes: layers, modes, their arrays, and the least work each of them takes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench.shared.events import event_input

BETA = 0.9
THRESHOLD = 1.0
DENSITY = 0.1
SEED = 0
FLOAT = 4
"""Bytes of a float32."""

Floats: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Mode:
    """How a layer treats time: ``chunk`` frames share one convolution."""

    name: str
    label: str
    chunk: int = 1
    preserve: bool = False
    reproducible: bool = False
    by: str = ""
    """Of a training step, forward and backward: ``weight``, or ``both`` weight and input; "" is forward alone."""

    @property
    def weights(self) -> list[float]:
        """Aggregation weights of a whole chunk: those that the operators use by default."""
        decays = [BETA ** (self.chunk - 1 - k) for k in range(self.chunk)]
        total = sum(decays) if self.preserve else 1.0
        return [decay / total for decay in decays]

    @property
    def decay(self) -> float:
        """Factor of the membrane for one step of the neurons."""
        return BETA if self.preserve else float(BETA**self.chunk)

    @property
    def hold(self) -> int:
        """Steps of the neurons under one current."""
        return self.chunk if self.preserve else 1


EXACT = Mode("exact", "exact")
REPRODUCIBLE = Mode("reproducible", "exact, reproducible", reproducible=True)


def collapse(chunk: int) -> Mode:
    """One step of the neurons for `chunk` frames."""
    return Mode(f"collapse{chunk}", f"collapse K={chunk}", chunk)


def preserve(chunk: int) -> Mode:
    """`chunk` steps of the neurons for `chunk` frames."""
    return Mode(f"preserve{chunk}", f"preserve K={chunk}", chunk, preserve=True)


MODES = {mode.name: mode for mode in (EXACT, collapse(4), collapse(16), preserve(2), preserve(4), REPRODUCIBLE)}
"""Forward."""
STEPS = {
    mode.name: mode
    for mode in (
        Mode("step", "training step, by weight", by="weight"),
        Mode("step_both", "training step, by weight and input", by="both"),
        Mode("step_collapse16", "training step, by weight, collapse K=16", chunk=16, by="weight"),
    )
}
"""Training steps: forward and backward."""
ALL_MODES = {**MODES, **STEPS}
SLOPE = 2.0
"""Of the surrogate derivative, arctan's, in training steps."""


@dataclass(frozen=True)
class Case:
    """One layer: an odd kernel, stride 1, zeros around the input so that its shape is kept; ``space`` () is a dense layer."""

    name: str
    T: int
    B: int
    space: tuple[int, ...]
    c_in: int
    c_out: int
    kernel: int = 3
    groups: int = 1
    density: float = DENSITY
    """Share of spikes in the input."""
    base: str = ""
    """The layer of which this is one with another input; "" for a layer itself."""
    recorded: bool = False
    """Whether the input is cut out of N-MNIST's recordings."""

    @property
    def shape(self) -> Case:
        """The same for every input: what compilers see of a layer."""
        return replace(self, name="", density=DENSITY, base="", recorded=False)

    @property
    def padding(self) -> int:
        """Zeros on each side."""
        return self.kernel // 2

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(C_out, *kernel, C_in // groups)."""
        return (self.c_out, *(self.kernel,) * len(self.space), self.c_in // self.groups)

    @property
    def depth(self) -> int:
        """Products in one sum."""
        return math.prod(self.weight_shape[1:])

    @property
    def rows(self) -> int:
        """Sums per frame and output channel."""
        return self.B * math.prod(self.space)

    @property
    def flops(self) -> int:
        """Floating-point operations of the exact layer's convolutions: a multiplication and an addition per product."""
        return 2 * self.T * self.rows * self.c_out * self.depth

    @property
    def text(self) -> str:
        """The layer in words."""
        shape = " x ".join(map(str, self.space)) or "dense"
        kind = ", depth-wise" if self.groups > 1 else ""
        spikes = f", {100 * self.density:.3g} % of spikes" if self.base else ""
        return f"T {self.T}, B {self.B}, {self.c_in} -> {self.c_out} channels, {shape}{kind}{spikes}"

    def convolutions(self, mode: Mode) -> int:
        """Convolutions that a mode takes."""
        return -(-self.T // mode.chunk)

    def performed(self, mode: Mode) -> float:
        """Floating-point operations of a mode's convolutions; every gradient takes as many as the convolution."""
        return self.flops * self.convolutions(mode) / self.T * {"": 1, "weight": 2, "both": 3}[mode.by]

    def traffic(self, mode: Mode) -> int:
        """Bytes that must move at least: the input is read, spikes and the last membrane are written, once each.

        In a training step the input and the spikes' gradients are read, too, and gradients are written; what a library keeps
        for it could be computed again.
        """
        frames = self.convolutions(mode) * mode.hold
        inputs, weights = self.T * self.rows * self.c_in, math.prod(self.weight_shape)
        numbers = inputs + weights + (frames + 1) * self.rows * self.c_out
        if mode.by:
            numbers += inputs + weights + frames * self.rows * self.c_out + (inputs if mode.by == "both" else 0)
        return FLOAT * numbers

    def arrays(self) -> tuple[Floats, Floats]:
        """Binary input (T, B, *space, C_in) and normally distributed weights, equal for every library."""
        rng = np.random.default_rng(SEED)
        x = rng.random((self.T, self.B, *self.space, self.c_in), dtype=np.float32) < self.density
        w = rng.standard_normal(self.weight_shape, dtype=np.float32) * np.float32(math.sqrt(2 / self.depth))
        return (event_input(self.T, self.B) if self.recorded else x.astype(np.float32)), w

    def upstream(self, mode: Mode) -> Floats:
        """Gradients of the spikes (frames, B, *space, C_out) that a training step begins its way back with."""
        frames = self.convolutions(mode) * mode.hold
        shape = (frames, self.B, *self.space, self.c_out)
        return np.random.default_rng(SEED + 1).standard_normal(shape, dtype=np.float32)


def describe_case(case: Case) -> dict[str, Any]:
    """A layer for a file."""
    return {**asdict(case), "text": case.text, "gflop": case.flops / 1e9}


CASES = {
    case.name: case
    for case in (
        Case("S1", 16, 8, (32, 32), 2, 32),
        Case("S2", 16, 32, (28, 28), 1, 32),
        Case("S3", 16, 8, (28, 28), 32, 64),
        Case("S4", 16, 4, (16, 16), 64, 128),
        Case("DW", 16, 8, (28, 28), 64, 64, groups=64),
        Case("D1", 16, 16, (256,), 32, 64, kernel=5),
        Case("LIN", 16, 128, (), 784, 512),
    )
}
SIZES = ("S1", "S2", "S3", "S4")
"""The layers that targets speak of."""
COMPUTE_BOUND = ("S3", "S4")
DENSITIES = (0.001, 0.01, 0.02, 0.05, 0.2, 0.5)
"""Shares of spikes at which layers are timed, beside `DENSITY`."""
STEP_DENSITY = 0.05
"""Share of spikes in training steps."""
EVENTS = Case("N-MNIST", 16, 32, (34, 34), 2, 32, base="N-MNIST", recorded=True)
"""Frames of equal time from real recordings; its density is that of the recordings."""
TINY = Case("tiny", 4, 1, (6, 6), 1, 2)
"""A layer whose cost is that of calling: for the overhead."""
WARM_UP = Case("steps", 64, 1, (32, 32), 1, 4)
"""Little work in little memory, but steps enough to have NumPy's neurons compiled: before memory is measured."""
MEMORY = Case("memory", 8, 40, (64, 64), 16, 8)
"""An input of 80 MiB, about ten times NumPy's work area on two cores; unfolded it takes 720: for the peak memory."""


def at(case: Case, density: float) -> Case:
    """Copy a layer with another share of spikes in its input."""
    return replace(case, name=f"{case.name} at {100 * density:g} %", density=density, base=case.name)


def resized(case: Case, axis: str, value: int) -> Case:
    """Copy a layer with another T or B, or with `value` channels in and out for ``axis="C"``; for sweeps."""
    name = f"{case.name}:{axis}={value}"
    if axis == "C":
        return replace(case, name=name, c_in=value, c_out=value)
    return replace(case, name=name, T=value) if axis == "T" else replace(case, name=name, B=value)
