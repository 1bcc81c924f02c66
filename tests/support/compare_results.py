"""Results of machines that do not exist."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from bench.compare.data import Machine, load
from bench.machine.description import describe_machine
from bench.machine.parts import Job, Step
from bench.machine.result import Content, as_json, assemble
from bench.spikes import digests as digest
from bench.timing.cases import CASES

BACKENDS = {
    "numpy": {"version": "2.4", "device": "cpu", "precision": "full float32"},
    "mlx": {"version": "0.32", "device": "gpu", "precision": "full float32 (MLX_ENABLE_TF32=0)"},
}


def steps(milliseconds: float = 8.0, layers: tuple[str, ...] = ("S1", "S4")) -> dict[Job, Step]:
    """Exact takes this long, collapse an eighth of it in S1 and half in S4; MLX takes twice as long for all."""
    factors = {"exact": (1.0, 1.0), "collapse16": (1 / 8, 1 / 2), "preserve4": (1 / 2, 1 / 2)}
    rows, derived = [], []
    for n, case in enumerate(layers):
        for backend, slower in (("numpy", 1), ("mlx", 2)):
            for mode, factor in factors.items():
                seconds = milliseconds * slower * factor[n] / 1e3
                names = {"case": case, "subject": f"tacops {backend}", "mode": mode}
                rows.append({**names, "kind": "tacops", "variant": "only", "rounds": [[seconds]]})
                numbers = {"median_seconds": seconds, "quartiles_seconds": [seconds, seconds], "effective_gflops": 1.0}
                derived.append({**names, **numbers, "fraction_of_ceiling": (0.25, 1.0)[n]})
    speed = {
        "benchmark": "tacops speed",
        "schema": 1,
        "cases": {case: {"text": CASES[case].text} for case in layers},
        "rows": rows,
        "ceilings": [],
        "derived": derived,
        "missing": {},
        "failed": {},
    }
    sparsity = {
        "benchmark": "tacops sparsity",
        "schema": 1,
        "rows": [],
        "derived": [],
        "missing": {},
        "failed": {},
        "conclusion": ["No strategy beats dense."],
    }
    about = {"images_per_second": 1.0, "spikes": 9, "decisions": 90, "differing": 0, "timed_images": 100}
    modes = {
        mode: {**about, "accuracy": right, "speedup": faster, "seconds": [0.5], "median_seconds": 0.5}
        for mode, right, faster in (("exact", 0.9, 1.0), ("collapse16", 0.88, 6.5))
    }
    counts = {"passed": 44, "failed": 0, "expected failure": 0, "not applicable": 2}
    found: dict[Job, Any] = {}
    for backend in BACKENDS:
        found[Job("digests", backend)] = {"cases": copy.deepcopy(digest.load_reference())}
        found[Job("conformance", backend)] = {"tiers": [1], "of": 100, "counts": counts, "failures": {}}
        found[Job("accuracy", backend)] = {"images": 100, "modes": modes}
    found |= {Job("speed", ""): speed, Job("sparsity", ""): sparsity}
    return {job: {"status": "done", "seconds": 1.0, "result": result} for job, result in found.items()}


def content(name: str = "one", of: dict[Job, Step] | None = None) -> Content:
    """A result that the schema accepts."""
    settings = {"quick": True, "backends": BACKENDS, "libraries": {"tacops": "0.1.0"}, "source": "0" * 64}
    return assemble(of or steps(), name=name, machine=describe_machine(BACKENDS), missing={}, settings=settings)


def store(path: Path, what: Content) -> Path:
    path.write_text(as_json(what))
    return path


def two(tmp_path: Path) -> list[Path]:
    """Two machines, the second twice as fast."""
    return [
        store(tmp_path / "a.json", content("one")),
        store(tmp_path / "b.json", content("two", steps(4.0))),
    ]


def flipped(case: str, backend: str = "mlx", **changes: Any) -> Content:
    """A machine of which one backend has another digest."""
    of = steps()
    of[Job("digests", backend)]["result"]["cases"][case] |= changes or {"spikes": "f" * 64, "fired": 5}
    return content("other", of)


def compared(paths: list[Path]) -> list[Machine]:
    machines, problems = load(paths)
    assert problems == []
    return machines
