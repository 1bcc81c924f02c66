"""Trainable layers: the same ones in PyTorch, Flax and MLX, each equal to the operator that it wraps."""

from __future__ import annotations

import doctest
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import pytest

import tacops
from tests.support.layer_frameworks import EACH, FRAMEWORKS, Array, Need, made, present, values

RNG = np.random.default_rng(0)
FRAMES = RNG.random((7, 3, 6, 5, 2)) < 0.3
LEARN = ("beta", "threshold", "aggregation")
MODES = ["collapse", "preserve"]


def assert_close(got: tuple[Array, Array], want: tuple[Array, Array], atol: float = 2e-5) -> None:
    """Equal spikes, some of them fired, and equal membranes."""
    assert 0.01 < want[0].mean() < 0.99
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_allclose(got[1], want[1], atol=atol)


@EACH
def test_examples_in_docstrings(need: Need, name: str) -> None:
    framework = made(need, name)
    outcome = doctest.testmod(import_module(framework.layers.__name__))
    assert outcome.attempted > 10
    assert outcome.failed == 0


@pytest.mark.parametrize(
    ("mode", "aggregation"), [("collapse", None), ("collapse", "mean"), ("preserve", None), ("preserve", "sum")]
)
@EACH
def test_starts_as_the_operator(need: Need, name: str, mode: Any, aggregation: Any) -> None:
    """Decay, threshold and aggregation learned: before training still the operator with its defaults, shorter chunk included."""
    framework = made(need, name)
    options = {"chunk_size": 4, "mode": mode, "aggregation": aggregation, "padding": 1, "threshold": 0.7}
    layer = framework.layer("TACConv", 2, 4, 3, learn=LEARN, **options)
    weight = framework.layers.to_mapping(layer)["weight"]
    for frames in (FRAMES, FRAMES[:2]):
        want = tacops.tac_conv(frames, weight, np.zeros(4, np.float32), **options)
        assert_close(framework.run(layer, frames), want)


@pytest.mark.parametrize("kind", ["TACConv", "TACLinear", "ConvLIF"])
@EACH
def test_without_learning_is_the_operator_bit_for_bit(need: Need, name: str, kind: str) -> None:
    """With nothing but weight and bias learned, the layer is a call of the operator."""
    framework = made(need, name)
    x = framework.array(FRAMES)
    options: dict[str, Any] = {"beta": 0.8, "threshold": 0.5, "reset": "zero"}
    if kind == "TACLinear":
        layer = framework.layer(kind, 2, 4, chunk_size=3, mode="preserve", **options)
    else:
        sizes = {"chunk_size": 3} if kind == "TACConv" else {}
        layer = framework.layer(kind, 2, 4, 3, stride=2, groups=2, **sizes, **options)
    mapping = values(1, framework, layer)
    framework.layers.load_mapping(layer, mapping)
    w, b = (framework.array(mapping[name]) for name in ("weight", "bias"))
    if kind == "TACLinear":
        want = tacops.tac_linear(x, w, b, chunk_size=3, mode="preserve", **options)
    elif kind == "TACConv":
        want = tacops.tac_conv(x, w, b, chunk_size=3, stride=2, groups=2, **options)
    else:
        want = tacops.conv_lif(x, w, b, stride=2, groups=2, **options)
    assert_close(framework.numpy(layer(x)), framework.numpy(want), atol=0)


@pytest.mark.parametrize("mode", MODES)
@EACH
def test_membrane_is_handed_on(need: Need, name: str, mode: Any) -> None:
    """Two calls, cut at a chunk's end, give what one gives; the layer remembers nothing."""
    framework = made(need, name)
    layer = framework.layer("TACConv", 2, 4, 3, chunk_size=3, mode=mode, learn=LEARN)
    whole = framework.run(layer, FRAMES)
    first = framework.run(layer, FRAMES[:6])
    second = framework.run(layer, FRAMES[6:], first[1])
    assert_close((np.concatenate([first[0], second[0]]), second[1]), whole, atol=1e-6)
    assert_close(framework.run(layer, FRAMES), whole, atol=0)


class Traced(NamedTuple):
    """A train of three fields."""

    spikes: Any
    membrane: Any
    trace: Any


@EACH
def test_in_sequence(need: Need, name: str) -> None:
    """A layer takes a train's spikes, never its membrane, though all shapes agree; in the framework's Sequential too."""
    framework = made(need, name)
    first, second = (framework.layer("ConvLIF", 3, 3, 3, padding=1, beta=beta, threshold=0.3) for beta in (0.9, 0.2))
    frames = RNG.random((7, 3, 6, 5, 3)) < 0.5
    train = first(framework.array(frames))
    want = framework.numpy(first(second(train.spikes).spikes))
    other = framework.numpy(first(second(train.spikes, membrane=train.membrane).spikes))
    assert np.any(want[0] != other[0]), "the membrane makes no difference"
    chain = framework.sequential(first, second, first)
    assert_close(framework.numpy(chain(framework.array(frames))), want, atol=0)
    assert_close(framework.compiled(chain, frames), want)
    assert_close(framework.numpy(first(second(train))), want, atol=0)
    assert_close(framework.numpy(first(second(Traced(train.spikes, train.membrane, train.spikes)))), want, atol=0)
    spikes = framework.backend.to_numpy(train.spikes)
    frozen = second.frozen()
    assert_close(framework.numpy(frozen(train)), frozen(spikes))


