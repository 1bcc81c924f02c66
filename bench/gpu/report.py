"""The result of ``python -m bench gpu`` for people, and the fractions that are derived from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.machine.result import done, spike_sentence
from bench.shared.tables import milliseconds, print_table
from bench.timing.cases import ALL_MODES

__all__ = ["Layer", "layers", "print_result"]


@dataclass(frozen=True)
class Layer:
    """One layer in one mode by one library."""

    case: str
    mode: str
    subject: str
    seconds: float | None
    """Of a call, waited for, the median of interleaved rounds."""
    device_seconds: float | None
    """Of its kernels."""
    launches: int | None
    bandwidth: float | None
    """The least bytes that must move, over the kernels' time, as a fraction of a copy's rate."""
    tensor: float | None
    """The operations that are done, over the kernels' time, as a fraction of the fastest large product's rate."""
    peak_bytes: int | None


def layers(content: Mapping[str, Any]) -> Iterator[Layer]:
    """All that was timed or counted, in order."""
    plain = dict(content)
    times = {
        (row["case"], row["mode"], row["subject"]): row["median_seconds"]
        for _, result in done(plain, "speed")
        for row in result["derived"]
    }
    counts = {
        (row["case"], row["mode"], name): row for name, result in done(plain, "launches") for row in result["rows"]
    }
    best: dict[str, Any] = next((result for _, result in done(plain, "peaks")), {})
    for key in dict.fromkeys([*times, *counts]):
        row = counts.get(key, {})
        took = row.get("device_seconds") or None
        copy, product = best.get("copy_bytes_per_second"), max(best.get("product_flops", {}).values(), default=None)
        yield Layer(
            *key,
            times.get(key),
            took,
            row.get("launches"),
            row["least_bytes"] / took / copy if took and copy else None,
            row["operations"] / took / product if took and product else None,
            row.get("peak_bytes"),
        )


HEAD = ("layer", "mode", "library", "ms", "kernels, ms", "launches", "of bandwidth", "of peak", "MiB")


def print_result(console: Console, content: Mapping[str, Any], wrong: list[str]) -> None:
    """Tables and sentences."""
    if content.get("rehearsal"):
        console.print("REHEARSAL on a CPU: the command runs; nothing here says anything about a GPU.", markup=False)
    shown = console if console.is_terminal else Console(width=160)
    table = Table("part", "library", "state", "s", box=None, pad_edge=False)
    for part, steps in content["parts"].items():
        for name, step in steps.items():
            table.add_row(
                part,
                name,
                step["status"] + (f": {step['reason']}" if "reason" in step else ""),
                f"{step['seconds']:.0f}",
            )
    shown.print(table, markup=False, highlight=False)
    rows = [_cells(layer) for layer in layers(content)]
    if rows:
        words, spare = ("layer", "mode", "library"), ("MiB", "of peak", "of bandwidth")
        print_table(shown, "Layers", HEAD, rows, words=words, whole=("library",), spare=spare)
    for line in [*spike_sentence(dict(content)), *sentences(content), *(f"FAILED: {line}" for line in wrong)]:
        console.print(line, markup=False, highlight=False)


def _cells(layer: Layer) -> tuple[str, ...]:
    return (
        layer.case,
        ALL_MODES[layer.mode].label,
        layer.subject,
        "" if layer.seconds is None else milliseconds(layer.seconds),
        "" if layer.device_seconds is None else milliseconds(layer.device_seconds),
        "" if layer.launches is None else str(layer.launches),
        "" if layer.bandwidth is None else f"{layer.bandwidth:.0%}",
        "" if layer.tensor is None else f"{layer.tensor:.1%}",
        "" if layer.peak_bytes is None else f"{layer.peak_bytes / 2**20:.1f}",
    )


def sentences(content: Mapping[str, Any]) -> Iterator[str]:
    """What the device can do, and which sums of integers were not exact."""
    for _, best in done(dict(content), "peaks"):
        rates = ", ".join(f"{name} {value / 1e12:.3g}" for name, value in best["product_flops"].items())
        yield (
            f"Measured at best: copies {best['copy_bytes_per_second'] / 1e9:.3g} GB/s, a launch {1e6 * best['launch_seconds']:.1f} us, "
            f"large products {rates} TFLOP/s."
        )
    for name, result in done(dict(content), "exactness"):
        wrong = [
            f"{what} by {route}: {count} of {about['of']}"
            for what, about in result["sums"].items()
            for route, count in about["differing"].items()
            if count
        ]
        refused = sorted({route for about in result["sums"].values() for route in about["refused"]})
        said = f"differ: {'; '.join(wrong)}" if wrong else "are exact by every route that ran"
        yield f"Sums of integers below 2^24, {name}: {said}.{f' Refused: {chr(44).join(refused)}.' if refused else ''}"
