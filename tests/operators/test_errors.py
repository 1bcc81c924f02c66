"""Bad input gets one sentence, ``<function>: <argument> must be <rule>; got <what came>``, before any work is done."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import aggregate, conv_lif, lif, surrogate, tac_conv, tac_linear
from tacops._backend import dispatch
from tacops.backends import Backend, backend_of, get_backend, register_backend
from tests.support.cases import to_backend

pytestmark = pytest.mark.smoke

X, W, B = np.ones((4, 2, 5, 6, 3), np.float32), np.ones((8, 3, 3, 3), np.float32), np.ones(8, np.float32)
NAN = np.full(8, np.nan, np.float32)

# (changed arguments, exception, argument that is blamed, what came)
Bad = tuple[dict[str, Any], type[Exception], str, str]

CONV: list[Bad] = [
    ({"chunk_size": 0}, ValueError, "chunk_size", "0"),
    ({"chunk_size": -3}, ValueError, "chunk_size", "-3"),
    ({"chunk_size": 2.0}, TypeError, "chunk_size", "2.0"),
    ({"chunk_size": True}, TypeError, "chunk_size", "True"),
    ({"chunk_size": None}, TypeError, "chunk_size", "None"),
    ({"chunk_size": "2"}, TypeError, "chunk_size", "'2'"),
    ({"mode": "folded"}, ValueError, "mode", "'folded'"),
    ({"mode": None}, ValueError, "mode", "None"),
    ({"reset": "soft"}, ValueError, "reset", "'soft'"),
    ({"layout": "NHWC"}, ValueError, "layout", "'NHWC'"),
    ({"aggregation": "max"}, ValueError, "aggregation", "'max'"),
    ({"aggregation": [1.0, 2.0]}, TypeError, "aggregation", "builtins.list"),
    ({"aggregation": np.ones(3, np.float32)}, ValueError, "aggregation", "shape (3,)"),
    ({"aggregation": np.ones((2, 1), np.float32)}, ValueError, "aggregation", "shape (2, 1)"),
    ({"aggregation": np.ones(2)}, TypeError, "aggregation", "float64"),
    ({"beta": -0.1}, ValueError, "beta", "-0.1"),
    ({"beta": 1.0001}, ValueError, "beta", "1.0001"),
    ({"beta": math.nan}, ValueError, "beta", "nan"),
    ({"beta": True}, TypeError, "beta", "True"),
    ({"beta": "0.9"}, TypeError, "beta", "'0.9'"),
    ({"beta": np.ones(7, np.float32)}, ValueError, "beta", "shape (7,)"),
    ({"beta": np.ones((2, 8), np.float32)}, ValueError, "beta", "shape (2, 8)"),
    ({"beta": np.ones(8)}, TypeError, "beta", "float64"),
    ({"beta": 2 * B}, ValueError, "beta", "an array that holds 2.0"),
    ({"beta": NAN}, ValueError, "beta", "an array that holds nan"),
    ({"threshold": 0}, ValueError, "threshold", "0"),
    ({"threshold": -1.0}, ValueError, "threshold", "-1.0"),
    ({"threshold": math.inf}, ValueError, "threshold", "inf"),
    ({"threshold": 1e-50}, ValueError, "threshold", "1e-50"),  # 0 in float32
    ({"threshold": 1e300}, ValueError, "threshold", "1e+300"),
    ({"threshold": math.nan}, ValueError, "threshold", "nan"),
    ({"threshold": False}, TypeError, "threshold", "False"),
    ({"threshold": None}, TypeError, "threshold", "None"),
    ({"threshold": B - 1}, ValueError, "threshold", "an array that holds 0.0"),
    ({"threshold": NAN}, ValueError, "threshold", "an array that holds nan"),
    ({"stride": 0}, ValueError, "stride", "0"),
    ({"stride": 1.5}, TypeError, "stride", "1.5"),
    ({"stride": (1, 1, 1)}, ValueError, "stride", "(1, 1, 1)"),
    ({"stride": (1, 2), "padding": "same"}, ValueError, "stride", "(1, 2)"),
    ({"dilation": 0}, ValueError, "dilation", "0"),
    ({"dilation": (1,)}, ValueError, "dilation", "(1,)"),
    ({"padding": -1}, ValueError, "padding", "-1"),
    ({"padding": (0, -2)}, ValueError, "padding", "(0, -2)"),
    ({"padding": ((0, 1), (1, -1))}, ValueError, "padding", "((0, 1), (1, -1))"),
    ({"padding": (1, 1, 1)}, ValueError, "padding", "(1, 1, 1)"),
    ({"padding": ((1, 2, 3), (1, 2))}, ValueError, "padding", "((1, 2, 3), (1, 2))"),
    ({"padding": 0.5}, TypeError, "padding", "0.5"),
    ({"padding": True}, TypeError, "padding", "True"),
    ({"padding": "full"}, ValueError, "padding", "'full'"),
    ({"groups": 0}, ValueError, "groups", "0"),
    ({"groups": 1.0}, TypeError, "groups", "1.0"),
    ({"groups": 3}, ValueError, "groups", "3"),
    ({"groups": 2}, ValueError, "spikes", "shape (4, 2, 5, 6, 3)"),
    ({"dilation": 3}, ValueError, "spikes", "spatial shape (5, 6)"),
    ({"spikes": X[0]}, ValueError, "spikes", "shape (2, 5, 6, 3)"),
    ({"spikes": X[..., None]}, ValueError, "spikes", "shape (4, 2, 5, 6, 3, 1)"),
    ({"spikes": X[:0]}, ValueError, "spikes", "shape (0, 2, 5, 6, 3)"),
    ({"spikes": X[:, :0]}, ValueError, "spikes", "shape (4, 0, 5, 6, 3)"),
    ({"spikes": X[..., :2]}, ValueError, "spikes", "shape (4, 2, 5, 6, 2)"),
    (
        {"spikes": np.moveaxis(X, -1, 2)},
        ValueError,
        "spikes",
        "shape (4, 2, 3, 5, 6) (this fits layout='channels_first')",
    ),
    ({"spikes": X * 1j}, TypeError, "spikes", "complex64"),
    ({"spikes": X.tolist()}, TypeError, "spikes", "builtins.list"),
    ({"spikes": None}, TypeError, "spikes", "None"),
    ({"weight": W.astype(np.int32)}, TypeError, "weight", "int32"),
    ({"weight": W * 1j}, TypeError, "weight", "complex64"),
    ({"weight": W[0, 0, 0]}, ValueError, "weight", "shape (3,)"),
    ({"weight": W[:0]}, ValueError, "weight", "shape (0, 3, 3, 3)"),
    ({"weight": None}, TypeError, "weight", "None"),
    ({"bias": B[:7]}, ValueError, "bias", "shape (7,)"),
    ({"bias": B[None]}, ValueError, "bias", "shape (1, 8)"),
    ({"bias": B.astype(np.float64)}, TypeError, "bias", "float64"),
    ({"bias": 0.5}, TypeError, "bias", "builtins.float"),
    ({"membrane": np.ones((2, 5, 6, 8), np.float32)}, ValueError, "membrane", "shape (2, 5, 6, 8)"),
    ({"membrane": np.ones((3, 4, 8), np.float32)}, ValueError, "membrane", "shape (3, 4, 8)"),
    ({"membrane": np.ones((2, 3, 4, 8))}, TypeError, "membrane", "float64"),
    ({"membrane": 0.0}, TypeError, "membrane", "builtins.float"),
    ({"surrogate": "arctan"}, TypeError, "surrogate", "'arctan'"),
    ({"surrogate": surrogate.arctan()}, ValueError, "surrogate", "numpy arrays"),
]


def _conv(function: Callable[..., Any], changes: dict[str, Any], convert: Callable[[Any], Any] = lambda a: a) -> None:
    options = {"spikes": X, "weight": W, "bias": B, "chunk_size": 2} | changes
    if function is conv_lif:
        del options["chunk_size"]
    arrays = [convert(options.pop(name)) for name in ("spikes", "weight", "bias")]
    function(*arrays, **{name: convert(value) for name, value in options.items()})


def _expect(call: Callable[[], object], function: str, error: type[Exception], argument: str, got: str) -> None:
    pattern = rf"^{function}: {argument} must [^;]+; got .*{re.escape(got)}"
    with pytest.raises(error, match=pattern) as caught:
        call()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", CONV, ids=lambda bad: re.sub(r"\s+", " ", str(bad[0]))[:50])
def test_convolutions(bad: Bad) -> None:
    """tac_conv, and conv_lif for the arguments that it shares."""
    changes, error, argument, got = bad
    _expect(lambda: _conv(tac_conv, changes), "tac_conv", error, argument, got)
    if not {"chunk_size", "mode", "aggregation"} & changes.keys():
        _expect(lambda: _conv(conv_lif, changes), "conv_lif", error, argument, got)


def test_the_defaults_of_these_tests_are_good() -> None:
    """What the tests above change is what was wrong."""
    _conv(tac_conv, {})
    _conv(conv_lif, {})


ON_ALL = ("chunk_size", "beta", "threshold", "padding", "spikes", "bias", "membrane", "weight", "aggregation")


@pytest.mark.parametrize("argument", ON_ALL)
def test_the_same_errors_on_every_backend(backend: Backend, argument: str) -> None:
    """Checks are the core's, so every library's arrays get them, with the same words."""
    for changes, error, blamed, got in CONV:
        changed = next(iter(changes.values()))
        if [argument] != list(changes) or (isinstance(changed, np.ndarray) and changed.dtype in ("f8", "c8")):
            continue
        if isinstance(changed, np.ndarray) and "holds" in got and backend.read(backend.from_numpy(changed)) is None:
            continue  # on a GPU, where looking at values would wait for the queue
        got = got.removeprefix("builtins.")
        call = partial(_conv, tac_conv, changes, partial(to_backend, backend))
        _expect(call, "tac_conv", error, blamed, got)


XL, WL = np.ones((4, 2, 3), np.float32), np.ones((5, 3), np.float32)
OTHERS: list[tuple[Callable[[], object], str, type[Exception], str, str]] = [
    (lambda: tac_linear(XL[0], WL, chunk_size=2), "tac_linear", ValueError, "spikes", "shape (2, 3)"),
    (lambda: tac_linear(XL, WL[:, :2], chunk_size=2), "tac_linear", ValueError, "spikes", "shape (4, 2, 3)"),
    (lambda: tac_linear(XL, W, chunk_size=2), "tac_linear", ValueError, "weight", "shape (8, 3, 3, 3)"),
    (lambda: tac_linear(XL, WL, chunk_size=0), "tac_linear", ValueError, "chunk_size", "0"),
    (lambda: tac_linear(XL, WL, chunk_size=2, beta=7), "tac_linear", ValueError, "beta", "7"),
    (lambda: aggregate(XL, 0), "aggregate", ValueError, "chunk_size", "0"),
    (lambda: aggregate(XL, 2.5), "aggregate", TypeError, "chunk_size", "2.5"),  # type: ignore[arg-type]
    (lambda: aggregate(XL[:0], 2), "aggregate", ValueError, "x", "shape (0, 2, 3)"),
    (lambda: aggregate(XL > 0, 2), "aggregate", TypeError, "x", "bool"),
    (lambda: aggregate(XL, 2, beta=2.0), "aggregate", ValueError, "beta", "2.0"),
    (lambda: aggregate(XL, 2, aggregation="max"), "aggregate", ValueError, "aggregation", "'max'"),
    (lambda: aggregate(3.0, 2), "aggregate", TypeError, "x", "builtins.float"),
    (lambda: lif(XL[:0]), "lif", ValueError, "current", "shape (0, 2, 3)"),
    (lambda: lif(XL > 0), "lif", TypeError, "current", "bool"),
    (lambda: lif(XL, repeat=0), "lif", ValueError, "repeat", "0"),
    (lambda: lif(XL, repeat=1.0), "lif", TypeError, "repeat", "1.0"),  # type: ignore[arg-type]
    (lambda: lif(XL, beta=np.ones(2, np.float32)), "lif", ValueError, "beta", "shape (2,)"),
    (lambda: lif(XL, reset="hard"), "lif", ValueError, "reset", "'hard'"),  # type: ignore[arg-type]
    (lambda: lif(XL, membrane=XL), "lif", ValueError, "membrane", "shape (4, 2, 3)"),
    (lambda: lif("spikes"), "lif", TypeError, "current", "builtins.str"),
    (lambda: tacops.membrane_error_bound(1.5), "membrane_error_bound", ValueError, "rate", "1.5"),
    (lambda: tacops.membrane_error_bound(-0.5), "membrane_error_bound", ValueError, "rate", "-0.5"),
    (lambda: tacops.membrane_error_bound(0.5, beta=1.0), "membrane_error_bound", ValueError, "beta", "1.0"),
    (lambda: tacops.membrane_error_bound(0.5, threshold=0), "membrane_error_bound", ValueError, "threshold", "0"),
    (lambda: surrogate.fast_sigmoid(slope=0), "fast_sigmoid", ValueError, "slope", "0"),
    (lambda: surrogate.arctan(slope=math.nan), "arctan", ValueError, "slope", "nan"),
    (lambda: surrogate.sigmoid(slope="4"), "sigmoid", TypeError, "slope", "'4'"),  # type: ignore[arg-type]
    (lambda: surrogate.triangular(slope=True), "triangular", TypeError, "slope", "True"),
    (lambda: get_backend("nympy"), "get_backend", ValueError, "name", "'nympy'"),
    (lambda: register_backend("", lambda: None), "register_backend", TypeError, "name", "''"),  # type: ignore[arg-type,return-value]
    (lambda: register_backend("x", 3), "register_backend", TypeError, "backend", "3"),  # type: ignore[arg-type]
    (lambda: backend_of(), "backend_of", TypeError, "arrays", "none"),
    (lambda: backend_of([1.0]), "backend_of", TypeError, "argument 1", "builtins.list"),
]


@pytest.mark.parametrize(("call", "function", "error", "argument", "got"), OTHERS)
def test_everything_else(
    call: Callable[[], object], function: str, error: type[Exception], argument: str, got: str
) -> None:
    """The other public functions."""
    _expect(call, function, error, argument, got)


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forbid the NumPy backend every kind of work."""
    backend = get_backend("numpy")

    def work(*_: object, **__: object) -> None:
        pytest.fail("work was done before the arguments were checked")

    for method in ("conv", "weighted_sum", "scan", "schedule"):
        monkeypatch.setattr(type(backend), method, work)
    monkeypatch.setattr(dispatch, "_by_type", {})
    yield
    with pytest.raises(pytest.fail.Exception):  # the fixture does forbid work
        _conv(tac_conv, {})


@pytest.mark.usefixtures("idle")
def test_errors_come_before_any_work() -> None:
    """No call above aggregates, convolves or steps a neuron before it complains."""
    for changes, error, _, _ in CONV:
        with pytest.raises(error):
            _conv(tac_conv, changes)