@EACH
def test_membrane_has_its_name(need: Need, name: str) -> None:
    """Given by place it could be the one of another layer's train: refused, where shapes agree too."""
    framework = made(need, name)
    layer = framework.layer("ConvLIF", 2, 2, 3, padding=1)
    x = framework.array(FRAMES.astype(np.float32))
    membrane = layer(x).membrane
    with pytest.raises(TypeError):
        layer(x, membrane)
    with pytest.raises(TypeError):
        layer.frozen()(FRAMES, FRAMES[0].astype(np.float32))


@pytest.mark.parametrize(
    ("name", "K", "beta"), [*((name, 3, 0.0) for name in FRAMEWORKS), ("torch", 1100, 0.5), ("torch", 1100, 0.0)]
)
def test_weights_of_zero_are_learned_from(need: Need, name: str, K: int, beta: float) -> None:
    """Decays that are 0, or so small that float64 has no such number: still the operator at first, and a gradient."""
    framework = made(need, name)
    layer = framework.layer("TACLinear", 2, 3, chunk_size=K, beta=beta, learn="aggregation", threshold=0.3)
    mapping = framework.layers.to_mapping(layer)
    assert np.isfinite(mapping["aggregation_logits"]).all()
    frames = np.random.default_rng(9).random((2 * K + 1, 3, 2)) < 0.5
    want = tacops.tac_linear(frames, mapping["weight"], mapping["bias"], chunk_size=K, beta=beta, threshold=0.3)
    assert_close(framework.run(layer, frames), want)
    x = framework.array(frames)
    gradient = framework.gradients(layer, lambda layer: (layer(x).membrane ** 2).sum())["aggregation_logits"]
    assert np.isfinite(gradient).all()
    assert np.any(gradient[:-1] != 0.0)  # of the weights that begin at zero


@EACH
def test_options_of_numpy(need: Need, name: str) -> None:
    """NumPy's scalars and arrays are numbers and lists of them."""
    framework = made(need, name)
    kernel, stride, beta = np.array([3, 2]), np.array([2, 1]), np.array([0.5, 0.6, 0.7, 0.8], np.float32)
    plain: dict[str, Any] = {
        "chunk_size": 3,
        "threshold": 0.75,
        "batch_norm": True,
        "mode": "preserve",
        "padding": [[0, 1], [1, 1]],
    }
    given = {
        **plain,
        "chunk_size": np.int64(3),
        "threshold": np.float32(0.75),
        "batch_norm": np.True_,
        "padding": np.array(plain["padding"]),
    }
    options: dict[str, Any] = {"learn": ("beta", "aggregation")}
    want = framework.layer("TACConv", 2, 4, [3, 2], stride=[2, 1], beta=beta.tolist(), **plain, **options)
    got = framework.layer("TACConv", np.int64(2), np.int32(4), kernel, stride=stride, beta=beta, **given, **options)
    assert got.spec == want.spec
    assert hash(got.spec) == hash(want.spec)


@pytest.mark.parametrize("batch_norm", [False, True])
@EACH
def test_channels_first_has_the_same_mapping(need: Need, name: str, batch_norm: bool) -> None:
    """Only the data change their layout: weights move between both kinds of layer as they are."""
    framework = made(need, name)
    options = {"chunk_size": 3, "mode": "preserve", "learn": LEARN, "batch_norm": batch_norm}
    last = framework.layer("TACConv", 2, 4, (3, 2), **options)
    first = framework.layer("TACConv", 2, 4, (3, 2), layout="channels_first", **options)
    framework.layers.load_mapping(first, framework.layers.to_mapping(last))
    membrane = RNG.normal(0, 0.3, (3, 4, 4, 4)).astype(np.float32)
    for _ in range(2):  # training, then inference with what it has estimated
        want = framework.run(last, FRAMES, membrane)
        got = framework.run(first, np.moveaxis(FRAMES, -1, 2).copy(), np.moveaxis(membrane, -1, 1).copy())
        assert_close((np.moveaxis(got[0], 2, -1), np.moveaxis(got[1], 1, -1)), want)
        framework.evaluate(first), framework.evaluate(last)


