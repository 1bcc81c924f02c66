"""Batch normalisation of aggregated input: a frame's own, summed with the frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacops._layers.forward import _moments
from tacops.backends import Backend
from tests.layers.test_layers import FRAMES, LEARN, MODES, assert_close
from tests.support.layer_frameworks import EACH, Array, Need, made, present, values


def aggregation_weights(mode: str, rule: str | None, K: int, beta: float) -> Array:
    """The weights of a chunk of K frames, by the definition of each rule."""
    decay = beta ** np.arange(K - 1.0, -1.0, -1.0)
    if rule == "sum":
        return np.ones(K)
    if rule == "mean":
        return np.ones(K) / K
    return decay if mode == "collapse" else decay / decay.sum()


def by_definition(x: Array, m: dict[str, Array], mode: str, rule: str | None, K: int) -> tuple[Array, Array]:
    """Normalise every frame, then aggregate, then step the neurons (beta 0.8, threshold 0.5, subtract), all in float64."""
    m = {name: array.astype(np.float64) for name, array in m.items()}
    y = x.astype(np.float64) @ m["weight"].T
    y = (y - m["norm_mean"]) / np.sqrt(m["norm_var"] + 1e-5) * m["norm_scale"] + m["bias"]
    u, spikes, beta = np.zeros(y.shape[1:]), [], 0.8
    for start in range(0, len(y), K):
        chunk = y[start : start + K]
        current = np.tensordot(aggregation_weights(mode, rule, len(chunk), beta), chunk, 1)
        for _ in range(len(chunk) if mode == "preserve" else 1):
            v = u * (beta if mode == "preserve" else beta ** len(chunk)) + current
            spikes.append(v >= 0.5)
            u = v - spikes[-1] * 0.5
    return np.stack(spikes), u


@pytest.mark.parametrize(
    ("mode", "rule"), [("collapse", None), ("collapse", "sum"), ("preserve", None), ("preserve", "mean")]
)
@EACH
def test_inference_is_the_norm_of_every_frame(need: Need, name: str, mode: Any, rule: Any) -> None:
    """The folded operator equals frames normalised one by one and then aggregated, a shorter chunk included."""
    framework = made(need, name)
    layer = framework.layer(
        "TACLinear", 2, 5, chunk_size=3, mode=mode, aggregation=rule, beta=0.8, threshold=0.5, batch_norm=True
    )
    mapping = values(1, framework, layer)
    framework.layers.load_mapping(framework.evaluate(layer), mapping)
    assert_close(framework.run(layer, FRAMES), by_definition(FRAMES, mapping, mode, rule, 3))


@pytest.mark.parametrize("learn", [(), LEARN])
@pytest.mark.parametrize("mode", MODES)
@EACH
def test_training_is_inference_with_the_statistics_of_the_batch(need: Need, name: str, mode: Any, learn: Any) -> None:
    """Two ways to compute: normalised currents in training, folded weights at inference; also in reproducible mode."""
    framework = made(need, name)
    sizes, options = (2, 4, 3), {"chunk_size": 3, "mode": mode, "learn": learn, "batch_norm": True, "momentum": 1.0}
    layer = framework.layer("TACConv", *sizes, **options)
    framework.layers.load_mapping(layer, values(2, framework, layer))
    training = framework.run(layer, FRAMES)
    mapping = framework.layers.to_mapping(layer)  # momentum 1: the batch's own statistics, with the unbiased variance
    n = 3 * 3 * 4 * 3  # chunks, samples and pixels
    mapping["norm_var"] = (mapping["norm_var"] * (n - 1) / n).astype(np.float32)
    framework.layers.load_mapping(framework.evaluate(layer), mapping)
    assert_close(framework.run(layer, FRAMES), training)

    exact = framework.layer("TACConv", *sizes, **options, reproducible=True)
    framework.layers.load_mapping(exact, mapping)
    spikes = framework.run(exact, FRAMES)[0]
    again = framework.run(framework.evaluate(exact), FRAMES)[0]
    assert np.mean(spikes != training[0]) < 0.02  # the grid's rounding
    assert np.mean(spikes != again) < 0.02


@EACH
def test_statistics_are_per_frame(need: Need, name: str) -> None:
    """Whatever the rule sums to, constant input has the mean of one frame and no variance."""
    framework = made(need, name)
    ones = np.ones((7, 3, 6, 5, 2), np.float32)
    for rule in ("sum", "mean", "decay", "normalized_decay"):
        layer = framework.layer("TACConv", 2, 4, 3, chunk_size=3, aggregation=rule, batch_norm=True, momentum=1.0)
        framework.layers.load_mapping(layer, values(3, framework, layer))
        framework.run(layer, ones)
        found = framework.layers.to_mapping(layer)
        np.testing.assert_allclose(found["norm_mean"], found["weight"].sum(axis=(1, 2, 3)), rtol=1e-5)
        assert np.abs(found["norm_var"]).max() < 1e-9


def test_single_frames_are_plain_batch_norm(need: Need) -> None:
    """ConvLIF is Conv2d, BatchNorm2d over (T * B) and neurons, as one writes them in PyTorch: answer, statistics, gradients."""
    framework = made(need, "torch")
    import torch

    from tacops import surrogate

    given = surrogate.arctan()
    layer = framework.layer("ConvLIF", 2, 4, 3, batch_norm=True, layout="channels_first", surrogate=given, stride=2)
    mapping = values(4, framework, layer)
    framework.layers.load_mapping(layer, mapping)
    conv, norm = torch.nn.Conv2d(2, 4, 3, stride=2, bias=False), torch.nn.BatchNorm2d(4)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor(np.moveaxis(mapping["weight"], -1, 1)))
        for ours, theirs in (("norm_scale", "weight"), ("bias", "bias"), ("norm_mean", "running_mean")):
            getattr(norm, theirs).copy_(torch.tensor(mapping[ours]))
        norm.running_var.copy_(torch.tensor(mapping["norm_var"]))
    x = torch.tensor(np.moveaxis(FRAMES, -1, 2).astype(np.float32))

    def plain() -> tuple[Any, Any]:
        y = norm(conv(x.flatten(0, 1))).unflatten(0, x.shape[:2])
        u, spikes = torch.zeros_like(y[0]), []
        for current in y:
            v = 0.9 * u + current
            smooth = given((v - 1).detach()) * (v - v.detach())
            spikes.append((v >= 1).float() + smooth)
            u = v - spikes[-1]
        return torch.stack(spikes), u

    for _ in range(2):
        want, got = plain(), layer(x)
        assert_close(tuple(a.detach().numpy() for a in got), tuple(a.detach().numpy() for a in want))
        if layer.training:
            for spikes, membrane in (want, got):
                ((spikes**2).mean() + (membrane**2).mean()).backward()
            pairs = [
                (layer.weight.grad.movedim(-1, 1), conv.weight.grad),
                (layer.norm_scale.grad, norm.weight.grad),
                (layer.bias.grad, norm.bias.grad),
                (layer.norm_mean, norm.running_mean),
                (layer.norm_var, norm.running_var),
            ]
            for ours, theirs in pairs:
                assert theirs.abs().max() > 1e-3
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
        layer.eval(), norm.eval()


def test_frameworks_train_alike(need: Need) -> None:
    """Training-mode answers and running statistics agree between the frameworks."""
    found = {}
    for framework in present(need):
        layer = framework.layer("TACConv", 2, 4, 3, chunk_size=3, mode="preserve", learn=LEARN, batch_norm=True)
        framework.layers.load_mapping(layer, values(5, framework, layer))
        found[framework.name] = framework.run(layer, FRAMES), framework.layers.to_mapping(layer)
    (want, mapping), *others = found.values()
    for got, other in others:
        assert_close(got, want)
        for name, array in mapping.items():
            np.testing.assert_allclose(other[name], array, atol=1e-6, err_msg=name)


@EACH
def test_half_precision_has_the_statistics_of_float32(need: Need, name: str) -> None:
    """More values than half precision can count: finite, and those of the float32 layer within half's rounding."""
    framework = made(need, name)
    frames = np.random.default_rng(4).random((3, 24, 34, 34, 2)) < 0.3
    options = {"chunk_size": 1, "batch_norm": True, "momentum": 1.0}
    full, half = (framework.layer("TACConv", 2, 4, 3, **options) for _ in range(2))
    framework.layers.load_mapping(half, framework.layers.to_mapping(full))
    spikes, membrane = framework.run(framework.half(half), frames)
    want = framework.run(full, frames)[0]
    assert membrane.dtype == np.float16
    assert np.isfinite(membrane).all()
    assert np.mean(spikes != want) < 0.005
    exact, found = framework.layers.to_mapping(full), framework.layers.to_mapping(half)
    for key in ("norm_mean", "norm_var"):
        np.testing.assert_allclose(found[key], exact[key], rtol=2e-3, atol=5e-4, err_msg=key)
    inference = framework.run(framework.evaluate(half), frames)
    assert np.isfinite(inference[1]).all()
    assert np.mean(inference[0] != want) < 0.01


