"""The parts of ``python -m bench run``, and how they are run: each backend in a process of its own, one at a time.

A part that fails, even by ending its process, is recorded with its reason and doesn't stop the others. A part that is done
is kept at once (`bench.shared.store`), so that a run which is interrupted, or killed, goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from bench.shared.progress import Tell
from bench.shared.store import Store
from bench.speed import command as speed
from bench.speed import run as speed_run
from bench.speed.result import as_json as speed_as_json
from bench.timing.pool import environment

Step = dict[str, Any]
"""``status`` ("done", "failed" or "not run"), ``seconds``, and ``result`` or ``reason``."""

PER_BACKEND = ("digests", "conformance", "accuracy")
PARTS = (*PER_BACKEND, "speed", "sparsity")
MINUTES = {"speed": (0.8, 11.0), "sparsity": (0.4, 8.0)}
"""Time to use, quick and full; to load and to compile takes longer on a busy machine."""
PLANNED = {"digests": (6, 6), "conformance": (5, 25), "accuracy": (6, 15)}
"""Seconds per backend that are expected, quick and full: for the progress bar alone."""
COMMAND = (sys.executable, "-m", "bench.machine.step")
SILENCE = 1800.0
"""Seconds without a finished part after which a process is stopped."""


@dataclass(frozen=True)
class Job:
    """One part, for one backend or (with no name) for all."""

    part: str
    backend: str

    @property
    def key(self) -> str:
        """A file's name."""
        return quote(f"{self.part}-{self.backend}" if self.backend else self.part, safe="")


def planned_seconds(jobs: Sequence[Job], *, quick: bool) -> float:
    """Estimate how long all takes."""
    column = 0 if quick else 1
    return sum(60 * MINUTES[job.part][column] if job.part in MINUTES else PLANNED[job.part][column] for job in jobs)


def run_jobs(jobs: Sequence[Job], store: Store, settings: Mapping[str, Any], tell: Tell) -> dict[Job, Step]:
    """Do all; every step that is done is kept in the store, those that failed are not."""
    done: dict[Job, Step] = {}
    for backend in dict.fromkeys(job.backend for job in jobs if job.backend):
        done |= run_backend([job for job in jobs if job.backend == backend], store, settings, tell)
    for job in jobs:
        if not job.backend:
            backends = list(settings["backends"])
            done[job] = run_here(job.part, backends, settings["quick"], tell, settings.get("device"))
            if done[job]["status"] == "done":
                store.save(job.key, settings, done[job])
    return done


def run_here(part: str, backends: list[str], quick: bool, tell: Tell, device: str | None = None) -> Step:
    """Speed or sparsity, which have worker processes of their own."""
    start = time.perf_counter()
    try:
        run = {"speed": measure_speed, "sparsity": measure_sparsity}[part]
        outcome = {"status": "done", "result": run(backends, quick, lambda text: tell(f"{part}: {text}"), device)}
    except ImportError as error:
        outcome = {
            "status": "not run",
            "reason": f"{error}; try: pip install -e '.[{part if part == 'sparsity' else 'bench'}]'",
        }
    except Exception as error:  # noqa: BLE001 (whatever a library raises belongs in the result)
        outcome = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    return {**outcome, "seconds": time.perf_counter() - start}


def measure_speed(backends: list[str], quick: bool, tell: Tell, device: str | None) -> dict[str, Any]:
    """Every mode on every backend, shares of spikes, training steps and ceilings; no other libraries and no sweeps."""
    args = _options(speed, ["--no-peers", "--no-sweep", "--minutes", str(MINUTES["speed"][not quick])], quick)
    entries, missing = speed.choose(backends, peers=False, device=device)
    kept = [entry for entry in entries if entry.kind == "ceiling" or entry.name == f"tacops {entry.argument}"]
    result = speed_run.run(replace(speed.make_plan(args), extras=False), kept, missing, tell)
    content: dict[str, Any] = json.loads(speed_as_json(result, ()))
    return content


def measure_sparsity(backends: list[str], quick: bool, tell: Tell, device: str | None) -> dict[str, Any]:
    """Sparse strategies against dense convolution; `ImportError` where a library that they need is missing."""
    from bench.sparsity import command as sparsity
    from bench.sparsity import conclusion as sparsity_conclusion
    from bench.sparsity import result as sparsity_result
    from bench.sparsity import run as sparsity_run
    from bench.sparsity.subject import BACKENDS

    names = [name for name in backends if name in BACKENDS]
    if not names:
        raise ImportError(f"sparse strategies are written for {', '.join(BACKENDS)}")

    args = _options(sparsity, ["--minutes", str(MINUTES["sparsity"][not quick])], quick)
    result = sparsity_run.run(sparsity.make_plan(args), *sparsity.choose(names, None, device), tell)
    content = sparsity_result.as_dict(result, sparsity_conclusion.conclusion(result))
    plain: dict[str, Any] = json.loads(json.dumps(content))
    return plain


def _options(command: Any, words: list[str], quick: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args([*words, *(["--quick"] if quick else [])])


def run_backend(
    jobs: Sequence[Job],
    store: Store,
    settings: Mapping[str, Any],
    tell: Tell,
    command: Sequence[str] | None = None,
    silence: float | None = None,
) -> dict[Job, Step]:
    """Run one backend's parts in a process of its own; if it ends early, the part that it was at is blamed."""
    done: dict[Job, Step] = {}
    left = list(jobs)
    for job in jobs:
        store.path(job.key).unlink(missing_ok=True)  # what failed before
    while left:
        start = time.perf_counter()
        with _process(left, store, settings, command or COMMAND) as (process, log):
            while left and time.perf_counter() - start < (silence or SILENCE):
                tell(f"{left[0].backend}, {left[0].part}")
                ended = process.poll() is not None  # looked at first: what it has finished before is there
                if found := store.load(left[0].key, settings):
                    done[left.pop(0)] = found
                    start = time.perf_counter()
                elif ended:
                    break
                else:
                    time.sleep(0.1)
            if left:
                reason = "it took too long and was stopped" if process.poll() is None else _end(process.returncode)
                seconds = time.perf_counter() - start
                log.seek(0)
                said = " ".join(log.read().decode(errors="replace").split()[-40:])[-300:]
                blamed = {"status": "failed", "seconds": seconds, "reason": f"{reason}; it said: {said or 'nothing'}"}
                done[left.pop(0)] = blamed
    return done


@contextlib.contextmanager
def _process(
    jobs: Sequence[Job], store: Store, settings: Mapping[str, Any], command: Sequence[str]
) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """Start `bench.machine.step`, or what does its work; it ends when its standard input does, so it never outlives this process."""
    order = {"backend": jobs[0].backend, "parts": {job.part: job.key for job in jobs}, "settings": settings}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, str(store.folder.absolute())],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=_environment(),
            start_new_session=True,  # an interrupt from the keyboard goes to this process alone
        )
        assert process.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # a process that ended at once is noticed elsewhere
                process.stdin.write(json.dumps(order).encode() + b"\n")
                process.stdin.flush()
            yield process, log
        finally:
            process.kill()
            process.wait()
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _environment() -> dict[str, str]:
    """As for `bench speed`, in front of this process's own."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH", "")])])
    return {**os.environ, **environment(), "PYTHONPATH": path}


def _end(code: int) -> str:
    return f"its process was ended by signal {-code}" if code < 0 else f"its process ended with exit code {code}"
