"""Mistakes to plant in the Triton kernels; the random cases must find each."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MUTANTS", "Mutant"]


class Mutant(NamedTuple):
    """What is replaced by what, wherever it stands in a file of ``backends/_triton/``; and what finds it: forth or back."""

    file: str
    old: str
    new: str
    found_by: str


MUTANTS = {
    "a tie does not fire": Mutant("forwards", "v >= threshold, 1.0", "v > threshold, 1.0", "forth"),
    "a compact tie does not fire": Mutant("forwards", "(v >= theta).to", "(v > theta).to", "forth"),
    "decays twice": Mutant("forwards", "rounded_once(u * beta, kind)", "rounded_once(u * beta * beta, kind)", "forth"),
    "one rounding for decay and current": Mutant(
        "forwards", "v = rounded_once(v + current, kind)",
        "v = rounded_once((u.to(tl.float64) * beta.to(tl.float64) + current.to(tl.float64)).to(v.dtype) if not ROUNDED else v + current, kind)",
        "forth",
    ),
    "does not round half precision": Mutant("forwards", "return x.to(kind).to(x.dtype)", "return x", "forth"),
    "does not round the membrane": Mutant("forwards", "                v = whole(v)", "                v = v", "forth"),
    "rounds halves up": Mutant("forwards", "found = tl.where(size < room, (size + room) - room, size)", "found = tl.floor(size + 0.5)", "forth"),
    "keeps negative zero": Mutant("forwards", "-found, found) + 0.0", "-found, found)", "forth"),
    "resets to zero by multiplication": Mutant("forwards", "tl.where(v >= threshold, 0.0, v)", "v * (1.0 - spike(v, threshold, bad))", "forth"),
    "subtracts one": Mutant("forwards", "spike(v, threshold, bad) * threshold, kind), kind)", "spike(v, threshold, bad), kind), kind)", "forth"),
    "resets late by the new membrane": Mutant("forwards", "spike(u, theta, bad) * theta", "spike(v, theta, bad) * theta", "forth"),
    "ignores poison": Mutant("forwards", ".to(v.dtype) + bad", ".to(v.dtype)", "forth"),
    "forgets the first membrane": Mutant("forwards", "if STARTS else tl.full([BLOCK], 0.0, real)", "if False else tl.full([BLOCK], 0.0, real)", "forth"),
    "rests before every current": Mutant("forwards", "tl.where(n == 0, current, v)", "tl.where(n % repeat == 0, current, v)", "forth"),
    "decays a rest": Mutant("forwards", "if not STARTS:", "if False:", "forth"),
    "fetches the same current again": Mutant("forwards", "later = far + t + 1", "later = far + t", "forth"),
    "one step for each current": Mutant("forwards", "n = (far + t) * repeat + r", "n = far + t + r", "forth"),
    "takes neurons for channels": Mutant("forwards", "m // inner % channels", "m % channels", "forth"),
    "takes another channel's parameter": Mutant("forwards", "channel * step", "channel * 0 * step", "forth"),
    "one neuron too few": Mutant("forwards", "inside = m < neurons", "inside = m < neurons - 1", "forth"),
    "one program for all": Mutant("launching", "(-(-frame.numel() // BLOCK),)", "(1,)", "forth"),
    "rows of whole frames": Mutant("launching", "row=currents.stride(0)", "row=after.numel()", "forth"),
    "thresholds of float32 for half": Mutant("launching", "frame.dtype.itemsize < 4", "frame.dtype.itemsize < 2", "forth"),
    "gaps for numbers": Mutant("layout", "        if stride != expected:", "        if stride < 1:", "forth"),
    "a membrane as it lies": Mutant("layout", "if all(a == b", "if all(a == a", "forth"),
    "excess of nothing": Mutant("backwards", "excess = (v - threshold) * unit", "excess = v * unit", "back"),
    "a unit once": Mutant("backwards", "SURROGATE) * unit", "SURROGATE)", "back"),
    "fast sigmoid unsquared": Mutant("backwards", "1.0 / (y * y)", "1.0 / y", "back"),
    "arctan of twice the slope": Mutant("backwards", "0.5 * math.pi * slope", "math.pi * slope", "back"),
    "sigmoid halved": Mutant("backwards", "((y + 1.0) * (y + 1.0))", "(y + 1.0)", "back"),
    "triangle below zero": Mutant("backwards", "tl.maximum(1.0 - tl.abs(x) * inner, 0.0)", "1.0 - tl.abs(x) * inner", "back"),
    "straight through by one": Mutant("backwards", "x * 0.0 + outer", "x * 0.0 + 1.0", "back"),
    "own derivatives of another step": Mutant("backwards", "at = own + n * neurons + m", "at = own + (n + 1) * neurons + m", "back"),
    "own derivatives of the last step for the first": Mutant("backwards", "own + (last + 1) * neurons", "own + last * neurons", "back"),
    "one slope in place of all": Mutant("backwards", "SURROGATE == 6", "SURROGATE == 7", "back"),
    "no decay backwards": Mutant("backwards", "g = to_v * beta", "g = to_v", "back"),
    "always through the reset": Mutant("backwards", "if not DETACHED:", "if True:", "back"),
    "never through the reset": Mutant("backwards", "if not DETACHED:", "if False:", "back"),
    "a zeroed membrane has a gradient": Mutant("backwards", "g = tl.where(v >= theta, 0.0, g)", "g = g", "back"),
    "late gradients of the same step": Mutant("backwards", "late = zero - to_v * theta", "late = zero - g * theta", "back"),
    "no late gradient of the first membrane": Mutant("backwards", "        g += through\n", "        pass\n", "back"),
    "no gradient of the last membrane": Mutant("backwards", "if TO_MEMBRANE else zero", "if False else zero", "back"),
    "thresholds without resets": Mutant("backwards", "by_threshold -= g * spike(v, theta, bad)", "pass", "back"),
    "thresholds without late resets": Mutant("backwards", "by_threshold -= tl.where(stepped, to_v * spike(u, theta, bad), 0.0)", "pass", "back"),
    "decay by the membrane that fires": Mutant("backwards", "membrane_after(before, theta, bad, RESET, kind), first)", "before, first)", "back"),
    "holds the last gradient alone": Mutant("backwards", "by_current += to_v", "by_current = to_v", "back"),
    "one gradient for all spikes": Mutant("launching", "not any(to_spikes.stride())", "True", "back"),
    "gradients as they lie": Mutant("launching", "like(x, reference)", "x", "back"),
    "channels mixed in sums": Mutant("layout", "x.reshape(-1, frame.shape[-1], inner(frame)).sum((0, 2))", "x.reshape(-1, frame.shape[-1]).sum(0)", "back"),
}  # fmt: skip
