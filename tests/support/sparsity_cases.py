"""Layers small enough to test every strategy on."""

from __future__ import annotations

from dataclasses import replace

from bench.timing.cases import CASES, SIZES

SMALL = {name: replace(CASES[name], T=16, B=2 if name == "S1" else 1, space=(10, 9)) for name in SIZES}
"""The layers' own channels, on frames that are no whole number of blocks, patches or machine words."""
