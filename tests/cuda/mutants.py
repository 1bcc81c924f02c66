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
    "keeps the membrane": Mutant("        membrane[m] = u;", "        membrane[0] = u;", "lif"),
    "forgets the first membrane": Mutant("start ? start[m] : (REAL)0", "(REAL)0", "lif"),
    "rests before every frame": Mutant("!start && t == 0 && r == 0", "r == 0", "lif"),
    "takes another channel's decay": Mutant("decays[channel * n.decay_step]", "decays[0]", "lif"),
    "takes the threshold's step for the decay's": Mutant("channel * n.threshold_step", "channel * n.decay_step", "lif"),
    "ignores poison": Mutant("poison ? *poison : (REAL)0", "(REAL)0 * !poison", "lif"),
    "does one neuron per thread": Mutant("m < neurons; m += stride()", "m < neurons; m = neurons", "lif"),
    "one neuron too many": Mutant("m < neurons;", "m <= neurons;", "sanitizer of lif"),
    "one weight too many": Mutant("k < size; ++k", "k <= size; ++k", "weighted_sum"),
    "weights from the wrong end": Mutant("weights.at[k]", "weights.at[size - 1 - k]", "weighted_sum"),
    "chunks overlap": Mutant("chunk * size * width", "chunk * width", "weighted_sum"),
    "sums only the first chunks": Mutant("chunk += gridDim.y", "chunk += chunks", "weighted_sum"),
    "one decay for all channels of a sum": Mutant("given + m % channels", "given", "weighted_sum"),
    "no barrier": Mutant("    __syncthreads();\n", "", "conv_lif"),
    "no padding on top": Mutant("w.stride_y - w.top", "w.stride_y", "conv_lif"),
    "dilation ignored": Mutant("s * w.dilation_x", "s", "conv_lif"),
    "one column too many": Mutant("x >= w.width", "x > w.width", "conv_lif"),
    "kernel transposed": Mutant("(r * w.kernel_width + s)", "(s * w.kernel_width + r)", "conv_lif"),
    "time and batch swapped": Mutant("(t * batch + sample)", "(sample * T + t)", "conv_lif"),
    "no bias": Mutant("bias ? add(sums[l], bias[f]) : sums[l]", "bias ? sums[l] : sums[l]", "conv_lif"),
    "writes filters that are not there": Mutant("if (l < lanes) membrane", "membrane", "sanitizer of conv_lif"),
    "reads a row below the frame": Mutant("y >= w.height", "y > w.height", "sanitizer of conv_lif"),
    "counts in 31 bits": Mutant("currents[t * neurons + m]", "currents[(t * neurons + m) & 0x7fffffff]", "large"),
}


@contextmanager
def planted(module: Any, mutant: Mutant | None) -> Iterator[None]:
    """The adapter's `module` with one mistake in its kernels."""
    cuda, text = module.launching, module.launching.source()
    if mutant is None:
        yield
        return
    assert mutant.old in text, f"no {mutant.old!r} in the kernels: bring the mutant up to date"
    sound = cuda.source
    cuda.source = lambda: text.replace(mutant.old, mutant.new)
    cuda._kernel.cache_clear()
    try:
        yield
    finally:
        cuda.source = sound
        cuda._kernel.cache_clear()
