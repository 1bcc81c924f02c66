"""``python -m bench digests``: SHA-256 of the spikes that each mode fires in reproducible mode, the same on every machine.

Fixed layers with arbitrary float32 weights, and the shipped network, run in reproducible mode on every backend. Inputs come
from the raw output of PCG64, which NumPy guarantees, and from operations that IEEE 754 rounds alike everywhere.
``bench/data/digests.json`` holds the digests that every backend of every machine must give.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import tacops
from bench.shared.datasets import DatasetError
from bench.shared.devices import add_device, place
from bench.shared.encoding import rate_code
from bench.shared.files import DAMAGE, check_output, read_json, reason, write_whole
from bench.shared.model import LAYER, MODES, Parameters, hidden_layer, load_trained
from bench.shared.subset import load_subset
from tacops import Grid, SpikeTrain
from tacops.backends import Backend, BackendUnavailable
from tacops.testing import where

REFERENCE_FILE = Path(__file__).parents[1] / "data" / "digests.json"
REMEDY = "python -m bench digests --write"
IMAGES = 10

Arrays: TypeAlias = dict[str, NDArray[Any]]
Record: TypeAlias = dict[str, Any]
"""Of one case: digests of ``inputs``, ``spikes`` and ``membrane``, and the number of spikes ``fired``."""


@dataclass(frozen=True)
class Case:
    """One call of an operator in reproducible mode, float32."""

    name: str
    operator: str = "tac_conv"
    spikes: tuple[int, ...] = (16, 4, 12, 12, 8)
    weight: tuple[int, ...] = (16, 3, 3, 8)
    options: Mapping[str, Any] = field(default_factory=dict)
    most: int = 1
    """Inputs are 0 or 1, or counts up to this."""
    given: int = 0
    """Length of an aggregation that is given as an array."""

    def arrays(self) -> Arrays:
        """Spikes, weight, bias and perhaps aggregation; no weight is a short binary fraction."""
        raw = np.random.PCG64(zlib.crc32(self.name.encode()))
        count = int(np.prod(self.spikes))
        draws = raw.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count].reshape(self.spikes)
        spikes = draws < 64 if self.most == 1 else (np.maximum(draws >> 4, 12) - 12).astype(np.uint8)
        fan_in = int(np.prod(self.weight[1:]))
        weight, bias = (_uniform(raw, shape, fan_in) for shape in (self.weight, self.weight[:1]))
        given = {"aggregation": _uniform(raw, (self.given,), 6)} if self.given else {}
        return {"spikes": spikes, "weight": weight, "bias": bias, **given}

    def run(self, arrays: Mapping[str, Any], xp: Any) -> tuple[Any, Any]:
        """Spikes and membrane."""
        del xp
        operator = getattr(tacops, self.operator)
        train = operator(**arrays, reproducible=Grid(input_max=self.most), **self.options)
        return train.spikes, train.membrane


@dataclass(frozen=True)
class NetworkCase:
    """The shipped network's hidden layers on the first shipped images."""

    mode: str

    @property
    def name(self) -> str:
        """For the file."""
        return f"network-{self.mode}"

    def arrays(self) -> Arrays:
        """Coded images and the trained weights."""
        frames = rate_code(load_subset().images[:IMAGES])
        return {"spikes": frames, **load_trained().parameters[self.mode]}

    def run(self, arrays: Parameters, xp: Any) -> tuple[Any, Any]:
        """Spikes of both layers, flat, and the last membrane."""
        mode = MODES[self.mode]
        later = MODES["exact"] if mode.kind == "collapse" else mode
        options = {**LAYER, "reproducible": True}
        first: SpikeTrain = hidden_layer(arrays["spikes"], arrays["conv1"], arrays["bias1"], mode, options)
        last: SpikeTrain = hidden_layer(first.spikes, arrays["conv2"], arrays["bias2"], later, options)
        return xp.concat([xp.reshape(train.spikes, (-1,)) for train in (first, last)], axis=0), last.membrane


AnyCase: TypeAlias = Case | NetworkCase


