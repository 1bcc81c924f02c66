"""What NVIDIA's compiler made of the kernels, run by this CPU: PTX, instruction by instruction, as C++ with labels and goto.

It knows the instructions that these kernels compile to, with PTX's rounding and its flush of subnormals to zero, and raises
`NotImplementedError` on any other.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.cuda.host import HostKernel, HostModule

__all__ = ["PTXKernel", "PTXModule", "translate"]

PRELUDE = r"""
#include <cfloat>
#include <cstring>
template <int size> struct Bytes { unsigned char at[size]; };
template <class T> [[maybe_unused]] static T load(const void* from) { T v; std::memcpy(&v, from, sizeof v); return v; }
template <class T> [[maybe_unused]] static void store(uint64_t to, T v) { std::memcpy((void*)to, &v, sizeof v); }
struct Register {
    uint64_t bits = 0;
    template <class T> T as() const { return load<T>(&bits); }
    template <class T> void set(T v) { bits = 0; std::memcpy(&bits, &v, sizeof v); }
};
[[maybe_unused]] static double flush(double x) { return x; }
[[maybe_unused]] static float flush(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.f, x) : x; }
[[maybe_unused]] static uint32_t permuted(uint64_t low, uint64_t high, uint32_t choice)
{
    uint32_t result = 0;
    for (int n = 0; n < 4; ++n, choice >>= 4) {
        const unsigned char byte = (unsigned char)((high << 32 | low) >> (choice & 7) * 8);
        result |= uint32_t(choice & 8 ? (byte & 0x80 ? 0xff : 0) : byte) << n * 8;
    }
    return result;
}
[[maybe_unused]] static uint32_t inserted(uint32_t bits, uint32_t into, uint32_t place, uint32_t count)
{
    const uint32_t mask = uint32_t(((uint64_t(1) << count) - 1) << place);
    return (into & ~mask) | (bits << place & mask);
}
"""
TYPES = {
    "pred": "bool",
    "f32": "float",
    "f64": "double",
    **{
        f"{kind}{bits}": f"{sign}int{bits}_t"
        for kind, sign in (("s", ""), ("u", "u"), ("b", "u"))
        for bits in (8, 16, 32, 64)
    },
}
SPECIAL = {
    f"%{register}.{axis}": f"{name}.{axis}"
    for register, name in (("tid", "threadIdx"), ("ctaid", "blockIdx"), ("ntid", "blockDim"), ("nctaid", "gridDim"))
    for axis in "xyz"
}
INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "rem": "%", "and": "&", "or": "|", "xor": "^"}
COMPARE = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "lo": "<", "hs": ">="}
UNORDERED = {"equ": "!=", "neu": "==", "ltu": ">=", "leu": ">", "gtu": "<=", "geu": "<"}
"""True of NaN, too: the opposite of the opposite."""
WIDE = {"s32": "int64_t", "u32": "uint64_t"}


def translate(ptx: str) -> str:
    """C++ for ``host.cpp``."""
    ptx = re.sub(r"//.*", "", ptx)
    pieces, outside = [PRELUDE], re.findall(r"^\.extern \.shared \.align \d+ \.b8 (\w+)\[\];", ptx, re.MULTILINE)
    for name, parameters, body in re.findall(r"\.visible \.entry (\w+)\(([^)]*)\)[^{]*\{\n(.*?)\n\}", ptx, re.DOTALL):
        given = []
        for parameter in parameters.split(","):
            array = re.search(r"(\w+)\[(\d+)\]\s*$", parameter)
            size = int(array[2]) if array else int(re.findall(r"\.[busf](\d+)", parameter)[0]) // 8
            given.append(f"Bytes<{size}> {array[1] if array else parameter.split()[-1]}")
        pieces.append(f'extern "C" __global__ void {name}({", ".join(given)})\n{{\n')
        pieces += [f"Register {kind}_[{n}];\n" for kind, n in re.findall(r"\.reg \.\w+\s+%(\w+)<(\d+)>;", body)]
        if ".shared .align" in body or len(outside) > 1:
            raise NotImplementedError("shared memory that is not one array of dynamic size")
        code = re.sub(r"^\s*\.(reg|pragma)\b.*$", "", body, flags=re.MULTILINE)
        for label, instruction in re.findall(r"(?:^\s*(\$\w+):)|([^;\s$][^;]*);", code, re.MULTILINE):
            pieces.append(f"{label[1:]}:;\n" if label else _Instruction(instruction, outside).text() + "\n")
        pieces.append("}\n")
    return "".join(pieces)


def _comparison(name: str, a: str, b: str) -> str:
    return f"!({a} {UNORDERED[name]} {b})" if name in UNORDERED else f"({a} {COMPARE[name]} {b})"


class _Instruction:
    """One instruction: an optional predicate, an operation with dots, operands."""

    def __init__(self, text: str, symbols: Sequence[str]) -> None:
        match = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([\w.]+)\s*(.*)", " ".join(text.split()))
        if match is None:
            raise NotImplementedError(text)
        negated, predicate, operation, operands = match.groups()
        self.name: str
        self.dots: list[str]
        self.whole, self.symbols = text, symbols
        self.guard = f"if ({negated}{self._register(predicate)}.as<bool>()) " if predicate else ""
        self.name, *self.dots = operation.split(".")
        self.type = self.dots[-1] if self.dots else ""
        self.operands = [part.strip() for part in re.split(r",(?![^{]*\})", operands)] if operands else []

    def text(self) -> str:
        """C++ for it."""
        return f"{self.guard}{self._statement()}"

    def _statement(self) -> str:
        match self.name:
            case "ret":
                return "return;"
            case "bra":
                return f"goto {self.operands[0][1:]};"
            case "bar":
                return "__syncthreads();"
            case "ld" | "st":
                return self._memory()
            case "cvt":
                return self._convert()
            case "setp":
                a, b = self._value(1), self._value(2)
                return self._set(_comparison(self.dots[0], a, b), "bool")
            case "selp":
                return self._set(f"({self._value(3, 'pred')} ? {self._value(1)} : {self._value(2)})")
            case "mov" if "{" in self.whole:
                return self._packed()
            case "mov" | "cvta":
                return self._set(self._value(1))
            case "prmt" | "bfi" if self.dots == ["b32"]:
                values = ", ".join(self._value(n) for n in range(1, len(self.operands)))
                return self._set(f"{'permuted' if self.name == 'prmt' else 'inserted'}({values})")
            case "neg":
                return self._set(f"-{self._value(1)}")
            case "not":
                return self._set(f"{'!' if self.type == 'pred' else '~'}{self._value(1)}")
            case "min" | "max":
                a, b = self._value(1), self._value(2)
                return self._set(f"({a} {'<' if self.name == 'min' else '>'} {b} ? {a} : {b})")
            case "shl" | "shr":
                moved = f"{self._value(1)} {'<<' if self.name == 'shl' else '>>'} ({self._value(2, 'u32')} & {int(self.type[1:]) - 1})"
                return self._set(f"({moved})")
            case "fma":
                return self._set(f"std::fma({self._value(1)}, {self._value(2)}, {self._value(3)})")
        return self._arithmetic()

    def _arithmetic(self) -> str:
        wide = "wide" in self.dots
        # sums and products of integers wrap: the bits are those of unsigned ones
        kind = (
            self.type if wide or self.type[0] == "f" or self.name in ("div", "rem") else self.type.replace("s", "u", 1)
        )
        values = [self._value(n, kind) for n in range(1, len(self.operands))]
        if wide:
            values[:2] = [f"({WIDE[self.type]}){value}" for value in values[:2]]
        if self.name == "mad" and not wide and "lo" in self.dots:
            return self._set(f"({values[0]} * {values[1]} + {values[2]})")
        known = {"rn", "ftz", "lo", "wide", self.type}
        if self.name not in INFIX or not set(self.dots) <= known or len(values) != 2:
            raise NotImplementedError(self.whole)
        return self._set(f"({values[0]} {INFIX[self.name]} {values[1]})", WIDE[self.type] if wide else TYPES[self.type])

    def _packed(self) -> str:
        """A register's parts, the lowest first, from or to registers of their own."""
        to, source = self.operands
        whole, parts = (to, source) if "{" in source else (source, to)
        names = [name.strip() for name in parts.strip("{}").split(",")]
        bits = int(self.type[1:]) // len(names)
        kind, width = TYPES[f"b{bits}"], TYPES[self.type]
        if whole is to:
            value = " | ".join(f"({width}){self._read(name, f'b{bits}')} << {n * bits}" for n, name in enumerate(names))
            return f"{self._register(to)}.set<{width}>({value});"
        value = self._read(whole, self.type)
        steps = (
            f"{self._register(name)}.set<{kind}>(({kind})({value} >> {n * bits}));"
            for n, name in enumerate(names)
            if name != "_"
        )
        return f"{{ {' '.join(steps)} }}"

    def _memory(self) -> str:
        space = self.dots[0]
        if space not in ("param", "global", "shared"):
            raise NotImplementedError(self.whole)
        place, registers = self.operands if self.name == "st" else reversed(self.operands)
        match = re.fullmatch(r"\[(%?\w+)(?:\+(-?\d+))?\]", place)
        if match is None:
            raise NotImplementedError(self.whole)
        base, offset = match[1], int(match[2] or 0)
        where = f"(uint64_t){base}.at" if base[0] != "%" else self._register(base) + ".as<uint64_t>()"
        where = f"{where} + (uint64_t)({offset}ll)" + (" + (uint64_t)host::shared" if space == "shared" else "")
        kind, size = TYPES[self.type], int(self.type[1:]) // 8
        steps = []
        for n, name in enumerate(registers.strip("{}").split(",")):
            name, address = name.strip(), f"{where} + {n * size}"
            steps.append(
                f"store<{kind}>({address}, {self._read(name, self.type)});"
                if self.name == "st"
                else f"{self._register(name)}.set(load<{kind}>((const void*)({address})));"
            )
        return f"{{ {' '.join(steps)} }}"

    def _convert(self) -> str:
        to, source = self.dots[-2:]
        if set(self.dots[:-2]) - {"rn", "rni", "ftz"} or (to[0] != "f" and source[0] == "f"):
            raise NotImplementedError(self.whole)
        value = self._value(1, source)
        return self._set(f"std::rint({value})" if "rni" in self.dots else value, TYPES[to])

    def _set(self, value: str, kind: str | None = None) -> str:
        kind = kind or TYPES[self.type]
        value = f"flush({value})" if "ftz" in self.dots and kind == "float" else value
        return f"{self._register(self.operands[0])}.set<{kind}>({value});"

    def _value(self, n: int, kind: str | None = None) -> str:
        """Operand n, read as some type."""
        return self._read(self.operands[n], kind or self.type)

    def _read(self, operand: str, kind: str) -> str:
        if re.fullmatch(r"\w+_param_\d+", operand):  # its address
            return f"(uint64_t){operand}.at"
        if operand in SPECIAL:
            return f"({TYPES[kind]}){SPECIAL[operand]}"
        if operand in self.symbols:
            return f"({TYPES[kind]})0"  # the only array in shared memory
        if re.fullmatch(r"-?\d+|0x[0-9A-Fa-f]+U?", operand):
            # the smallest number has no literal of its own
            number = "INT64_MIN" if operand == "-9223372036854775808" else f"{operand.rstrip('U')}ll"
            return f"({TYPES[kind]}){number}"
        if match := re.fullmatch(r"0([fd])([0-9A-Fa-f]+)", operand):
            bits = f"Register{{0x{match[2]}ull}}"
            return f"{bits}.as<{TYPES[kind]}>()"
        value = f"{self._register(operand)}.as<{TYPES[kind]}>()"
        return f"flush({value})" if "ftz" in self.dots and kind == "f32" else value

    def _register(self, name: str) -> str:
        match = re.fullmatch(r"%([a-z]+)(\d+)", name)
        if match is None:
            raise NotImplementedError(f"{name} in {self.whole}")
        return f"{match[1]}_[{match[2]}]"


class PTXModule(HostModule):
    """Kernels of one PTX text."""

    def __init__(self, ptx: str) -> None:
        super().__init__(code=translate(ptx), options=("-Wno-unused-label", "-Wno-unused-but-set-parameter", "-O0"))

    def get_function(self, name: str) -> HostKernel:
        """A kernel by its name."""
        return PTXKernel(self.library, name)


class PTXKernel(HostKernel):
    """A kernel that has lost its parameters' types and kept their sizes."""

    def _cell(self, n: int, value: Any, kind: str) -> Any:
        size = int(kind[1:])
        if value is None or (isinstance(value, np.ndarray) and value.dtype.names is None):
            assert size == 8
            return ctypes.c_void_p(0 if value is None else value.ctypes.data)
        assert value.nbytes == size, f"{self.name}: argument {n} has {value.nbytes} bytes, not {size}"
        return ctypes.create_string_buffer(value.tobytes())
