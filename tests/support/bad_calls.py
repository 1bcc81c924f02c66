"""Bad calls, systematically: every public function, every argument (found by its signature), every hostile value.

``python -m tests.support.bad_calls BACKEND`` makes them all in this process and prints what was wrong, one JSON object a line, and
before each call its number and name on stderr, so that a crash has a culprit; tests/operators/test_bad_calls.py runs a share of them.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tacops import layers
from tacops._backend import dispatch
from tacops._files.whole import OutputError
from tacops.backends import Backend, BackendUnavailable, get_backend
from tests.support.call_targets import Target, targets
from tests.support.hostile import hostile

HANG = 60.0
"""Seconds after which a call hangs."""
LONGEST = 500


@dataclass(frozen=True)
class Call:
    """One call: a target and what is changed of its arguments, by the names of hostile values."""

    target: Target
    changes: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return f"{self.target.name}({', '.join(f'{argument}={value}' for argument, value in self.changes)})"


def calls(backend: Backend, share: float, pairs: int, seed: int) -> Iterator[Call]:
    """A share of all calls with one hostile value, and some with two; the same every time."""
    rng, values, found = random.Random(seed), list(hostile(backend)), targets(backend)
    for target in found:
        yield Call(target, ())
        for argument in target.defaults:
            for value in values:
                if rng.random() < share:
                    yield Call(target, ((argument, value),))
    several = [target for target in found if len(target.defaults) > 1]
    for _ in range(pairs):
        target = rng.choice(several)
        one, two = rng.sample(list(target.defaults), 2)
        yield Call(target, ((one, rng.choice(values)), (two, rng.choice(values))))


def wrong(call: Call, values: Mapping[str, Callable[[], Any]]) -> tuple[str, str]:
    """What a call did, "success", "refused" or "wrong", and a sentence."""
    target, before = call.target, dict(dispatch._registered)
    changes = {argument: values[value]() for argument, value in call.changes}
    try:
        result = target(changes)
        if not target.right(result):
            return "wrong", f"returned {type(result).__name__}"
        refused = [
            argument for argument, name in call.changes if not target.is_accepted(argument, name, changes[argument])
        ]
        return ("wrong", f"took {refused[0]} without a word") if refused else ("success", "")
    except (TypeError, ValueError) as error:
        if type(error) in (TypeError, ValueError) and not (reason := _bad_message(call, str(error))):
            return "refused", str(error)
        kind = type(error).__name__
        return "wrong", f"{reason if type(error) in (TypeError, ValueError) else kind}: {str(error)[:600]!r}"
    except BackendUnavailable as error:  # whoever asks for a backend is told what to install
        named = target.name in ("get_backend", "load_backend") and len(str(error)) <= LONGEST
        return "refused" if named else "wrong", str(error)
    except OutputError as error:
        short = target.name == "save_frozen" and len(str(error)) < 1200
        return "refused" if short else "wrong", str(error)[:600]
    except Exception as error:  # noqa: BLE001 (that is what is looked for)
        return "wrong", f"{type(error).__name__}: {str(error)[:600]!r}"
    finally:
        if dict(dispatch._registered) != before:
            dispatch._registered.clear()
            dispatch._registered.update(before)
            dispatch._by_type.clear()


def _bad_message(call: Call, message: str) -> str:
    """What is wrong with an error's message."""
    target = call.target
    if "function" in dict(call.changes) and target.name == "backend_of":
        return ""  # that is what it is called
    names = "|".join(map(re.escape, (target.name, *target.others)))
    if not (found := re.match(rf"({names}): (.*?) must ", message)):
        return "names no function"
    blamed = set(re.findall(r"\w+", found[2]))
    if not blamed & {*target.defaults, "argument"}:
        return "names no argument"
    if len(message) > LONGEST:
        return f"{len(message)} characters"
    return "more than a line" if "\n" in message else ""


def main() -> None:
    """Make the calls."""
    parser = argparse.ArgumentParser()
    parser.add_argument("backend")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--successes", action="store_true")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    backend = get_backend(args.backend)
    values = hostile(backend)
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        host = get_backend("numpy")
        weight = np.full((5, 3), 0.5, np.float32)
        layers.save_frozen(
            "good.npz", {"a": layers.FrozenLayer({"weight": host.from_numpy(weight)}, {"chunk_size": 2})}
        )
        for number, call in enumerate(calls(backend, args.share, args.pairs, args.seed)):
            if number < args.start:
                continue
            print(f"call {number} {call}", file=sys.stderr, flush=True)
            faulthandler.dump_traceback_later(HANG, exit=True)
            outcome, said = wrong(call, values)
            faulthandler.cancel_dump_traceback_later()
            if outcome == "wrong" or (args.successes and outcome == "success"):
                print(json.dumps({"call": str(call), "outcome": outcome, "said": said}), flush=True)


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