def _uniform(raw: np.random.PCG64, shape: tuple[int, ...], fan_in: int) -> NDArray[np.float32]:
    """Uniform from -0.95 to 1.05 times sqrt(6 / fan_in): enough for a quarter of the neurons to fire."""
    uniform = (raw.random_raw(int(np.prod(shape))) >> np.uint64(11)) * 2.0**-53
    values: NDArray[np.float32] = (np.sqrt(6 / fan_in) * (2 * uniform - 0.95)).astype(np.float32).reshape(shape)
    return values


def _layers() -> Iterator[Case]:
    """Every mode and reset, and each option that changes how a convolution is computed."""
    one: dict[str, Any] = {"padding": 1}
    for reset in ("subtract", "zero", "none"):
        suffix = "" if reset == "subtract" else f"-{reset}"
        yield Case(f"exact{suffix}", "conv_lif", options={**one, "reset": reset})
        yield Case(f"collapse4{suffix}", options={**one, "reset": reset, "chunk_size": 4})
        yield Case(f"preserve4{suffix}", options={**one, "reset": reset, "chunk_size": 4, "mode": "preserve"})
    yield Case("collapse16", options={**one, "chunk_size": 16})
    yield Case("collapse5-ragged", options={**one, "chunk_size": 5})
    yield Case("preserve5-given-ragged", options={**one, "chunk_size": 5, "mode": "preserve"}, given=5)
    yield Case("preserve2-mean", options={**one, "chunk_size": 2, "mode": "preserve", "aggregation": "mean"})
    yield Case("collapse4-counts", options={**one, "chunk_size": 4, "aggregation": "sum"}, most=3)
    yield Case("exact-strided", "conv_lif", options={"stride": 2, "dilation": 2, "padding": 2})
    yield Case("exact-depthwise", "conv_lif", weight=(16, 3, 3, 1), options={**one, "groups": 8})
    yield Case("exact-1d", "conv_lif", (16, 4, 64, 8), (16, 5, 8), {"padding": "same"})
    yield Case(
        "preserve4-3d", spikes=(8, 2, 5, 6, 7, 3), weight=(8, 3, 3, 3, 3), options={"chunk_size": 4, **_PRESERVE}
    )
    yield Case("exact-1024-deep", "conv_lif", (16, 2, 6, 6, 128), (32, 3, 3, 128), one)
    yield Case("linear-exact", "tac_linear", (16, 8, 200), (64, 200), {"chunk_size": 1})
    yield Case("linear-collapse16", "tac_linear", (16, 8, 200), (64, 200), {"chunk_size": 16})
    yield Case("linear-preserve4", "tac_linear", (16, 8, 200), (64, 200), {"chunk_size": 4} | _PRESERVE)


_PRESERVE = {"mode": "preserve"}
_ALL: list[AnyCase] = [*_layers(), *map(NetworkCase, MODES)]
CASES = {case.name: case for case in _ALL}


def digest(array: NDArray[Any]) -> str:
    """SHA-256 of an array: its shape as text, then its bits, eight to a byte, or its little-endian numbers, -0 as 0."""
    content = np.packbits(array) if array.dtype == np.bool_ else array.astype(array.dtype.newbyteorder("<")) + 0
    return hashlib.sha256(str(array.shape).encode() + np.ascontiguousarray(content).tobytes()).hexdigest()


def record(case: AnyCase, backend: Backend) -> Record:
    """Run a case on a backend, compiled where its users compile; `ValueError` if a spike is neither 0 nor 1."""
    host = case.arrays()
    arrays = {name: backend.from_numpy(array) for name, array in host.items()}
    xp, names = backend.namespace(arrays["spikes"]), list(arrays)

    def function(*values: Any) -> tuple[Any, Any]:
        return case.run(dict(zip(names, values, strict=True)), xp)

    run = backend.compile(function) if backend.compiles_fast else function
    spikes, membrane = (backend.to_numpy(array) for array in run(*arrays.values()))
    fired = spikes != 0
    if not np.array_equal(spikes, fired):
        raise ValueError(f"case {case.name}: spikes must be 0 or 1")
    inputs = hashlib.sha256("".join(f"{name} {digest(array)} " for name, array in host.items()).encode())
    return {
        "inputs": inputs.hexdigest(),
        "spikes": digest(fired),
        "membrane": digest(membrane),
        "fired": int(np.count_nonzero(fired)),
    }


