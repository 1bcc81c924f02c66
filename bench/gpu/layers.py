"""Which layers and libraries ``python -m bench gpu`` times, and in which modes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.speed.command import choose
from bench.speed.run import SpeedPlan
from bench.timing.cases import CASES, MODES, SIZES, STEPS, Case, Mode
from bench.timing.subject import Entry

__all__ = ["BACKENDS", "entries", "plan", "sizes", "work"]

BACKENDS = ("torch", "jax", "cupy")
"""What computes on NVIDIA's GPUs."""
PEERS = ("SpikingJelly", "snnTorch")
FORWARD = ("exact", "collapse4", "collapse16", "preserve4", "reproducible")
STEP = ("step", "step_both")
SECONDS = 240.0
"""For all layers, in rounds."""
COMPILED = Entry(
    "plain torch, compiled",
    "plain",
    "bench.speed.peers.torch_:CompiledTorch",
    library="torch",
    module="torch",
    note="the same by torch.compile",
)


def entries(on: dict[str, str], *, rehearsal: bool) -> tuple[list[Entry], dict[str, str]]:
    """Libraries that are timed, and those that are not, with the reason.

    Parameters
    ----------
    on : dict
        Device by backend.
    rehearsal : bool
        `torch.compile` takes minutes, so it is left out then.
    """
    found: list[Entry] = []
    missing: dict[str, str] = {}
    for backend, device in on.items():
        some, without = choose([backend], peers=True, device=device)
        names = [f"tacops {backend}", f"plain {backend}", *PEERS]
        found += [entry for entry in some if entry.name in names and entry.library in ("", backend)]
        missing |= {name: reason for name, reason in without.items() if name in PEERS and "left out" not in reason}
    if "torch" in on and not rehearsal:
        found.append(replace(COMPILED, device=on["torch"]))
    elif rehearsal:
        missing[COMPILED.name] = "left out of a rehearsal, because compiling takes minutes"
    return found, missing


def sizes(*, rehearsal: bool) -> list[Case]:
    """S1 to S4; in a rehearsal one that is a few numbers large, by the name of the first."""
    cases = [CASES[name] for name in SIZES]
    return [replace(cases[0], B=1, space=(4, 4), c_out=4)] if rehearsal else cases


def plan(*, rehearsal: bool) -> SpeedPlan:
    """How long is timed."""
    how: dict[str, Any] = {"cases": sizes(rehearsal=rehearsal), "extras": False, "step_share": 0.4}
    if rehearsal:
        modes = [MODES["exact"], MODES["reproducible"]]
        few: dict[str, Any] = {"rounds": (1, 1), "visit": 0.001, "calls": 2, "warm": 0.0, "pause": 0.0}
        return SpeedPlan(**how, **few, seconds=1.0, modes=modes, steps=[STEPS["step"]])
    modes, steps = [MODES[name] for name in FORWARD], [STEPS[name] for name in STEP]
    return SpeedPlan(**how, seconds=SECONDS, rounds=(2, 12), visit=0.05, calls=50, modes=modes, steps=steps)


def work(*, rehearsal: bool) -> list[tuple[Case, Mode]]:
    """The same pairs of layer and mode, for counting."""
    return [pair for works, _ in plan(rehearsal=rehearsal).works for one in works for pair in one.pairs]
