"""The judge itself is right: its convolution is SciPy's and PyTorch's, and its neurons do what can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.signal import correlate

from tests.support import judge
from tests.support.cases import assert_close, assert_exact, assert_lively, float_layer, grid_layer
from tests.support.judge import Verdict


@pytest.mark.parametrize("spatial", [(9,), (6, 7), (4, 5, 6)])
def test_judge_convolution_is_scipys(spatial: tuple[int, ...]) -> None:
    """Stride 1, no padding: every pair of channels correlated by SciPy and summed."""
    layer = float_layer(1, spatial=spatial, kernel=(3, 2, 3)[: len(spatial)], c_in=3, c_out=2)
    frame = layer.spikes[0]
    got = judge.convolve(frame, layer.weight)
    for n in range(frame.shape[0]):
        for o in range(2):
            want = sum(correlate(frame[n, ..., c], layer.weight[o, ..., c], "valid", "direct") for c in range(3))
            np.testing.assert_allclose(got[n, ..., o], want, rtol=0, atol=1e-5)


GEOMETRIES: list[dict[str, Any]] = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": "same", "dilation": 2},
    {"groups": 2, "stride": 3, "dilation": 2, "padding": 4},
]


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_judge_convolution_is_torchs(axes: int, geometry: dict[str, Any]) -> None:
    """Stride, padding, "same", dilation and groups, in float64."""
    torch = pytest.importorskip("torch")
    spatial, kernel = (8, 9, 7)[:axes], (3, 2, 3)[:axes]
    layer = float_layer(2, spatial=spatial, kernel=kernel, c_in=4, c_out=6, groups=geometry.get("groups", 1))
    x = torch.tensor(np.moveaxis(layer.spikes[0], -1, 1).astype(np.float64))
    w = torch.tensor(np.moveaxis(layer.weight, -1, 1).astype(np.float64))
    if geometry.get("padding") == "same":  # torch warns that even kernels need a copy; pad by hand
        pairs = judge.pad_pairs("same", kernel, (geometry["dilation"],) * axes)
        x = torch.nn.functional.pad(x, [p for pair in reversed(pairs) for p in pair])
        geometry_of_torch = geometry | {"padding": 0}
    else:
        geometry_of_torch = geometry
    want = getattr(torch.nn.functional, f"conv{axes}d")(x, w, **geometry_of_torch).numpy()
    np.testing.assert_allclose(
        judge.convolve(layer.spikes[0], layer.weight, **geometry), np.moveaxis(want, 1, -1), atol=1e-12
    )


def test_same_padding_is_torchs() -> None:
    """An even kernel gets its extra zero on the high side."""
    torch = pytest.importorskip("torch")
    x, w = np.arange(5.0), np.array([1.0, 10.0, 100.0, 1000.0])
    with pytest.warns(UserWarning, match="same"):
        want = torch.nn.functional.conv1d(torch.tensor(x)[None, None], torch.tensor(w)[None, None], padding="same")
    got = judge.convolve(x[None, :, None], w[None, :, None], padding="same")
    np.testing.assert_array_equal(got[0, :, 0], want[0, 0].numpy())


def test_neurons_by_hand() -> None:
    """One neuron, threshold 1, beta 1/2: the order is decay, integrate, fire, reset, and a tie fires."""
    current = np.array([0.5, 0.75, 0.25, 1.5]).reshape(4, 1, 1)
    by_reset = {
        "subtract": ([0, 1, 0, 1], [0.5, 1.0, 0.25, 1.625], 0.625),
        "zero": ([0, 1, 0, 1], [0.5, 1.0, 0.25, 1.625], 0.0),
        "none": ([0, 1, 0, 1], [0.5, 1.0, 0.75, 1.875], 1.875),
        "late": ([0, 1, 0, 1], [0.5, 1.0, -0.25, 1.375], 1.375),
    }
    for reset, (spikes, potentials, membrane) in by_reset.items():
        verdict = judge.lif(current, beta=0.5, threshold=1.0, reset=reset)
        assert verdict.spikes.ravel().tolist() == spikes, reset
        assert verdict.potentials.ravel().tolist() == potentials, reset
        assert verdict.membrane.item() == membrane, reset


def test_collapse_by_hand() -> None:
    """Five frames in chunks of two: weights beta and 1, the last frame alone, carry beta to the number of frames."""
    x = np.array([1.0, 1, 0, 1, 1]).reshape(5, 1, 1)
    verdict = judge.tac(x, np.array([[0.5]]), np.array([0.25]), chunk_size=2, beta=0.5, threshold=1.0)
    # currents .75 .75 .25 .75 .75 -> 1.125 (fires, .125 left), .03125 + .875 = .90625, .453125 + .75 (fires)
    assert verdict.potentials.ravel().tolist() == [1.125, 0.90625, 1.203125]
    assert verdict.spikes.ravel().tolist() == [1, 0, 1]
    assert verdict.membrane.item() == 0.203125


def test_preserve_by_hand() -> None:
    """Three frames in chunks of two, plain means: the drive is shared by the chunk's steps."""
    x = np.array([1.0, 0, 1]).reshape(3, 1, 1)
    verdict = judge.tac(
        x, np.array([[1.0]]), chunk_size=2, mode="preserve", aggregation="mean", beta=0.5, threshold=1.0
    )
    assert verdict.potentials.ravel().tolist() == [0.5, 0.75, 1.375]
    assert verdict.spikes.ravel().tolist() == [0, 0, 1]


def _scaled(v: Verdict) -> Verdict:
    return v._replace(membrane=v.membrane * np.float32(1.000001))


def _strict(v: Verdict) -> Verdict:
    return v._replace(spikes=np.where(v.potentials > 1, 1.0, 0.0))


def _turned(v: Verdict) -> Verdict:
    return v._replace(membrane=v.membrane[:, ::-1], spikes=v.spikes[:, :, ::-1])


@pytest.mark.parametrize("mutate", [_scaled, _strict, _turned])
def test_comparisons_catch_errors(mutate: Callable[[Verdict], Verdict]) -> None:
    """A membrane off by a millionth, ties that don't fire, a turned image: none passes the exact comparison."""
    want = judge.plain(*grid_layer(), beta=0.5)
    assert_lively(want, ties=1.0)
    right, wrong = want, mutate(want)
    assert_exact(right, want)
    with pytest.raises(AssertionError, match="differ, first at"):
        assert_exact(wrong, want)


def test_close_comparison_catches_a_scaled_convolution() -> None:
    """With arbitrary weights, a convolution off by a thousandth is seen in the membranes."""
    layer = float_layer()
    want = judge.plain(*layer)
    assert_close(want, want)
    wrong = judge.plain(layer.spikes, layer.weight * 1.001, layer.bias)
    with pytest.raises(AssertionError, match=r"differ|off by"):
        assert_close(wrong, want)