@pytest.mark.parametrize(("mode", "training"), [("collapse", True), ("preserve", False)])
@EACH
def test_compiled(need: Need, name: str, mode: Any, training: bool) -> None:
    """torch.compile, nnx.jit and mx.compile: the same answer and the same running statistics."""
    framework = made(need, name)
    options = {"chunk_size": 3, "mode": mode, "learn": LEARN, "batch_norm": True}
    eager, compiled = (framework.layer("TACConv", 2, 4, 3, **options) for _ in range(2))
    mapping = values(2, framework, eager)
    for layer in (eager, compiled):
        framework.layers.load_mapping(layer, mapping)
        if not training:
            framework.evaluate(layer)
    assert_close(framework.compiled(compiled, FRAMES), framework.run(eager, FRAMES))
    before, after = framework.layers.to_mapping(eager), framework.layers.to_mapping(compiled)
    for key, want in before.items():
        np.testing.assert_allclose(after[key], want, atol=1e-6, err_msg=key)
        moved = key in ("norm_mean", "norm_var") and training
        assert bool(np.any(want != mapping[key])) is moved, key


@pytest.mark.parametrize(
    ("mode", "training", "reproducible"),
    [("collapse", True, False), ("preserve", True, True), ("collapse", False, True), ("preserve", False, False)],
)
def test_gradients(need: Need, mode: Any, training: bool, reproducible: bool) -> None:
    """Every parameter learns, none is silently zero, and the frameworks agree."""
    options: dict[str, Any] = {"chunk_size": 3, "mode": mode, "learn": LEARN, "beta": [0.6, 0.7, 0.8, 0.9]}
    options |= {"threshold": [0.8] * 4, "batch_norm": True, "reproducible": reproducible}
    found: dict[str, dict[str, Array]] = {}
    for framework in present(need):
        layer = framework.layer("TACConv", 2, 4, 3, **options)
        framework.layers.load_mapping(layer, values(3, framework, layer))
        if not training:
            framework.evaluate(layer)
        x = framework.array(FRAMES)

        def loss(layer: Any, x: Any = x) -> Any:
            train = layer(x)
            return (train.spikes * train.spikes).mean() + (train.membrane * train.membrane).mean()

        found[framework.name] = framework.gradients(layer, loss)
    names = list(found)
    want = found[names[0]]
    assert set(want) == {"weight", "bias", "norm_scale", "beta_logit", "threshold_log", "aggregation_logits"}
    for key, gradient in want.items():
        assert np.abs(gradient).max() > 1e-4, key
        for name in names[1:]:
            np.testing.assert_allclose(
                found[name][key], gradient, atol=1e-3 * np.abs(gradient).max(), err_msg=f"{name} {key}"
            )


@EACH
def test_trace_and_lengths(need: Need, name: str) -> None:
    """As of the operators: membranes of every step, in training with batch normalisation too, and samples that end early."""
    framework = made(need, name)
    given = {"chunk_size": 3, "mode": "preserve", "layout": "channels_first", "reset": "late", "threshold": 0.5}
    layer = framework.layer("TACConv", 2, 4, 3, batch_norm=True, **given)
    x = framework.array(np.moveaxis(FRAMES, -1, 2).copy())
    for _ in range(2):
        train = layer(x, trace=True)
        assert isinstance(train, tacops.TracedSpikeTrain)
        assert train.trace.shape == train.spikes.shape
        membranes = framework.backend.to_numpy(train.trace)
        np.testing.assert_array_equal(membranes[-1], framework.backend.to_numpy(train.membrane))
        np.testing.assert_array_equal(membranes >= 0.5, framework.backend.to_numpy(train.spikes))  # a late reset's
        framework.evaluate(layer)
    frozen = layer.frozen()
    for call in (layer, frozen):
        got, alone = (framework.numpy(call(part, **more)) for part, more in ((x, {"lengths": [7, 4, 2]}), (x[:4], {})))
        np.testing.assert_allclose(got[1][1], alone[1][1], atol=1e-6)
        assert not got[0][-1, 2].any()
    for other, words in (
        (framework.layer("TACConv", 2, 4, 3, batch_norm=True, **given), "in training with batch_norm"),
        (framework.layer("TACConv", 2, 4, 3, **{**given, "aggregation": "mean"}, learn="aggregation"), "where learned"),
    ):
        with pytest.raises(ValueError, match=f"TACConv: lengths must be None {words}"):
            other(x, lengths=[7, 4, 2])


@EACH
def test_detached_reset(need: Need, name: str) -> None:
    """The gradient through the reset is left out where it is asked for, with batch normalisation too."""
    framework = made(need, name)
    x = framework.array(FRAMES)

    def loss(layer: Any) -> Any:
        return (layer(x).membrane ** 2).mean()

    for batch_norm in (False, True):
        found = []
        for detach in (False, True):
            layer = framework.layer(
                "ConvLIF", 2, 4, 3, detach_reset=detach, batch_norm=batch_norm, reset="subtract", threshold=0.3
            )
            framework.layers.load_mapping(layer, values(6, framework, layer))
            found.append(framework.gradients(layer, loss)["weight"])
        assert np.abs(found[0] - found[1]).max() > 1e-3 * np.abs(found[0]).max()
