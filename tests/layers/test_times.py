"""mode_times: every mode computes what it says, and what is said follows from the clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops import conv_lif, mode_times, tac_conv, tac_linear
from tacops.__main__ import main
from tacops._layers import times
from tacops._layers.times import _in_mode
from tacops.layers import Flatten, FrozenLayer, Sequential, save_frozen

RNG = np.random.default_rng(0)
X = (RNG.random((8, 2, 6, 6, 2)) < 0.3).astype(np.float32)
WEIGHT = RNG.normal(size=(4, 3, 3, 2)).astype(np.float32)
PER_FRAME = {"exact": 4.0, "collapse": 2.0, "preserve": 3.875}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """A clock that stands still but while a layer runs: as many seconds as its mode costs here."""
    costs, now = dict(PER_FRAME), [0.0]
    in_mode = times._in_mode

    def slowed(layer: FrozenLayer, mode: Any, size: int) -> Any:
        call = in_mode(layer, mode, size)

        def run(x: Any) -> Any:
            now[0] += costs[mode]
            return call(x)

        return run

    monkeypatch.setattr(times, "_in_mode", slowed)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return costs


@pytest.mark.parametrize("reproducible", [False, True])
def test_modes_are_the_operators(reproducible: bool) -> None:
    options: dict[str, Any] = {"beta": 0.8, "padding": 1, "stride": 2, "reproducible": reproducible}
    layer = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 3, "mode": "preserve", **options})
    expected = {
        "exact": conv_lif(X, WEIGHT, **options),
        "collapse": tac_conv(X, WEIGHT, chunk_size=4, mode="collapse", **options),
        "preserve": tac_conv(X, WEIGHT, chunk_size=4, mode="preserve", **options),
    }
    for mode, size in (("exact", 1), ("collapse", 4), ("preserve", 4)):
        found = _in_mode(layer, mode, size)(X)  # type: ignore[arg-type]
        np.testing.assert_array_equal(found.spikes, expected[mode].spikes)


def test_learned_weights_stay_for_chunks_of_their_size() -> None:
    arrays = {"weight": RNG.normal(size=(3, 5)).astype(np.float32), "aggregation": np.array([1, 2], np.float32)}
    layer, x = FrozenLayer(arrays, {"chunk_size": 2}), X[..., 0, :1].repeat(5, -1)
    same = tac_linear(x, arrays["weight"], chunk_size=2, aggregation=arrays["aggregation"])
    np.testing.assert_array_equal(_in_mode(layer, "collapse", 2)(x).membrane, same.membrane)
    other = tac_linear(x, arrays["weight"], chunk_size=4)
    np.testing.assert_array_equal(_in_mode(layer, "collapse", 4)(x).membrane, other.membrane)


@pytest.mark.usefixtures("clock")
def test_a_network() -> None:
    conv = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2, "padding": 1})
    dense = FrozenLayer({"weight": RNG.normal(size=(3, 144)).astype(np.float32)}, {"chunk_size": 4})
    network: dict[str, Any] = {"conv": conv, "flat": Flatten(), "out": dense}
    found = mode_times(network, X, repeats=3)
    assert [(row.layer, row.mode, row.chunk_size, row.seconds) for row in found] == [
        ("conv", "exact", 1, 4.0),
        ("conv", "collapse", 2, 2.0),
        ("conv", "preserve", 2, 3.875),
        ("out", "exact", 1, 4.0),
        ("out", "collapse", 4, 2.0),
        ("out", "preserve", 4, 3.875),
    ]
    rows = list(found)
    assert rows[0].density == np.mean(X != 0)
    assert rows[3].density == np.mean(conv(X).spikes != 0)
    assert found.total("exact") == 8.0
    assert found.gains("collapse")
    assert not found.gains("preserve")
    assert found.reason == "exact takes 8e+03 ms: collapse is 2.0 x as fast."
    assert str(found).splitlines()[0].split() == ["layer", "inputs", "not", "0", "exact", "collapse", "preserve"]
    assert "(numpy) exact takes" in str(found)


def test_exact_is_as_fast(clock: dict[str, float]) -> None:
    clock["collapse"] = 3.875
    layer = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2})
    found = mode_times(layer, X, chunk_size=4, repeats=1)
    assert {row.chunk_size for row in found} == {1, 4}
    assert found.reason.endswith("to aggregate saves no time here, so exact is the better choice.")


def test_the_first_call_is_not_counted(clock: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    layer, calls = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2}), []
    finish = times._finish

    def compiling(train: Any) -> None:
        calls.append(train)
        clock["exact"] = 4.0
        finish(train)

    clock["exact"] = 1e6
    monkeypatch.setattr(times, "_finish", compiling)
    assert mode_times(layer, X, repeats=2).total("exact") == 4.0
    assert len(calls) == 9


@pytest.mark.parametrize("library", ["jax.numpy", "mlx.core", "torch"])
def test_other_libraries(library: str) -> None:
    xp = pytest.importorskip(library)
    layer = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2, "padding": 1})
    found = mode_times(layer, (xp.array if library == "mlx.core" else xp.asarray)(X), repeats=1)
    assert found.backend == library.partition(".")[0]
    assert all(row.seconds > 0 for row in found)


def test_bad_calls() -> None:
    layer = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2})
    with pytest.raises(ValueError, match=r"^mode_times: repeats must be .*; got 0$"):
        mode_times(layer, X, repeats=0)
    with pytest.raises(TypeError, match=r"^mode_times: layers must be "):
        mode_times(3, X)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^mode_times: "):
        mode_times(layer, X[..., :1])
    found = mode_times(layer, X, repeats=1)
    for call in (found.total, found.gains):
        with pytest.raises(
            ValueError, match=r"^ModeTimes: mode must be one of 'exact', 'collapse', 'preserve'; got 'x'$"
        ):
            call("x")  # type: ignore[arg-type]


def test_layers_of_one_name_have_lines_of_their_own() -> None:
    """A long name widens its column."""
    layer, other = (FrozenLayer({"weight": w}, {"chunk_size": 2}) for w in (WEIGHT, WEIGHT.repeat(2, -1)))
    network: dict[str, Any] = {"a" * 20: Sequential(layer), "a" * 20 + ".0": other}
    lines = str(mode_times(network, X, repeats=1)).splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["layer", "a" * 20 + ".0", "a" * 20 + ".0"]
    assert len({len(line) for line in lines[:3]}) == 1


def test_blocks_that_are_not_computed_are_not_timed() -> None:
    """Reading one number of a result would compute one block."""
    da = pytest.importorskip("dask.array", reason="backend dask: it is not installed")
    layer = FrozenLayer({"weight": WEIGHT}, {"chunk_size": 2})
    with pytest.raises(TypeError, match=r"^mode_times: spikes must be frames that are at hand, .*; got a dask array$"):
        mode_times(layer, da.from_array(X))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames, network = tmp_path / "frames.npy", tmp_path / "network.npz"
    np.save(frames, (RNG.random((16, 8, 10, 10, 2)) < RNG.random((8, 10, 10, 2))).astype(np.float32))
    save_frozen(network, {"conv": FrozenLayer({"weight": WEIGHT}, {"chunk_size": 4})})
    assert main(["advise", str(frames), "--layers", str(network)]) == 0
    printed = capsys.readouterr().out
    assert "collapse, chunk_size=16" in printed
    assert " ms K=16" in printed
    assert main(["advise", str(frames), "--layers", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err
