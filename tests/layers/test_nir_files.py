"""NIR: the example files of its own repository, a clone of which ``TACOPS_NIR`` names: read, or refused by what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

nir = pytest.importorskip("nir", reason="nir is not installed (it is part of the extra dev)")
from tacops import Stream
from tacops.backends.nir_layers import from_nir

VARIABLE = "TACOPS_NIR"
BROKEN = "must be a file that the nir package reads; got"
RECURRENT = "must be a chain, without branches and recurrence; got node 'lif1.lif'"
SAID = {
    "01_lif/lif_norse.nir": "",
    "02_cnn/cnn_sinabs.nir": "",
    "01_lif/debug_spike_representation/two_lif_neurons.nir": "must be one whose node 'lif1' has a v_leak of 0; got 1.2",
    "01_lif/lif_rockpool.nir": BROKEN,
    "03_rnn/braille_noDelay_bias_zero.nir": RECURRENT,
    "03_rnn/braille_noDelay_noBias_subtract.nir": RECURRENT,
    "03_rnn/extras/braille_noDelay_bias_zero_subgraph.nir": BROKEN,
    "03_rnn/extras/braille_noDelay_noBias_subtract_subgraph.nir": BROKEN,
}
"""By file: nothing, or what `from_nir` says; in three the nir package finds mistakes itself."""


@pytest.fixture(scope="module")
def folder() -> Path:
    if VARIABLE not in os.environ:
        pytest.skip(f"set {VARIABLE} to a clone of github.com/neuromorphs/NIR")
    return Path(os.environ[VARIABLE]) / "paper"


@pytest.mark.parametrize("name", SAID)
def test_file(folder: Path, name: str) -> None:
    if SAID[name]:
        with pytest.raises(ValueError, match=r"^from_nir: graph ") as refusal:
            from_nir(folder / name)
        assert SAID[name] in str(refusal.value)
        return
    sinabs = "sinabs" in name  # a step of its neurons is one
    layers: Any = from_nir(folder / name, dt=1.0 if sinabs else None)
    shape = nir.read(folder / name).nodes["input"].input_type["input"]
    frames = np.random.default_rng(0).random((50, 1, *shape[-3:])) < 0.5
    train = Stream(layers).feed(frames if sinabs else 1e3 * frames.reshape(50, 1, -1))
    assert train is not None
    assert 0 < train.spikes.mean() < 1


def test_all_are_told(folder: Path) -> None:
    assert {str(path.relative_to(folder).as_posix()) for path in folder.rglob("*.nir")} == set(SAID)
