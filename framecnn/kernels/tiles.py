"""Tiles of pixels: the transforms of Winograd, and pooling of 2 x 2.

Positions and steps count elements of contiguous arrays; all that is read or written must lie inside them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from framecnn.kernels.microkernel import VECTORS
from framecnn.kernels.vectors import INT64, Emitter, check_arrays

__all__ = [
    "INPUT_TRANSFORM",
    "OUTPUT_TRANSFORM",
    "input_tile_2",
    "input_tile_4",
    "output_tile_2",
    "output_tile_4",
    "pool_window",
]

INPUT_TRANSFORM = {  # B^T of Lavin & Gray (2016), by rows of the output tile
    2: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
    4: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
OUTPUT_TRANSFORM = {  # A^T
    2: ((1, 1, 1, 0), (0, 1, -1, 1)),
    4: ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}


def _transform_input(emit: Emitter, side: int, values: Sequence[Any]) -> list[Any]:
    """Multiply B^T by vectors. Inner rows come in pairs that differ in the sign of their odd columns only."""
    first, *inner, last = INPUT_TRANSFORM[side]
    result = [emit.combine(first, values)]
    for row in inner[::2]:
        even, odd = (emit.combine(row[start::2], values[start::2]) for start in (0, 1))
        result += [emit.builder.fadd(even, odd), emit.builder.fsub(even, odd)]
    return [*result, emit.combine(last, values)]


def _transform_output(emit: Emitter, side: int, values: Sequence[Any]) -> list[Any]:
    """Multiply A^T by vectors. Inner columns come in pairs that differ in the sign of their odd rows only."""
    first, *inner, last = values
    pairs = list(zip(inner[::2], inner[1::2], strict=True))
    halves = [[combine(*pair) for pair in pairs] for combine in (emit.builder.fadd, emit.builder.fsub)]
    return [
        emit.combine((row[0], *row[1:-1:2], row[-1]), (first, *halves[number % 2], last))
        for number, row in enumerate(OUTPUT_TRANSFORM[side])
    ]


@intrinsic
def pool_window(typing, y, y_at, x, x_at, row_step, column_step, mode):
    """Set a block of y to that of x (mode 0), or to the largest (1) or the mean (2) of the 2 x 2 blocks at x.

    ``y[y_at + f]`` from ``x[x_at + u row_step + v column_step + f]``, u and v below 2, f below filter_block. In mode 0
    nothing but the first block is read.
    """
    check_arrays("pool_window", y, x)
    i = types.intp

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature.args[0])
        y, x = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 2))
        mode = arguments[6]
        is_none = builder.icmp_signed("==", mode, INT64(0))
        row, column = (builder.select(is_none, INT64(0), step) for step in arguments[4:6])
        is_max, is_mean = (builder.icmp_signed("==", mode, INT64(code)) for code in (1, 2))
        for vector in range(VECTORS):
            window = [emit.load(emit.at(x, (row, u), (column, v)), vector) for u in range(2) for v in range(2)]
            total = builder.fadd(builder.fadd(*window[:2]), builder.fadd(*window[2:]))
            mean = builder.fmul(emit.constant(0.25), total)
            pooled = builder.select(is_max, emit.largest(window), builder.select(is_mean, mean, window[0]))
            emit.store(pooled, y, vector)
        return context.get_dummy_value()

    return types.void(y, i, x, i, i, i, i), generate


def _input_tile(side: int) -> Callable[..., Any]:
    """Make the intrinsic that transforms the input of an output tile of ``side x side`` pixels, ``B^T d B``.

    From ``x[x_at + u row_step + v column_step + k]``, u and v below side + 2, or from a patch with the same steps where
    not from_x, it sets ``y[y_at + (u (side + 2) + v) y_step + k]``, k below channels, a multiple of the lanes.
    """
    taps = range(side + 2)

    @intrinsic
    def input_tile(typing, y, y_at, y_step, from_x, x, x_at, patch, row_step, column_step, channels):
        """Transform the pixels of a tile, channel by channel."""
        check_arrays("input_tile", y, x, patch)
        i = types.intp

        def generate(context, builder, signature, arguments):
            emit = Emitter(context, builder, signature.args[0])
            y, x = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 4))
            x = builder.select(arguments[3], x, emit.array(signature.args[6], arguments[6]).data)
            y_step = arguments[2]
            row, column, channels = arguments[7:]
            step = INT64(emit.lanes)
            with cgutils.for_range_slice(builder, INT64(0), channels, step, INT64) as (channel, _):
                here, there = builder.gep(x, [channel]), builder.gep(y, [channel])
                columns = [
                    _transform_input(emit, side, [emit.load(emit.at(here, (row, u), (column, v))) for u in taps])
                    for v in taps
                ]
                for u in taps:
                    line = _transform_input(emit, side, [columns[v][u] for v in taps])
                    for v in taps:
                        emit.store(line[v], emit.at(there, (y_step, u * len(taps) + v)))
            return context.get_dummy_value()

        return types.void(y, i, i, types.boolean, x, i, patch, i, i, i), generate

    return input_tile


def _output_tile(side: int) -> Callable[..., Any]:
    """Make the intrinsic that gives an output tile of ``side x side`` pixels, ``activation(A^T m A + bias)``.

    From ``m[m_at + (u (side + 2) + v) m_step + f]`` it sets ``y[(i side + j) filter_block + f]``.
    """
    taps = range(side + 2)

    @intrinsic
    def output_tile(typing, y, m, m_at, m_step, bias, bias_at, function, slope):
        """Transform the products of a tile and a block of filters back to pixels."""
        check_arrays("output_tile", y, m, bias)
        i = types.intp

        def generate(context, builder, signature, arguments):
            emit = Emitter(context, builder, signature.args[0])
            y = emit.array(signature.args[0], arguments[0]).data
            m, bias = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (1, 4))
            activate = emit.activation(*arguments[6:])
            for vector in range(VECTORS):
                columns = [
                    _transform_output(
                        emit, side, [emit.load(emit.at(m, (arguments[3], u * len(taps) + v)), vector) for u in taps]
                    )
                    for v in taps
                ]
                shift = emit.load(bias, vector)
                for u in range(side):
                    line = _transform_output(emit, side, [columns[v][u] for v in taps])
                    for v in range(side):
                        pixel = activate(builder.fadd(line[v], shift))
                        emit.store(pixel, y, (u * side + v) * VECTORS + vector)
            return context.get_dummy_value()

        return types.void(y, m, i, i, bias, i, i, y.dtype), generate

    return output_tile


input_tile_2, input_tile_4 = _input_tile(2), _input_tile(4)
output_tile_2, output_tile_4 = _output_tile(2), _output_tile(4)
