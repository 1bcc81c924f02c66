"""Worker processes: every subject lives in its own, all stay alive, and one at a time works.

The parent asks, ``worker.ask("measure", case, mode, ...)``, and waits for the answer; what a worker prints goes to a log
that is shown if it dies. Workers start with the same settings of allocator and thread pools, which libraries read when
they are loaded.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import statistics
import tempfile
import time
import traceback
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np

from bench.shared.machine import cores
from bench.timing.cases import WARM_UP, Case, Mode
from bench.timing.memory import begin_peak, end_peak
from bench.timing.subject import Entry, Tacops, UnsupportedError, Variant, fires

TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=17179869184"
START_SECONDS = 300.0
"""Within which a worker must have imported its library."""
TRIALS = 3
SLOW = 0.3
"""Seconds of a call above which it is tried once instead of ``TRIALS`` times."""


class WorkerDiedError(RuntimeError):
    """A worker process ended or didn't answer; it is gone."""


class SubjectError(RuntimeError):
    """The library raised; the worker lives on."""


def environment() -> dict[str, str]:
    """Settings that every worker starts with."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    return {"GLIBC_TUNABLES": TUNABLES, **dict.fromkeys(threads, str(cores())), **quiet}


class Worker:
    """The parent's side of a worker process; starting doesn't wait for it."""

    def __init__(self, entry: Entry, settings: Mapping[str, str]) -> None:
        self.entry = entry
        handle, name = tempfile.mkstemp(prefix="bench-", suffix=".log")
        os.close(handle)
        self.log = Path(name)
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, name, entry), daemon=True)
        with _environment(settings):
            self.process.start()
        theirs.close()

    def ask(self, command: str, *arguments: object, timeout: float = 300.0) -> Any:
        """Run a `Timer` method over there; `SubjectError` or `UnsupportedError` if it raises."""
        with contextlib.suppress(OSError):  # a dead worker is noticed below
            self.connection.send((command, arguments))
        return self.receive(timeout)

    def receive(self, timeout: float) -> Any:
        """Wait for an answer."""
        try:
            if not self.connection.poll(timeout):
                self.close()
                raise WorkerDiedError(f"{self.entry.name}: no answer for {timeout:.0f} s, stopped")
            kind, answer = self.connection.recv()
        except (EOFError, OSError) as error:
            self.process.join(5)
            end = f"{self.entry.name}: its process ended with exit code {self.process.exitcode}"
            raise WorkerDiedError(f"{end}; it said: {self._said()}") from error
        if kind == "unsupported":
            raise UnsupportedError(answer)
        if kind == "error":
            raise SubjectError(f"{self.entry.name}: {answer}")
        return answer

    def _said(self) -> str:
        text = self.log.read_text(errors="replace").strip() if self.log.exists() else ""
        return text[-500:] or "nothing"

    def close(self) -> None:
        """End the process; called twice, it does nothing the second time."""
        self.connection.close()
        if self.process.is_alive():
            self.process.terminate()
            self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.log.unlink(missing_ok=True)


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while a process is started, which inherits them."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def serve(connection: Connection, log: str, entry: Entry) -> None:
    """Answer until the parent hangs up: the worker's main function."""
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        timer = Timer(entry)
        connection.send(("ok", timer.subject.version()))
    except Exception as error:  # noqa: BLE001 (whatever a library raises belongs in the report)
        connection.send(("error", _sentence(error)))
        return
    while True:
        try:
            command, arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            connection.send(("ok", getattr(timer, command)(*arguments)))
        except UnsupportedError as error:
            connection.send(("unsupported", str(error)))
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            connection.send(("error", _sentence(error)))


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]


