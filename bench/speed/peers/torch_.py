"""Plain PyTorch, and the SNN libraries made of it: snnTorch, SpikingJelly, norse. Without gradients, or with those of a training step."""

from __future__ import annotations

import importlib
import math
from abc import abstractmethod
from collections.abc import Callable
from importlib import metadata
from typing import Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray

from bench.timing.cases import BETA, SLOPE, THRESHOLD, Case, Mode
from bench.timing.subject import Subject, UnsupportedError, Variant, require
from bench.timing.training import torch_step

Tensor: TypeAlias = Any
Layer: TypeAlias = Callable[[Tensor, Tensor], Tensor]
Neurons: TypeAlias = Callable[[Tensor], Tensor]


class TorchSubject(Subject):
    """A layer as one convolution over T * B and neurons over (T, B, C, *S)."""

    scale = 1.0
    """Factor of the weights that the neuron's input needs."""

    def __init__(self, device: str = "") -> None:
        if device:
            torch.set_default_device(device)  # of neurons' constants, too; the process is this subject's own

    def where(self) -> str:
        """Of a new tensor."""
        device = torch.zeros(1).device
        name = getattr(getattr(torch, device.type, None), "get_device_name", None)
        return f"{name(device)} ({device})" if name else str(device)

    def version(self) -> str:
        """PyTorch's, and its threads or its device."""
        where = self.where()
        return f"PyTorch {torch.__version__}, {f'{torch.get_num_threads()} threads' if where == 'cpu' else where}"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """Contiguous and, for images, channels-last memory."""
        self.check(case, mode)
        x, w = (torch.asarray(array) for array in case.arrays())
        w = w * self.scale
        layouts = {"contiguous": torch.contiguous_format}
        if len(case.space) == 2:
            layouts["channels-last"] = torch.channels_last
        return [self._variant(name, x, w, layout, case, mode) for name, layout in layouts.items()]

    def _variant(self, name: str, x: Tensor, w: Tensor, layout: Any, case: Case, mode: Mode) -> Variant:
        if case.space:
            w = w.movedim(-1, 1).contiguous(memory_format=layout)
            x = first(x, layout, case)
        if mode.by:
            return self._step(name, x, w, layout, case, mode)
        layer = self.prepared(self.layer(case, mode), case)

        def call() -> Tensor:
            with torch.no_grad():
                return waited(layer(x, w))

        return Variant(name, call, lambda out: channels_last(out, case))

    def _step(self, name: str, x: Tensor, w: Tensor, layout: Any, case: Case, mode: Mode) -> Variant:
        g = torch.asarray(case.upstream(mode))
        g = first(g, layout, case) if case.space else g
        step = torch_step(self.prepared(self.layer(case, mode), case), mode.by == "both")

        def gradient(out: Any) -> NDArray[Any]:
            of = out[1].movedim(1, -1) if case.space else out[1]
            return np.asarray((of * self.scale).cpu())

        return Variant(name, lambda: waited(*step(x, w, g)), lambda out: channels_last(out[0], case), gradient)

    def prepared(self, layer: Layer, case: Case) -> Layer:
        """What is called: the layer as it is."""
        del case
        return layer

    def check(self, case: Case, mode: Mode) -> None:
        """Only exact."""
        require("the library", case, mode)

    def layer(self, case: Case, mode: Mode) -> Layer:
        """Make the function from input and weight to spikes."""
        neurons = self.neurons(mode)
        return lambda x, w: neurons(convolve(x, w, case))

    @abstractmethod
    def neurons(self, mode: Mode) -> Neurons:
        """Make the function from currents (T, ...) to spikes."""


