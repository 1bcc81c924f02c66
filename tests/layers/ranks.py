"""What one of two processes does in the tests of several devices: ``python -m tests.layers.ranks MEETING RANK``.

Every check is a function of this rank; what it raises is printed as JSON by its name.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor, init_device_mesh
from torch.func import functional_call, grad, jvp, vmap
from torch.nn import SyncBatchNorm
from torch.nn.parallel import DistributedDataParallel

from tacops import tac_conv
from tacops.backends.torch_layers import Sequential, TACConv, TACLinear, freeze, load_mapping, to_mapping
from tacops.layers import Flatten

LEARN = ("beta", "threshold", "aggregation")
FRAMES = torch.rand(7, 4, 6, 5, 2, generator=torch.Generator().manual_seed(0)) < 0.3
SHARES = {"even": (slice(0, 2), slice(2, 4)), "uneven": (slice(0, 3), slice(3, 4))}
"""Samples of each rank."""


def network(**options: Any) -> Any:
    """Three layers that learn everything; T = 7 leaves a shorter last chunk."""
    torch.manual_seed(0)
    options = {"learn": LEARN, **options}
    net = Sequential(
        TACConv(2, 4, 3, chunk_size=3, mode="preserve", **options),
        TACConv(4, 4, 2, chunk_size=2, **options),
        Flatten(),
        TACLinear(24, 3, chunk_size=2, **options),
    )
    return net.double()  # in which no spike hangs on how a sum is rounded


def drive(train: Any) -> Any:
    """Of a train, something that all parameters have a share in: a sum over samples."""
    return sum(x.square().sum() for x in train.membrane if x is not None) / 100


def trained(net: Any, frames: Any, rate: float) -> None:
    """Two steps, of which the second needs what the first has learned."""
    optimiser = torch.optim.SGD(net.parameters(), rate)
    for _ in range(2):
        optimiser.zero_grad()
        drive(net(frames)).backward()
        optimiser.step()


def equal(want: Any, got: Any, atol: float = 1e-9) -> None:
    """The same mapping within rounding."""
    assert want.keys() == got.keys()
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, atol=atol, err_msg=name)


def cut(net: Any) -> Any:
    """FSDP2, layer by layer."""
    for layer in net.stages:
        if hasattr(layer, "weight"):
            fully_shard(layer)
    fully_shard(net)
    assert all(isinstance(value, DTensor) for value in net.parameters())
    return net


def check_trained(rank: int, wrap: Callable[[Any], Any], share: str, norm: str = "", **options: Any) -> None:
    """Each rank has a part of the batch, and learns what one process learns of the whole.

    Its gradients are the mean over ranks, of which those of the whole batch are twice as large: half the rate. The norm's
    statistics are made those of all ranks by the layers' option, or by PyTorch's function.
    """
    options |= {"batch_norm": bool(norm)}
    whole, part = network(**options), network(sync=norm == "option", **options)
    part = SyncBatchNorm.convert_sync_batchnorm(part) if norm == "converted" else part
    before = to_mapping(whole)
    trained(wrap(part), FRAMES[:, SHARES[share][rank]], 0.05)
    trained(whole, FRAMES, 0.025)
    want = to_mapping(whole)
    equal(want, to_mapping(part))
    assert all(not np.array_equal(want[name], before[name]) for name, _ in whole.named_parameters())
    load_mapping(part, before)
    equal(before, to_mapping(part), atol=0.0)
    assert sorted(freeze(part)) == ["layers.0", "layers.1", "layers.3"]


def check_own_statistics(rank: int) -> None:
    """Unless they are asked for, and in a group of its own, statistics are those of each rank's batch."""
    group = [dist.new_group([n]) for n in range(2)][rank]
    mine = FRAMES[:, SHARES["even"][rank]]
    alone = network(batch_norm=True)
    alone(mine)
    for net in (network(batch_norm=True), SyncBatchNorm.convert_sync_batchnorm(network(batch_norm=True), group)):
        net(mine)
        equal(to_mapping(alone), to_mapping(net), atol=0.0)
    shared = network(batch_norm=True, sync=True)
    shared(mine)
    assert not np.allclose(to_mapping(alone)["layers.0.norm_var"], to_mapping(shared)["layers.0.norm_var"], atol=1e-4)