class Timer:
    """The worker's side: layers that are ready to be timed."""

    def __init__(self, entry: Entry) -> None:
        self.subject = entry.make()
        self.ready: dict[tuple[str, str], Variant] = {}

    def where(self) -> str:
        """The device that the subject's arrays are on."""
        return self.subject.where()

    def prepare(self, case: Case, mode: Mode) -> dict[str, Any]:
        """Build a layer, compile it and choose its fastest variant.

        Returns
        -------
        dict
            ``variant``, the ``seconds`` of a call, the ``tried`` variants' seconds, the ``spikes``, eight to a byte, and of a
            training step the weight's ``gradient``.
        """
        variants = self.subject.variants(case, mode)
        found = {variant.name: _results(variant, variant.call()) for variant in variants}
        tried = {variant.name: _seconds(variant) for variant in variants}
        for _ in range(TRIALS - 1):
            for variant in variants:
                if len(variants) > 1 and tried[variant.name] < SLOW:
                    tried[variant.name] = min(tried[variant.name], _seconds(variant))
        best = min(variants, key=lambda variant: tried[variant.name])
        self.ready[case.name, mode.name] = best
        spikes, gradient = found[best.name]
        answer = {"variant": best.name, "seconds": tried[best.name], "tried": tried}
        return {**answer, "spikes": spikes, "gradient": gradient}

    def measure(self, case: Case, mode: Mode, calls: int, warm: float) -> list[float]:
        """Time calls one by one, after others that take `warm` seconds together; one at least, none for 0."""
        variant = self.ready[case.name, mode.name]
        gc.freeze()  # what was made before stays; collecting it took 0.1 s, every visit, where PyTorch or JAX are loaded
        gc.disable()
        try:
            spent = 0.0
            while spent < warm:
                spent += _seconds(variant)
            return [_seconds(variant) for _ in range(calls)]
        finally:
            gc.enable()

    def after_product(self, case: Case, mode: Mode, calls: int) -> list[float]:
        """Time calls, each right after a matrix product by the library's threads, which go on waiting for the next one."""
        call, product = self.ready[case.name, mode.name], cast(Tacops, self.subject).product()
        times = []
        for _ in range(calls):
            product()
            times.append(_seconds(call))
        return times

    def batches(self, case: Case, mode: Mode, calls: int, batches: int) -> float:
        """Seconds of one call in the median batch of `calls` calls: for calls too short for the clock."""
        return _in_batches(self.ready[case.name, mode.name].call, calls, batches)

    def threads(self, calls: int, batches: int) -> float:
        """The same of NumPy's schedule with a tile for every core and nothing to do in them."""
        from tacops.backends._cpu import tiles

        nothing = cores(), (), tiles.TILE, tiles.PARALLEL, tiles.PARALLEL_PRODUCTS
        return _in_batches(lambda: tiles._run_all(lambda tile: None, *nothing), calls, batches)

    def peak(self, case: Case, mode: Mode) -> int:
        """Most bytes that one call holds at a time, its result included; in a fresh process, because buffers are kept."""
        self.subject.variants(WARM_UP, mode)[0].call()  # imports and compiles
        variant = self.subject.variants(case, mode)[0]
        tracemalloc.start()
        try:
            variant.call()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def step_peak(self, case: Case, mode: Mode) -> int:
        """Most bytes that a call takes of the system's memory beside what was there before it, its results included.

        The layer has run once, what was compiled and freed since is given back, and the call is made again.
        """
        variants = self.subject.variants(case, mode)
        for variant in variants:
            variant.call()
        variant = min(variants, key=_seconds)
        del variants
        gc.collect()
        self.subject.release()
        before = begin_peak()
        out = variant.call()
        peak = end_peak(before)
        del out
        return peak

    def stream(self, marks: Sequence[int]) -> dict[str, Any]:
        """Feed a network frame by frame; see `bench.timing.stream.feed`. The subject is a backend of tacops."""
        from bench.timing import stream  # imports tacops, which other libraries' processes don't

        backend: Any = self.subject.backend  # type: ignore[attr-defined]
        gc.freeze()  # as in `measure`; what is made from here on is collected as ever
        return stream.feed(stream.network(), stream.camera(backend), marks, backend.synchronize)

    def forget(self) -> None:
        """Free all layers."""
        self.ready.clear()
        gc.unfreeze()
        gc.collect()


def _results(variant: Variant, out: Any) -> tuple[bytes | None, bytes | None]:
    """Spikes and gradients, as bytes."""
    spikes = None if variant.spikes is None else np.packbits(fires(variant.spikes(out))).tobytes()
    gradient = None if variant.gradient is None else np.asarray(variant.gradient(out), np.float32).tobytes()
    return spikes, gradient


def _in_batches(call: Callable[[], Any], calls: int, batches: int) -> float:
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls)
    return statistics.median(times)


def _seconds(variant: Variant) -> float:
    start = time.perf_counter()
    variant.call()
    return time.perf_counter() - start
