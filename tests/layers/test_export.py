"""Programs for deployment: torch.export, files, AOTInductor and ONNX, of every option of the layers."""

from __future__ import annotations

import io
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

from tests.support.layer_frameworks import Need, made

NETWORKS = ("norm", "window", "one number each", "late", "synapse", "learned", "pools", "mean pool", "scale")
"""Those of ``exported.py``."""


def flat(membrane: Any) -> list[Any]:
    """The arrays of nested membranes."""
    if isinstance(membrane, tuple):
        return [array for part in membrane for array in flat(part)]
    return [] if membrane is None else [membrane]


def compare(module: Any, program: Any, atol: float) -> None:
    """A program is called with chunk after chunk, for more samples than it was made with, and does what one call does."""
    import torch

    from tests.layers import exported

    x = exported.frames(6, 5)
    found, close = exported.run(program, module, x), {"rtol": 0, "atol": atol}
    for name, train in module.whole(x).items():
        spikes, state = found[name]
        if name != "one number each":  # which never fires
            assert 0.02 < train.spikes.mean() < 0.98, name
        torch.testing.assert_close(spikes, train.spikes, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")
        for got, want in zip(state, flat(train.membrane), strict=True):
            torch.testing.assert_close(got, want, **close, msg=lambda text, name=name: f"{name}: {text}")


@pytest.fixture(scope="module", params=[False, True], ids=["trained", "frozen, reproducible"])
def exported_module(need: Need, request: pytest.FixtureRequest) -> tuple[Any, Any, bool]:
    """All networks, their program, and whether it must be equal bit for bit."""
    made(need, "torch")
    import torch

    from tests.layers import exported

    module, x = exported.Networks(request.param), exported.frames(exported.PERIOD, 3)
    assert tuple(module.steps) == NETWORKS
    states = module.initial(x)
    with torch.no_grad():
        program = torch.export.export(module, (x, states), dynamic_shapes=exported.dynamic(states))
    return module, program, request.param


def test_chunk_after_chunk(exported_module: tuple[Any, Any, bool]) -> None:
    """The steps themselves."""
    module, _, exact = exported_module
    compare(module, module, 0.0 if exact else 1e-5)


def test_states_are_contiguous(need: Need) -> None:
    """Compiled programs read a state by the example's strides, so those of all calls must be alike, channels first too."""
    framework = made(need, "torch")
    import torch

    from tacops.backends.torch_layers import Step

    frames = torch.ones(2, 3, 2, 5, 4)
    for norm in (False, True):
        layer = framework.layer("ConvLIF", 2, 4, 3, layout="channels_first", batch_norm=norm)
        step = Step(layer.eval())
        state = step.initial(frames)
        assert not layer(frames).membrane.is_contiguous()
        assert state[0].is_contiguous()
        assert step(frames, state)[1][0].is_contiguous()


def test_exported_file(exported_module: tuple[Any, Any, bool]) -> None:
    """`torch.export`, with any number of samples, through a file."""
    import torch

    module, program, exact = exported_module
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    compare(module, torch.export.load(file).module(), 0.0 if exact else 1e-5)


def test_onnx(exported_module: tuple[Any, Any, bool]) -> None:
    """ONNX's runtime: of what is frozen, bit for bit."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    import torch

    module, program, exact = exported_module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's exporter, about itself
        file = torch.onnx.export(program, dynamo=True, verbose=False).model_proto.SerializeToString()
    session = runtime.InferenceSession(file)
    names = [given.name for given in session.get_inputs()]

    def call(x: Any, states: Any) -> Any:
        arrays = [array.numpy() for array in torch.utils._pytree.tree_leaves((x, states))]
        found = iter(map(torch.from_numpy, session.run(None, dict(zip(names, arrays, strict=True)))))
        return [(next(found), tuple(next(found) for _ in state)) for state in states]

    compare(module, call, 0.0 if exact else 1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="AOTInductor needs a C++ compiler")
@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen, reproducible"])
@pytest.mark.parametrize("name", NETWORKS)
def test_aot_inductor(need: Need, name: str, frozen: bool, tmp_path: Path) -> None:
    """A program compiled ahead of time, with any number of samples, is called chunk after chunk."""
    if not (os.environ.get("TACOPS_SLOW") or (name == "late" and frozen)):
        pytest.skip("takes up to a minute to compile; TACOPS_SLOW=1 in the environment tries it")
    made(need, "torch")
    import torch

    from tests.layers import exported

    module = exported.Networks(frozen)
    step, kind = module.steps[name], dict(zip(module.steps, module.kinds, strict=True))[name]
    batch, example, frames = (
        torch.export.Dim("batch", min=2, max=64),
        exported.frames(2, 3)[kind],
        exported.frames(6, 5)[kind],
    )
    state = step.initial(example)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's compiler, about itself
        shapes: Any = ({1: batch}, tuple({0: batch} for _ in state))
        program = torch.export.export(step, (example, state), dynamic_shapes=shapes)
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "step.pt2"))
        compiled = torch._inductor.aoti_load_package(path)
        want = step.net(frames)
    state, spikes = step.initial(frames), []
    for chunk in frames.split(exported.PERIOD):
        fired, state = compiled(chunk, state)
        spikes.append(fired)
    torch.testing.assert_close(torch.cat(spikes), want.spikes, rtol=0, atol=0)
    for got, array in zip(state, flat(want.membrane), strict=True):
        torch.testing.assert_close(got, array, rtol=0, atol=0 if frozen else 1e-5)


def test_wrong_steps(need: Need) -> None:
    """One sentence for what is no network, one that is being trained, frames of half a chunk, and a state of another."""
    framework = made(need, "torch")
    import torch

    from tacops.backends.torch_layers import Sequential, Step

    layer = framework.layer("TACLinear", 4, 3, chunk_size=2, batch_norm=True, synapse_decay=0.5)
    with pytest.raises(
        ValueError, match=r"Step: net must be in evaluation mode: net.eval\(\); got one whose batch_norm"
    ):
        Step(layer)
    for net in (torch.nn.Linear(4, 3), torch.relu, None):
        with pytest.raises(TypeError, match="Step: net must be a layer, or layers one after the other"):
            Step(net)
    step, frames = Step(Sequential(layer.eval(), torch.nn.Identity())), torch.zeros(4, 2, 4)
    state = step.initial(frames)
    assert [tuple(array.shape) for array in state] == [(2, 3), (2, 3)]
    with pytest.raises(ValueError, match=r"Step: frames must be a multiple of 2, in whole chunks; got 3 of them"):
        step(frames[:3], state)
    with pytest.raises(ValueError, match=r"Step: state must be of 2 tensors, as of `initial`; got 1"):
        step(frames, state[:1])
    for other in (None, state[0], iter(state)):
        with pytest.raises(TypeError, match="Step: state must be a tuple of tensors, as of `initial`; got "):
            step(frames, other)
    for other in (frames.numpy(), frames.tolist(), None, frames[0, 0, 0]):
        for call in (step.initial, lambda other: step(other, state)):
            with pytest.raises(TypeError, match=r"Step: frames must be a tensor \(T, B, ...\); got "):
                call(other)
    assert len(Step(layer.frozen()).initial(frames)) == 2
    with pytest.raises(
        ValueError, match=r"Step: net must be in evaluation mode: net.eval\(\); got a Dropout in training"
    ):
        Step(Sequential(layer, torch.nn.Dropout()))
    layer.train()
    with pytest.raises(ValueError, match="got one whose batch_norm is being trained"):
        step(frames, state)


def test_period_of_steps(need: Need) -> None:
    """Layers that collapse time need whole chunks of chunks; those that preserve it, a common multiple."""
    framework = made(need, "torch")
    from tacops.backends.torch_layers import Sequential, Step

    def net(first: str) -> Any:
        inner = Sequential(framework.layer("TACLinear", 4, 4, chunk_size=4, mode=first))
        return Step(Sequential(inner, framework.layer("TACLinear", 4, 4, chunk_size=6)))

    assert [net(first).period for first in ("collapse", "preserve")] == [24, 12]
