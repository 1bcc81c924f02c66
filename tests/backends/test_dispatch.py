"""The array's type chooses the backend; nothing is imported, converted or guessed."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from tacops import conv_lif, tac_conv, tac_linear
from tacops._backend import dispatch
from tacops.backends import (
    Backend,
    BackendUnavailable,
    available_backends,
    backend_of,
    get_backend,
    missing_backends,
    register_backend,
)
from tests.conftest import BACKENDS
from tests.support import ROOT
from tests.support.cases import assert_same, grid_layer, run

LAYER = grid_layer(41)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start with nothing registered and nothing remembered; the real registry comes back afterwards."""
    monkeypatch.setattr(dispatch, "_registered", {})
    monkeypatch.setattr(dispatch, "_by_type", {})


def python(code: str) -> str:
    """Run code in a fresh interpreter in the checkout."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


LIBRARIES = "numpy jax mlx torch cupy dask array_api_compat array_api_strict scipy"


def test_import_brings_no_array_library() -> None:
    """Neither ``import tacops`` nor its public submodules import NumPy or any other array library."""
    found = python(
        "import sys, tacops, tacops.surrogate, tacops.backends\n"
        f"print([name for name in {LIBRARIES.split()} if name in sys.modules])"
    )
    assert found.strip() == "[]"


@pytest.mark.parametrize("name", ["numpy", "jax", "mlx", "torch"])
def test_a_call_brings_no_other_library(need: Callable[[str], Backend], name: str) -> None:
    """A call with arrays of one library leaves the others alone (NumPy may serve them all)."""
    need(name)
    make = {
        "numpy": "import numpy as np; a = lambda *s: np.ones(s, np.float32)",
        "jax": "import jax.numpy as jnp; a = lambda *s: jnp.ones(s)",
        "mlx": "import mlx.core as mx; a = lambda *s: mx.ones(s)",
        "torch": "import torch; a = lambda *s: torch.ones(s)",
    }[name]
    found = python(
        f"{make}\nimport sys, tacops\ntacops.tac_conv(a(4, 1, 5, 5, 2), a(3, 3, 3, 2), chunk_size=2)\n"
        f"print([n for n in ('jax', 'mlx', 'torch', 'cupy', 'dask', 'array_api_strict') if n in sys.modules and n != {name!r}])"
    )
    assert found.strip() == "[]"


def test_every_array_finds_its_backend(backend: Backend) -> None:
    """By type, also a second time, when the answer is remembered, and for all dtypes."""
    for dtype in (np.float32, np.bool_, np.int32):
        array = backend.from_numpy(np.ones((2, 3), dtype))
        assert backend.owns(array)
        assert not backend.owns([1.0])
        assert backend_of(array) is backend_of(array, None, array) is backend
        assert_same("round trip", backend.to_numpy(array), np.ones((2, 3), dtype))


def test_no_backend_owns_anothers_arrays(backend: Backend) -> None:
    """Ownership is exclusive; the generic backend takes what has no adapter of its own."""
    if backend.name == "numpy":
        pytest.skip("numpy is what the others are compared with")
    array = np.ones(3)
    assert not backend.owns(array) or backend.name == "array_api"
    assert not get_backend("numpy").owns(backend.from_numpy(array))


@pytest.mark.parametrize("argument", ["weight", "bias", "membrane", "beta", "threshold", "aggregation"])
def test_mixed_libraries(backend: Backend, argument: str) -> None:
    """One array of another library, wherever it is, is a TypeError that names both."""
    other = get_backend("array_api" if backend.name == "numpy" else "numpy")
    arrays: dict[str, Any] = {
        "spikes": LAYER.spikes,
        "weight": LAYER.weight,
        "bias": LAYER.bias,
        "membrane": np.zeros((2, 3, 4, 6), np.float32),
        "beta": LAYER.bias * 0,
        "threshold": LAYER.bias * 0 + 1,
        "aggregation": np.ones(2, np.float32),
    }
    native = {name: (other if name == argument else backend).from_numpy(value) for name, value in arrays.items()}
    with pytest.raises(TypeError, match=rf"^tac_conv: {argument} must .*; got ") as caught:
        tac_conv(**native, chunk_size=2)
    message, found = str(caught.value).split("; got ")
    assert backend.name in message
    root = {"array_api": "array_api_strict"}.get(other.name, other.name)
    assert found.startswith(root)


def test_threads(registry: None, need: Callable[[str], Backend]) -> None:
    """First calls of several libraries at the same moment from many threads: all right, none waits for ever."""
    want = run(get_backend("numpy"), tac_conv, *LAYER, chunk_size=2, beta=0.5)
    names = [name for name in ("numpy", "array_api", "jax", "mlx", "torch") if name in available_backends()]
    count = 4 * len(names)
    barrier = Barrier(count)

    def work(n: int) -> None:
        backend = get_backend(names[n % len(names)])
        barrier.wait(timeout=60)
        for _ in range(3):
            got = run(backend, tac_conv, *LAYER, chunk_size=2, beta=0.5)
            assert_same(f"spikes ({backend.name})", got.spikes, want.spikes)
            assert_same(f"membrane ({backend.name})", got.membrane, want.membrane)

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(work, n) for n in range(count)]:
            future.result(timeout=120)


class Tagged(np.ndarray[Any, Any]):
    """An array type that only a plug-in knows."""


def _plug_in() -> Backend:
    base: Any = type(get_backend("numpy"))

    class PlugIn(base):  # type: ignore[misc]
        name = "tagged"

        def owns(self, array: object) -> bool:
            return isinstance(array, Tagged)

        def from_numpy(self, array: np.ndarray[Any, Any]) -> Any:
            return array.view(Tagged)

    plug_in: Backend = PlugIn()
    return plug_in


@pytest.mark.parametrize("lazily", [False, True])
def test_registered_backend(registry: None, lazily: bool) -> None:
    """A registered backend comes before the built-in ones and is found by name, by type and in the list."""
    plug_in = _plug_in()
    array = np.ones(3).view(Tagged)
    with pytest.raises(
        TypeError, match=r"tests\.backends\.test_dispatch\.Tagged"
    ):  # a subclass may mean something else
        backend_of(array)
    register_backend("tagged", (lambda: plug_in) if lazily else plug_in)
    assert backend_of(array) is plug_in
    assert backend_of(np.ones(3)).name == "numpy"
    assert get_backend("tagged") is plug_in
    assert "tagged" in available_backends()
    with pytest.raises(TypeError, match="tagged"):
        conv_lif(LAYER.spikes.view(Tagged), LAYER.weight)


def test_registered_backend_that_is_none(registry: None) -> None:
    """A loader's answer is checked when it is used."""
    register_backend("broken", lambda: "numpy")  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match=r"broken.* must be .*; got builtins\.str"):
        get_backend("broken")


