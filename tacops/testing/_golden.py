"""Tier 1, bitwise: spikes and membranes equal golden results that no backend has computed.

The results come from an independent simulation with Python's integers and fractions and are stored with the package,
so a machine with a single array library is checked as strictly as one with all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import tacops

from .._backend.protocol import Array, Backend
from .._core.train import SpikeTrain, remap
from ._case import Case, inputs_of
from ._cases import CASES
from ._check import Check, NotApplicable
from ._host import assert_train, native, np, on_host

__all__ = ["GOLDEN", "arguments_of", "bitwise_checks", "call", "golden_of", "keeps_dtype"]

GOLDEN = Path(__file__).with_name("golden.json")

COMPILED = (
    "exact-collapse-decay-subtract", "reproducible-conv-lif", "reproducible-collapse-subtract",
    "reproducible-collapse-per-channel", "reproducible-preserve-given-ragged", "reproducible-linear", "reproducible-lif",
)  # fmt: skip
"""Cases that are run compiled, too; the last chunk of most is shorter, which makes two programs of each."""
COMPILED_SLOWLY = ("reproducible-linear",)
"""Where compiling takes a minute."""
SLOW = "TACOPS_SLOW"
"""Environment variable that asks for those, too."""


def bitwise_checks() -> Iterator[Check]:
    """Every case as it is, and some compiled."""
    for name in CASES:
        yield Check(f"bitwise-{name}", 1, partial(_check_case, name))
    for name in COMPILED:
        yield Check(f"bitwise-compiled-{name}", 1, partial(_check_compiled, name))


@cache
def _stored() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return stored


@cache
def golden_of(name: str) -> SpikeTrain:
    """The stored result of a case, as host arrays in the layout of its call."""
    case, entry = CASES[name], _stored()[name]
    shape = tuple(entry["shape"])
    bits = bin(int(entry["spikes"], 16))[3:]  # "0b", and the 1 that keeps leading zeros
    spikes = np.array([int(bit) for bit in bits], bool if case.options.get("compact") else case.dtype).reshape(shape)
    # integers below 2^53 and a power of two: exact in float64, and by construction in the case's type
    state = [
        (np.array(entry[name], np.float64) * 2.0 ** -entry["exponent"]).reshape(shape[1:]).astype(case.dtype)
        for name in ("membrane", "current")
        if name in entry
    ]
    train = SpikeTrain(spikes, state[0] if len(state) == 1 else tuple(state))
    return _channels_first(train) if case.channels_first else train


def _channels_first(train: SpikeTrain) -> SpikeTrain:
    return remap(train, lambda x: np.moveaxis(x, -1, 2), lambda x: np.moveaxis(x, -1, 1))


@cache
def _host_inputs(name: str) -> dict[str, Array]:
    case = CASES[name]
    kinds = {"bool": np.bool_, "counts": np.uint8, "signed": np.int8}
    found = {}
    for argument, (shape, values) in inputs_of(case).items():
        dtype = kinds.get(case.drive, case.dtype) if argument == "spikes" else case.dtype
        array = np.array([float(value) for value in values]).astype(dtype).reshape(shape)
        found[argument] = _to_layout(case, argument, array)
    return found


def _to_layout(case: Case, argument: str, array: Array) -> Array:
    axis = {"spikes": 2, "weight": 1, "membrane": 1}.get(argument)
    return np.ascontiguousarray(np.moveaxis(array, -1, axis)) if case.channels_first and axis else array


def arguments_of(name: str) -> tuple[list[Array], dict[str, Any]]:
    """The host arrays of a case's call, and its options (with those that are arrays)."""
    case, arrays = CASES[name], _host_inputs(name)
    positional = [arrays[key] for key in ("current", "spikes", "weight", "bias") if key in arrays]
    rest = {key: array for key, array in arrays.items() if key not in ("current", "spikes", "weight", "bias")}
    return positional, {**case.options, **rest}


def call(backend: Backend, name: str) -> SpikeTrain:
    """Run a case, and bring its result to the host."""
    arrays, options = arguments_of(name)
    function = getattr(tacops, CASES[name].function)
    return on_host(backend, function(*(native(backend, a) for a in arrays), **native(backend, options)))


def keeps_dtype(backend: Backend, dtype: str) -> bool:
    """Whether the backend has arrays of that floating type (some have no float64)."""
    try:
        return bool(backend.to_numpy(backend.from_numpy(np.zeros(1, dtype))).dtype == dtype)
    except (TypeError, ValueError):  # some libraries refuse a type that they don't have
        return False


def _require_dtype(backend: Backend, case: Case) -> None:
    if not keeps_dtype(backend, case.dtype):
        raise NotApplicable(f"{backend.name} keeps no {case.dtype} here")


def _check_case(name: str, backend: Backend) -> None:
    _require_dtype(backend, CASES[name])
    assert_train(name, call(backend, name), golden_of(name))


def _check_compiled(name: str, backend: Backend) -> None:
    """All arrays are arguments of the compiled function, so none of them is a constant."""
    if type(backend).compile is Backend.compile:
        raise NotApplicable(f"{backend.name} doesn't compile")
    if not backend.compiles_fast and name not in COMPILED_SLOWLY:
        raise NotApplicable(f"{backend.name} compiles slowly; one case stands for all")
    if not backend.compiles_fast and not os.environ.get(SLOW):
        raise NotApplicable(f"{backend.name} compiles slowly; {SLOW}=1 in the environment, or --slow, checks it")
    arrays, options = arguments_of(name)
    named = {key: value for key, value in options.items() if isinstance(value, np.ndarray)}
    fixed = {key: value for key, value in options.items() if key not in named}
    function: Callable[..., SpikeTrain] = getattr(tacops, CASES[name].function)

    def layer(*given: Array) -> tuple[Any, ...]:
        rest = dict(zip(named, given[len(arrays) :], strict=True))
        return tuple(function(*given[: len(arrays)], **fixed, **rest))

    compiled = backend.compile(layer)
    given = [native(backend, array) for array in (*arrays, *named.values())]
    for _ in range(2):  # compiled, and once more from the cache
        assert_train(f"{name}, compiled", on_host(backend, SpikeTrain(*compiled(*given))), golden_of(name))
