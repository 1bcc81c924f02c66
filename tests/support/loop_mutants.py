"""Mistakes to plant in the loops that adapters step their neurons with; a check of the suite must find each.

Each is a piece of an adapter's own text and what stands in its place. The changed text is run beside the adapter, and its
loop put where the adapter takes its own from.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

__all__ = ["LOOPS", "MUTANTS", "Mutant", "planted"]


class Loop(NamedTuple):
    """Where an adapter's loop is: a class or function of a module, or (None) the whole module."""

    backend: str
    module: str
    name: str | None


LOOPS = {
    "operations": Loop("numpy", "tacops.backends._cpu.neurons", "_Operations"),
    "compiled": Loop("numpy", "tacops.backends._cpu.loops", None),
    "in place": Loop("torch", "tacops.backends.torch_", "_scan_in_place"),
}


class Mutant(NamedTuple):
    """What is replaced by what, wherever it stands in a loop, and the check that finds it."""

    loop: str
    old: str
    new: str
    found_by: str


_SMALL, _LARGE = "bitwise-exact-conv-lif-", "bitwise-large-neurons"
MUTANTS = {
    "operations: a tie does not fire": Mutant(
        "operations", "np.greater_equal(self", "np.greater(self", f"{_SMALL}none"
    ),
    "operations: decays twice": Mutant(
        "operations",
        "np.multiply(u, self.decay, out=u)",
        "np.multiply(u, self.decay * self.decay, out=u)",
        f"{_SMALL}none",
    ),
    "operations: takes beta 1 for every decay": Mutant(
        "operations", "self.decay == 1.0", "self.decay > 0", f"{_SMALL}none"
    ),
    "operations: does not round the membrane": Mutant(
        "operations", "np.rint(u, out=u)", "pass", "bitwise-reproducible-conv-lif"
    ),
    "operations: rounds down": Mutant("operations", "np.rint(u", "np.floor(u", "bitwise-reproducible-conv-lif"),
    "operations: forgets to subtract": Mutant(
        "operations", "self.membrane -= spikes", "0 * spikes", f"{_SMALL}subtract"
    ),
    "operations: subtracts 1 for every threshold": Mutant(
        "operations", "unit = isinstance", "unit = True or isinstance", "bitwise-exact-per-channel-collapse"
    ),
    "operations: forgets to reset to zero": Mutant(
        "operations", "np.copyto(self.membrane, 0.0, where=fired)", "pass", f"{_SMALL}zero"
    ),
    "operations: resets late by the new membrane": Mutant(
        "operations",
        "np.multiply(self.fired, self.threshold",
        "np.multiply(u >= self.threshold, self.threshold",
        f"{_SMALL}late",
    ),
    "operations: takes in no current when fresh": Mutant(
        "operations", "if current is not u:", "if False:", "bitwise-exact-preserve-sum-none"
    ),
    "operations: compact spikes are not written": Mutant(
        "operations", "(frame, self.scratch) if", "(self.fired, self.scratch) if", "bitwise-exact-compact"
    ),
    "compiled: a tie does not fire": Mutant(
        "compiled", "spike = one if v >= threshold", "spike = one if v > threshold", "bitwise-large-long"
    ),
    "compiled: decays twice": Mutant("compiled", "left = decay[j] * u", "left = decay[j] * decay[j] * u", _LARGE),
    "compiled: does not round the membrane": Mutant("compiled", "np.rint(left) if rounded else left", "left", _LARGE),
    "compiled: rounds down": Mutant("compiled", "np.rint(left)", "np.floor(left)", _LARGE),
    "compiled: forgets to subtract": Mutant("compiled", "v = v - spike * threshold", "v = v", _LARGE),
    "compiled: forgets to reset to zero": Mutant("compiled", "v = one - one if v >= threshold else v", "v = v", _LARGE),
    "compiled: resets late by the new membrane": Mutant(
        "compiled", "one if u >= threshold[j]", "one if v >= threshold[j]", _LARGE
    ),
    "compiled: another neuron's threshold": Mutant(
        "compiled", "_after(v, threshold[j]", "_after(v, threshold[0]", _LARGE
    ),
    "compiled: another neuron's decay": Mutant("compiled", "decay[j] * u", "decay[0] * u", _LARGE),
    "compiled: every frame is the first": Mutant(
        "compiled", "if fresh and t == first", "if fresh", "bitwise-large-half-frames"
    ),
    "compiled: leaves the rest of a block": Mutant(
        "compiled", "range(0, membrane.size, decay.size)", "range(0, membrane.size - decay.size, decay.size)", _LARGE
    ),
    "in place: a tie does not fire": Mutant("in place", "torch.ge(v", "torch.gt(v", f"{_SMALL}none"),
    "in place: decays twice": Mutant(
        "in place", "torch.mul(before, step.decay", "torch.mul(before * step.decay, step.decay", f"{_SMALL}none"
    ),
    "in place: does not round the membrane": Mutant("in place", "v.round_()", "pass", "bitwise-reproducible-conv-lif"),
    "in place: rounds down": Mutant("in place", "v.round_()", "v.floor_()", "bitwise-reproducible-conv-lif"),
    "in place: subtracts 1 for every threshold": Mutant(
        "in place", "alpha=step.threshold", "alpha=1.0", "bitwise-exact-counts"
    ),
    "in place: adds the threshold of a channel": Mutant(
        "in place", "value=-1", "value=1", "bitwise-exact-per-channel-collapse"
    ),
    "in place: forgets to reset to zero": Mutant("in place", ".masked_fill_(", ".masked_fill(", f"{_SMALL}zero"),
    "in place: resets late by the new membrane": Mutant(
        "in place",
        "v.sub_(scratch.mul_(step.threshold))",
        "v.sub_((v >= step.threshold) * step.threshold)",
        f"{_SMALL}late",
    ),
    "in place: holds a current for one step": Mutant(
        "in place", "currents[t // repeat]", "currents[t % len(currents)]", "bitwise-exact-preserve-sum-none"
    ),
    "in place: forgets the first membrane": Mutant(
        "in place", "u if t else membrane", "u if t else None", "bitwise-exact-collapse-given-ragged"
    ),
    "in place: compact spikes weigh nothing": Mutant(
        "in place", "scratch.copy_(fired)", "scratch.zero_()", "bitwise-exact-compact-preserve"
    ),
}


@contextmanager
def planted(mutant: Mutant) -> Iterator[None]:
    """The adapter, with one mistake in its loop."""
    loop = LOOPS[mutant.loop]
    module: Any = import_module(loop.module)
    text = inspect.getsource(module if loop.name is None else getattr(module, loop.name))
    assert mutant.old in text, f"no {mutant.old!r} in {loop.module}: bring the mutant up to date"
    text = text.replace(mutant.old, mutant.new)
    owner: Any = module
    if loop.name is None:
        owner, name, value = import_module("tacops.backends._cpu.neurons"), "_load", _compiled(module, text)
    else:
        scope = dict(vars(module))
        exec("from __future__ import annotations\n" + text, scope)  # noqa: S102
        name, value = loop.name, scope[loop.name]
    sound = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, sound)


def _compiled(module: ModuleType, text: str) -> Any:
    """What gives the changed module of loops; nothing of it is kept on disk."""
    assert "cache=True" in text
    changed = ModuleType(f"{module.__name__}_planted")
    vars(changed).update(__package__=module.__package__, __file__=module.__file__)
    exec(compile(text.replace("cache=True", "cache=False"), str(module.__file__), "exec"), vars(changed))  # noqa: S102
    return lambda: changed
