"""Triton's kernels run by this CPU: the package's own text, in Triton's interpreter, on PyTorch's CPU tensors.

The interpreter calls the kernel as Python and every operation of Triton's as NumPy's, program by program.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np

from tests.support import ROOT

__all__ = ["MISSING", "interpreted"]

FOLDER = ROOT / "backends" / "_triton"
PACKAGE = "tacops.backends._triton"
OLDEST = (3, 9)


def _missing() -> str | None:
    if importlib.util.find_spec("torch") is None:
        return "the Triton kernels are NOT TRIED: PyTorch is not installed"
    if importlib.util.find_spec("triton") is None:
        return "the Triton kernels are NOT TRIED: Triton is not installed (pip install triton, on Linux)"
    version = metadata.version("triton")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        return (
            f"the Triton kernels are NOT TRIED: the interpreter of Triton {version} breaks with this NumPy; 3.9 works"
        )
    return None


MISSING = _missing()
"""Why nothing can be interpreted, or None."""


def _modules(folder: Path, replaced: tuple[str, str, str] | None) -> dict[str, Any]:
    """The kernels' modules anew, as the interpreter has them, one of them with a text replaced."""
    found: dict[str, Any] = {}
    with patch.dict(sys.modules):
        for name in ("layout", "forwards", "backwards", "launching", "convolving", "layers"):
            text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
            if replaced and replaced[0] == name:
                assert replaced[1] in text, f"no {replaced[1]!r} in {name}.py: bring the mutant up to date"
                text = text.replace(*replaced[1:])
            path = folder / f"{name}.py"
            path.write_text(text, encoding="utf-8")  # the interpreter reads functions from their file
            spec = importlib.util.spec_from_file_location(f"{PACKAGE}.{name}", path)
            assert spec is not None
            assert spec.loader is not None
            found[name] = sys.modules[f"{PACKAGE}.{name}"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(found[name])
    return found


def _rounding(cast: Any) -> Any:
    """The interpreter cuts bfloat16 off; compiled kernels round it, as PyTorch does."""
    import torch
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    def rounded(self: Any, source: Any, to: Any) -> Any:
        if source.dtype.scalar != tl.float32 or to.scalar != tl.bfloat16:
            return cast(self, source, to)
        tensor = torch.from_numpy(np.ascontiguousarray(source.data)).bfloat16()
        return TensorHandle(tensor.view(torch.uint16).numpy().reshape(source.data.shape), tl.bfloat16)

    return rounded


def _multiplying(dot: Any) -> Any:
    """The interpreter would multiply the integers that it keeps bfloat16 in."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    def widened(x: Any) -> Any:
        if x.dtype.scalar != tl.bfloat16:
            return x
        return TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    def multiplied(self: Any, a: Any, b: Any, *more: Any) -> Any:
        return dot(self, widened(a), widened(b), *more)

    return multiplied


def _weighed(builder: Any, launches: Any) -> dict[str, Any]:
    """Loads and stores that count the bytes of what their masks let through."""

    def counting(name: str, mask_at: int) -> Any:
        access = getattr(builder, name)

        def counted(self: Any, pointers: Any, *more: Any) -> Any:
            size = pointers.get_element_ty().primitive_bitwidth // 8
            launches.bytes += size * int(np.count_nonzero(np.broadcast_to(more[mask_at].data, pointers.data.shape)))
            return access(self, pointers, *more)

        return counted

    return {
        "create_masked_load": counting("create_masked_load", 0),
        "create_masked_store": counting("create_masked_store", 1),
    }


@contextmanager
def interpreted(
    replaced: tuple[str, str, str] | None = None, block: int = 128, tile: tuple[int, int] = (64, 32)
) -> Iterator[Any]:
    """Let CPU tensors take the kernels' way; yields the launches of each kernel, by name, and the bytes that they move.

    A program has `block` neurons, and of a whole layer those of a `tile` of positions and filters.
    """
    import triton
    from triton.runtime.interpreter import InterpreterBuilder

    from tacops.backends._torch import kernels, operation

    launches = SimpleNamespace(lif=0, lif_back=0, conv_lif=0, bytes=0)
    with tempfile.TemporaryDirectory() as folder, triton.knobs.runtime.scope():
        triton.knobs.runtime.interpret = True
        modules = _modules(Path(folder), replaced)
        launching, layers = modules["launching"], modules["layers"]

        def counted(name: str, module: Any = launching) -> Any:
            kernel = getattr(module, name)

            class Counted:
                def __getitem__(self, grid: Any) -> Any:
                    setattr(launches, name, getattr(launches, name) + 1)
                    return kernel[grid]

            return Counted()

        with (
            patch.object(operation, "engine_for", lambda device: kernels),
            patch.object(kernels, "missing", lambda device: None),
            patch.object(kernels, "missing_layers", lambda device: None),
            patch.object(kernels, "missing_parts", lambda device: None),
            patch.object(kernels, "_launching", lambda: launching),
            patch.object(kernels, "_layers", lambda: layers),
            patch.object(kernels, "results", modules["layout"].results),
            patch.multiple(launching, BLOCK=block, lif=counted("lif"), lif_back=counted("lif_back")),
            patch.multiple(layers, BLOCK=tile, conv_lif=counted("conv_lif", layers)),
            patch.object(InterpreterBuilder, "create_fp_trunc", _rounding(InterpreterBuilder.cast_impl)),
            patch.object(InterpreterBuilder, "create_dot", _multiplying(InterpreterBuilder.create_dot)),
            patch.multiple(InterpreterBuilder, **_weighed(InterpreterBuilder, launches)),
            np.errstate(all="ignore"),
        ):
            yield launches
