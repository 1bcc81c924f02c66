"""Bad calls get TypeError or ValueError in one sentence that names function and argument, or they are no bad calls.

Here a share of all calls, the same every time; with ``TACOPS_BAD_CALLS=all`` in the environment, or by
``python -m tests.support.bad_calls BACKEND``, every one of them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import Grid, aggregate, conv_lif, lif, membrane_error_bound, surrogate, tac_conv, tac_linear
from tacops.backends import Backend
from tests.support import ROOT
from tests.support.bad_calls import LONGEST, calls
from tests.support.call_targets import FRAMEWORKS, targets
from tests.support.hostile import hostile

SHARE, PAIRS = (1.0, 3000) if os.environ.get("TACOPS_BAD_CALLS") == "all" else (0.04, 100)


def test_every_call(backend: Backend) -> None:
    """In a process of its own, which a call may end: then that call is a finding too, and the next process goes on after it.

    Every drawn call was made, in order, the last one included.
    """
    drawn = [str(call) for call in calls(backend, SHARE, PAIRS, 0)]
    findings, made = [], 0
    for _ in range(5):
        options = ["--share", str(SHARE), "--pairs", str(PAIRS), "--start", str(made)]
        command = [sys.executable, "-m", "tests.support.bad_calls", backend.name, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        found = [json.loads(line) for line in done.stdout.splitlines()]
        findings += [f"{finding['call']}: {finding['said']}" for finding in found]
        begun = re.findall(r"call (\d+) (.*)$", done.stderr, re.MULTILINE)
        assert begun, done.stderr[-2000:]
        assert begun == [(str(made + n), call) for n, call in enumerate(drawn[made : made + len(begun)])]
        made += len(begun)
        if done.returncode == 0:
            break
        findings.append(f"{begun[-1][1]}: ended the process ({done.returncode}): {done.stderr[-1500:]}")
    assert not findings, "\n".join(findings[:40])
    assert made == len(drawn)


def test_the_draw(backend: Backend) -> None:
    """Every target as it is, and of all its arguments and all hostile values the share that is asked for."""
    every = list(calls(backend, 1.0, 0, 0))
    ones, values = [call for call in every if call.changes], list(hostile(backend))
    found = targets(backend)
    assert len(every) - len(ones) == len(found)
    assert len(ones) == sum(len(target.defaults) for target in found) * len(values)
    assert len(values) > 50
    assert len(ones) > 10_000
    some = [call for call in calls(backend, SHARE, PAIRS, 0) if len(call.changes) == 1]
    spread = (len(ones) * SHARE * (1 - SHARE)) ** 0.5
    assert abs(len(some) - SHARE * len(ones)) <= 5 * spread


X, W = np.ones((4, 2, 5, 6, 3), np.float32), np.full((8, 3, 3, 3), 0.05, np.float32)


def _refusal(call: Callable[[], Any], function: str, argument: str) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"^{function}: {argument}\b.* must .*; got ") as caught:
        call()
    assert type(caught.value) in (TypeError, ValueError)
    assert len(str(caught.value)) <= LONGEST


@pytest.mark.parametrize("padding", [2**12, 2**16, 2**28, 2**31, (2**28, 0), ((0, 2**20), (0, 0)), (2**14, 2**14)])
@pytest.mark.parametrize("stride", [1, 2**28])
def test_padded_sizes_are_bounded(backend: Backend, padding: Any, stride: int) -> None:
    """However few results a stride leaves, the library would have to hold the padded frames."""
    x, w = backend.from_numpy(X), backend.from_numpy(W)
    options = {"padding": padding, "stride": stride}
    _refusal(lambda: tac_conv(x, w, chunk_size=2, **options), "tac_conv", "padding")
    _refusal(lambda: conv_lif(x, w, **options), "conv_lif", "padding")


def test_numbers_of_steps_and_strides_are_bounded(backend: Backend) -> None:
    """Neither a library's 32-bit integers nor memory nor a lifetime of steps are run into."""
    x, w, current = (backend.from_numpy(array) for array in (X, W, X[0]))
    for repeat in (2**21, 2**31, 2**40, 10**400):
        _refusal(lambda repeat=repeat: lif(current, repeat=repeat), "lif", "repeat")  # type: ignore[misc]
    for name in ("stride", "dilation"):
        for value in (2**29, (1, 2**31), 2**63, 10**400):
            _refusal(lambda o={name: value}: conv_lif(x, w, **o), "conv_lif", name)  # type: ignore[misc]
    _refusal(lambda: conv_lif(x, w, dilation=2**28), "conv_lif", "spikes")
    _refusal(lambda: tac_conv(x, w, chunk_size=2**63), "tac_conv", "chunk_size")
    one = tac_conv(x, w, chunk_size=4, aggregation="sum")
    for size in (2**31, 2**63 - 1):
        many = tac_conv(x, w, chunk_size=size, aggregation="sum")
        np.testing.assert_array_equal(backend.to_numpy(many.spikes), backend.to_numpy(one.spikes))


