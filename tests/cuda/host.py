"""Raw CUDA modules whose kernels run on the CPU: what `cupy.RawModule` is, compiled by g++ from the same text.

Stricter than CUDA, which takes any argument for any parameter: dtypes, sizes and contiguity are compared with the
compiled kernel's own parameters.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["COMPILER", "MISSING", "SANITIZE", "HostKernel", "HostModule", "launching"]

COMPILER = os.environ.get("CXX", "g++")
MISSING = (
    f"kernels are not run on the CPU: that takes Linux and a C++ compiler, and {COMPILER} is not here"
    if shutil.which(COMPILER) is None or sys.platform != "linux"
    else None
)
"""Why nothing can be compiled, or None."""
SANITIZE = ("-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = ("-std=c++20", "-O1", "-ffp-contract=off", "-fPIC", "-shared", "-pthread")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
SHIM = Path(__file__).with_name("host.cpp")
SHARED = r"extern __shared__ __align__\(16\) (\w+) (\w+)\[\];"
"""How kernels ask for memory whose size their launch gives."""
MOST_SHARED = 48 * 1024
"""Bytes that every GPU gives a block without being asked."""
KERNEL = r'extern "C" __global__ void (\w+)'
LAUNCHER = """
extern "C" void signature_{name}(char* to) {{ host::signature({name}, to); }}
extern "C" void launch_{name}(const unsigned* shape, long long first, long long last, int backwards, void** given)
{{ host::launch({name}, shape, first, last, backwards, {meets}, given); }}
"""
_one_launch = threading.Lock()  # a library has one grid, one set of shared memory and one barrier
_launch: dict[str, Any] = {"backwards": False, "blocks": None}


@contextmanager
def launching(*, backwards: bool = False, blocks: slice | None = None) -> Iterator[None]:
    """Run blocks and threads in reverse order, or only some of the blocks."""
    before = dict(_launch)
    _launch.update(backwards=backwards, blocks=blocks)
    try:
        yield
    finally:
        _launch.update(before)


class HostModule:
    """Kernels of one text, compiled with some options."""

    def __init__(self, *, code: str, options: Sequence[str] = ()) -> None:
        code = re.sub(SHARED, r"\1* const \2 = static_cast<\1*>(host::shared);", code)
        if "__shared__" in code:
            raise ValueError(f"shared memory is asked for as in {SHARED!r}")
        kernels = re.split(KERNEL, code)
        text = f"{SHIM.read_text()}\n{code}" + "".join(
            LAUNCHER.format(name=name, meets=int("__syncthreads" in body))
            for name, body in zip(kernels[1::2], kernels[2::2], strict=True)
        )
        self.library = ctypes.CDLL(str(_compiled(text, options)))

    def get_function(self, name: str) -> HostKernel:
        """A kernel by its name."""
        return HostKernel(self.library, name)


class HostKernel:
    """One kernel; called as CuPy's: grid, block, arguments."""

    def __init__(self, library: ctypes.CDLL, name: str) -> None:
        self.name, self.launch = name, getattr(library, f"launch_{name}")
        words = ctypes.create_string_buffer(4096)
        getattr(library, f"signature_{name}")(words)
        self.signature = words.value.decode().split()

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0
    ) -> None:
        """Run all threads of all blocks (or as `launching` says)."""
        if len(args) != len(self.signature):
            raise TypeError(f"{self.name} takes {len(self.signature)} arguments, not {len(args)}")
        cells = [self._cell(n, *pair) for n, pair in enumerate(zip(args, self.signature, strict=True))]
        shape = (*grid, 1, 1)[:3]
        if (
            len(block) != 1
            or not 1 <= block[0] <= 1024
            or min(shape) < 1
            or max(shape[1:]) > 65535
            or shape[0] >= 2**31
            or not 0 <= shared_mem <= MOST_SHARED
        ):
            raise ValueError(f"{self.name}: no GPU launches grid {grid}, block {block}, shared memory {shared_mem}")
        first, last, _ = (_launch["blocks"] or slice(None)).indices(shape[0] * shape[1] * shape[2])
        sizes = (ctypes.c_uint * 5)(*shape, block[0], shared_mem)
        pointers = (ctypes.c_void_p * len(cells))(*map(ctypes.addressof, cells))
        with _one_launch:
            self.launch(sizes, ctypes.c_longlong(first), ctypes.c_longlong(last), int(_launch["backwards"]), pointers)

    def _cell(self, n: int, value: Any, kind: str) -> Any:
        """Memory that holds one argument."""
        problem = f"{self.name}: argument {n} is for {kind!r}"
        if kind[0] in "*+":
            if value is None:
                return ctypes.c_void_p(0)
            # unsigned bytes are how kernels read bool, and bits how they write float16
            letters = ("?", "B") if kind == "*B" else ("e",) if kind == "+H" else (kind[1],)
            if not isinstance(value, np.ndarray) or _letter(value.dtype) not in letters:
                raise TypeError(f"{problem}, not {getattr(value, 'dtype', value)!r}")
            if not value.flags.c_contiguous:
                raise TypeError(f"{problem}, and not contiguous")
            return ctypes.c_void_p(value.ctypes.data)
        if kind[0] == "V":
            # CuPy passes arrays of one element by value
            if not isinstance(value, np.ndarray) or value.shape != (1,) or value.nbytes != int(kind[1:]):
                raise TypeError(f"{problem}, not {value!r}")
        elif not isinstance(value, np.generic) or _letter(value.dtype) != kind:
            raise TypeError(f"{problem}, not {type(value).__name__}")
        return ctypes.create_string_buffer(value.tobytes())


def _letter(dtype: np.dtype[Any]) -> str:
    return {"l": "q", "L": "Q"}.get(dtype.char, dtype.char)


def _compiled(text: str, options: Sequence[str]) -> Path:
    """The shared library of a text, compiled once per machine and user."""
    extra = SANITIZE if os.environ.get("TACOPS_SANITIZE") else ()
    flags = [*FLAGS, *WARNINGS, *extra, *options]
    key = hashlib.sha256("\0".join([COMPILER, *flags, text]).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"tacops-kernels-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to someone else")
    library = folder / f"{key}.so"
    if not library.exists():
        # written whole or not at all: other processes may want the same
        new = folder / f"{key}.{os.getpid()}"
        new.with_suffix(f".{os.getpid()}.cpp").write_text(text)
        command = [COMPILER, *flags, str(new.with_suffix(f".{os.getpid()}.cpp")), "-o", str(new)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        new.with_suffix(f".{os.getpid()}.cpp").unlink()
        if done.returncode:
            raise RuntimeError(f"the kernels don't compile for this CPU:\n{done.stderr}")
        new.replace(library)
    return library
