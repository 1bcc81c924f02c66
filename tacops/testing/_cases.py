"""The layers of the bitwise tier, by name.

There are two kinds:

* *exact*: 0/1 spikes and weights with few bits, so that the default path's sums are exact in float32 in any order;
* *reproducible*: arbitrary float32 weights, run with ``reproducible=`` `Grid`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

from .._core.grid import Grid
from ._case import Case

__all__ = ["CASES"]

_CONV: dict[str, Any] = {"spikes": (6, 2, 5, 4, 3), "weight": (4, 3, 3, 3)}
_LINEAR: dict[str, Any] = {"spikes": (5, 3, 10), "weight": (5, 10)}
_ARRAYS: dict[str, Any] = {"beta": (0.5, 1.0, 0.25, 0.0), "threshold": (1.0, 0.5, 2.0, 0.75)}
_FOUR = (0.5, 0.25, -0.5, 1.0)
_RESETS = ("subtract", "zero", "none", "late")


def _exact_cases() -> Iterator[Case]:
    """Default path; beta 1/2 keeps every membrane within 24 bits."""
    half: dict[str, Any] = {"beta": 0.5, "padding": 1}
    for reset in _RESETS:
        yield Case(f"conv-lif-{reset}", "conv_lif", **_CONV, options={**half, "reset": reset}, bias=True)
        chunked = {**half, "reset": reset, "chunk_size": 3}
        yield Case(f"collapse-decay-{reset}", "tac_conv", **_CONV, options=chunked, bias=True)
        held = {**chunked, "mode": "preserve", "aggregation": "sum"}
        yield Case(f"preserve-sum-{reset}", "tac_conv", **_CONV, options=held, bias=True)
    for mode in ("collapse", "preserve"):
        both: dict[str, Any] = {**half, "mode": mode}
        yield Case(f"{mode}-mean", "tac_conv", **_CONV, options={**both, "chunk_size": 2, "aggregation": "mean"})
        given = {**both, "chunk_size": 4, "aggregation": _FOUR}
        yield Case(f"{mode}-given-ragged", "tac_conv", **_CONV, options=given, bias=True, membrane=True)
        yield Case(f"{mode}-one-chunk", "tac_conv", **_CONV, options={**both, "chunk_size": 9, "aggregation": "sum"})
    yield Case("preserve-default", "tac_conv", **_CONV, options={"beta": 1.0, "chunk_size": 2, "mode": "preserve"})
    per_channel = {**_ARRAYS, "chunk_size": 2, "padding": 1}
    yield Case("per-channel-collapse", "tac_conv", **_CONV, options=per_channel, bias=True, membrane=True)
    arrays = {**per_channel, "mode": "preserve", "aggregation": "sum"}
    yield Case("per-channel-preserve", "tac_conv", **_CONV, options=arrays, bias=True)
    yield Case("wide-weights", "tac_conv", **_CONV, options={**half, "chunk_size": 4}, values="wide")
    yield Case("bool", "tac_conv", **_CONV, options={**half, "chunk_size": 3}, drive="bool")
    yield Case("counts", "conv_lif", **_CONV, options={**half, "threshold": 4.0}, drive="counts")
    yield Case("signed", "conv_lif", **_CONV, options=half, drive="signed")
    yield from _synaptic_cases({**half, "synapse_decay": 0.5}, "coarse")
    yield from _geometry_cases(half)
    yield from _time_cases({"beta": 1.0, "aggregation": "sum"}, "coarse")
    yield from _compact_cases({"beta": 0.5}, "coarse")
    yield Case("linear", "tac_linear", **_LINEAR, options={"beta": 0.5, "chunk_size": 3}, bias=True)
    yield Case("linear-inner-axes", "tac_linear", (5, 2, 3, 6), (4, 6), options={"beta": 0.5, "chunk_size": 2})
    yield Case("float64", "tac_conv", **_CONV, options={**half, "chunk_size": 3}, values="wide", dtype="float64")
    yield Case("float64-deep", "tac_conv", **_CONV, options={**half, "chunk_size": 3}, values="deep", dtype="float64")
    yield Case(
        "float64-deep-linear",
        "tac_linear",
        **_LINEAR,
        options={"beta": 0.5, "chunk_size": 1},
        values="deep",
        dtype="float64",
    )


def _synaptic_cases(options: Mapping[str, Any], values: str) -> Iterator[Case]:
    """A synaptic current before the membrane."""
    given: dict[str, Any] = {**_CONV, "values": values, "bias": True}
    yield Case("synaptic", "conv_lif", **given, options=options)
    yield Case("synaptic-late", "conv_lif", **given, options={**options, "reset": "late"})
    chunked = {**options, "chunk_size": 4}  # and a last chunk of two frames
    yield Case("synaptic-collapse", "tac_conv", **given, options=chunked)
    held = {**options, "chunk_size": 2, "mode": "preserve", "aggregation": "sum", "layout": "channels_first"}
    yield Case("synaptic-preserve", "tac_conv", **given, options=held)
    yield Case("synaptic-per-channel", "tac_conv", **given, options={**chunked, "synapse_decay": (0.5, 1.0, 0.25, 0.0)})


def _geometry_cases(options: Mapping[str, Any]) -> Iterator[Case]:
    """Every way in which a kernel can move; exact, or reproducible, as `options` say."""
    more: dict[str, Any] = {"values": "any" if "reproducible" in options else "coarse"}
    chunked = {**options, "chunk_size": 2}
    one, two, three = (((4, 2, *size, 4), (6, *kernel, 4)) for size, kernel in _SIZES)
    yield Case("one-dimension", "tac_conv", *one, options={**chunked, "padding": 2, "dilation": 2}, **more)
    yield Case("three-dimensions", "tac_conv", *three, options={**chunked, "padding": (1, 0, 1)}, **more)
    yield Case("stride", "tac_conv", *two, options={**chunked, "stride": (2, 1)}, **more)
    yield Case("padding-pairs", "tac_conv", *two, options={**chunked, "padding": ((2, 0), (1, 3))}, **more)
    yield Case(
        "padding-same", "tac_conv", (4, 2, 6, 5, 4), (6, 2, 4, 4), options={**chunked, "padding": "same"}, **more
    )
    yield Case("dilation-stride", "conv_lif", *two, options={**options, "dilation": 2, "stride": 2}, **more)
    yield Case("one-by-one", "conv_lif", two[0], (6, 1, 1, 4), options={**options, "padding": 0}, **more)
    grouped: dict[str, Any] = {**chunked, "groups": 2}
    yield Case("groups", "tac_conv", two[0], (6, 3, 2, 2), options=grouped, bias=True, **more)
    yield Case("depthwise", "conv_lif", two[0], (8, 3, 3, 1), options={**options, "groups": 4}, **more)
    yield Case("groups-one-dimension", "tac_conv", one[0], (6, 3, 2), options=grouped, **more)
    yield Case("groups-three-dimensions", "tac_conv", three[0], (4, 2, 2, 2, 2), options=grouped, **more)
    first = {**chunked, "layout": "channels_first", "padding": (1, 0), "stride": (1, 2)}
    corner = {"padding": ((1, 0), (0, 2), (2, 1)), "stride": (1, 2, 1), "dilation": (1, 1, 2)}
    yield Case("three-dimensions-uneven", "tac_conv", *three, options={**chunked, **corner}, **more)
    yield Case("two-dimensions-uneven", "conv_lif", *two, options={**options, "padding": ((0, 2), (1, 0))}, **more)
    yield Case("dilation-three", "conv_lif", (3, 2, 8, 9, 4), (6, 3, 2, 4), options={**options, "dilation": 3}, **more)
    cube = {**chunked, "layout": "channels_first", "padding": 1}
    yield Case("channels-first-cube", "tac_conv", (4, 2, 4, 4, 4), (4, 3, 3, 4), options=cube, membrane=True, **more)
    yield Case("channels-first", "tac_conv", *two, options=first, bias=True, membrane=True, **more)


def _time_cases(options: Mapping[str, Any], values: str) -> Iterator[Case]:
    """Long chunks, whole and shorter, in both modes."""
    small: dict[str, Any] = {"spikes": (37, 2, 5), "weight": (4, 5), "values": values}
    for size in (5, 16, 17):
        for mode in ("collapse", "preserve"):
            summed = "aggregation" in options
            level = 4.0 if summed else 0.3 if mode == "preserve" else 1.0
            more = {**options, "chunk_size": size, "mode": mode, "threshold": level}
            more["reset"] = "zero" if summed else "subtract"
            yield Case(f"{mode}-of-{size}", "tac_linear", **small, options=more)


def _compact_cases(options: Mapping[str, Any], values: str) -> Iterator[Case]:
    """Spikes as bool, where they are stored after many steps, by one threshold and by one per channel."""
    more: dict[str, Any] = {**options, "compact": True, "chunk_size": 1}
    small: dict[str, Any] = {"spikes": (11, 2, 5), "weight": (4, 5), "values": values}
    yield Case("compact", "tac_linear", **small, options=more)
    yield Case("compact-per-channel", "tac_linear", **small, options={**more, "threshold": (1.0, 0.125, 0.5, 0.25)})
    held = {**more, "chunk_size": 5, "mode": "preserve", "aggregation": "sum", "threshold": (1.0, 0.125, 0.5, 0.25)}
    yield Case("compact-preserve", "tac_linear", **small, options=held)


_SIZES = (((9,), (3,)), ((6, 5), (3, 2)), ((4, 3, 4), (2, 2, 3)))


def _reproducible_cases() -> Iterator[Case]:
    """Arbitrary float32 weights."""
    on: dict[str, Any] = {"reproducible": True, "beta": 0.9, "padding": 1}
    conv: dict[str, Any] = {**_CONV, "values": "any"}
    for reset in _RESETS:
        options = {**on, "reset": reset, "chunk_size": 3}
        yield Case(f"collapse-{reset}", "tac_conv", **conv, options=options, bias=True)
        yield Case(f"preserve-{reset}", "tac_conv", **conv, options={**options, "mode": "preserve"}, bias=True)
    yield Case("conv-lif", "conv_lif", **conv, options={**on, "threshold": 0.7}, bias=True, membrane=True)
    for mode in ("collapse", "preserve"):
        for aggregation in ("decay", "normalized_decay", "sum", "mean"):
            options = {**on, "mode": mode, "aggregation": aggregation, "chunk_size": 4, "beta": 0.8}
            yield Case(f"{mode}-{aggregation}", "tac_conv", **conv, options=options, bias=True)
        options = {**on, "mode": mode, "aggregation": (0.9, 0.3125, -0.7, 1.1), "chunk_size": 4}
        options["aggregation"] = tuple(_float32(a) for a in options["aggregation"])
        yield Case(f"{mode}-given-ragged", "tac_conv", **conv, options=options, bias=True, membrane=True)
        arrays = {**on, "mode": mode, "chunk_size": 4, "beta": tuple(map(_float32, (0.9, 1.0, 0.3, 0.0)))}
        arrays["threshold"] = tuple(map(_float32, (1.0, 0.4, 2.2, 0.1)))
        yield Case(f"{mode}-per-channel", "tac_conv", **conv, options=arrays, bias=True, membrane=True)
    uneven: dict[str, Any] = {**_CONV, "values": "uneven"}
    yield Case("uneven-channels", "tac_conv", **uneven, options={**on, "chunk_size": 2})
    yield Case("integrate", "tac_conv", **conv, options={**on, "beta": 1.0, "reset": "none", "chunk_size": 3})
    yield Case("forget", "conv_lif", **conv, options={**on, "beta": 0.0})
    yield Case("bool", "tac_conv", **conv, options={**on, "chunk_size": 2}, drive="bool")
    counts = {**on, "reproducible": Grid(input_max=7), "chunk_size": 2, "threshold": 4.0}
    yield Case("counts", "tac_conv", **conv, options=counts, drive="counts", bias=True)
    signed = {**on, "reproducible": Grid(input_max=3), "chunk_size": 2}
    yield Case("signed", "tac_conv", **conv, options=signed, drive="signed", bias=True)
    bound = {
        **on,
        "reproducible": Grid(input_max=7, weight_bits=12),
        "chunk_size": 2,
        "aggregation": (1.0, -1.0),
        "threshold": 0.25,
    }
    for kind, spikes, weight in (("", (6, 2, 4, 4, 40), (4, 3, 3, 40)), ("-linear", (6, 2, 400), (4, 400))):
        free = {key: value for key, value in bound.items() if key != "padding" or not kind}
        function = "tac_linear" if kind else "tac_conv"
        yield Case(f"bound{kind}", function, spikes, weight, options=free, values="any", drive="counts")
    halves = {**on, "reproducible": Grid(input_step=0.5, input_max=2), "chunk_size": 2}
    yield Case("halves", "tac_conv", **conv, options=halves, drive="halves", bias=True)
    fine = {**on, "reproducible": Grid(weight_bits=15, aggregation_bits=2), "chunk_size": 2}
    yield Case("fine-grid", "tac_conv", **conv, options=fine)
    for case in _geometry_cases({"reproducible": True, "beta": 0.9}):
        if case.name not in ("stride", "padding-same", "one-by-one", "depthwise", "groups-one-dimension"):
            yield case  # the others differ from these in nothing that the mode touches
    linear: dict[str, Any] = {**_LINEAR, "values": "any"}
    yield Case("linear", "tac_linear", **linear, options={"reproducible": True, "chunk_size": 3}, bias=True)
    alone: dict[str, Any] = {"reproducible": True, "beta": 0.9}
    yield Case("lif-synaptic", "lif", (9, 2, 3, 4), (), options={**alone, "synapse_decay": 0.7})
    yield from _synaptic_cases({**on, "synapse_decay": 0.7}, "any")
    yield Case("lif", "lif", (9, 2, 3, 4), (), options=alone, membrane=True)
    yield Case("lif-repeat", "lif", (4, 2, 4), (), options={**alone, "repeat": 3, **_ARRAYS, "reset": "zero"})
    slow = {**alone, "beta": 0.998, "threshold": 3.0}
    yield Case("slow-decay", "lif", (40, 2, 4), (), options=slow, membrane=True)
    slow = {"reproducible": True, "beta": 0.998, "chunk_size": 3}
    yield Case("slow-decay-linear", "tac_linear", (40, 2, 5), (4, 5), options=slow, values="any", membrane=True)
    yield Case("long", "lif", (135, 2, 4), (), options=alone)
    yield Case(
        "long-linear", "tac_linear", (70, 2, 5), (4, 5), options={"reproducible": True, "chunk_size": 1}, values="any"
    )
    yield from _time_cases({"reproducible": True, "beta": 0.6}, "any")
    yield from _compact_cases({"reproducible": True, "beta": 0.9}, "any")
    yield Case("float64", "tac_conv", **conv, options={**on, "chunk_size": 3}, bias=True, dtype="float64")


def _float32(value: float) -> float:
    """The nearest number with 24 significant bits."""
    fraction, bits = Fraction(value), 0
    while fraction and abs(fraction) < 1 << 23:
        fraction, bits = fraction * 2, bits + 1
    return float(round(fraction)) / 2.0**bits


def _named(kind: str, cases: Iterator[Case]) -> Iterator[tuple[str, Case]]:
    for case in cases:
        name = f"{kind}-{case.name}"
        yield name, replace(case, name=name)


CASES: dict[str, Case] = dict([*_named("exact", _exact_cases()), *_named("reproducible", _reproducible_cases())])