@pytest.mark.parametrize("how", ["registered", "installed"])
def test_an_unavailable_plug_in_is_in_nobodys_way(registry: None, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A plug-in whose library is missing can't own anybody's arrays: others are dispatched as ever."""
    if how == "registered":
        register_backend("absent", lambda: import_module("no_such_module").BACKEND)
    else:
        broken = EntryPoint("absent", "no_such_module:BACKEND", "tacops.backends")
        monkeypatch.setattr(dispatch, "entry_points", lambda *, group: EntryPoints([broken]).select(group=group))
    for name in ("numpy", "array_api"):
        backend = get_backend(name)
        assert backend_of(backend.from_numpy(np.ones(2))) is backend


def test_entry_point(registry: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package's backend is found by name and, where nothing else owns the array, by type."""
    entry = EntryPoint("tagged", "tests.backends.test_dispatch:ENTRY", "tacops.backends")
    broken = EntryPoint("absent", "no_such_module:BACKEND", "tacops.backends")
    plug_in = _plug_in()
    monkeypatch.setattr(sys.modules[__name__], "ENTRY", plug_in, raising=False)
    monkeypatch.setitem(sys.modules, "tests.backends.test_dispatch", sys.modules[__name__])
    monkeypatch.setattr(dispatch, "entry_points", lambda *, group: EntryPoints([entry, broken]).select(group=group))
    assert get_backend("tagged") is plug_in
    assert "tagged" in available_backends()
    assert "no_such_module" in missing_backends()["absent"]
    with pytest.raises(BackendUnavailable, match=r"absent.*no_such_module"):
        get_backend("absent")


@pytest.mark.parametrize("library", ["jax", "mlx", "torch", "cupy", "dask", "array_api_strict"])
def test_missing_library(monkeypatch: pytest.MonkeyPatch, registry: None, library: str) -> None:
    """A library that can't be imported: one sentence that says what to install, and NumPy works on."""
    name = "array_api" if library == "array_api_strict" else library
    for module in [m for m in sys.modules if m == library or m.startswith((f"{library}.", f"tacops.backends.{name}"))]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(BackendUnavailable, match=r"pip install") as caught:
        get_backend(name)
    assert library in str(caught.value)
    assert "\n" not in str(caught.value)
    assert name not in available_backends()
    assert missing_backends()[name] == str(caught.value)
    assert backend_of(LAYER.spikes).name == "numpy"
    run(get_backend("numpy"), tac_linear, LAYER.spikes, LAYER.weight[:, 0, 0], chunk_size=2)


@pytest.mark.parametrize(
    ("name", "module", "install"),
    [
        ("numpy", "threadpoolctl", "threadpoolctl"),
        ("torch", "array_api_compat", "array-api-compat"),
        ("torch", "numpy", "numpy"),
        ("jax", "jaxlib", "tacops[jax]"),
        ("cupy", "array_api_compat", "array-api-compat"),
    ],
)
def test_missing_helper(name: str, module: str, install: str) -> None:
    """The sentence names the module that is missing, and installing what it says brings that one."""
    if name != "numpy":
        pytest.importorskip(name)
    found = python(
        f"import sys; sys.modules[{module!r}] = None\n"
        "from tacops.backends import BackendUnavailable, get_backend\n"
        f"try: get_backend({name!r})\nexcept BackendUnavailable as error: print(error)"
    ).strip()
    if module == "jaxlib":  # JAX itself says so, without naming a module
        assert "jaxlib" in found
    else:
        assert found.startswith(f"backend {name!r} needs {module}, which cannot be imported (")
    assert f"; try: pip install {install!r}" in found
    assert "\n" not in found


def test_numpy_works_without_its_optional_module() -> None:
    """Numba makes it faster, no more."""
    found = python(
        "import sys; sys.modules['numba'] = None\nimport numpy as np, tacops\n"
        "print(tacops.tac_linear(np.ones((64, 8, 4), 'f4'), np.ones((64, 4), 'f4'), chunk_size=1).spikes.mean())"
    )
    assert found == "1.0\n"


@pytest.mark.parametrize("name", BACKENDS)
def test_backend_is_tested(need: Callable[[str], Backend], name: str) -> None:
    """Reports, once, each backend that this run leaves out and why."""
    assert need(name).name == name


def test_cupy_says_what_is_missing() -> None:
    """Without CuPy, a driver or a GPU the sentence says so; with them the backend is there."""
    problem = missing_backends().get("cupy")
    if problem is None:
        assert get_backend("cupy").name == "cupy"
    else:
        assert "pip install" in problem or "driver" in problem or "GPU" in problem
        assert "\n" not in problem


def test_cupy_adapter_imports_without_a_gpu() -> None:
    """Where CuPy is installed its adapter can be imported, whether there is a driver and a GPU or not."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    assert python("from tacops.backends import cupy_\nprint(cupy_.BACKEND.name)").strip() == "cupy"


def test_the_installed_package_is_this_one() -> None:
    """Guard: the suite tests one copy of the adapters (``import backends`` would be a second one)."""
    assert "backends" not in sys.modules
    assert Path(import_module("tacops.backends").__file__ or "").resolve().parent in {
        ROOT / "backends",
        Path(sysconfig.get_paths()["purelib"]).resolve() / "tacops" / "backends",
    }
