"""Mistakes to plant in the kernels; the cases or a sanitizer must find each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

__all__ = ["MUTANTS", "Mutant", "planted"]


class Mutant(NamedTuple):
    """What is replaced by what, wherever it stands; and what finds it.

    That is the cases of a kernel, a sanitizer that watches them, or the test of a large array.
    """

    old: str
    new: str
    found_by: str


MUTANTS = {
    "a tie does not fire": Mutant("v >= threshold", "v > threshold", "lif"),
    "decays twice": Mutant("mul(decay, u)", "mul(decay, mul(decay, u))", "lif"),
    "resets before it fires": Mutant(
        "after.fired = v >= threshold;",
        "if (reset == SUBTRACT && v >= threshold) v = sub(v, threshold);\n    after.fired = v >= threshold;",
        "lif",
    ),
    "holds a current for one step": Mutant("r < n.repeat", "r < 1", "lif"),
    "one rounding for decay and current": Mutant(
        "add(rounded ? rint(decayed) : decayed, current)",
        "rounded ? add(rint(decayed), current) : fma(decay, u, current)",
        "lif",
    ),
    "does not round the membrane": Mutant("rounded ? rint(decayed)", "rounded ? decayed", "lif"),
    "rounds halves up": Mutant("rint(decayed)", "floor(add(decayed, (REAL)0.5))", "lif"),
    "resets to zero by multiplication": Mutant(
        "reset == ZERO && after.fired ? (REAL)0", "reset == ZERO ? mul(v, sub((REAL)1, after.spike))", "lif"
    ),
    "resets late by the new membrane": Mutant("add(u >= threshold ?", "add(v >= threshold ?", "lif"),
    "decays a late reset": Mutant(
        "add(rounded ? rint(decayed) : decayed, current);",
        "add(rounded ? rint(decayed) : decayed, current);\n        if (reset == LATE && u >= threshold) v = add(v, mul(sub((REAL)1, decay), threshold));",
        "lif",
    ),
    "keeps the membrane": Mutant("store<RUN>(membrane + m, u);", "store<RUN>(membrane, u);", "lif"),
    "forgets the first membrane": Mutant("u = load<RUN>(start + m);", "u = {};", "lif"),
    "rests before every frame": Mutant("u.at[l], i, resting,", "u.at[l], i, resting || (!start && r == 0),", "lif"),
    "takes another channel's decay": Mutant("decays[channel * n.decay_step]", "decays[0]", "lif"),
    "takes the threshold's step for the decay's": Mutant("channel * n.threshold_step", "channel * n.decay_step", "lif"),
    "one channel for all neighbours": Mutant("++channel == n.channels", "n.channels == 0", "lif"),
    "one channel too many": Mutant("++channel == n.channels", "++channel > n.channels", "sanitizer of lif"),
    "ignores poison": Mutant("poison ? *poison : (REAL)0", "(REAL)0 * !poison", "lif"),
    "does one neuron per thread": Mutant("m < neurons; m += stride() * RUN", "m < neurons; m = neurons", "lif"),
    "one neuron too many": Mutant("m < neurons;", "m <= neurons;", "sanitizer of lif"),
    "asks for the last frame of a run again": Mutant("from += neurons;", "from += (a + 1 < AHEAD) * neurons;", "lif"),
    "stops after a run of frames": Mutant("left > 0; left -= AHEAD", "left > 0; left = 0", "lif"),
    "steps through a frame that is not there": Mutant(
        "if (a >= left) break;", "if (a > left) break;", "sanitizer of lif"
    ),
    "takes the first channel's bias": Mutant("bias[channel]", "bias[0]", "unfold"),
    "adds a bias twice": Mutant("add(current[a].at[l], of.bias[l])", "add(current[a].at[l], 2 * of.bias[l])", "unfold"),
    "drops the last frames of a sum": Mutant("k < end; k += AHEAD", "k + AHEAD <= end; k += AHEAD", "weighted_sum"),
    "weights from the wrong end": Mutant("weights.at[k + a - begin]", "weights.at[end - 1 - k - a]", "weighted_sum"),
    "chunks overlap": Mutant("(chunk * size + begin)", "(chunk * (size / size) + begin)", "weighted_sum"),
    "sums only the first chunks": Mutant("chunk += gridDim.y", "chunk += chunks", "weighted_sum"),
    "one decay for all channels of a sum": Mutant("(m + l) % channels", "(m + l) % 1", "weighted_sum"),
    "forgets what was summed before": Mutant("total = load<RUN>(to);", "total = {};", "weighted_sum"),
    "sums the first frames again": Mutant("(chunk * size + begin)", "(chunk * size)", "weighted_sum"),
    "no barrier": Mutant("    __syncthreads();\n", "", "conv_lif"),
    "no padding on top": Mutant("w.stride_y - w.top", "w.stride_y", "conv_lif"),
    "dilation ignored": Mutant("s * w.dilation_x", "s", "conv_lif"),
    "one column too many": Mutant("x >= w.width", "x > w.width", "conv_lif"),
    "kernel transposed": Mutant("(r * w.kernel_width + s)", "(s * w.kernel_width + r)", "conv_lif"),
    "weights as they lie": Mutant("j % fan_in * padded + j / fan_in", "j", "conv_lif"),
    "one sum for two frames": Mutant("sums[a][l] += input", "sums[0][l] += input", "conv_lif"),
    "time and batch swapped": Mutant(
        "((INDEX)min(t + a, T - 1) * batch + sample)", "(sample * T + min(t + a, T - 1))", "conv_lif"
    ),
    "no bias": Mutant("bias ? add(sums[a][l], bias[f])", "bias ? sums[a][l]", "conv_lif"),
    "writes filters that are not there": Mutant("if (l < lanes) to", "if (l <= lanes) to", "sanitizer of conv_lif"),
    "reads filters that are not there": Mutant(
        "j < w.filters * fan_in ?", "j < padded * fan_in ?", "sanitizer of conv_lif"
    ),
    "reads a row below the frame": Mutant("y >= w.height", "y > w.height", "sanitizer of conv_lif"),
    "reads a frame after the last": Mutant("min(t + a, T - 1)", "(t + a)", "sanitizer of conv_lif"),
    "unfolds from the first place": Mutant("- p.low[d]", "- 0 * p.low[d]", "unfold"),
    "unfolds place by place": Mutant("* p.stride[d]", "* (p.stride[d] > 0)", "unfold"),
    "unfolds neighbours": Mutant("* p.dilation[d]", "* (p.dilation[d] > 0)", "unfold"),
    "unfolds beyond the frame": Mutant("place < p.in[d]", "place <= p.in[d]", "unfold"),
    "unfolds before the frame": Mutant("place >= 0 &&", "place >= -1 &&", "sanitizer of unfold"),
    "unfolds the first tile again": Mutant("= begin + j", "= 0 * begin + j", "unfold"),
    "doubles what becomes float16": Mutant("0x38000000u) >> 13", "0x37800000u) >> 13", "unfold"),
    "loses the sign of float16": Mutant("bits >> 16 & 0x8000u", "bits >> 16 & 0x0000u", "half"),
    "rounds to float16": Mutant(" && (bits & 0x1fffu) == 0;", ";", "half"),
    "lets float16 be too large": Mutant("size <= 0x45000000u", "size <= 0x7f000000u", "half"),
    "counts in 31 bits": Mutant(
        "load<RUN>(from);\n                from += neurons",
        "load<RUN>(currents + ((from - currents) & 0x7fffffff));\n                from += neurons",
        "large",
    ),
}


@contextmanager
def planted(module: Any, mutant: Mutant | None) -> Iterator[None]:
    """The adapter's `module` with one mistake in its kernels."""
    if mutant is None:
        yield
        return
    building = module.building
    sound = building.source
    assert any(mutant.old in sound(name) for name in building.KERNELS), (
        f"no {mutant.old!r}: bring the mutant up to date"
    )
    building.source = lambda name: sound(name).replace(mutant.old, mutant.new)
    building.kernel.cache_clear()
    try:
        yield
    finally:
        building.source = sound
        building.kernel.cache_clear()
