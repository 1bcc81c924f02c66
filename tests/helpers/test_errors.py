"""What newcomers get wrong first: one sentence that says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tacops
from tacops import surrogate
from tacops.__main__ import main
from tacops.backends import Backend
from tests.support import ROOT
from tests.support.layer_frameworks import EACH, Need, made


def first_and_last(shape: tuple[int, ...], axis: int) -> Any:
    """Ones, channels first."""
    return np.moveaxis(np.ones(shape, np.float32), -1, axis)


LAST = {"x": (4, 2, 8, 7, 2), "w": (5, 3, 3, 2)}


def test_the_other_layout() -> None:
    """Told by the shapes, of spikes, of the weight and of both; with groups, too."""
    x, w = (np.ones(LAST[name], np.float32) for name in "xw")
    first_x, first_w = first_and_last(LAST["x"], 2), first_and_last(LAST["w"], 1)
    for call, words in (
        (lambda: tacops.conv_lif(first_x, first_w), r"weight of shape \(5, 2, 3, 3\): both fit layout='channels_first'"),
        (lambda: tacops.conv_lif(first_x, w), r"got shape \(4, 2, 2, 8, 7\) \(this fits layout='channels_first'\)"),
        (lambda: tacops.conv(x, first_w), r"which is \(C_out, C_in, \*kernel\): layout='channels_last' needs \(C_out, \*ker"),
        (lambda: tacops.tac_conv(x, w, chunk_size=2, layout="channels_first"), "both fit layout='channels_last'"),
        (lambda: tacops.conv_lif(first_x, w, layout="channels_first"), r"which is \(C_out, \*kernel, C_in\): layout='channels_f"),
        (lambda: tacops.conv_lif(first_x, np.ones((4, 1, 3, 3)), groups=2), "both fit layout='channels_first'"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize("make", [surrogate.arctan, surrogate.fast_sigmoid, surrogate.triangular])
def test_a_surrogate_that_is_not_called(backend: Backend, make: Any) -> None:
    name = make.__name__
    words = (
        rf"surrogate must be called: surrogate=tacops.surrogate.{name}\(\); got {name} itself, which makes surrogates"
    )
    with pytest.raises(TypeError, match=f"^lif: {words}"):
        tacops.lif(backend.from_numpy(np.ones((2, 1, 3), np.float32)), surrogate=make)


@EACH
def test_options_of_layers(need: Need, name: str) -> None:
    """`learn=True`; an array for the betas, whose list is taken; a surrogate that is not called."""
    framework = made(need, name)
    betas = framework.array(np.full(4, 0.5, np.float32))
    for options, words in (
        (
            {"learn": True},
            r"learn must be a name, or .* \(all of them: learn=\('beta', 'threshold'\); none: .*; got True",
        ),
        (
            {"beta": betas, "learn": "beta"},
            r"beta must be .* a list of one per channel \(of an array, beta.tolist\(\)\); got an",
        ),
        ({"surrogate": surrogate.arctan}, r"surrogate must be called: surrogate=tacops.surrogate.arctan\(\)"),
    ):
        with pytest.raises(TypeError, match=f"^ConvLIF: {words}"):
            framework.layer("ConvLIF", 2, 4, 3, **options)
    framework.layer("ConvLIF", 2, 4, 3, beta=betas.tolist(), learn="beta")


MISSING = [("torch_layers", "torch", "torch"), ("flax_layers", "flax", "flax"), ("flax_layers", "jax", "flax"), ("mlx_layers", "mlx", "mlx"), ("nir_layers", "nir", "nir")]  # fmt: skip


def test_layers_without_their_framework() -> None:
    """The module, what is missing and what installs it."""
    code = (
        "import sys, importlib\n"
        f"for module, library, extra in {MISSING!r}:\n"
        "    sys.modules[library] = None\n"
        "    try:\n        importlib.import_module(f'tacops.backends.{module}')\n"
        "    except ModuleNotFoundError as error:\n        print(error)\n"
        "    del sys.modules[library]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    for line, (module, library, extra) in zip(done.stdout.splitlines(), MISSING, strict=True):
        words = (
            f"tacops.backends.{module} needs {library}, which cannot be imported; try: pip install 'tacops[{extra}]' ("
        )
        assert line.startswith(words)


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """The command's status, and what it said."""
    status = main(["advise", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_advise_on_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two arrays: one must be named. One recording: its rows are no samples. A plot: where it is."""
    spikes = np.random.default_rng(0).random((16, 10, 12, 1)) < 0.3
    np.savez(tmp_path / "two.npz", frames=spikes, labels=np.zeros(10))
    status, _, error = asked(capsys, str(tmp_path / "two.npz"))
    assert status == 2
    assert "read with --array NAME; got frames, labels" in error
    assert asked(capsys, str(tmp_path / "two.npz"), "--array", "frames")[0] == 0
    np.save(tmp_path / "square.npy", spikes[:, :, :10, 0])
    status, _, error = asked(capsys, str(tmp_path / "square.npy"))
    assert status == 2
    assert "reshaped to (16, 1, 10, 10, 1) if this is one recording, to (16, 10, 10, 1) if it is 10 samples" in error
    np.save(tmp_path / "other.npy", spikes[..., 0])
    status, _, error = asked(capsys, str(tmp_path / "other.npy"))
    assert status == 0
    assert "taken as 10 samples of 12 features in 16 frames; one recording (T, H, W) must be (T, 1, H, W, 1)" in error


def test_plots_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "spikes.npy", np.random.default_rng(0).random((16, 10, 12, 1)) < 0.3)
    file, plot = str(tmp_path / "spikes.npy"), tmp_path / "out.svg"
    status, out, _ = asked(capsys, file, "--plot", str(plot))
    assert status == 0
    assert f"drawn into {plot}" in out
    assert plot.stat().st_size > 0
    status, _, error = asked(capsys, file, "--plot", str(tmp_path / "out"))
    assert status == 2
    assert "the name of a plot must end in .png, .svg, .pdf" in error


def spiking(kind: str) -> Callable[[Any, Any], Any]:
    """Calls without a surrogate, by what is asked of them, on frames (T, B, H, W, C) and a weight."""
    from tacops.backends.torch_layers import ConvLIF

    def layer(x: Any, w: Any) -> Any:
        return ConvLIF(2, 4, 3, surrogate=None)(x)

    def lif(x: Any, w: Any) -> Any:
        return tacops.lif(tacops.conv(x, w))

    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "trace": {"trace": True},
        "lengths": {"lengths": [2]},
        "synapse": {"synapse_decay": 0.5},
        "remat": {"remat": True},
        "exact": {"reproducible": True},
        "first": {"layout": "channels_first"},
    }
    if kind == "first":
        return lambda x, w: tacops.conv_lif(x.movedim(-1, 2), w.movedim(-1, 1), **options[kind])
    return {"layer": layer, "lif": lif}.get(kind) or (lambda x, w: tacops.conv_lif(x, w, **options[kind]))


SPIKING = ["plain", "trace", "lengths", "synapse", "remat", "exact", "first", "layer", "lif"]


@pytest.mark.parametrize("kind", SPIKING)
def test_backward_without_a_surrogate_in_pytorch(need: Callable[[str], Backend], kind: str) -> None:
    """One sentence instead of gradients that are silently zero, with another way to the weights, too; but membranes learn."""
    need("torch")
    import torch

    weight, call = torch.full((4, 3, 3, 2), 0.1, requires_grad=True), spiking(kind)
    words = r": surrogate must be a derivative, such as tacops\.surrogate\.arctan\(\), for backward\(\) through its spikes; got None"

    def potential(train: Any) -> Any:
        return (train.membrane[0] if isinstance(train.membrane, tuple) else train.membrane).mean()

    losses: list[Callable[[Any], Any]] = [
        lambda train: train.spikes.mean(),
        lambda train: train.spikes.mean() + potential(train),
    ]
    for loss in losses:
        with pytest.raises(RuntimeError, match=f"^(conv_lif|lif|ConvLIF){words}"):
            loss(call(torch.ones(3, 1, 6, 6, 2), weight)).backward()
    train = call(torch.ones(3, 1, 6, 6, 2), weight)
    train.spikes.mul_(2.0)  # no view that forbids it
    (potential(train) + (train.spikes.detach() * weight.sum()).mean()).backward()
    assert weight.grad is not None
    with torch.no_grad():
        assert not call(torch.ones(3, 1, 6, 6, 2), weight).spikes.requires_grad


def test_a_first_layer_without_a_surrogate_in_pytorch(need: Callable[[str], Backend]) -> None:
    """Its weights would never learn, while those behind it do; asked for those alone, nothing is refused."""
    need("torch")
    import torch

    first, last = (torch.full(shape, 0.1, requires_grad=True) for shape in ((4, 2), (3, 4)))

    def loss() -> Any:
        spikes = tacops.tac_linear(torch.ones(3, 1, 2), first, chunk_size=1).spikes
        return tacops.tac_linear(spikes, last, chunk_size=3, reset="none").membrane.sum()

    with pytest.raises(RuntimeError, match=r"^tac_linear: surrogate must be"):
        loss().backward()
    [gradient] = torch.autograd.grad(loss(), [last])
    assert gradient.shape == (3, 4)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    assert torch.equal(torch.autograd.grad(compiled(), [last])[0], gradient)
