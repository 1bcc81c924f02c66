"""Checks and benchmarks compute where they say: the device they are told, or an accelerator, or a sentence that it isn't there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench.__main__ import main as bench
from bench.machine import description as run_machine
from bench.machine import step as run_step
from bench.shared import devices
from bench.speed import command as speed
from bench.speed.peers import PEERS, PLAIN
from bench.speed.result import SpeedResult, SpeedRow
from bench.timing.cases import EXACT, TINY, describe_case
from bench.timing.subject import Tacops
from bench.timing.times import Times
from tacops import __main__ as command
from tacops.backends import Backend, get_backend
from tacops.testing import Check, run_checks, where


def test_arrays_go_to_the_device_that_is_named(backend: Backend) -> None:
    """To each that the backend has; the values come back."""
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    for device in backend.devices():
        placed = backend.on(device)
        there = placed.from_numpy(array)
        assert backend.owns(there)
        assert placed.device == device
        assert placed.device_name(there)
        np.testing.assert_array_equal(backend.to_numpy(there), array)
    backend.on(backend.devices()[0])  # MLX's is the process's
    assert backend.device is None


def test_the_first_device_is_the_default(backend: Backend) -> None:
    """Commands that are told nothing compute on the device that `describe` names."""
    placed = backend.on(None)
    assert placed.device == backend.devices()[0]
    assert where(placed)["device"] == backend.describe()["device"]


def test_a_device_that_is_not_there_is_a_sentence(backend: Backend) -> None:
    with pytest.raises(ValueError, match=rf"^backend '{backend.name}': device must be .*; got 'abacus:7'$"):
        backend.on("abacus:7")


def test_the_part_before_the_colon_is_enough(need: Callable[[str], Backend]) -> None:
    """The first of its kind."""
    assert need("jax").on("cpu").device == "cpu:0"


def test_a_backend_without_devices_takes_none() -> None:
    """An adapter whose `from_numpy` takes the array alone works as ever."""

    class Plain(type(get_backend("numpy"))):  # type: ignore[misc]
        def from_numpy(self, array: Any) -> Any:
            return array.copy()

        def devices(self) -> tuple[str, ...]:
            return ()

    plain = Plain()
    assert plain.on(None) is plain
    with pytest.raises(ValueError, match=r"device must be left out, because this backend names no devices; got 'cpu'"):
        plain.on("cpu")


def test_torch_puts_arrays_where_it_is_told(need: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch) -> None:
    """An accelerator comes first where there is one: here the meta device stands for it."""
    torch = pytest.importorskip("torch")
    backend = need("torch")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    assert backend.devices() == ("meta:0", "meta:1", "cpu")
    assert backend.describe()["device"] == "meta:0"
    placed = backend.on(None)
    assert placed.from_numpy(np.ones(3)).device.type == "meta"
    assert where(placed)["device"].startswith("meta")
    assert where(backend.on("cpu"))["device"].startswith("cpu")


def test_checks_get_arrays_of_the_device(need: Callable[[str], Backend]) -> None:
    """Every check makes its arrays by the backend it is handed."""
    backend = need("array_api").on("device1")
    found = []

    def look(given: Backend) -> None:
        from tacops.testing._host import native

        found.append(given.device_name(native(given, np.ones(2))))

    [outcome] = run_checks(backend, [Check("behaviour-look", 4, look)])
    assert outcome.status == "passed"
    assert found == ["device1"]


# the commands


def test_check_prints_the_device_of_its_arrays(
    need: Callable[[str], Backend], capsys: pytest.CaptureFixture[str]
) -> None:
    """Read from an array, whatever the backend says of itself."""
    need("array_api")
    command.main(["check", "array_api", "--device", "device2", "--tier", "3"])
    assert "array_api: version array-api-strict" in (out := capsys.readouterr().out)
    assert ", device device2, precision" in out


def test_check_does_not_fall_back(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["check", "numpy", "--device", "cuda"]) == 1
    assert capsys.readouterr().out == "numpy: FAILED: backend 'numpy': device must be cpu; got 'cuda'\n"


@pytest.mark.parametrize("words", [["run", "-o", "x.json"], ["speed"], ["digests"], []])
@pytest.mark.parametrize("named", [["--backend", "numpy"], []])
def test_benchmarks_do_not_fall_back(
    words: list[str], named: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench([*words, *named, "--device", "abacus"]) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "device must be" in said
    assert "got 'abacus'" in said
    assert not list(tmp_path.iterdir())


def test_backends_without_the_device_are_left_out_by_name(need: Callable[[str], Backend]) -> None:
    need("array_api")
    placed, missing = devices.place(None, "device1")
    assert list(placed) == ["array_api"]
    assert missing["numpy"] == "backend 'numpy': device must be cpu; got 'device1'"
    with pytest.raises(ValueError, match="'numpy'"):
        devices.place(["array_api", "numpy"], "device1")


def test_digests_are_of_arrays_on_the_device(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backend that puts them elsewhere is found out by the line that is printed."""
    numpy = get_backend("numpy")
    monkeypatch.setattr(type(numpy), "device_name", lambda self, array: "an abacus")
    assert bench(["digests", "--backend", "numpy"]) == 0
    assert capsys.readouterr().out == "numpy, an abacus: 26 of 26 cases equal\n"


