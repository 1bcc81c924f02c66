"""What is timed: a subject is one library's way to run a layer. Here are its interface and tacops itself."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import metadata
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from bench.timing.cases import BETA, SLOPE, THRESHOLD, Case, Mode
from bench.timing.training import STEPS as TRAINING

REFERENCE = "tacops numpy"
"""The subject with whose spikes the others' are compared."""

Kind: TypeAlias = Literal["tacops", "plain", "peer", "ceiling"]


class UnsupportedError(Exception):
    """A library has no such layer; the message says so."""


class Variant(NamedTuple):
    """One way to run a layer; of several, the fastest is timed."""

    name: str
    call: Callable[[], Any]
    """Run and wait for the result."""
    spikes: Callable[[Any], NDArray[Any]] | None
    """Turn a result into spikes (frames, B, *S, C)."""
    gradient: Callable[[Any], NDArray[Any]] | None = None
    """Turn the result of a training step into the weight's gradient (C_out, *kernel, C_in)."""


class Subject(ABC):
    """A library that runs layers."""

    def where(self) -> str:
        """The device that its arrays are on, read from one of them; a CPU's name begins with ``cpu``."""
        return "cpu"

    def release(self) -> None:
        """Give back what the library keeps of freed memory, as far as it can be told to: before memory is measured."""
        return

    @abstractmethod
    def version(self) -> str:
        """Name and version of the library."""

    @abstractmethod
    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """Ways to run the layer; raises `UnsupportedError` where there is none."""


@dataclass(frozen=True)
class Entry:
    """A subject that may be installed: where its class is and what a reader must know."""

    name: str
    kind: Kind
    factory: str
    """``module:class``."""
    argument: str = ""
    module: str = ""
    """What must be importable."""
    install: str = ""
    """What to install if it is not."""
    library: str = ""
    """The backend whose devices it can run on."""
    device: str = ""
    """Where it runs, as that backend calls it; "" is the library's default."""
    note: str = ""
    """How it is configured and what its neuron does differently."""

    @property
    def found(self) -> bool:
        """Whether its library is there; it isn't imported."""
        return not self.module or importlib.util.find_spec(self.module) is not None

    def make(self) -> Subject:
        """Import and make it; in a worker process."""
        module, name = self.factory.split(":")
        make = getattr(importlib.import_module(module), name)
        arguments = [self.argument] if self.argument else []
        return cast(Subject, make(*arguments, **({"device": self.device} if self.device else {})))


class Tacops(Subject):
    """tacops' operators on one backend, compiled where users of the library compile as a matter of course."""

    def __init__(self, backend: str, device: str = "") -> None:
        from tacops.backends import get_backend

        self.backend = get_backend(backend).on(device or None)
        self.made = lru_cache(maxsize=None)(self._make)

    def where(self) -> str:
        """As the backend calls it."""
        from tacops.testing import where

        return where(self.backend)["device"]

    def version(self) -> str:
        """That of the backend's library, and the device."""
        about = {**self.backend.describe(), "device": self.where()}
        others = "".join(
            f", {key} {value}" for key, value in about.items() if key not in ("version", "device", "precision")
        )
        return f"tacops {metadata.version('tacops')}, {self.backend.name} {about['version']}, {about['device']}{others}"

    def variants(self, case: Case, mode: Mode) -> list[Variant]:
        """The public operators with their defaults."""
        backend = self.backend
        if mode.by and backend.name not in TRAINING:
            raise UnsupportedError(f"{backend.name} does not differentiate, or nothing is written for it here")
        run = self.made(case.shape, mode)
        given = [*case.arrays(), *([case.upstream(mode)] if mode.by else [])]
        given = [backend.from_numpy(array) for array in given]

        def call() -> Any:
            out = run(*given)
            backend.synchronize(*out)
            return out

        def spikes(out: Any) -> NDArray[Any]:
            if (on := backend.device_name(out[0])) != self.where():
                raise RuntimeError(f"spikes are on {on}, though this is said to run on {self.where()}")
            found: NDArray[Any] = backend.to_numpy(out[0])
            return found

        gradient = (lambda out: backend.to_numpy(out[1])) if mode.by else None
        return [Variant("compiled" if backend.compiles_fast else "eager", call, spikes, gradient)]

    def product(self) -> Callable[[], Any]:
        """A matrix product of the library's own."""
        matrix = self.backend.from_numpy(np.ones((512, 512), np.float32))
        return partial(self.backend.namespace(matrix).matmul, matrix, matrix)

    def _make(self, case: Case, mode: Mode) -> Callable[..., tuple[Any, ...]]:
        """The function that is called; compilers see the same one for every input of a layer."""
        import tacops

        options: dict[str, Any] = {"beta": BETA, "threshold": THRESHOLD, "reproducible": mode.reproducible}
        options |= {"chunk_size": mode.chunk, "mode": "preserve" if mode.preserve else "collapse"}
        if case.space:
            options |= {"padding": case.padding, "groups": case.groups}
        operator = tacops.tac_conv if case.space else tacops.tac_linear
        if mode.by:
            options["surrogate"] = tacops.surrogate.arctan(SLOPE)
            return TRAINING[self.backend.name](lambda x, w: operator(x, w, **options).spikes, mode.by == "both")

        def layer(x: Any, w: Any) -> tuple[Any, ...]:
            return tuple(operator(x, w, **options))

        return self.backend.compile(layer) if self.backend.compiles_fast else layer

    def release(self) -> None:
        """MLX keeps a cache."""
        if self.backend.name == "mlx":
            importlib.import_module("mlx.core").clear_cache()


class WithoutNumba(Tacops):
    """tacops on NumPy as it is where Numba is not installed."""

    def __init__(self) -> None:
        sys.modules["numba"] = None  # type: ignore[assignment]  # import fails; the process is this subject's own
        super().__init__("numpy")


def require(kind: str, case: Case, mode: Mode) -> None:
    """Refuse every mode but exact; for libraries that know no other."""
    if mode.chunk > 1 or mode.reproducible:  # training steps every library has
        raise UnsupportedError(f"{kind} has no such mode")


def fires(spikes: NDArray[Any]) -> NDArray[np.bool_]:
    """Spikes as bool."""
    fired: NDArray[np.bool_] = np.asarray(spikes) != 0
    return fired
