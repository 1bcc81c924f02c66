"""Small layers in reproducible mode, where every way that NumPy's engine may take must give the same bits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import tacops
from tacops import SpikeTrain
from tacops.backends._cpu import choose

__all__ = ["GEOMETRIES", "SPARSE", "EngineLayer", "assert_same", "run"]

SPARSE: tuple[choose.Way, ...] = ("events", "tables")


@dataclass(frozen=True)
class EngineLayer:
    """One layer; its input is drawn at a density."""

    space: tuple[int, ...] = (9, 8)
    kernel: tuple[int, ...] = (3, 3)
    c_in: int = 2
    c_out: int = 5
    frames: int = 4
    batch: int = 3
    options: dict[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] = (1.0,)
    """That an event may have."""
    bias: bool = True
    membrane: bool = False

    def arrays(self, density: float, dtype: str = "float32", kind: str = "bool") -> tuple[Any, Any, dict[str, Any]]:
        """Spikes of dtype `kind`, weight of `dtype`, and options with bias and membrane."""
        rng = np.random.default_rng(11)
        live = rng.random((self.frames, self.batch, *self.space, self.c_in)) < density
        x = (live * rng.choice(self.values, live.shape)).astype(kind)
        groups = self.options.get("groups", 1)
        fan_in = int(np.prod(self.kernel, initial=1)) * self.c_in // groups
        scale = 1.5 / np.sqrt(max(1.0, fan_in * min(1.0, density + 0.02)))
        w = rng.normal(0, scale, (self.c_out, *self.kernel, self.c_in // groups)).astype(dtype)
        given: dict[str, Any] = {"chunk_size": 1, "reproducible": True, **self.options}
        given = {key: value.astype(dtype) if isinstance(value, np.ndarray) else value for key, value in given.items()}
        if self.bias:
            given["bias"] = rng.normal(0, 0.1, self.c_out).astype(dtype)
        if self.membrane:
            with choose.force("dense"):
                shape = call(x, w, given).membrane.shape
            given["membrane"] = rng.normal(0, 1, shape).astype(dtype)
        return x, w, given


GEOMETRIES = {
    "same": EngineLayer(options={"padding": 1}),
    "no padding": EngineLayer(c_in=17, c_out=3),
    "one channel": EngineLayer(c_in=1, options={"padding": 1}),
    "skewed": EngineLayer(
        kernel=(3, 2), options={"stride": (2, 3), "padding": ((2, 0), (1, 3)), "dilation": (1, 2)}, c_in=3, c_out=33
    ),
    "wide": EngineLayer(space=(4, 5), c_in=34, c_out=115, batch=2, options={"padding": 1}),
    "far padding": EngineLayer(space=(3, 4), kernel=(2, 3), options={"padding": 4}),
    "even": EngineLayer(kernel=(2, 4), c_out=16, options={"padding": "same"}),
    "strides": EngineLayer(kernel=(1, 1), c_in=18, options={"stride": 2}),
    "1-D": EngineLayer(space=(13,), kernel=(4,), c_in=5, options={"stride": 2, "dilation": 2, "padding": 3}),
    "3-D": EngineLayer(space=(4, 5, 6), kernel=(2, 3, 2), options={"padding": 1, "stride": (1, 2, 1)}),
    "3-D, dilated": EngineLayer(
        space=(5, 4, 4), kernel=(2, 1, 2), options={"padding": (1, 0, 1), "dilation": (3, 1, 1)}
    ),
    "dense": EngineLayer(space=(), kernel=(), c_in=37, c_out=21),
    "dense, few inputs": EngineLayer(space=(), kernel=(), c_in=7, c_out=4),
    "groups": EngineLayer(c_in=6, c_out=9, options={"groups": 3, "padding": 1, "dilation": 2}),
    "depth-wise": EngineLayer(c_in=20, c_out=20, options={"groups": 20, "padding": 1, "stride": 2}),
    "depth multiplier": EngineLayer(c_in=4, c_out=8, options={"groups": 4, "padding": (2, 0)}),
    "channels first": EngineLayer(
        space=(9, 8), c_in=2, options={"padding": 1, "stride": (1, 2)}
    ),  # transposed by the test that uses it
}


def call(x: Any, w: Any, given: dict[str, Any]) -> SpikeTrain:
    """The operator of the weight's shape."""
    return (tacops.tac_conv if w.ndim > 2 else tacops.tac_linear)(x, w, **given)


def run(way: choose.Way | None, x: Any, w: Any, given: dict[str, Any]) -> SpikeTrain:
    """A layer by one way."""
    with choose.force(way):
        return call(x, w, given)


def assert_same(got: SpikeTrain, want: SpikeTrain) -> None:
    """Bit for bit."""
    assert got.spikes.dtype == want.spikes.dtype
    assert got.membrane.dtype == want.membrane.dtype
    np.testing.assert_array_equal(got.spikes, want.spikes)
    np.testing.assert_array_equal(got.membrane, want.membrane)
