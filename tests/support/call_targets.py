"""Every public function with arguments that work, what of hostile values each may take, and what its results must be."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

import tacops
from tacops import encode, layers, plot, readout, surrogate, testing
from tacops.backends import Backend, backend_of, get_backend, register_backend

__all__ = ["FRAMEWORKS", "Target", "targets"]

INTEGERS = r"np\.uint8|\S+ 0-d int|2\*\*31|maxsize"
NUMBERS = r"0|1\.5|1e-320|2\*\*31|2\*\*63|maxsize|np\.float64|np\.uint8|Fraction.*|own 0-d|np 0-d|np 0-d int"
FLAGS = r"True|np\.bool"
PER_AXIS = rf"{INTEGERS}|\S+ 1-d ints"
ACCEPTED = {
    "aggregation": "None|Words",
    "aggregation_bits": f"0|{INTEGERS}",
    "backend_of.arrays": r"own .*|np .*|strict .*",
    "register_backend.backend": "array class|class|lambda|builtin",
    "beta": f"{NUMBERS}|own 1-d",
    "synapse_decay": f"None|{NUMBERS}|own 1-d",
    "run_checks.checks": r"''|\(\)|\[\]|\S+ empty|np.void|set\(\)|\{\}",
    "chunk_size": INTEGERS,
    "current": "own .*|strict .*|np .*",
    "dilation": f"{INTEGERS}|own 1-d ints|np 1-d ints|strict 1-d ints",
    "expected_failures": r"\{\}",
    "function": "''|'.*|Words|huge str|np.str",
    "input_max": NUMBERS,
    "input_step": NUMBERS,
    "keep": NUMBERS,
    "max_loss": NUMBERS,
    "significance": NUMBERS,
    "layers": r"\{\}",
    "lengths": "own 1-d ints",
    "max_samples": INTEGERS,
    "register_backend.name": "'.*'|Words|huge str|np.str",
    "names": r"\(\)",
    "padding": f"0|{INTEGERS}|own 1-d ints|np 1-d ints|strict 1-d ints",
    "path": "'.*'|Words|np.str",
    "rate": NUMBERS,
    "repeat": INTEGERS,
    "reproducible": FLAGS,
    "seed": rf"0|2\*\*63|10\*\*\d+|{INTEGERS}",
    "slope": NUMBERS,
    "spikes": "own .*|np .*|strict .*",
    "stride": f"{INTEGERS}|own 1-d ints|np 1-d ints|strict 1-d ints",
    "surrogate": "None|lambda|builtin",
    "batch_norm": FLAGS,
    "bias": f"None|own 1-d nan|{FLAGS}",
    "channels_in": INTEGERS,
    "channels_out": INTEGERS,
    "compact": FLAGS,
    "detach_reset": FLAGS,
    "epsilon": NUMBERS,
    "features_in": INTEGERS,
    "features_out": INTEGERS,
    "kernel_size": f"{INTEGERS}|np 1-d ints",
    "learn": r"\(\)|\[\]|\{\}|set\(\)|own empty|np empty",
    "momentum": NUMBERS,
    "quick": FLAGS,
    "remat": FLAGS,
    "threshold": f"{NUMBERS}|1e308|own 1-d",
    "x": "own .*|np .*|strict .*",
    "T": INTEGERS,
    "event_count": INTEGERS,
    "labels": "own .*ints?",
    "latency.tau": f"{NUMBERS}|1e308",
    "logits": "own .*|np .*|strict .*",
    "max_pool.kernel_size": PER_AXIS,
    "avg_pool.kernel_size": PER_AXIS,
    "sum_pool.kernel_size": PER_AXIS,
    "n_time_bins": INTEGERS,
    "neurons": rf"\[1, 2, 3, 4, 5\]|{PER_AXIS}",
    "sample": rf"0|{INTEGERS}",
    "sensor_size": PER_AXIS,
    "time_window": rf"{NUMBERS}|{INTEGERS}|1e308|10\*\*\d+",
    "trace": "own .*|np .*|strict .*",
}
"""Hostile values that a call may take all the same; beside each argument's default, and True for flags."""
FRAMEWORKS = {"torch": "torch", "jax": "flax", "mlx": "mlx"}


