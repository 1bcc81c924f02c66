"""Planted mistakes of the engine's loops: texts of their sources with one change, run without Numba.

The sums in registers are written for LLVM; here their meaning is written in Python, and a test holds the one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from tacops.backends._cpu import choose, loops, registers, tables

__all__ = ["MUTANTS", "add_coded_rows", "add_rows", "add_scaled_rows", "planted"]

FOLDER = Path(str(loops.__file__)).parent
PACKAGE = "tacops.backends._cpu"

MUTANTS: dict[str, tuple[str, str, str]] = {
    # events.py
    "value-one": ("events", "values[count] = frame[site]", "values[count] = 1"),
    "tail-unlisted": (
        "events",
        "for site in range(begin + whole, begin + channels)",
        "for site in range(begin + whole, begin)",
    ),
    "tail-value-lost": ("events", "            values[count] = value\n", "            values[count] = 1\n"),
    "always-plain": ("events", "return PLAIN if plain else SCALED", "return PLAIN"),
    "negative-silent": ("events", "live = value != 0", "live = value > 0"),
    "last-start-lost": ("events", "    starts[starts.size - 1] = count\n", ""),
    "narrow-last-starts-lost": ("events", "    starts[place:] = count\n", ""),
    "narrow-first-lost": ("events", "starts[place] = e\n", "starts[place] = max(1, e)\n"),
    "narrow-tail-unlisted": ("events", "count += frame[site] != 0", "count += 0"),
    "narrow-value-one": ("events", "values[e] = frame[site]", "values[e] = 1"),
    "one-event-unheard": (
        "events",
        "starts[lines[line, 0] + size] > starts[lines[line, 0]]",
        "starts[lines[line, 0] + size] > starts[lines[line, 0]] + 1",
    ),
    "silent-line-kept-for-live": (
        "events",
        "        lines[kept, 0], lines[kept, 1] = lines[line, 0], lines[line, 1]\n",
        "",
    ),
    "depth-undilated": ("events", "+ kd * dilation[0]", "+ kd"),
    "rows-undilated": ("events", "+ kh * dilation[1]", "+ kh"),
    "rows-unstrided": ("events", "y = row * stride[1]", "y = row"),
    "depth-unchecked": ("events", "if z < 0 or z >= shape[0]", "if z < 0 or z > shape[0]"),
    "top-row-lost": ("events", "if y < 0 or y >= shape[1]", "if y <= 0 or y >= shape[1]"),
    "kernel-rows-mixed": ("events", "(kd * kernel[1] + kh)", "(kd + kh)"),
    "columns-undilated": ("events", "run = kernel[2] if dilation[2] == 1 else 1", "run = kernel[2]"),
    "columns-unstrided": ("events", "tap * dilation[2], stride[2], shape[2]", "tap * dilation[2], 1, shape[2]"),
    "later-taps-alone": ("events", "row if tap else bias, columns if tap else 0", "bias, 0"),
    "wide-tail-lost": ("events", "            column += 32\n", "            column += 64\n"),
    "padding-kept": ("events", "if columns != channels:", "if columns == 0:"),
    "group-first": ("events", "// size * width\n", "// size * 0\n"),
    "scatter-undivided": ("events", "if at * stride[2] != away:", "if at * stride[2] > away + 1:"),
    "scatter-overwrites": ("events", "row[begin] += values[e]", "row[begin] = values[e]"),
    "bias-kept-from-before": ("events", "row[p * columns + c] = bias[c]", "row[p * columns + c] += bias[c]"),
    "always-resting": ("events", "fresh = resting and t == steps[0]", "fresh = t == steps[0]"),
    "samples-mixed": ("events", "sample * offsets[2]", "0 * offsets[2]"),
    "held-once-less": ("events", "(t + 1) * steps[2]", "(t + 1) * steps[2] - (steps[2] > 1)"),
    "sample-overwritten": ("events", "at = place + sample * membrane.shape[1] + low", "at = place + low"),
    "halves-whole": ("events", " and np.rint(values[e]) == values[e]", ""),
    "any-magnitude": ("events", "abs(values[e]) <= most and ", ""),
    "negatives-small": ("events", "abs(values[e]) <= most", "values[e] <= most"),
    # tables.py
    "counts-looked-up": ("tables", "= code\n    return strange == 0\n", "= code\n    return True\n"),
    "one-channel-counts": ("tables", "        return strange == 0\n", "        return True\n"),
    "code-left": ("tables", "found[:] = 0", "pass"),
    "code-shift": ("tables", "tap * dilation[2], tap * channels", "tap * dilation[2], tap"),
    "code-border": ("tables", "(size - 1 - begin) // stride[2] + 1", "(size - 1 - begin) // stride[2]"),
    "table-half": ("sparse", "table[:, :half, :width] + terms", "0 * table[:, :half, :width] + terms"),
    # sparse.py
    "rows-offset": ("sparse", "tile.rows.start * window.stride[0] - read.start", "tile.rows.start * window.stride[0]"),
    "last-row-unread": ("sparse", "max(low, min(size, end))", "max(low, min(size, end - 1))"),
    "frame-again": ("sparse", "t * self.frame + self.begin", "self.begin"),
    "groups-transposed": ("sparse", "parts.transpose(2, 0, 3, 1)", "parts.transpose(2, 3, 0, 1)"),
    "bias-forgotten": ("sparse", "offset[:width] = bias", "pass"),
    "never-due": ("sparse", "due.done = not bad", "due.done = True"),
}
"""Name, file, text, and what is put in its place."""


def _adder(coded: bool, scaled: bool) -> Callable[..., None]:
    def add(
        rows: Any,
        column: int,
        starts: Any,
        sites: Any,
        values: Any,
        lines: Any,
        count: int,
        walk: Any,
        initial: Any,
        step: int,
        out: Any,
        columns: int,
    ) -> None:
        begin, stride, size, run, tap, channels, places = walk
        width = rows.shape[1]
        for p in range(places):
            here = begin + p * stride
            low, high = max(0, here), min(size, here + run)
            total = initial[p * step + column :][:columns].copy()
            for line, shift in lines[:count].tolist() if coded or low < high else ():
                if coded:
                    total += rows[sites[line + p] + shift, column : column + columns]
                    continue
                for e in range(starts[line + low], starts[line + high]):
                    row = rows[sites[e] + shift + (tap - here) * channels, column : column + columns]
                    total += values[e] * row if scaled else row
            out[p * width + column :][:columns] = total

    return add


add_rows = _adder(coded=False, scaled=False)
add_scaled_rows = _adder(coded=False, scaled=True)
add_coded_rows = _adder(coded=True, scaled=False)


def _live_bits(numbers: Any, at: int) -> int:
    return sum(1 << n for n, number in enumerate(numbers[at : at + registers.LANES]) if number != 0)


def _first_bit(bits: int) -> int:
    return (bits & -bits).bit_length() - 1


def _module(name: str, text: str) -> Any:
    module = ModuleType(f"{PACKAGE}.{name}")
    module.__package__ = PACKAGE
    exec(compile(text, f"{name}.py", "exec"), vars(module))  # noqa: S102 (our own source)
    return module


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """The engine with one mistake, or without any, in Python."""
    file, old, new = MUTANTS[name] if name else ("", "", "")
    texts = {stem: (FOLDER / f"{stem}.py").read_text(encoding="utf-8") for stem in ("tables", "events", "sparse")}
    if name:
        assert texts[file].count(old) >= 1, f"{name}: its text is no more in {file}.py"
        texts[file] = texts[file].replace(old, new)
    plain = SimpleNamespace(
        add_rows=add_rows,
        add_scaled_rows=add_scaled_rows,
        add_coded_rows=add_coded_rows,
        live_bits=_live_bits,
        first_bit=_first_bit,
    )
    with patch.object(loops, "_compile", lambda function: function):
        made = _module("tables", texts["tables"])
        with patch.multiple(registers, **vars(plain)), patch.multiple(tables, encode=made.encode):
            events = _module("events", texts["events"])
    runs = _module("sparse", texts["sparse"])
    runs.STRETCH = 1  # every frame a call of its own
    with (
        patch.object(choose, "run_sparse", runs.run_sparse),
        patch.object(choose, "_loops", lambda dtype: events),
        np.errstate(all="ignore"),
    ):
        yield
