"""The three frameworks with trainable layers behind one interface, for tests; each imports its libraries when it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tacops.backends import Backend, get_backend

Array = NDArray[Any]
Mapped = dict[str, Array]


class Framework:
    """What the tests need of a framework."""

    name: str
    backend_name: str

    def __init__(self) -> None:
        self.layers: Any = import_module(f"tacops.backends.{self.name}_layers")
        self.backend = get_backend(self.backend_name)

    def layer(self, kind: str, *sizes: Any, **options: Any) -> Any:
        """Make a layer with random weights, the same every time."""
        return getattr(self.layers, kind)(*sizes, **options)

    def network(self, layers: Mapping[str, Any]) -> Any:
        """Make a module that holds `layers` by name."""
        raise NotImplementedError

    def array(self, value: Array) -> Any:
        """Convert from NumPy."""
        return self.backend.from_numpy(value)

    def evaluate(self, module: Any) -> Any:
        """Switch to inference."""
        module.eval()
        return module

    def run(self, layer: Any, spikes: Array, membrane: Array | None = None) -> tuple[Array, Array]:
        """Spikes and membrane in NumPy."""
        start = None if membrane is None else self.array(membrane)
        return self.numpy(layer(self.array(spikes), membrane=start))

    def numpy(self, train: Any) -> tuple[Array, Array]:
        """Convert spikes and membrane to NumPy."""
        return self.backend.to_numpy(train[0]), self.backend.to_numpy(train[1])

    def half(self, module: Any) -> Any:
        """Convert parameters to float16."""
        raise NotImplementedError

    def sequential(self, *layers: Any) -> Any:
        """The framework's own chain of layers."""
        raise NotImplementedError

    def compiled(self, layer: Any, spikes: Array) -> tuple[Array, Array]:
        """`run` in the framework's compiler."""
        raise NotImplementedError

    def gradients(self, module: Any, loss: Callable[[Any], Any]) -> Mapped:
        """Gradients of ``loss(module)`` by the keys of the mapping."""
        raise NotImplementedError

    def fit(self, module: Any, loss: Callable[[Any], Any], steps: int) -> list[float]:
        """Losses of some steps of Adam."""
        raise NotImplementedError


class Torch(Framework):
    """PyTorch."""

    name = backend_name = "torch"

    def layer(self, kind: str, *sizes: Any, **options: Any) -> Any:
        """As `Framework.layer`."""
        import torch

        torch.manual_seed(1)
        return super().layer(kind, *sizes, **options)

    def network(self, layers: Mapping[str, Any]) -> Any:
        """As `Framework.network`."""
        import torch

        return torch.nn.ModuleDict(layers)

    def half(self, module: Any) -> Any:
        """As `Framework.half`."""
        return module.half()

    def sequential(self, *layers: Any) -> Any:
        """As `Framework.sequential`."""
        import torch

        return torch.nn.Sequential(*layers)

    def compiled(self, layer: Any, spikes: Array) -> tuple[Array, Array]:
        """As `Framework.compiled`."""
        import torch

        return self.numpy(torch.compile(layer, backend="eager", fullgraph=True)(self.array(spikes)))

    def gradients(self, module: Any, loss: Callable[[Any], Any]) -> Mapped:
        """As `Framework.gradients`."""
        module.zero_grad()
        loss(module).backward()
        return {name: p.grad.numpy() for name, p in module.named_parameters()}

    def fit(self, module: Any, loss: Callable[[Any], Any], steps: int) -> list[float]:
        """As `Framework.fit`."""
        import torch

        optimiser, losses = torch.optim.Adam(module.parameters(), 0.02), []
        for _ in range(steps):
            optimiser.zero_grad()
            value = loss(module)
            value.backward()
            optimiser.step()
            losses.append(value.item())
        return losses


