"""Golden results for the bitwise tier: ``python -m tests.support.make_golden`` writes them again."""

from __future__ import annotations

import json
import sys
from hashlib import sha256

from tacops.testing._case import Case, Inputs, inputs_of
from tacops.testing._cases import CASES
from tests.support import ROOT
from tests.support.golden_simulation import simulate

PATH = ROOT / "tacops" / "testing" / "golden.json"


def digest(inputs: Inputs) -> str:
    """What shows that the inputs are the ones the results belong to."""
    text = json.dumps({name: [list(shape), [str(v) for v in values]] for name, (shape, values) in inputs.items()})
    return sha256(text.encode()).hexdigest()[:16]


def entry(case: Case) -> dict[str, object]:
    """One case's results: spikes packed to bits as hexadecimals, membranes as integers times a power of two."""
    inputs = inputs_of(case)
    spikes, (membrane, *more) = simulate(case, inputs)
    exponent = max(value.denominator.bit_length() - 1 for state in (membrane, *more) for value in state)
    states = dict(zip(("membrane", "current"), (membrane, *more), strict=False))
    return {
        "inputs": digest(inputs),
        "shape": [len(spikes) // len(membrane), case.spikes[1], *case.space(), case.channels],
        "fired": sum(spikes),
        "spikes": f"{int('1' + ''.join(map(str, spikes)), 2):x}",
        "exponent": exponent,
        **{name: [int(value * 2**exponent) for value in state] for name, state in states.items()},
    }


def text() -> str:
    """The whole file."""
    lines = [f"{json.dumps(name)}: {json.dumps(entry(case), separators=(',', ':'))}" for name, case in CASES.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    sys.exit(PATH.write_text(text(), encoding="utf-8") == 0)