def check_compiled(rank: int) -> None:
    """`torch.compile` of a layer whose statistics are shared."""
    torch.manual_seed(0)
    layers = [TACLinear(6, 3, chunk_size=2, batch_norm=True, sync=True) for _ in range(2)]
    load_mapping(layers[1], to_mapping(layers[0]))
    frames = FRAMES[:4, :, :3, rank].flatten(2)
    for call in (layers[0], torch.compile(layers[1], backend="aot_eager")):
        call(frames).membrane.square().sum().backward()
    equal(to_mapping(layers[0]), to_mapping(layers[1]))
    torch.testing.assert_close(layers[1].weight.grad, layers[0].weight.grad)


def check_functional(rank: int) -> None:
    """`torch.func`, of shared statistics: gradients, those of several networks at once, and forward mode."""
    torch.manual_seed(0)
    layer = TACLinear(6, 3, chunk_size=2, batch_norm=True, sync=True).double()
    frames = FRAMES[:4, :, :3, rank].flatten(2)
    start = {name: value.detach().clone() for name, value in layer.named_buffers()}
    parameters = {name: value.detach().clone() for name, value in layer.named_parameters()}

    def loss(parameters: Any, buffers: Any) -> Any:
        return functional_call(layer, (parameters, buffers), (frames,)).membrane.square().sum()

    def fresh() -> Any:
        return {name: value.clone() for name, value in start.items()}

    found = grad(loss)(parameters, fresh())
    layer(frames).membrane.square().sum().backward()
    want = {name: value.grad for name, value in layer.named_parameters()}
    torch.testing.assert_close(found, want)
    assert all(value.any() for value in want.values())
    several = {name: torch.stack([value, value * 1.5]) for name, value in parameters.items()}
    moved = {name: torch.stack([value, value]) for name, value in start.items()}
    slopes = vmap(grad(loss))(several, moved)
    for n in range(2):
        alone = fresh()
        one = grad(loss)({name: value[n] for name, value in several.items()}, alone)
        torch.testing.assert_close({name: value[n] for name, value in slopes.items()}, one)
        torch.testing.assert_close({name: value[n] for name, value in moved.items()}, alone)
    tangents = {name: torch.ones_like(value) for name, value in parameters.items()}
    _, tangent = jvp(lambda parameters: loss(parameters, fresh()), (parameters,), (tangents,))
    # what one rank's part changes in the other's loss is in the other's tangent, and in its own gradient
    both = torch.stack([tangent.detach(), sum(value.sum() for value in want.values())])
    dist.all_reduce(both)
    torch.testing.assert_close(both[0], both[1])


def check_distributed_tensors(rank: int) -> None:
    """Refused in one sentence that says what to do."""
    mesh = init_device_mesh("cpu", (2,))
    weight = torch.ones(4, 3, 3, 2)
    for placement in (Shard(1), Replicate()):
        frames = distribute_tensor(FRAMES, mesh, [placement])
        for call in (TACConv(2, 4, 3, chunk_size=3), partial(tac_conv, weight=weight, chunk_size=3)):
            with pytest.raises(TypeError, match=r"spikes must be .* got a DTensor; call to_local\(\) for the part"):
                call(frames)


CHECKS: dict[str, Callable[[int], None]] = {
    "parallel": partial(check_trained, wrap=DistributedDataParallel, share="uneven"),
    "parallel, sync": partial(check_trained, wrap=DistributedDataParallel, share="uneven", norm="option"),
    "parallel, converted": partial(
        check_trained, wrap=DistributedDataParallel, share="even", norm="converted", reproducible=True
    ),
    "cut": partial(check_trained, wrap=cut, share="uneven"),
    "cut, sync": partial(check_trained, wrap=cut, share="even", norm="option"),
    "own statistics": check_own_statistics,
    "compiled, sync": check_compiled,
    "functional, sync": check_functional,
    "distributed tensors": check_distributed_tensors,
}


def main(meeting: str, rank: int) -> None:
    """All checks, in the same order on both ranks, which wait for one another; after a failure they can't."""
    modules: dict[str, Any] = sys.modules
    modules["numba"] = None  # to compile its loops takes longer than all checks
    torch.set_num_threads(1)
    options = {"rank": rank, "world_size": 2, "timeout": timedelta(seconds=60)}
    dist.init_process_group("gloo", init_method=f"file://{meeting}", **options)
    found = dict.fromkeys(CHECKS, "not run, because of the failure before")
    for name, check in CHECKS.items():
        try:
            check(rank)
        except Exception:  # noqa: BLE001 (of any kind: it is what the test shows)
            found[name] = traceback.format_exc()
            break
        found[name] = ""
    print(json.dumps(found), flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