class Flax(Framework):
    """Flax NNX."""

    name, backend_name = "flax", "jax"

    def layer(self, kind: str, *sizes: Any, **options: Any) -> Any:
        """As `Framework.layer`."""
        from flax import nnx

        return super().layer(kind, *sizes, rngs=nnx.Rngs(0), **options)

    def network(self, layers: Mapping[str, Any]) -> Any:
        """As `Framework.network`."""
        from flax import nnx

        if hasattr(nnx, "Dict"):
            return nnx.Dict(layers)

        class Network(nnx.Module):  # type: ignore[misc]
            def __getitem__(self, name: str) -> Any:
                return getattr(self, name)

        network = Network()  # before Flax 0.12
        for name, layer in layers.items():
            setattr(network, name, layer)
        return network

    def half(self, module: Any) -> Any:
        """As `Framework.half`; batch statistics stay float32, as those of nnx.BatchNorm do."""
        import jax
        from flax import nnx

        nnx.update(module, jax.tree.map(lambda array: array.astype("float16"), nnx.state(module, nnx.Param)))
        return module

    def sequential(self, *layers: Any) -> Any:
        """As `Framework.sequential`."""
        from flax import nnx

        return nnx.Sequential(*layers)

    def compiled(self, layer: Any, spikes: Array) -> tuple[Array, Array]:
        """As `Framework.compiled`."""
        from flax import nnx

        return self.numpy(nnx.jit(lambda layer, x: layer(x))(layer, self.array(spikes)))

    def gradients(self, module: Any, loss: Callable[[Any], Any]) -> Mapped:
        """As `Framework.gradients`."""
        from flax import nnx

        found = nnx.to_flat_state(nnx.jit(nnx.grad(loss))(module))
        return {".".join(map(str, path)): np.asarray(value[...]) for path, value in found}

    def fit(self, module: Any, loss: Callable[[Any], Any], steps: int) -> list[float]:
        """As `Framework.fit`."""
        import optax
        from flax import nnx

        optimiser = nnx.Optimizer(module, optax.adam(0.02), wrt=nnx.Param)

        @nnx.jit  # type: ignore[untyped-decorator]
        def step(module: Any, optimiser: Any) -> Any:
            value, gradient = nnx.value_and_grad(loss)(module)
            optimiser.update(module, gradient)
            return value

        return [float(step(module, optimiser)) for _ in range(steps)]


class MLX(Framework):
    """MLX."""

    name = backend_name = "mlx"

    def layer(self, kind: str, *sizes: Any, **options: Any) -> Any:
        """As `Framework.layer`."""
        import mlx.core as mx

        mx.random.seed(1)
        return super().layer(kind, *sizes, **options)

    def network(self, layers: Mapping[str, Any]) -> Any:
        """As `Framework.network`."""
        from mlx import nn

        module = nn.Module()
        for name, layer in layers.items():
            module[name] = layer
        return module

    def half(self, module: Any) -> Any:
        """As `Framework.half`."""
        import mlx.core as mx

        module.set_dtype(mx.float16)
        return module

    def sequential(self, *layers: Any) -> Any:
        """As `Framework.sequential`."""
        from mlx import nn

        return nn.Sequential(*layers)

    def compiled(self, layer: Any, spikes: Array) -> tuple[Array, Array]:
        """As `Framework.compiled`."""
        import mlx.core as mx

        state = [layer.state]
        return self.numpy(mx.compile(lambda x: tuple(layer(x)), inputs=state, outputs=state)(self.array(spikes)))

    def gradients(self, module: Any, loss: Callable[[Any], Any]) -> Mapped:
        """As `Framework.gradients`."""
        from mlx import nn
        from mlx.utils import tree_flatten

        _, found = nn.value_and_grad(module, loss)(module)
        return {name: np.array(value) for name, value in tree_flatten(found)}

    def fit(self, module: Any, loss: Callable[[Any], Any], steps: int) -> list[float]:
        """As `Framework.fit`."""
        import mlx.core as mx
        from mlx import nn
        from mlx.optimizers import Adam

        optimiser, losses = Adam(0.02), []
        step = nn.value_and_grad(module, loss)
        for _ in range(steps):
            value, gradient = step(module)
            optimiser.update(module, gradient)
            mx.eval(module.parameters(), optimiser.state)
            losses.append(float(value))
        return losses


FRAMEWORKS: dict[str, type[Framework]] = {"torch": Torch, "flax": Flax, "mlx": MLX}


def values(seed: int, framework: Framework, layer: Any) -> Mapped:
    """A mapping for `layer` that is far from its start; the same for every framework."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, array in framework.layers.to_mapping(layer).items():
        if array.dtype.kind != "f":  # what is said about the order of features
            found[name] = array
        elif name.endswith("weight"):
            found[name] = rng.normal(0.1, 0.4, array.shape)
        elif name.endswith("norm_var"):
            found[name] = rng.uniform(0.05, 0.3, array.shape)
        else:
            found[name] = array + rng.normal(0, 0.2, array.shape)
    return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in found.items()}


EACH = pytest.mark.parametrize("name", list(FRAMEWORKS))
"""Run a test once for every framework."""
Need = Callable[[str], Backend]


def made(need: Need, name: str) -> Framework:
    """That framework; skips the test where it is missing."""
    need(FRAMEWORKS[name].backend_name)
    if name == "flax":
        pytest.importorskip("flax")
    return _made(name)


def present(need: Need) -> list[Framework]:
    """All frameworks that are not missing, at least two, or the test is skipped."""
    found = []
    for name in FRAMEWORKS:
        try:
            found.append(made(need, name))
        except pytest.skip.Exception:
            continue
    if len(found) < 2:
        pytest.skip("needs two frameworks")
    return found


@cache
def _made(name: str) -> Framework:
    return FRAMEWORKS[name]()