def test_moments_of_a_million_values(backend: Backend) -> None:
    """No sum of so many float32 numbers may run on and on: MLX's and NumPy's plain ones are a percent off, or lose a part."""
    rng = np.random.default_rng(5)
    parts = [rng.normal(100.0, 30.0, shape).astype(np.float32) for shape in ((4, 250_003, 2), (1, 70, 2), (1, 3, 2))]
    xp = backend.namespace(backend.from_numpy(parts[0]))
    found = [backend.to_numpy(array) for array in _moments(xp, [backend.from_numpy(part) for part in parts])]
    values = np.concatenate([part.reshape(-1, 2) for part in parts]).astype(np.float64)
    for got, want in zip(found, (values.mean(axis=0), values.var(axis=0), values.var(axis=0, ddof=1)), strict=True):
        np.testing.assert_allclose(got, want, rtol=3e-6)


def test_learned_decay_of_half_precision(need: Need) -> None:
    """Training sums the powers of a learned beta in float32 as inference does: in bfloat16 the sum of 600 stays at 256."""
    framework = made(need, "torch")
    options = {"chunk_size": 600, "mode": "preserve", "beta": 0.9999, "learn": "beta", "batch_norm": True}
    layer = framework.layer("TACLinear", 3, 4, reset="none", **options).bfloat16()
    layer.bias.data.fill_(8.0)
    spikes = framework.array(np.random.default_rng(5).random((600, 64, 3)) < 0.5)
    first = framework.backend.to_numpy(layer(spikes, trace=True).trace[0])
    np.testing.assert_allclose(
        first.mean(axis=0), 8.0, rtol=0.02
    )  # the norm's mean of a frame, weighted by shares of 1
