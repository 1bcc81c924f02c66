"""The quick tier: a few checks of each kind, less than a minute on any backend."""

from __future__ import annotations

__all__ = ["QUICK"]

QUICK = frozenset((
    "bitwise-exact-conv-lif-subtract",
    "bitwise-exact-conv-lif-late",
    "bitwise-exact-preserve-sum-zero",
    "bitwise-exact-collapse-given-ragged",
    "bitwise-exact-per-channel-collapse",
    "bitwise-exact-signed",
    "bitwise-exact-three-dimensions-uneven",
    "bitwise-exact-dilation-three",
    "bitwise-exact-groups",
    "bitwise-exact-channels-first-cube",
    "bitwise-exact-collapse-of-16",
    "bitwise-exact-preserve-one-chunk",
    "bitwise-exact-compact-per-channel",
    "bitwise-exact-float64-deep",
    "bitwise-exact-wide-weights",
    "bitwise-reproducible-collapse-subtract",
    "bitwise-exact-synaptic",
    "bitwise-reproducible-bound",
    "bitwise-reproducible-slow-decay-linear",
    "bitwise-reproducible-long",
    "bitwise-compiled-reproducible-linear",
    "bitwise-large-bool-chunks",
    "bitwise-large-neurons",
    "bitwise-half-sums",
    "bitwise-float64-sums",
    "float-collapse",
    "gradients-lif",
    "gradients-none-without-surrogate",
    "gradients-surrogate-refused",
    "behaviour-identity",
    "behaviour-results",
    "behaviour-batch",
    "behaviour-errors",
    "behaviour-off-the-grid",
    "behaviour-windows-alike",
    "behaviour-traces-everywhere",
    "behaviour-integers-off-the-grid",
))  # fmt: skip
"""Ids of its checks."""