@dataclass(frozen=True)
class Target:
    """A function, arguments with which it works, and what its results must be."""

    name: str
    call: Callable[..., Any]
    good: Mapping[str, Any]
    right: Callable[[Any], bool] = lambda _: True
    others: tuple[str, ...] = ()
    """Functions in whose name it may complain too."""

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """Of a class, its constructor's (a metaclass may hide them)."""
        found = dict(inspect.signature(_function(self.call)).parameters)
        found.pop("self", None)
        return found

    @property
    def defaults(self) -> dict[str, Any]:
        """Every argument and its default (or `inspect.Parameter.empty`), those of a TypedDict included."""
        found: dict[str, Any] = {}
        for name, parameter in self.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                options = typing.get_args(typing.get_type_hints(_function(self.call), include_extras=True)[name])
                found |= dict.fromkeys(typing.get_type_hints(options[0]), parameter.empty)
            else:
                found[name] = parameter.default
        return found

    def __call__(self, changes: Mapping[str, Any]) -> Any:
        """Call it with some arguments changed."""
        given = {name: value() if isinstance(value, Fresh) else value for name, value in self.good.items()}
        given |= changes
        kinds = self.parameters
        several = [name for name in given if name in kinds and kinds[name].kind is inspect.Parameter.VAR_POSITIONAL]
        before = list(kinds)[: list(kinds).index(several[0])] if several else []
        positional = [given.pop(name) for name in (*before, *several)]
        result = self.call(*positional, **given)
        return list(result) if inspect.isgenerator(result) else result

    def is_accepted(self, argument: str, value: str, given: Any) -> bool:
        """Whether a call may succeed with this value."""
        default = self.defaults[argument]
        if given is default or (isinstance(default, bool) and given is True):
            return True
        allowed = f"{ACCEPTED.get(argument, '')}|{ACCEPTED.get(f'{self.name}.{argument}', '')}"
        return any(re.fullmatch(pattern, value) for pattern in allowed.split("|") if pattern)


