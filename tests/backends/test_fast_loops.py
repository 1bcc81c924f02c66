"""Fast loops take the step as plain data, refuse what they don't know, and leave other steps to the core's scan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tacops._backend.steps import Reset
from tacops._core.neurons import LIFStep
from tacops._core.synapses import Convolve
from tacops.backends import Backend, Window, get_backend

T, B, C = 5, 3, 4


class Silent(LIFStep):
    """Neurons that never fire: what a fast loop would make fire."""

    def __call__(self, state: Any, current: Any) -> tuple[Any, Any]:
        """One step."""
        v = current if state is None else self.decay * state[0] + current
        return (v,), v * 0.0


@pytest.mark.parametrize("loops", [True, False])
def test_another_step_is_the_core_s(backend: Backend, loops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A subclass runs as it is, in `scan` and in `schedule`, whatever the size of the layer."""
    monkeypatch.setattr("tacops.backends._cpu.neurons.COMPILE", 0 if loops else 1 << 62)
    step = Silent(backend, 0.5, 1.0, "subtract")
    assert step.recipe is None
    currents = backend.from_numpy(np.ones((T, B, C), np.float32))
    spikes, (membrane,) = backend.scan(step, currents, None, 1)
    assert backend.to_numpy(spikes).sum() == 0
    assert (backend.to_numpy(membrane) == 1.9375).all()
    weight = backend.from_numpy(np.eye(C, dtype=np.float32))
    conv = Convolve(backend, Window((), (), (), 1), weight, None)
    spikes, (membrane,) = backend.schedule(conv, step, currents, None, 1)
    assert backend.to_numpy(spikes).sum() == 0
    assert (backend.to_numpy(membrane) == 1.9375).all()


@pytest.mark.parametrize("loops", [True, False])
@pytest.mark.parametrize("name", ["numpy", "torch", "array_api"])
def test_unknown_resets(need: Any, name: str, loops: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset that nobody knows is an error in every loop, never another reset."""
    backend = need(name)
    monkeypatch.setattr("tacops.backends._cpu.neurons.COMPILE", 0 if loops else 1 << 62)
    currents = backend.from_numpy(np.ones((T, B, C), np.float32))
    with pytest.raises((KeyError, ValueError), match=r"(?i)typo"):
        backend.scan(LIFStep(backend, 0.5, 1.0, "typo"), currents, None, 1)


def test_loops_refuse_codes_they_don_t_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reset added to the table and to no loop is an error in each."""
    step = LIFStep(get_backend("numpy"), 0.5, 1.0, "subtract").recipe
    assert step is not None
    strange = step._replace(reset=7)  # type: ignore[arg-type]
    monkeypatch.setattr(LIFStep, "recipe", property(lambda self: strange))
    for loops in (True, False):
        monkeypatch.setattr("tacops.backends._cpu.neurons.COMPILE", 0 if loops else 1 << 62)
        numpy = get_backend("numpy")
        with pytest.raises(ValueError, match="unknown reset"):
            numpy.scan(LIFStep(numpy, 0.5, 1.0, "subtract"), np.ones((T, B, C), np.float32), None, 1)
    torch = pytest.importorskip("torch", reason="PyTorch's loop is not tried: it is not installed")
    backend = get_backend("torch")
    with pytest.raises(ValueError, match="unknown reset"):
        backend.scan(LIFStep(backend, 0.5, 1.0, "subtract"), torch.ones((T, B, C)), None, 1)


def test_the_kernels_resets_are_the_core_s() -> None:
    """The step of CUDA and Metal names the same resets in the same order."""
    from tacops.backends._step import lif_step

    text = lif_step()
    assert f"enum Reset {{ {', '.join(reset.name for reset in sorted(Reset))} }};" in text
    assert [int(reset) for reset in sorted(Reset)] == list(range(len(Reset)))
