"""Partial sums of weights for every pattern of a few spikes: made once from the weights, looked up with packed bits."""

from __future__ import annotations

from itertools import product

import numpy as np

from bench.timing.cases import Floats

__all__ = ["BYTE", "byte_tables", "is_narrow", "row_tables"]

BYTE = 8


def is_narrow(weight: Floats) -> bool:
    """Whether a kernel row has few inputs, so that its pattern is an index; else eight channels of one tap are."""
    return bool(weight.shape[2] * weight.shape[3] <= BYTE + 1)


def row_tables(weight: Floats) -> Floats:
    """Sums of all subsets of each kernel row's k * C weights: (k * 2 ** (k * C), C_out)."""
    width, k, _, channels = weight.shape
    return _subset_sums(weight.transpose(1, 2, 3, 0).reshape(k, k * channels, width)).reshape(-1, width)


def byte_tables(weight: Floats) -> Floats:
    """Sums of all subsets of eight channels' weights: (G * k * k * 256, C_out), by eight and tap; missing channels are zero."""
    width, k, _, channels = weight.shape
    groups = -(-channels // BYTE)
    padded = np.zeros((k * k, groups * BYTE, width), np.float32)
    padded[:, :channels] = weight.transpose(1, 2, 3, 0).reshape(k * k, channels, width)
    by_group = padded.reshape(k * k, groups, BYTE, width).transpose(1, 0, 2, 3)
    return _subset_sums(by_group).reshape(-1, width)


def _subset_sums(terms: Floats) -> Floats:
    """Sums of all subsets of (..., n, C) as (..., 2 ** n, C); the first term is the highest bit."""
    subsets = np.array(list(product((0, 1), repeat=terms.shape[-2])), np.float32)
    return np.ascontiguousarray(subsets @ terms)