class Fire(torch.autograd.Function):  # type: ignore[misc]
    """A step, whose derivative is arctan's surrogate."""

    @staticmethod
    def forward(ctx: Any, excess: Tensor) -> Tensor:
        """Spikes."""
        ctx.save_for_backward(excess)
        return (excess >= 0).to(excess.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """As `tacops.surrogate.arctan`."""
        (excess,) = ctx.saved_tensors
        return gradient * (SLOPE / 2) / (1 + (math.pi / 2 * SLOPE * excess) ** 2)


def stepped(mode: Mode) -> Neurons:
    """Neurons that can be differentiated: step by step, nothing in place."""

    def run(currents: Tensor) -> Tensor:
        u, out = torch.zeros_like(currents[0]), []
        for current in currents:
            for _ in range(mode.hold):
                v = mode.decay * u + current
                spikes = Fire.apply(v - THRESHOLD)
                u = v - spikes * THRESHOLD
                out.append(spikes)
        return torch.stack(out)

    return run


def first(x: Tensor, layout: Any, case: Case) -> Tensor:
    """Images with channels after time and batch, in memory of this layout."""
    return x.movedim(-1, 2).flatten(0, 1).contiguous(memory_format=layout).unflatten(0, (len(x), case.B))


def waited(*out: Tensor) -> Any:
    """The same, when it is there."""
    if out[0].device.type != "cpu":
        torch.accelerator.synchronize(out[0].device)
    return out if len(out) > 1 else out[0]


def convolve(x: Tensor, w: Tensor, case: Case) -> Tensor:
    """All frames in one call."""
    if not case.space:
        return F.linear(x, w)
    convolution = (F.conv1d, F.conv2d, F.conv3d)[len(case.space) - 1]
    out = convolution(x.flatten(0, 1), w, padding=case.padding, groups=case.groups)
    return out.unflatten(0, x.shape[:2])


def channels_last(out: Tensor, case: Case) -> NDArray[Any]:
    """As (T, B, *S, C)."""
    array: NDArray[Any] = np.asarray((out.movedim(2, -1) if case.space else out).cpu())
    return array


class PlainTorch(TorchSubject):
    """The neurons in place."""

    def check(self, case: Case, mode: Mode) -> None:
        """All but reproducible."""
        if mode.reproducible:
            raise UnsupportedError("plain code has no such mode")

    def layer(self, case: Case, mode: Mode) -> Layer:
        """Aggregate, then as ever."""
        neurons, row = self.neurons(mode), torch.tensor([mode.weights])

        def run(x: Tensor, w: Tensor) -> Tensor:
            if mode.chunk > 1:
                memory = x.permute(0, 1, 3, 4, 2) if x.dim() == 5 and not x.is_contiguous() else x
                total = (row @ memory.reshape(case.T // mode.chunk, mode.chunk, -1)).reshape(-1, *memory.shape[1:])
                x = total if memory is x else total.permute(0, 1, 4, 2, 3)
            return neurons(convolve(x, w, case))

        return run

    def neurons(self, mode: Mode) -> Neurons:
        """The LIF loop."""
        if mode.by:
            return stepped(mode)

        def run(currents: Tensor) -> Tensor:
            u = torch.zeros_like(currents[0])
            shape = (len(currents) * mode.hold, *currents.shape[1:])
            out = torch.empty_strided(shape, currents.stride(), dtype=currents.dtype, device=currents.device)
            for t in range(len(out)):
                u.mul_(mode.decay).add_(currents[t // mode.hold])
                u.sub_(torch.ge(u, THRESHOLD, out=out[t]))
            return out

        return run


class CompiledTorch(PlainTorch):
    """The same by `torch.compile`."""

    def prepared(self, layer: Layer, case: Case) -> Layer:
        """Compiled: the first call takes seconds to minutes."""
        del case
        compiled: Layer = torch.compile(layer)
        return compiled


class SnnTorch(TorchSubject):
    """`snntorch.Leaky`."""

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        self.library = importlib.import_module("snntorch")
        self.surrogates = importlib.import_module("snntorch.surrogate")

    def version(self) -> str:
        """Its own, too."""
        return f"snnTorch {metadata.version('snntorch')}, {super().version()}"

    def neurons(self, mode: Mode) -> Neurons:
        """Step by step, as its tutorials do."""
        surrogate = self.surrogates.atan(alpha=SLOPE)
        leaky = self.library.Leaky(beta=BETA, threshold=THRESHOLD, spike_grad=surrogate)

        def run(currents: Tensor) -> Tensor:
            membrane, out = torch.zeros_like(currents[0]), []
            for current in currents:
                spikes, membrane = leaky(current, membrane)
                out.append(spikes)
            return torch.stack(out)

        return run


class SpikingJelly(TorchSubject):
    """`LIFNode` in its multi-step mode."""

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        self.library = importlib.import_module("spikingjelly.activation_based.neuron")
        self.surrogates = importlib.import_module("spikingjelly.activation_based.surrogate")

    def version(self) -> str:
        """Its own, too."""
        return f"SpikingJelly {metadata.version('spikingjelly')}, {super().version()}"

    def neurons(self, mode: Mode) -> Neurons:
        """All steps in one call."""
        node = self.library.LIFNode(
            tau=1 / (1 - BETA),
            decay_input=False,
            v_threshold=THRESHOLD,
            v_reset=None,
            surrogate_function=self.surrogates.ATan(alpha=SLOPE),
            step_mode="m",
        )

        def run(currents: Tensor) -> Tensor:
            node.reset()
            return node(currents)

        return run


class Norse(TorchSubject):
    """`LIFBoxCell`."""

    scale = 1 / (1 - BETA)

    def __init__(self, device: str = "") -> None:
        super().__init__(device)
        self.library = importlib.import_module("norse.torch.module.lif_box")
        self.resets = importlib.import_module("norse.torch.functional.reset")

    def version(self) -> str:
        """Its own, too."""
        return f"norse {metadata.version('norse')}, {super().version()}"

    def neurons(self, mode: Mode) -> Neurons:
        """Step by step."""
        library = self.library
        parameters = library.LIFBoxParameters(
            tau_mem_inv=torch.as_tensor(100.0),
            v_th=torch.as_tensor(THRESHOLD),
            reset_method=self.resets.reset_subtract,
        )
        cell = library.LIFBoxCell(parameters, dt=0.001)

        def run(currents: Tensor) -> Tensor:
            state, out = library.LIFBoxFeedForwardState(v=torch.zeros_like(currents[0])), []
            for current in currents:
                spikes, state = cell(current, state)
                out.append(spikes)
            return torch.stack(out)

        return run
