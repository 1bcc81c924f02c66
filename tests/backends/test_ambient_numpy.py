"""What NumPy is told to do about floating-point errors changes no answer and raises nothing in a call of ours."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tacops import advise, aggregate, conv_lif, lif, tac_conv, tac_linear
from tacops.backends import get_backend

LARGE, SMALL = 32, 2
"""Samples of a batch that goes to threads and compiled loops, and of one that does not."""


@np.errstate(all="ignore")
def _calls(batch: int) -> dict[str, Callable[[], Any]]:
    """Calls with numbers that overflow, underflow, or are no numbers; their inputs are all made here."""
    rng = np.random.default_rng(7)
    x = rng.random((6, batch, 24, 24, 4)) < 0.3
    floats = x.astype(np.float32)
    weight = rng.integers(-8, 9, (8, 3, 3, 4)).astype(np.float32)
    tiny, huge = weight * np.float32(2.0**-145), weight * np.float32(2.0**123)
    current = rng.standard_normal((6, batch, 24, 24, 8)).astype(np.float32)
    low, high = current * np.float32(2.0**-130), current * np.float32(2.0**126)
    half, doubles = (weight * 2.0**12).astype(np.float16), x * 1e300
    unlimited, undefined = (np.where(x, a, b).astype(np.float32) for a, b in ((np.inf, -np.inf), (np.nan, 0.0)))
    on_grid, many = np.round(current * 64) / np.float32(64), np.concatenate([floats] * 4) * np.float32(2.0**-100)
    betas = np.linspace(0, 1, 8, dtype=np.float32)
    options: dict[str, Any] = {"padding": 1, "chunk_size": 3}
    return {
        "products overflow": lambda: conv_lif(x, huge, padding=1),
        "products underflow": lambda: tac_conv(x, tiny, beta=0.01, **options),
        "decays underflow": lambda: conv_lif(x, tiny, padding=1, beta=0.01, threshold=1e-30),
        "per channel": lambda: tac_conv(x, tiny, beta=betas, mode="preserve", **options),
        "casts overflow": lambda: tac_conv(doubles, weight, **options),
        "infinities": lambda: tac_conv(unlimited, weight, **options),
        "not a number": lambda: tac_conv(undefined, weight, **options),
        "half precision": lambda: tac_conv(x * np.uint8(100), half, **options),
        "depth-wise": lambda: conv_lif(x, np.ascontiguousarray(huge[:4, ..., :1]), groups=4),
        "linear": lambda: tac_linear(floats.reshape(6, -1, 4), huge[:, 0, 0], chunk_size=3),
        "sums overflow": lambda: aggregate(high, 3, aggregation="sum"),
        "sums underflow": lambda: aggregate(low, 3, aggregation="decay", beta=1e-20),
        "neurons overflow": lambda: lif(high),
        "neurons overflow and reset": lambda: lif(high, reset="zero"),
        "neurons overflow and go on": lambda: lif(high, reset="none"),
        "neurons underflow": lambda: lif(low, beta=1e-6),
        "reproducible": lambda: tac_conv(x, weight / 16, beta=0.001, threshold=0.5, reproducible=True, **options),
        "reproducible neurons": lambda: lif(on_grid, beta=0.001, reproducible=True),
        "advise": lambda: advise(many),
    }


NAMES = list(_calls(1))


@pytest.mark.parametrize("errors", ["raise", "warn", "call"])
@pytest.mark.parametrize("batch", [SMALL, LARGE])
@pytest.mark.parametrize("name", NAMES)
def test_floating_point_errors(name: str, batch: int, errors: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors here, so a warning fails, too; helpers are told the same as the caller."""
    monkeypatch.setattr("tacops.backends._cpu.tiles.count_cores", lambda: 2)
    call = _calls(batch)[name]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        want = call()
    called: list[str] = []
    with np.errstate(all=errors, call=lambda error, flag: called.append(error)):
        got = _untouched(call)
    assert not called
    if isinstance(want, tuple):
        assert all(
            np.array_equal(a, b, equal_nan=True) for a, b in zip(got, want, strict=True) if isinstance(b, np.ndarray)
        )
    elif isinstance(want, np.ndarray):
        np.testing.assert_array_equal(got, want)
    else:
        assert got == want


def _untouched(call: Callable[[], Any]) -> Any:
    """Call, and look whether the caller's own setting is there afterwards."""
    before = np.geterr()
    result = call()
    assert np.geterr() == before
    return result


@pytest.mark.parametrize("name", ["numpy", "array_api"])
def test_every_array_of_numpy(name: str, need: Callable[[str], Any]) -> None:
    """The generic backend's arrays may be NumPy's inside; an array by keyword, of a type that was not met before, counts."""
    from tacops._backend import dispatch

    backend = need(name)
    current = backend.from_numpy(np.full((4, 2, 3), 3e38, np.float32))
    dispatch._by_type.clear()
    with np.errstate(all="raise"):
        train = lif(current=current, threshold=1.0, reset="none")
        assert np.isinf(backend.to_numpy(train.membrane)).all()
    assert get_backend(name) is backend


@pytest.mark.parametrize("shape", [(4, 0, 3), (4, 2, 0), (4, 0, 5, 5, 2), (4, 3, 5, 0, 2), (4, 2, 5, 5, 0)], ids=str)
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    """NumPy's tiles are cut by division; the generic backend has none and says what is right."""
    import array_api_strict

    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, shape).astype(np.float32)
    kernel = (3,) + (1,) * (len(shape) - 3) + (shape[-1],)
    weight, bias = np.ones(kernel, np.float32), np.ones(3, np.float32)

    def layer(*arrays: Any) -> Any:
        return conv_lif(*arrays) if x.ndim > 3 else tac_linear(*arrays, chunk_size=2)

    def outcomes(convert: Callable[[Any], Any]) -> list[Any]:
        calls: list[Callable[[], Any]] = [
            lambda: aggregate(convert(x), 3, aggregation="sum"),
            lambda: aggregate(convert(x), 3, aggregation="mean"),
            lambda: lif(convert(x), beta=0.5, compact=True),
            lambda: lif(convert(x), beta=0.5),
            lambda: lif(convert(x), beta=0.5, reproducible=True),
            lambda: layer(convert(x), convert(weight), convert(bias)),
        ]
        found: list[Any] = []
        for call in calls:
            try:
                result = call()
            except (ValueError, TypeError) as error:
                found.append(str(error))
                continue
            arrays = result if isinstance(result, tuple) else (result,)
            found.append([np.array(np.from_dlpack(array)).tolist() for array in arrays])
            found.append([tuple(array.shape) for array in arrays])
        return found

    assert outcomes(np.asarray) == outcomes(array_api_strict.asarray)
