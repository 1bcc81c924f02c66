"""What the device can do at best, by PyTorch: copies, launches, matrix products."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from typing import Any

__all__ = ["peaks"]

ROUNDS = 7


def peaks(device: str, rehearsal: bool) -> dict[str, Any]:
    """Measure; medians.

    Parameters
    ----------
    device : str
        As PyTorch calls it.
    rehearsal : bool
        With few numbers.
    """
    torch: Any = importlib.import_module("torch")
    numbers, side = (1 << 12, 64) if rehearsal else (1 << 28, 8192)

    def wait() -> None:
        if torch.device(device).type != "cpu":
            torch.accelerator.synchronize(device)

    def seconds(call: Callable[[], Any], calls: int) -> float:
        call()
        times = []
        for _ in range(ROUNDS):
            wait()
            start = time.perf_counter()
            for _ in range(calls):
                call()
            wait()
            times.append((time.perf_counter() - start) / calls)
        return sorted(times)[ROUNDS // 2]

    one = torch.zeros(8, device=device)
    found: dict[str, Any] = {
        "copy_bytes_per_second": 8 * numbers / seconds(_copy(torch, device, numbers), 3),
        "launch_seconds": seconds(lambda: one.add_(1), 100),
    }
    found["product_flops"] = {
        name: 2 * side**3 / seconds(_product(torch, device, side, dtype), 3)
        for name, dtype in (("float32", "float32"), ("float16", "float16"), ("bfloat16", "bfloat16"))
    }
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    try:
        found["product_flops"]["TF32"] = 2 * side**3 / seconds(_product(torch, device, side, "float32"), 3)
    finally:
        matmul.allow_tf32 = before
    return found


def _copy(torch: Any, device: str, numbers: int) -> Callable[[], Any]:
    source = torch.ones(numbers, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def _product(torch: Any, device: str, side: int, dtype: str) -> Callable[[], Any]:
    a = torch.ones(side, side, dtype=getattr(torch, dtype), device=device)
    return lambda: a @ a
