"""bench digests: every backend fires the stored spikes, and a digest sees every mistake."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main
from bench.spikes import digests as digest
from tacops.backends import Backend, get_backend
from tacops.testing._faults import METHODS, PATCHES
from tacops.testing._more_faults import MORE_METHODS, MORE_PATCHES
from tacops.testing.mutants import mutants

QUICK_CASES = (
    "exact",
    "collapse4-counts",
    "preserve4-zero",
    "exact-strided",
    "linear-collapse16",
    "network-collapse16",
)

UNSEEN = {"weights-tf32"}
"""Mistakes that reproducible mode is made to bear: its weights have no more bits than TF32."""

RARE = METHODS.keys() | PATCHES.keys() | MORE_METHODS.keys() | MORE_PATCHES.keys()
RARE |= {"compact-lost", "compact-threshold", "rest-after-64", "rounded-always", "slow-decay-lost", "synapse-twice"}
"""Mistakes that only sizes, types, options and geometries show that no digest is of; the conformance checks find them."""


def test_numpy_fires_the_stored_spikes() -> None:
    """Every case; among them each mode, each reset, and the shipped network."""
    found = digest.records(get_backend("numpy"))
    assert found == digest.load_reference()
    assert all(record["fired"] > 100 for record in found.values())
    assert len({record["spikes"] for record in found.values()}) == len(found) >= 20


@pytest.mark.parametrize("case", QUICK_CASES)
def test_every_backend_fires_the_stored_spikes(case: str, backend: Backend) -> None:
    assert digest.record(digest.CASES[case], backend) == digest.load_reference()[case]


def test_no_weight_is_a_short_binary_fraction() -> None:
    weights = digest.CASES["exact"].arrays()["weight"].ravel()
    bits = [int(np.float32(w).view(np.uint32)) & 0xFFF for w in weights]
    assert np.mean([low != 0 for low in bits]) > 0.95


def test_examples_in_docstrings() -> None:
    outcome = doctest.testmod(digest)
    assert outcome.attempted == 2
    assert outcome.failed == 0


def test_digest_sees_one_flipped_spike_and_one_last_bit() -> None:
    spikes = np.zeros((16, 4, 12, 12, 16), np.bool_)
    flipped = spikes.copy()
    flipped[7, 3, 0, 11, 5] = True
    membrane = np.full((4, 5), 0.3, np.float32)
    nudged = membrane.copy()
    nudged[3, 4] = np.nextafter(nudged[3, 4], np.float32(1))
    arrays = [spikes, flipped, spikes.reshape(16, -1), membrane, nudged]
    assert len({digest.digest(array) for array in arrays}) == len(arrays)


def test_digest_knows_no_byte_order_no_memory_layout_and_no_minus_zero() -> None:
    values = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    assert digest.digest(values) == digest.digest(values.astype(">f4")) == digest.digest(np.asfortranarray(values))
    assert digest.digest(-0.0 * np.ones(3, np.float32)) == digest.digest(np.zeros(3, np.float32))
    bits = values > 0
    assert digest.digest(bits) == digest.digest(np.asfortranarray(bits))


@pytest.mark.parametrize(
    "mutant", [m for m in mutants(get_backend("numpy")) if m.name not in RARE], ids=lambda mutant: mutant.name
)
def test_mistakes_change_a_digest(mutant: Any) -> None:
    want = digest.load_reference()
    with mutant.use() as backend:
        found = {}
        for name, case in digest.CASES.items():
            with _dispatched(backend):
                try:
                    found[name] = digest.record(case, backend)
                except ValueError:  # numbers that leave the grid are noticed at once
                    found[name] = {**want[name], "spikes": "none"}
    assert bool(digest.differing(found, want)) == (mutant.name not in UNSEEN)


def _dispatched(backend: Backend) -> Any:
    from tacops.testing._host import dispatched_to

    return dispatched_to(backend)


def test_a_backend_that_flips_one_spike_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numpy = get_backend("numpy")
    honest = type(numpy).to_numpy

    def flips(self: Any, array: Any) -> Any:
        found = honest(self, array).copy()
        if found.shape == (16, 4, 64, 16):  # the spikes of one case
            found[9, 2, 33, 4] = 1 - found[9, 2, 33, 4]
        return found

    assert main(["digests", "--backend", "numpy"]) == 0
    monkeypatch.setattr(type(numpy), "to_numpy", flips)
    assert main(["digests", "--backend", "numpy"]) == 1
    out = capsys.readouterr().out
    assert "numpy, cpu: 25 of 26 cases equal\n  exact-1d: other spikes (" in out


def test_digests_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored = tmp_path / "digests.json"
    assert main(["digests", "--backend", "numpy", "--reference", str(stored)]) == 2
    assert "cannot be read" in capsys.readouterr().err
    stored.write_text('{"exact": {}}')
    assert main(["digests", "--backend", "numpy", "--reference", str(stored)]) == 2
    assert "other cases than expected" in capsys.readouterr().err
    assert main(["digests", "--backend", "fortran"]) == 2
    assert main(["digests", "--backend", "numpy", "--reference", str(stored), "--write"]) == 2
    assert "only one backend" in capsys.readouterr().err
    assert stored.read_text() == '{"exact": {}}'