def records(backend: Backend, tick: Callable[[str], None] = lambda text: None) -> dict[str, Record]:
    """Every case on one backend, calling ``tick`` before each with what it is."""
    found = {}
    for name, case in CASES.items():
        tick(f"{backend.name}: {name}")
        found[name] = record(case, backend)
    return found


def load_reference(path: Path = REFERENCE_FILE) -> dict[str, Record]:
    """The stored digests."""
    try:
        content: dict[str, Record] = read_json(path)
    except DAMAGE as error:
        raise DatasetError(
            f"the shipped file {path} cannot be read ({reason(error)}); {REMEDY} makes it again"
        ) from error
    if not isinstance(content, dict) or set(content) != set(CASES):
        raise DatasetError(f"the shipped file {path} has other cases than expected; {REMEDY} makes it again")
    kinds = {"inputs": str, "spikes": str, "membrane": str, "fired": int}
    for name, entry in content.items():
        if not isinstance(entry, dict) or {key: type(value) for key, value in entry.items()} != kinds:
            raise DatasetError(f"the shipped file {path} is damaged at {name}; {REMEDY} makes it again")
    return content


def differing(found: Mapping[str, Record], want: Mapping[str, Record]) -> dict[str, str]:
    """Cases in which something differs, each with what does, in words; cases that only one side has are passed over.

    Examples
    --------
    >>> one = {"inputs": "a", "spikes": "b", "membrane": "c", "fired": 7}
    >>> differing({"exact": one}, {"exact": {**one, "spikes": "d", "fired": 8}})
    {'exact': 'other spikes (7 fired, 8 expected)'}
    """
    said = {}
    for name in found.keys() & want.keys():
        mine, other = found[name], want[name]
        if mine["inputs"] != other["inputs"]:
            said[name] = "other inputs: the case itself is another one"
        elif mine["spikes"] != other["spikes"]:
            said[name] = f"other spikes ({mine['fired']:,} fired, {other['fired']:,} expected)"
        elif mine["membrane"] != other["membrane"]:
            said[name] = "the same spikes, but another membrane"
    return {name: said[name] for name in found if name in said}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``python -m bench digests``."""
    parser.add_argument(
        "--backend", nargs="+", metavar="NAME", help="these only, and fail if one is missing (default: all found)"
    )
    add_device(parser)
    parser.add_argument("--reference", type=Path, default=REFERENCE_FILE, metavar="FILE", help="the stored digests")
    parser.add_argument(
        "--write", action="store_true", help="store the digests, provided that at least two backends agree on them"
    )


def main(args: argparse.Namespace) -> int:
    """Compare every backend with the stored digests; 0 if all are equal, 1 if not, 2 if a named backend is missing."""
    try:
        backends, _ = place(args.backend, args.device)
    except (BackendUnavailable, ValueError) as error:
        print(f"python -m bench digests: {error}", file=sys.stderr)
        return 2
    check_output(args.reference if args.write else None)
    want = {} if args.write else load_reference(args.reference)
    log = Console(stderr=True)
    columns = (TextColumn("{task.description:32}"), BarColumn(), TimeElapsedColumn(), TextColumn("left"))
    found, broken = {}, False
    with Progress(*columns, TimeRemainingColumn(), console=log, transient=True, disable=not log.is_terminal) as bar:
        task = bar.add_task("starting", total=len(backends) * len(CASES))

        def tick(text: str) -> None:
            bar.update(task, advance=1, description=text)

        for name, backend in backends.items():
            try:
                found[name] = records(backend, tick)
            except Exception as error:  # noqa: BLE001 (whatever a library raises belongs in the report)
                print(f"{name}, {where(backend)['device']}: FAILED: {type(error).__name__}: {error}")
                broken = True
    if not found:
        return 1
    want = want or next(iter(found.values()))
    wrong = {name: differing(mine, want) for name, mine in found.items()}
    for name, said in wrong.items():
        on = where(backends[name])["device"]
        print(f"{name}, {on}: {len(CASES) - len(said)} of {len(CASES)} cases equal")
        for case, what in said.items():
            print(f"  {case}: {what}")
    if broken or any(wrong.values()):
        return 1
    if args.write:
        if len(found) < 2:
            print("python -m bench digests: nothing written: only one backend was run", file=sys.stderr)
            return 2
        write_whole(args.reference, (json.dumps(want, indent=1) + "\n").encode())
        print(f"wrote {args.reference}")
    return 0
