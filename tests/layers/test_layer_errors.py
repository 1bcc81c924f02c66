"""Trainable layers refuse wrong options and wrong spikes, in one sentence that names the layer and the argument."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.layer_frameworks import EACH, Need, made

FRAMES = np.random.default_rng(0).random((7, 3, 6, 5, 2)) < 0.3
LEARN = ("beta", "threshold", "aggregation")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"chunk_size": 0}, ValueError, "TACConv: chunk_size must be at least 1; got 0"),
        ({"mode": "keep"}, ValueError, "TACConv: mode must be one of 'collapse', 'preserve'; got 'keep'"),
        ({"beta": 1.5}, ValueError, r"TACConv: beta must be in \[0, 1\]; got 1.5"),
        ({"beta": 1.0, "learn": "beta"}, ValueError, r"beta must be in \(0, 1\) to be learned; got 1.0"),
        ({"beta": [0.5] * 4}, ValueError, "beta must be a number .with learn='beta' one per channel.; got"),
        ({"beta": [0.5] * 3, "learn": "beta"}, ValueError, "beta must be a number, or 4 of them; got"),
        ({"beta": [0.5] * 4, "learn": "beta"}, ValueError, "aggregation must be learned, 'sum' or 'mean' with a beta"),
        ({"threshold": 0}, ValueError, "threshold must be positive and finite; got 0"),
        ({"threshold": True}, TypeError, "threshold must be a number; got True"),
        ({"learn": "decay"}, ValueError, "learn must be among 'beta', 'threshold', 'aggregation'; got 'decay'"),
        (
            {"learn": LEARN, "chunk_size": 1},
            ValueError,
            "among 'beta', 'threshold' with single frames; got 'aggregation'",
        ),
        ({"aggregation": "max"}, ValueError, "aggregation must be one of 'decay'"),
        ({"aggregation": []}, ValueError, "TACConv: aggregation must be one of 'decay'"),
        ({"aggregation": {}}, ValueError, "TACConv: aggregation must be one of 'decay'"),
        ({"aggregation": 0}, ValueError, "TACConv: aggregation must be one of 'decay'"),
        ({"learn": 0}, TypeError, "TACConv: learn must be a name, or several, of 'beta', .*; got 0"),
        ({"learn": {}}, TypeError, "TACConv: learn must be a name, or several, of 'beta', .*; got {}"),
        ({"beta": 10**400}, ValueError, r"beta must be in \[0, 1\]; got an int of 1329 bits"),
        ({"threshold": 10**400}, ValueError, "threshold must be positive and finite; got an int of 1329 bits"),
        ({"momentum": 10**400}, ValueError, r"momentum must be in \(0, 1\]; got an int of 1329 bits"),
        ({"momentum": "a"}, TypeError, r"momentum must be a number in \(0, 1\]; got 'a'"),
        ({"groups": 4}, ValueError, "groups must be a divisor of the 2 input channels; got 4"),
        ({"padding": -1}, ValueError, "padding must be at least 0; got -1"),
        ({"stride": (1, 2, 3)}, ValueError, "stride must be an int or 2 ints; got"),
        ({"momentum": 0}, ValueError, r"momentum must be in \(0, 1\]; got 0"),
        ({"bias": 1}, TypeError, "bias must be True or False; got 1"),
        (
            {"surrogate": "arctan"},
            TypeError,
            "surrogate must be None or a function of the centred membrane; got 'arctan'",
        ),
        ({"reproducible": 1}, TypeError, "reproducible must be True, False or a tacops.Grid; got 1"),
        ({"strides": 2}, TypeError, "TACConv: options must be among aggregation, .*; got 'strides'"),
    ],
)
@EACH
def test_wrong_options(need: Need, name: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    """One sentence, when the layer is made."""
    framework = made(need, name)
    with pytest.raises(error, match=words):
        framework.layer("TACConv", 2, 4, 3, **{"chunk_size": 4, **options})


@EACH
def test_wrong_kinds_of_options(need: Need, name: str) -> None:
    """What a kind of layer doesn't have is refused, not passed over."""
    framework = made(need, name)
    for kind, sizes, options in (
        ("TACLinear", (2, 4), {"chunk_size": 2, "stride": 2}),
        ("ConvLIF", (2, 4, 3), {"mode": "preserve"}),
    ):
        with pytest.raises(TypeError, match=f"{kind}: options must be among"):
            framework.layer(kind, *sizes, **options)
    with pytest.raises(TypeError, match="TACLinear: chunk_size must be given; got none"):
        framework.layer("TACLinear", 2, 4)
    with pytest.raises(ValueError, match=r"ConvLIF: kernel_size must be an int or one to three ints; got \(\)"):
        framework.layer("ConvLIF", 2, 4, ())


@EACH
def test_wrong_spikes(need: Need, name: str) -> None:
    """As of the operators, in training with batch normalisation too."""
    framework = made(need, name)
    for batch_norm in (False, True):
        layer = framework.layer("TACConv", 2, 4, 3, chunk_size=2, batch_norm=batch_norm)
        with pytest.raises(ValueError, match=r"spikes must be an array \(T, B, \*S, C_in\) with 2 channels"):
            layer(framework.array(FRAMES[..., :1].copy()))
        with pytest.raises(TypeError, match="TACConv: spikes"):
            layer(None)
        with pytest.raises(ValueError, match=r"membrane must be of shape \(3, 4, 3, 4\)"):
            layer(framework.array(FRAMES), membrane=framework.array(np.zeros((3, 4, 3, 5), np.float32)))