def test_sizes_of_layers_are_bounded(backend: Backend) -> None:
    """Refused before anything is allocated."""
    if backend.name not in FRAMEWORKS:
        pytest.skip(f"{backend.name} has no layers")
    module = pytest.importorskip(f"tacops.backends.{FRAMEWORKS[backend.name]}_layers")
    more: dict[str, Any] = {}
    if backend.name == "jax":
        more["rngs"] = pytest.importorskip("flax.nnx").Rngs(0)
    for sizes, argument in (
        ((2**31, 3), "features_in"),
        ((3, 2**40), "features_in"),
        ((2**16, 2**16), "features_in"),
        ((0, 3), "features_in"),
        ((3, 1.5), "features_out"),
    ):
        _refusal(lambda s=sizes: module.TACLinear(*s, chunk_size=2, **more), "TACLinear", argument)  # type: ignore[misc]
    _refusal(lambda: module.ConvLIF(3, 4, (2**20, 2**20), **more), "ConvLIF", "channels_in")
    for learn in ("aggregation", ("beta", "aggregation")):
        options = {"chunk_size": 2**31, "learn": learn, **more}
        _refusal(lambda o=options: module.TACLinear(3, 4, **o), "TACLinear", "chunk_size")  # type: ignore[misc]


WRONG: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda x: None,
    "a list": lambda x: [1.0],
    "another library's": lambda x: np.ones(tuple(x.shape), np.float32),
    "part": lambda x: x[0, ...],
    "more": lambda x: x[None, ...],
    "another dtype": lambda x: x > 0,
}


@pytest.mark.parametrize("kind", WRONG)
def test_surrogates_that_return_something_else(backend: Backend, kind: str) -> None:
    """Named, instead of a library's error or, where shapes broadcast, wrong gradients."""
    if not backend.differentiable:
        pytest.skip(f"{backend.name} takes no surrogates")
    arrays = [backend.from_numpy(array) for array in (X, W, X[..., 0, :], W[:, 0, 0], X[:, :, 0, 0])]
    for array in arrays if backend.name == "torch" else ():
        array.requires_grad_()  # PyTorch asks for no derivative that nobody needs
    wrong = WRONG[kind]
    _refusal(lambda: tac_conv(*arrays[:2], chunk_size=2, surrogate=wrong), "tac_conv", "surrogate")
    _refusal(lambda: tac_linear(*arrays[2:4], chunk_size=2, surrogate=wrong), "tac_linear", "surrogate")
    _refusal(lambda: lif(arrays[4], surrogate=wrong), "lif", "surrogate")
    assert lif(arrays[4], surrogate=lambda x: 1.0).spikes.shape == (4, 2, 3)  # one number for all is right


def test_numbers_of_numpy_are_right(backend: Backend) -> None:
    """NumPy's scalars and arrays mean what Python's numbers and lists mean, on every backend."""
    x, w, current = (backend.from_numpy(array) for array in (X, W, X[0]))

    def same(got: tacops.SpikeTrain, want: tacops.SpikeTrain) -> None:
        for one, other in zip(got, want, strict=True):
            np.testing.assert_array_equal(backend.to_numpy(one), backend.to_numpy(other))

    plain = conv_lif(x, w, stride=(2, 2), padding=((0, 1), (1, 1)), dilation=(1, 2), beta=0.5, threshold=1.0)
    numpys: dict[str, Any] = {
        "stride": np.array([2, 2]),
        "padding": np.array([[0, 1], [1, 1]]),
        "dilation": [np.int8(1), np.uint16(2)],
        "groups": np.int64(1),
        "beta": np.float32(0.5),
        "threshold": np.float64(1),
    }
    for name, value in numpys.items():
        options = {"stride": (2, 2), "padding": ((0, 1), (1, 1)), "dilation": (1, 2), "beta": 0.5, name: value}
        same(conv_lif(x, w, **options), plain)
    two: Any
    for two in (np.array(2), np.int64(2), np.uint8(2)):
        same(tac_conv(x, w, chunk_size=two), tac_conv(x, w, chunk_size=2))
        same(lif(current, repeat=two), lif(current, repeat=2))
        same(conv_lif(x, w, padding=two, stride=two), conv_lif(x, w, padding=2, stride=2))
        got, want = aggregate(x, two), aggregate(x, 2)
        np.testing.assert_array_equal(backend.to_numpy(got), backend.to_numpy(want))
    pairs: Any = np.array([1, 2])
    same(conv_lif(x, w, padding=pairs), conv_lif(x, w, padding=(1, 2)))
    grid: dict[str, Any] = {"weight_bits": np.int64(8), "input_max": np.float32(3), "input_step": np.float64(0.5)}
    exact: dict[str, Any] = {"weight_bits": 8, "input_max": 3.0, "input_step": 0.5}
    assert Grid(**grid) == Grid(**exact)
    same(conv_lif(x, w, reproducible=Grid(**grid)), conv_lif(x, w, reproducible=Grid(**exact)))
    quarter: Any = np.float32(0.25)
    assert surrogate.arctan(slope=quarter) == surrogate.arctan(slope=0.25)
    assert membrane_error_bound(quarter, beta=np.float64(0.5)) == 0.25


def test_what_an_error_shows_is_short() -> None:
    """Values nobody can read are not printed, and no value's own printing can fail."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    value: Any
    for value in (X, [X, X], {"a": X}, "ab\n" * 10**6, 10**5000, deep, [0] * 10**6):
        with pytest.raises((TypeError, ValueError)) as caught:
            tac_conv(X, W, chunk_size=2, padding=value)
        message = str(caught.value)
        assert message.startswith("tac_conv: padding must be ")
        assert len(message) < 300
        assert "\n" not in message
        assert "[[" not in message or value is deep
