"""Random whole layers of integers for the Triton kernel, held to the core: a convolution, then its steps; and mistakes to plant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tacops._backend.protocol import Backend, Window
from tacops._backend.steps import Potential
from tacops._core.neurons import LIFStep
from tacops._core.synapses import Convolve
from tacops.backends.torch_ import BACKEND
from tests.cuda.triton_cases import equal, state
from tests.cuda.triton_mutants import Mutant

__all__ = ["MUTANTS", "check_layer", "draw"]

DTYPES = (
    torch.bool,
    torch.float32,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float64,
)


def draw(seed: int) -> tuple[Convolve, LIFStep, Any, Any, int]:
    """Synapses, a step, frames, a membrane or None, and how often a current is stepped.

    Resets and dtypes change with the seed in turn; all else is drawn. Sums come close to 2^24 in some, in others membranes meet thresholds.
    """
    rng = np.random.default_rng(seed)
    dims = int(rng.choice((2, 2, 2, 1, 0)))
    channels, filters = int(rng.choice((1, 2, 3, 5, 16, 33, 35, 64))), int(rng.choice((1, 3, 17, 20)))
    size = int(rng.choice((1, 1, 2, 3)))
    batch, count, repeat = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.choice((1, 1, 2, 3)))

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(n) for n in rng.integers(low, high, dims))

    kernel, dilation, stride = each(1, 4), each(1, 3), each(1, 3)
    padding = tuple(zip(each(0, 3), each(0, 3), strict=True)) if rng.random() < 0.7 else ((0, 0),) * dims
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    space = tuple(r + int(n) for r, n in zip(reach, rng.integers(1, 5, dims), strict=True)) or each(1, 3)
    window = Window(stride, padding, dilation, 1)
    dtype = DTYPES[seed // 4 % len(DTYPES)]
    aggregation = tuple(float(n) for n in rng.integers(-3, 4, size)) if size > 1 else None
    most = 1 if dtype == torch.bool else int(rng.choice((1, 15, 100)))
    sums = most * int(sum(map(abs, aggregation or (1,)))) or 1
    if dtype not in (torch.bool, torch.uint8, torch.int8) and rng.random() < 0.5:
        most, sums = most * (2048 // sums), sums * (2048 // sums)
    fan_in = channels * int(np.prod(kernel))
    coarse = rng.random() < 0.4  # membranes meet thresholds
    top = 2 if coarse else min(2048, (1 << 23) // (fan_in * sums))

    def whole(low: int, high: int, *shape: int) -> Any:
        return torch.from_numpy(rng.integers(low, high, shape, endpoint=True)).to(torch.float32)

    weight = whole(-top, top, filters, *kernel, channels)
    scale = 3 if coarse else max(1, int(top * sums * fan_in**0.5 / 2))
    signed = dtype not in (torch.bool, torch.uint8)
    values = whole(-most if signed and rng.random() < 0.3 else 0, most, count * size, batch, *space, channels)
    frames = (values * whole(0, 1, *values.shape)).to(dtype)
    if rng.random() < 0.4:  # channels first in memory
        frames = frames.movedim(-1, 2).contiguous().movedim(2, -1)
    elif rng.random() < 0.3:  # with gaps
        frames = torch.cat([frames, frames], -1)[..., :channels]
    shape = (batch, *(window.output_shape(space, kernel) if dims else space), filters)
    membrane = whole(-scale, scale, *shape) if rng.random() < 0.5 else None
    if membrane is not None and rng.random() < 0.3:
        membrane = membrane.transpose(0, -1).contiguous().transpose(0, -1)
    rows = (float(rng.integers(0, 5)) / 4, torch.from_numpy(rng.uniform(0, 1, filters)).float())
    thresholds = (float(scale // 2 + 1), whole(1, scale, filters), torch.tensor(float(scale)), whole(1, scale, 1))
    step = LIFStep(
        BACKEND,
        rows[rng.integers(2)],
        thresholds[rng.integers(4)],
        ("subtract", "zero", "none", "late")[seed % 4],
        rounded=True,
        poison=None if rng.random() < 0.5 else torch.tensor(float(rng.choice((0.0, np.nan)))),
        compact=bool(rng.integers(2)),
    )
    bias = whole(-scale, scale, filters) if rng.random() < 0.5 else None
    powers = 2.0 ** torch.from_numpy(rng.integers(-20, 4, filters)).float()
    step = replace(step, unit=(None, powers, powers[0], powers[:1])[rng.integers(4)])
    conv = Convolve(BACKEND, window, weight, bias, aggregation, exact=True, fits_half=True)
    return conv, step, frames, membrane, repeat


def check_layer(seed: int) -> None:
    """`schedule`; the sign of a zero is left to `Scale.leave`, unless the kernel does what that would."""
    conv, step, frames, membrane, repeat = draw(seed)
    before = [x.clone() for x in (frames, conv.weight, membrane) if x is not None]
    summed = conv.aggregate(frames)
    currents = conv(summed.reshape(-1, *summed.shape[2:])).reshape(*summed.shape[:2], -1)
    shape = (
        summed.shape[1],
        *(
            conv.window.output_shape(summed.shape[2:-1], conv.weight.shape[1:-1])
            if conv.window.stride
            else summed.shape[2:-1]
        ),
        conv.weight.shape[0],
    )
    assert float(currents.abs().max()) < 1 << 24
    want = Backend.scan(BACKEND, step, currents.reshape(len(summed), *shape), state(membrane), repeat)
    got = BACKEND.schedule(conv, step, frames, state(membrane), repeat)
    equal(got[0], want[0])
    assert isinstance(got[1], Potential) == (step.unit is not None)
    if step.unit is None:
        equal(got[1][0] + 0.0, want[1][0] + 0.0)
    else:
        equal(got[1][0], want[1][0] * step.unit + (0.0 if step.poison is None else step.poison))
    for x, kept in zip((x for x in (frames, conv.weight, membrane) if x is not None), before, strict=True):
        equal(x, kept)


def _mutant(old: str, new: str, file: str = "convolving") -> Mutant:
    return Mutant(file, old, new, "layer")


MUTANTS = {
    "rows for columns of the kernel": _mutant("tap // TAP_ROW * dilation_y, tap % TAP_ROW * dilation_x", "tap % TAP_ROW * dilation_y, tap // TAP_ROW * dilation_x"),
    "kernels of one row": _mutant("TAP_ROW=plane.kernel[1]", "TAP_ROW=math.prod(plane.kernel)", "layers"),
    "no stride": _mutant(".to(tl.int32) * stride_y", ".to(tl.int32)"),
    "one stride for both axes": _mutant("stride_x=plane.stride[1]", "stride_x=plane.stride[0]", "layers"),
    "no dilation": _mutant("* dilation_x", ""),
    "no padding": _mutant(" - left", ""),
    "padding of the other side": _mutant("low for low, _ in", "low for _, low in", "layers"),
    "never padded": _mutant("if PADDED:", "if False:"),
    "frames without an end": _mutant("(x < width)", "(x < width + 1)"),
    "one axis is the first": _mutant("[missing] * (2 - len(values)) + list(values)", "list(values) + [missing] * (2 - len(values))", "layers"),
    "samples as one": _mutant("p // columns // rows * by_sample + ", ""),
    "frames packed": _mutant("channel.to(tl.int64) * by_channel", "channel.to(tl.int64)"),
    "the first frame again": _mutant("(far + t) * by_frame", "(far + 0) * by_frame"),
    "a piece of the sum is lost": _mutant("(CHANNELS + DEPTH - 1) // DEPTH", "(CHANNELS + 0) // DEPTH if CHANNELS > DEPTH else 1"),
    "channels of the next tap": _mutant("(tap < TAPS) & (channel < CHANNELS)", "tap < TAPS"),
    "weights beyond the last": _mutant("(tap < TAPS) & (channel < CHANNELS)", "channel < CHANNELS"),
    "sums of float16": _mutant("current = sums + offset", "current = sums.to(tl.float16).to(tl.float32) + offset"),
    "inputs of eight bits": _mutant("taken.to(tl.float16)", "taken.to(tl.int8).to(tl.float16)"),
    "no bias": _mutant("current = sums + offset", "current = sums"),
    "does not round the membrane": _mutant("whole(u * beta)", "u * beta"),
    "resets late by the new membrane": _mutant("spike(u, theta, bad) * theta", "spike(v, theta, bad) * theta"),
    "rests before every current": _mutant("t + r == 0", "r == 0"),
    "decays a rest": _mutant("if not STARTS:", "if False:"),
    "one step for each current": _mutant("((far + t) * repeat + r)", "(far + t + r)"),
    "a compact tie does not fire": _mutant("(v >= theta).to", "(v > theta).to"),
    "membranes stay in units": _mutant("    if UNITS:", "    if False:"),
    "one unit for all": _mutant("unit_step=unit_step,", "unit_step=0,", "layers"),
    "potentials without poison": _mutant("[None, :] + bad\n    tl.store(membrane", "[None, :]\n    tl.store(membrane"),
    "ignores poison": _mutant("tl.load(poison) if POISON", "0.0 if POISON"),
    "forgets the first membrane": _mutant("    if STARTS:", "    if False:"),
    "a membrane as it lies": _mutant("membrane.contiguous()", "membrane", "layers"),
    "one position too few": _mutant("p < positions", "p < positions - 1"),
    "one program for all filters": _mutant("-(-filters // block))]", "1)]", "layers"),
    "one program for all positions": _mutant("(-(-positions // places)", "(1", "layers"),
    "one parameter for all channels": _mutant("threshold_step, f.to(tl.int64), is_filter", "threshold_step, f.to(tl.int64) * 0, is_filter"),
}  # fmt: skip
