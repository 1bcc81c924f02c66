"""What a layer launches on the device, and how long its kernels take, by PyTorch's profiler.

The profiler sees every kernel of a process, whichever library launched it: it listens to the driver.
"""

from __future__ import annotations

import gc
import importlib
import time
from collections.abc import Callable
from typing import Any

from bench.gpu.layers import work
from bench.timing.subject import Entry, UnsupportedError, Variant

__all__ = ["check_device", "launches"]

COPIES = ("Memcpy", "Memset")


def launches(entry: Entry, rehearsal: bool) -> dict[str, Any]:
    """Count, for every layer and mode that a library has.

    Parameters
    ----------
    entry : Entry
        The library.
    rehearsal : bool
        On a CPU PyTorch's operations are counted instead, and nothing of other libraries.
    """
    subject = entry.make()
    device = subject.where()
    check_device(entry.name, device, rehearsal)
    rows, failed = [], {}
    for case, mode in work(rehearsal=rehearsal):
        try:
            row = _row(subject.variants(case, mode), rehearsal)
        except UnsupportedError:
            continue
        except Exception as error:  # noqa: BLE001 (a layer that fails is a finding, and others go on)
            failed[f"{case.name}, {mode.name}"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            continue
        least = {"least_bytes": case.traffic(mode), "operations": case.performed(mode)}
        rows.append({"case": case.name, "mode": mode.name, "device": device, **row, **least})
        gc.collect()
    return {"rows": rows, "failed": failed}


def check_device(name: str, device: str, rehearsal: bool) -> None:
    """Raise if a library's arrays are on a CPU in a run on a GPU, or the other way round."""
    if device.startswith("cpu") != rehearsal:
        raise RuntimeError(
            f"{name}: its arrays are on {device}, in a {'rehearsal on a CPU' if rehearsal else 'run on a GPU'}"
        )


def _row(variants: list[Variant], rehearsal: bool) -> dict[str, Any]:
    """Of the fastest variant."""
    for variant in variants:
        variant.call()  # compiles
    best = min(variants, key=_seconds)
    for _ in range(0 if rehearsal else 10):
        best.call()
    return {"variant": best.name, **_counted(best.call, rehearsal), "peak_bytes": _peak(best.call, rehearsal)}


def _seconds(variant: Variant) -> float:
    start = time.perf_counter()
    variant.call()
    return time.perf_counter() - start


def _counted(call: Callable[[], Any], rehearsal: bool) -> dict[str, Any]:
    """Kernels, copies and their time; nothing where no profiler is."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return {"counted": "nothing, because PyTorch is not installed"}
    profiler = torch.profiler
    if rehearsal:
        with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as seen:
            call()
        events = [event for event in seen.events() if event.cpu_parent is None]
        return {"counted": "PyTorch's operations on a CPU", "launches": len(events)}
    if not torch.cuda.is_available():
        return {"counted": "nothing, because PyTorch is built without CUDA"}
    with profiler.profile(activities=[profiler.ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    on_device = [event for event in seen.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    kernels = [event for event in on_device if not event.name.startswith(COPIES)]
    return {
        "counted": "kernels on the device",
        "launches": len(kernels),
        "copies": len(on_device) - len(kernels),
        "device_seconds": sum(event.device_time_total for event in on_device) / 1e6,
    }


def _peak(call: Callable[[], Any], rehearsal: bool) -> int | None:
    """Bytes that PyTorch allocates beside what was there; None for other libraries' arrays."""
    torch = None if rehearsal else importlib.import_module("sys").modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = call()
    found = torch.cuda.max_memory_allocated() - before
    del out
    return int(found) or None