class Fresh:
    """An argument that is made anew for every call."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make

    def __call__(self) -> Any:
        """Make one."""
        return self.make()


def _function(call: Any) -> Any:
    return call.__init__ if inspect.isclass(call) else call


def targets(backend: Backend) -> list[Target]:
    """Every public function, for arrays of `backend`."""

    def array(*shape: int) -> Any:
        return backend.from_numpy(np.full(shape, 0.5, np.float32))

    def is_array(result: Any) -> bool:
        """NumPy makes scalars of arrays without axes."""
        return isinstance(result, np.generic) or backend_of(result) is not None

    def is_train(result: Any) -> bool:
        if not isinstance(result, tacops.SpikeTrain | tacops.TracedSpikeTrain):
            return False
        state = result.membrane if isinstance(result.membrane, tuple) else (result.membrane,)
        return all(map(is_array, (result.spikes, *state, *result[2:])))

    conv = {"spikes": array(4, 2, 5, 6, 3), "weight": array(8, 3, 3, 3), "bias": array(8)}
    linear = {"spikes": array(4, 2, 3), "weight": array(5, 3)}
    differentiable = {"surrogate": surrogate.arctan()} if backend.differentiable else {}
    frozen = layers.FrozenLayer({"weight": array(5, 3)}, {"chunk_size": 2})
    found = [
        Target("tac_conv", tacops.tac_conv, conv | {"chunk_size": 2}, is_train),
        Target(
            "tac_conv",
            tacops.tac_conv,
            {"spikes": array(4, 2, 3, 5, 6), "weight": array(8, 3, 3, 3), "layout": "channels_first", "chunk_size": 2}
            | {"mode": "preserve", "padding": 1, "trace": True, "lengths": [4, 3], **differentiable},
            is_train,
        ),
        Target("tac_conv", tacops.tac_conv, conv | {"chunk_size": 2, "reproducible": True, "reset": "late"}, is_train),
        Target("conv_lif", tacops.conv_lif, conv, is_train),
        Target("tac_linear", tacops.tac_linear, linear | {"chunk_size": 2}, is_train),
        Target("tac_linear", tacops.tac_linear, linear | {"chunk_size": 2, "reproducible": True}, is_train),
        Target("lif", tacops.lif, {"current": array(4, 2, 3)}, is_train),
        Target("aggregate", tacops.aggregate, {"x": array(4, 2, 3), "chunk_size": 2}, is_array),
        Target("conv", tacops.conv, conv, is_array),
        Target("conv", tacops.conv, conv | {"reproducible": True}, is_array),
        Target("lif", tacops.lif, {"current": array(4, 2, 3, 5, 6), "layout": "channels_first"}, is_train),
        *_helpers(backend, array, is_array, is_train),
        Target("advise", tacops.advise, {"spikes": array(8, 2, 4, 4, 1)}, lambda a: isinstance(a, tacops.Advice)),
        Target("membrane_error_bound", tacops.membrane_error_bound, {"rate": 0.5}, lambda b: type(b) is float),
        Target("Grid", tacops.Grid, {}),
        Target("Surrogate", surrogate.Surrogate, {"name": "arctan", "slope": 2.0}),
        Target("backend_of", backend_of, {"arrays": array(3)}, lambda b: isinstance(b, Backend)),
        Target("get_backend", get_backend, {"name": "numpy"}, lambda b: isinstance(b, Backend)),
        Target("register_backend", register_backend, {"name": "mine", "backend": backend}),
        Target("load_backend", testing.load_backend, {"name": "numpy"}, lambda b: isinstance(b, Backend)),
        Target("conformance_checks", testing.conformance_checks, {}),
        Target(
            "run_checks", testing.run_checks, {"backend": backend, "checks": [testing.Check("a", 4, lambda _: None)]}
        ),
        Target("FrozenLayer", layers.FrozenLayer, {"arrays": {"weight": array(5, 3)}, "options": {"chunk_size": 2}}),
        Target("FrozenLayer", frozen, {"spikes": array(4, 2, 3)}, is_train, ("tac_linear",)),
        Target("save_frozen", layers.save_frozen, {"path": "out.npz", "layers": {"a": frozen}}),
        Target("load_frozen", layers.load_frozen, {"path": "good.npz"}),
    ]
    for name in surrogate.__all__:
        if name != "Surrogate":
            make = getattr(surrogate, name)
            found.append(Target(name, make, {}))
            found.append(Target(name, make(), {"x": array(3)}, is_array))
    return found + _framework(backend, array, is_train)


def _helpers(
    backend: Backend, array: Callable[..., Any], is_array: Callable[[Any], bool], is_train: Callable[[Any], bool]
) -> list[Target]:
    """What stands around layers."""
    events = np.zeros(6, [("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", np.int8)])
    events["t"] = range(6)
    labels = backend.from_numpy(np.array([0, 2], np.int32))
    dense = layers.FrozenLayer({"weight": array(5, 3)}, {"chunk_size": 2})
    pools = (tacops.max_pool, tacops.avg_pool, tacops.sum_pool)
    rules: list[dict[str, Any]] = [{"n_time_bins": 2}, {"event_count": 2}, {"time_window": 2.5}]

    def is_chain(result: Any) -> bool:
        """A train whose membrane is a tuple, an entry for each of two layers."""
        return is_train(result._replace(membrane=result.membrane[1])) and len(result.membrane) == 2

    found = [
        Target("rate", encode.rate, {"x": array(2, 3), "T": 4, "seed": 0}, is_array),
        Target("latency", encode.latency, {"x": array(2, 3), "T": 4}, is_array),
        Target("latency", encode.latency, {"x": array(2, 3), "T": 4, "tau": 1.5}, is_array),
        Target("delta", encode.delta, {"x": array(4, 2, 3)}, is_array),
        *(Target(p.__name__, p, {"spikes": array(4, 2, 5, 6, 3), "kernel_size": 2}, is_array) for p in pools),
        Target("flatten", tacops.flatten, {"spikes": array(4, 2, 5, 6, 3)}, is_array),
        Target("rate", readout.rate, {"spikes": array(4, 2, 3)}, is_array),
        Target("cross_entropy", readout.cross_entropy, {"logits": array(4, 2, 3), "labels": labels}, is_array),
        *(Target("events_to_frames", tacops.events_to_frames, {"events": events, **rule}) for rule in rules),
        Target("Sequential", layers.Sequential(layers.Flatten(), dense), {"spikes": array(4, 2, 3)}, is_chain, INNER),
    ]
    if find_spec("matplotlib"):
        found.append(Target("raster", plot.raster, {"spikes": array(4, 2, 3)}))
        found.append(Target("membranes", plot.membranes, {"trace": array(4, 2, 3)}))
    return found


INNER = ("Flatten", "FrozenLayer", "tac_linear")
"""In whose name a Sequential of them may complain, too."""


def _framework(backend: Backend, array: Callable[..., Any], is_train: Callable[[Any], bool]) -> list[Target]:
    """The trainable layers of the backend's framework."""
    if backend.name not in FRAMEWORKS:
        return []
    module = import_module(f"tacops.backends.{FRAMEWORKS[backend.name]}_layers")
    more: dict[str, Any] = {}
    if backend.name == "jax":
        from flax import nnx

        more["rngs"] = Fresh(lambda: nnx.Rngs(0))
    conv = {"channels_in": 3, "channels_out": 4, "kernel_size": 3} | more
    linear = {"features_in": 3, "features_out": 5, "chunk_size": 2} | more

    def make() -> Any:
        return module.TACLinear(**{name: v() if isinstance(v, Fresh) else v for name, v in linear.items()})

    layer = make()
    layer = layer.forward if backend.name == "torch" else layer
    mapping = module.to_mapping(make())
    return [
        Target("TACConv", module.TACConv, conv | {"chunk_size": 2}),
        Target("TACConv", module.TACConv, conv | {"chunk_size": 2, "learn": ("beta", "threshold", "aggregation")}),
        Target("ConvLIF", module.ConvLIF, conv),
        Target("TACLinear", module.TACLinear, linear),
        Target("TACLinear", layer, {"spikes": array(4, 2, 3)}, is_train, ("tac_linear",)),
        Target("to_mapping", module.to_mapping, {"module": make()}, lambda m: isinstance(m, dict)),
        Target("load_mapping", module.load_mapping, {"module": make(), "mapping": mapping}),
        Target("freeze", module.freeze, {"module": make()}, lambda m: isinstance(m, dict)),
    ]