def test_a_part_of_a_run_on_another_device_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker looks at its own arrays."""
    monkeypatch.setitem(run_step.RUN, "digests", lambda backend, quick: {"cases": {}})
    assert run_step.step("digests", get_backend("numpy"), True, "cpu")["status"] == "done"
    failed = run_step.step("digests", get_backend("numpy"), True, "NVIDIA H200")
    assert failed["status"] == "failed"
    assert "arrays are on cpu, though the run is said to be on NVIDIA H200" in failed["reason"]


def test_a_subject_on_another_device_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = Tacops("numpy", "cpu")
    [variant] = subject.variants(TINY, EXACT)
    assert variant.spikes is not None
    variant.spikes(variant.call())
    monkeypatch.setattr(subject, "where", lambda: "NVIDIA H200")
    with pytest.raises(RuntimeError, match="spikes are on cpu, though this is said to run on NVIDIA H200"):
        variant.spikes(variant.call())


@pytest.mark.parametrize("name", ["jax", "torch", "mlx"])
def test_plain_code_runs_where_tacops_does(need: Callable[[str], Backend], name: str) -> None:
    need(name)
    entries, _ = speed.choose([name], peers=False)
    ours, plain = entries[:2]
    assert plain.name == f"plain {name}"
    assert plain.device == ours.device != ""
    assert plain.make().where() == ours.make().where().partition(" ")[0]


def test_every_other_library_has_a_backend_that_knows_its_devices() -> None:
    for entry in (*PLAIN.values(), *PEERS.values()):
        assert entry.library == ("" if entry.name == "plain numpy" else entry.factory.split(":")[0].split(".")[-1][:-1])


def test_plain_torch_runs_on_the_device(need: Callable[[str], Backend]) -> None:
    """Its tensors, and what it makes on the way: the meta device stands for a GPU."""
    need("torch")
    torch = pytest.importorskip("torch")
    from bench.speed.peers.torch_ import PlainTorch

    try:
        subject = PlainTorch("meta")
        assert subject.where() == "meta"
        variants = subject.variants(TINY, EXACT)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.accelerator, "synchronize", lambda device: None)
            assert all(variant.call().device.type == "meta" for variant in variants)
    finally:
        torch.set_default_device(None)


def test_no_fraction_of_a_processors_ceiling_on_a_gpu() -> None:
    """Ceilings are measured on the processor."""
    result = SpeedResult({}, {}, cases={TINY.name: describe_case(TINY)})
    rows = [SpeedRow(TINY.name, name, "tacops", "exact", "eager", Times.of([[1.0]])) for name in ("here", "there")]
    result.rows = rows
    result.ceilings = [
        SpeedRow(TINY.name, "ceilings", "ceiling", "exact", "", Times.of([[0.5]])),
        SpeedRow(TINY.name, "ceilings", "ceiling", "copy", "", Times.of([[0.5]])),
    ]
    result.subjects = {"here": {"device": "cpu (2 threads)"}, "there": {"device": "NVIDIA H200 (cuda:0)"}}
    assert result.ceiling(rows[0]) is not None
    assert result.ceiling(rows[1]) is None


def test_a_machine_is_named_after_its_accelerators() -> None:
    said = {"torch": {"device": "NVIDIA H200 (cuda:0)"}, "jax": {"device": "cpu:0"}}
    assert run_machine.describe_machine(said)["devices"] == ["NVIDIA H200 (cuda:0)"]
