"""How a kernel moves: validation of strides, dilations and padding, and of the sizes that come of them."""

from __future__ import annotations

import math

from .._backend.protocol import Window
from .._values import as_int, as_list, check_count, fail, show

__all__ = ["check_padded", "check_per_axis", "check_size", "check_window"]

LARGEST = 2**28
"""The largest stride, dilation and padding: libraries count in 32 bits, and end the process beyond."""
MOST = 2**40
"""Numbers in one result."""
MOST_TIMES = 64
FEW = 2**24
"""Numbers that padded frames may always have."""


def check_window(
    function: str,
    spatial: tuple[int, ...],
    kernel: tuple[int, ...],
    *,
    stride: object,
    padding: object,
    dilation: object,
    groups: int,
) -> Window:
    """Normalise stride, padding and dilation to one entry per spatial dimension, and check that the kernel fits."""
    dims = len(kernel)
    strides = check_per_axis(function, "stride", stride, dims)
    dilations = check_per_axis(function, "dilation", dilation, dims)
    if isinstance(padding, str) and padding == "same" and any(s != 1 for s in strides):
        raise fail(function, "stride", 'of 1 with padding="same"', stride)
    window = Window(strides, _padding(function, padding, kernel, dilations), dilations, groups)
    _check_largest(function, "padding", sum(window.padding, ()))
    if any(size < 1 for size in window.output_shape(spatial, kernel)):
        reach = tuple(d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True))
        rule = f"at least as large as the dilated kernel {reach} after padding {window.padding}"
        raise fail(function, "spikes", rule, f"spatial shape {spatial}")
    return window


def check_padded(function: str, shape: tuple[int, ...], window: Window) -> None:
    """Padding that makes frames (T, B, *S, C) many times as large is a mistake, which would end some libraries' process."""
    if not any(map(any, window.padding)):
        return
    space = [size + low + high for size, (low, high) in zip(shape[2:-1], window.padding, strict=True)]
    padded = (*shape[:2], *space, shape[-1])
    if _numbers(padded) > max(FEW, MOST_TIMES * _numbers(shape)):
        rule = f"so small that padded spikes have at most {MOST_TIMES} times as many numbers"
        raise fail(function, "padding", rule, f"spikes of shape {shape} padded to {padded}")


def check_size(function: str, argument: str, shape: tuple[int, ...]) -> None:
    """A result that no machine has the memory for would end some libraries' process."""
    if _numbers(shape) > MOST:
        rule = f"of a size whose result has at most {MOST} numbers"
        raise fail(function, argument, rule, f"a result of shape {shape}")


def _numbers(shape: tuple[int, ...]) -> int:
    """Numbers in an array; a size that a trace leaves open counts as 1."""
    return math.prod([size for size in shape if isinstance(size, int)])  # a list, for torch.compile


def check_per_axis(function: str, argument: str, value: object, dims: int) -> tuple[int, ...]:
    """An int for all axes, or one for each."""
    entries = value if type(value) is int else as_list(value)
    if isinstance(entries, (tuple, list)):
        if len(entries) != dims:
            raise fail(function, argument, f"an int or {dims} ints", show(value))
        counts = tuple(check_count(function, argument, entry) for entry in entries)
    else:
        counts = (check_count(function, argument, value),) * dims
    _check_largest(function, argument, counts)
    return counts


def _check_largest(function: str, argument: str, entries: tuple[int, ...]) -> None:
    for entry in entries:
        if entry > LARGEST:
            raise fail(function, argument, f"at most {LARGEST}", entry)


def _padding(
    function: str, padding: object, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """(low, high) per axis; "same" puts an odd extra zero on the high side."""
    if type(padding) is int and padding >= 0:
        return ((padding, padding),) * len(kernel)
    if isinstance(padding, str) and padding in ("valid", "same"):
        totals = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    rule = f'an int, {len(kernel)} ints, {len(kernel)} (low, high) pairs, "same" or "valid"'
    entries = as_list(padding)
    entries = entries if isinstance(entries, (tuple, list)) else (entries,) * len(kernel)
    if isinstance(padding, str) or len(entries) != len(kernel):
        raise fail(function, "padding", rule, show(padding))
    pairs = [as_list(entry) for entry in entries]
    pairs = [entry if isinstance(entry, (tuple, list)) else (entry, entry) for entry in pairs]
    if any(len(pair) != 2 for pair in pairs):
        raise fail(function, "padding", rule, show(padding))
    sizes = [(as_int(low), as_int(high)) for low, high in pairs]
    if any(size is None for pair in sizes for size in pair):
        raise fail(function, "padding", rule, show(padding), TypeError)
    if any(size < 0 for pair in sizes for size in pair):  # type: ignore[operator]
        raise fail(function, "padding", "at least 0", show(padding))
    return tuple(sizes)  # type: ignore[arg-type]
