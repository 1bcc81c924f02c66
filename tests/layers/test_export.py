"""Programs for deployment: torch.export, files, AOTInductor and ONNX, of every option of the layers."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.layer_frameworks import Need, made


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
    states = module.initial(x)
    with torch.no_grad():
        program = torch.export.export(module, (x, states), dynamic_shapes=exported.dynamic(states))
    return module, program, request.param


def test_chunk_after_chunk(exported_module: tuple[Any, Any, bool]) -> None:
    """The steps themselves."""
    module, _, exact = exported_module
    compare(module, module, 0.0 if exact else 1e-5)


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
    file = torch.onnx.export(program, dynamo=True, verbose=False).model_proto.SerializeToString()
    session = runtime.InferenceSession(file)
    names = [given.name for given in session.get_inputs()]

    def call(x: Any, states: Any) -> Any:
        arrays = [array.numpy() for array in torch.utils._pytree.tree_leaves((x, states))]
        found = iter(map(torch.from_numpy, session.run(None, dict(zip(names, arrays, strict=True)))))
        return [(next(found), tuple(next(found) for _ in state)) for state in states]

    compare(module, call, 0.0 if exact else 1e-5)
