"""Which backends are tested: every one by default, the missing ones reported; with ``--backend NAME`` those and no others."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tacops.backends import Backend, BackendUnavailable, get_backend
from tests.support import workers

BACKENDS = ("array_api", "numpy", "jax", "mlx", "torch", "cupy")

settings.register_profile(
    "tacops",
    deadline=None,  # the first call of a compiled backend is slow
    max_examples=int(os.environ.get("TACOPS_EXAMPLES", "15")),
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("tacops")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --backend."""
    parser.addoption(
        "--backend",
        action="append",
        default=[],
        metavar="NAME",
        help="test this backend only (repeatable); missing is a failure",
    )


PROGRAMS = pytest.StashKey[str]()
"""The folder of JAX's compiled programs."""


def pytest_configure(config: pytest.Config) -> None:
    """Let JAX compile a program once for all workers and processes: compiling is most of the suite's time."""
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        config.stash[PROGRAMS] = folder = tempfile.mkdtemp(prefix="tacops-tests-jax-")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder  # workers and scripts inherit it
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the programs, by the process that made their folder."""
    if folder := config.stash.get(PROGRAMS, None):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> Iterator[None]:
    """JAX keeps every program of a process: gigabytes over the suite."""
    yield
    if jax := sys.modules.get("jax"):
        jax.clear_caches()


@cache
def problem(name: str) -> str | None:
    """Why a backend can't be used, or None."""
    try:
        get_backend(name)
    except (BackendUnavailable, ValueError) as error:  # missing, or no such name
        return str(error)
    return None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """One line for every backend: what is tested, and why the others are not."""
    named = config.getoption("--backend")
    lines = []
    for name in dict.fromkeys((*BACKENDS, *named)):
        reason = problem(name)
        state = f"missing: {reason}" if reason else f"found: {version(name)}"
        lines.append(f"backend {name}: {state}{'' if not named or name in named else ' (not asked for)'}")
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name a missing PyTorch at the end: a large part of the suite needs it, and its skips are easily overlooked."""
    named = config.getoption("--backend")
    reason = problem("torch")
    if reason and not named:
        reports = terminalreporter.stats.get("skipped", ())
        skipped = sum("backend torch: " in str(report.longrepr) for report in reports)
        terminalreporter.write_sep("!", "PyTorch was not tested", red=True, bold=True)
        terminalreporter.write_line(f"Skipped tests of PyTorch: {skipped}. The tests of every backend ran without it.")
        terminalreporter.write_line(reason)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist may be missing
def pytest_xdist_auto_num_workers() -> int | None:
    """As many as memory holds; None leaves it to pytest-xdist, which knows this variable."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return workers.workers(workers.cores(), workers.memory())


def version(name: str) -> str:
    """Name the library behind a backend, and its version."""
    module = {"array_api": "array_api_strict"}.get(name, name)
    dists = metadata.packages_distributions().get(module, ())
    return " ".join(f"{dist} {metadata.version(dist)}" for dist in sorted(set(dists)))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test that takes a ``backend`` once for each of them."""
    if "backend" in metafunc.fixturenames:
        named = dict.fromkeys(metafunc.config.getoption("--backend"))
        # a missing one would be hundreds of skips: test_dispatch.py reports it once
        names = named or [name for name in BACKENDS if not problem(name)]
        metafunc.parametrize("backend", list(names), indirect=True, scope="session")


@pytest.fixture(scope="session")
def backend(request: pytest.FixtureRequest, need: Callable[[str], Backend]) -> Backend:
    """Every backend in turn."""
    return need(request.param)


@pytest.fixture(scope="session")
def need(pytestconfig: pytest.Config) -> Callable[[str], Backend]:
    """``need(name)`` returns that backend; skips the test where it is missing, fails it where it was asked for."""
    named = pytestconfig.getoption("--backend")

    def get(name: str) -> Backend:
        if named and name not in named:
            pytest.skip(f"backend {name}: not among those named by --backend")
        reason = problem(name)
        if reason and named:
            pytest.fail(f"--backend {name}: {reason}", pytrace=False)
        if reason:
            pytest.skip(f"backend {name}: {reason}")
        return get_backend(name)

    return get


@pytest.fixture(scope="module")
def images() -> Any:
    """Rates of real images, see ``advise_inputs.py``."""
    from tests.support.advise_inputs import images

    return images()


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two machines' results, see ``compare_results.py``."""
    from tests.support.compare_results import two

    return two(tmp_path)
