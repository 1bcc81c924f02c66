"""What Numba's own loops can't do: sums of rows of a matrix that stay in vector registers, and sixteen comparisons at once.

LLVM splits a vector that is wider than the machine's, so one text serves every processor. Nothing checks an index; all
arrays are contiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["LANES", "add_coded_rows", "add_rows", "add_scaled_rows", "first_bit", "live_bits"]

LANES = 16
"""Numbers of one vector."""
INDEX, SHORT, BITS = ir.IntType(64), ir.IntType(32), ir.IntType(LANES)


class _Way(NamedTuple):
    """How rows are chosen."""

    coded: bool = False
    scaled: bool = False


def _adder(way: _Way) -> Callable[..., None]:
    """Make an intrinsic of Numba; the number of columns, 4 or a multiple of 16, is a literal.

    ::

        place, stride, size, run, tap, channels, places = walk
        for p in range(places):
            total = initial[p * step + column : p * step + column + columns]
            low, high = max(0, place), min(size, place + run)
            for line, shift in lines[:count] if low < high else ():
                for e in range(starts[line + low], starts[line + high]):
                    total += (values[e] *) rows[sites[e] + shift + (tap - place) * channels, column : column + columns]
            out[p * stride_of_rows + column : ...] = total
            place += stride

    Coded, a line chooses one row: ``rows[sites[line + p] + shift, ...]``. A `step` of 0 is one `initial` for all places.
    """

    def add(
        context: Any,
        rows: Any,
        column: Any,
        starts: Any,
        sites: Any,
        values: Any,
        lines: Any,
        count: Any,
        walk: Any,
        initial: Any,
        step: Any,
        out: Any,
        columns: Any,
    ) -> Any:
        if not isinstance(columns, types.IntegerLiteral):
            return None
        n = types.intp
        kinds = rows, n, starts, sites, values, lines, n, types.UniTuple(n, 7), initial, n, out, columns
        return types.void(*kinds), partial(_sum_rows, columns.literal_value, way)

    adder: Callable[..., None] = intrinsic(add)
    return adder


def _sum_rows(columns: int, way: _Way, context: Any, builder: Any, signature: Any, given: Any) -> Any:
    def array(n: int) -> Any:
        return cgutils.create_struct_proxy(signature.args[n])(context, builder, given[n])

    def item(pointer: Any, index: Any) -> Any:
        return builder.load(builder.gep(pointer, [index]))

    def extreme(sign: str, a: Any, b: Any) -> Any:
        return builder.select(builder.icmp_signed(sign, a, b), a, b)

    rows, (starts, sites, values, lines, initial, out) = array(0), (array(n).data for n in (2, 3, 4, 5, 8, 10))
    column, count, step = given[1], given[6], given[9]
    begin, stride, size, run, tap, channels, places = cgutils.unpack_tuple(builder, given[7])
    width = cgutils.unpack_tuple(builder, rows.shape)[1]
    table = builder.gep(rows.data, [column])
    number, lanes = rows.data.type.pointee, min(LANES, columns)
    vector, align = ir.VectorType(number, lanes), context.get_abi_sizeof(number)
    # variables of the stack, which LLVM turns into registers
    totals = [cgutils.alloca_once(builder, vector) for _ in range(0, columns, lanes)]

    def vectors(pointer: Any) -> list[tuple[Any, Any]]:
        parts = [builder.gep(pointer, [INDEX(n)]) for n in range(0, columns, lanes)]
        return list(zip(totals, [builder.bitcast(part, vector.as_pointer()) for part in parts], strict=True))

    def add(row: Any, value: Any) -> None:
        for total, place in vectors(builder.gep(table, [builder.mul(row, width)])):
            term = builder.load(place, align=align)
            if value is not None:
                term = builder.fmul(_spread(builder, value, vector), term)
            builder.store(builder.fadd(builder.load(total), term), total)

    with cgutils.for_range(builder, places) as walk:
        p = walk.index
        for total, place in vectors(builder.gep(initial, [builder.add(builder.mul(p, step), column)])):
            builder.store(builder.load(place, align=align), total)
        here = builder.add(begin, builder.mul(p, stride))
        low, high = extreme(">", INDEX(0), here), extreme("<", size, builder.add(here, run))
        offset = builder.mul(builder.sub(tap, here), channels)
        reached = count if way.coded else builder.select(builder.icmp_signed("<", low, high), count, INDEX(0))
        with cgutils.for_range(builder, reached) as line:
            pair = builder.mul(line.index, INDEX(2))
            start, shift = item(lines, pair), item(lines, builder.add(pair, INDEX(1)))
            if way.coded:
                add(builder.add(builder.sext(item(sites, builder.add(start, p)), INDEX), shift), None)
            else:
                first, last = (builder.sext(item(starts, builder.add(start, end)), INDEX) for end in (low, high))
                shift = builder.add(shift, offset)
                with cgutils.for_range(builder, last, start=first) as event:
                    site = builder.sext(item(sites, event.index), INDEX)
                    add(builder.add(site, shift), item(values, event.index) if way.scaled else None)
        for total, place in vectors(builder.gep(out, [builder.add(builder.mul(p, width), column)])):
            builder.store(builder.load(total), place, align=align)
    return context.get_dummy_value()


def _spread(builder: Any, value: Any, vector: Any) -> Any:
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, value, SHORT(0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(SHORT, vector.count), [0] * vector.count))


add_rows = _adder(_Way())
"""Of every event, once."""
add_scaled_rows = _adder(_Way(scaled=True))
"""Of every event, times its value; the product is rounded before it is added."""
add_coded_rows = _adder(_Way(coded=True))
"""One for each line."""


def _live_bits(context: Any, numbers: Any, at: Any) -> Any:
    """Which of the `LANES` numbers from `at` on are not 0, as bits."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        data = cgutils.create_struct_proxy(signature.args[0])(context, builder, given[0]).data
        number = data.type.pointee
        vector = ir.VectorType(number, LANES)
        pointer = builder.bitcast(builder.gep(data, [given[1]]), vector.as_pointer())
        some = builder.load(pointer, align=context.get_abi_sizeof(number))
        zeros = ir.Constant(vector, None)
        whole = isinstance(number, ir.IntType)
        live = builder.icmp_unsigned("!=", some, zeros) if whole else builder.fcmp_unordered("!=", some, zeros)
        return builder.zext(builder.bitcast(live, BITS), INDEX)

    return types.int64(numbers, types.intp), generate


live_bits: Callable[..., int] = intrinsic(_live_bits)


def _first_bit(context: Any, bits: Any) -> Any:
    """The number of the lowest bit that is set, of an int64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return builder.cttz(given[0], ir.IntType(1)(1))

    return types.int64(types.int64), generate


first_bit: Callable[..., int] = intrinsic(_first_bit)
