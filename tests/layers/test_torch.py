"""What PyTorch's own tools expect of a module: conversions, files, averages of weights, exporters."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest

from tests.layers.test_layers import FRAMES, LEARN, assert_close
from tests.support.layer_frameworks import Framework, Need, made, values


def trained(framework: Framework, seed: int = 10, **options: Any) -> Any:
    """A layer that learns everything, far from its start."""
    layer = framework.layer("TACConv", 2, 4, 3, chunk_size=3, learn=LEARN, batch_norm=True, **options)
    framework.layers.load_mapping(layer, values(seed, framework, layer))
    return layer


def test_conversions(need: Need) -> None:
    """half, bfloat16, double, to(device), deepcopy and pickle, in training and at inference."""
    framework = made(need, "torch")
    import torch

    layer, x = trained(framework), torch.tensor(FRAMES)
    want = copy.deepcopy(layer)(x)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        for training in (True, False):
            converted = copy.deepcopy(layer).to(dtype).train(training)
            train = converted(x)
            assert train.membrane.dtype == converted.norm_var.dtype == dtype
            assert train.membrane.isfinite().all()
            if training:
                assert (train.spikes.float() != want.spikes).float().mean() < 0.05
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert_close(framework.run(twin, FRAMES), framework.run(copy.deepcopy(layer), FRAMES), atol=0)
        before = layer.norm_mean.clone()
        twin.norm.reset_running_stats()
        assert not twin.norm_mean.any()
        torch.testing.assert_close(layer.norm_mean, before, rtol=0, atol=0)
    assert copy.deepcopy(layer).to("meta")(x.to("meta")).spikes.shape == want.spikes.shape


def test_files_with_scalar_parameters_are_loaded(need: Need) -> None:
    """What was saved when `beta_logit` had no dimension: state_dict of a network, and mappings."""
    framework = made(need, "torch")
    import torch

    net = torch.nn.ModuleDict({"conv": trained(framework)})
    mapping, old = framework.layers.to_mapping(net), dict(net.state_dict())
    for name in ("conv.beta_logit", "conv.threshold_log"):
        old[name] = old[name][0].clone()
        mapping[name] = mapping[name][0].reshape(())
    first, second = (torch.nn.ModuleDict({"conv": trained(framework, seed=11)}) for _ in range(2))
    first.load_state_dict(old)
    framework.layers.load_mapping(second, mapping)
    for twin in (first, second):
        for name, value in net.state_dict().items():
            torch.testing.assert_close(twin.state_dict()[name], value, rtol=0, atol=0)


def test_old_norms_are_unpickled(need: Need) -> None:
    """Of a network that was pickled whole before norms had `sync` and `process_group`."""
    layer = trained(made(need, "torch"))
    for name in ("sync", "process_group"):
        layer.norm.__dict__.pop(name, None)
    twin = pickle.loads(pickle.dumps(layer))
    assert "sync=False" in repr(twin)
    assert_close(made(need, "torch").run(twin, FRAMES), made(need, "torch").run(layer, FRAMES), atol=0)


def test_update_bn(need: Need) -> None:
    """The statistics become the mean over all batches of each batch's own; momentum is as it was."""
    framework = made(need, "torch")
    import torch

    layer = trained(framework)
    batches = [torch.tensor(np.random.default_rng(seed).random(FRAMES.shape) < 0.1 + 0.2 * seed) for seed in range(3)]
    alone = []
    for batch in batches:
        twin = copy.deepcopy(layer)
        twin.norm.momentum = 1.0
        twin(batch)
        alone.append((twin.norm_mean, twin.norm_var))
    torch.optim.swa_utils.update_bn(batches, torch.nn.Sequential(layer).eval())
    assert (layer.training, layer.norm.momentum) == (False, 0.1)
    for name, found in zip(("norm_mean", "norm_var"), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(getattr(layer, name), sum(found) / 3)


def test_norm_is_found_by_those_who_look_for_it(need: Need) -> None:
    """Switched to inference alone, as in fine-tuning, it moves no statistics."""
    framework = made(need, "torch")
    import torch

    layer = trained(framework)
    for module in layer.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    before = layer.norm_mean.clone()
    got = framework.run(layer, FRAMES)
    torch.testing.assert_close(layer.norm_mean, before, rtol=0, atol=0)
    assert_close(got, framework.run(copy.deepcopy(layer).eval(), FRAMES), atol=0)


@pytest.mark.parametrize("reproducible", [False, True])
def test_exported_program(need: Need, reproducible: bool) -> None:
    """It is saved and loaded, and has no extreme of a whole array without named axes, which ONNX can't express."""
    framework = made(need, "torch")
    import torch

    layer, x = trained(framework, reproducible=reproducible).eval(), torch.tensor(FRAMES.astype(np.float32))
    with torch.no_grad():
        program, file = torch.export.export(layer, (x,)), io.BytesIO()
        torch.export.save(program, file)
        file.seek(0)
        train = torch.export.load(file).module()(x)
        want = layer(x)
    assert type(train) is type(want)
    assert_close(framework.numpy(train), framework.numpy(want), atol=1e-6)
    extremes = [node for node in program.graph.nodes if any(word in str(node.target) for word in ("max", "min"))]
    assert extremes
    for node in extremes:
        assert len(node.args) > 1, f"{node.target}{node.args}"


def test_one_number_has_a_plain_stride(need: Need) -> None:
    """DistributedDataParallel warns of a parameter of shape (1,) whose stride is 0, as an expanded scalar's is."""
    layer = trained(made(need, "torch"))
    assert [getattr(layer, name).stride() for name in ("beta_logit", "threshold_log")] == [(1,), (1,)]
