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
    "KERNEL_TRANSFORM",
    "OUTPUT_TRANSFORM",
    "gradient_tile_2_4",
    "gradient_tile_2_6",
    "gradient_tile_4_6",
    "input_tile_4",
    "input_tile_6",
    "kernel_gradient_tile_2_4",
    "kernel_gradient_tile_2_6",
    "kernel_gradient_tile_4_6",
    "kernel_tile_2_4",
    "kernel_tile_2_6",
    "kernel_tile_4_6",
    "output_tile_2_4",
    "output_tile_2_6",
    "output_tile_4_6",
    "pool",
    "pool_window",
    "unpool_window",
]

INPUT_TRANSFORM = {  # B^T of Lavin & Gray (2016), by the pixels that a tile reaches along an axis
    4: ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, -1, 0, 1)),
    6: (
        (4, 0, -5, 0, 1, 0),
        (0, -4, -4, 1, 1, 0),
        (0, 4, -4, -1, 1, 0),
        (0, -2, -1, 2, 1, 0),
        (0, 2, -1, -2, 1, 0),
        (0, 4, 0, -5, 0, 1),
    ),
}
OUTPUT_TRANSFORM = {  # A^T, by the pixels of an output tile and those that it reaches, along an axis
    (2, 4): ((1, 1, 1, 0), (0, 1, -1, 1)),
    (2, 6): ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 1)),
    (4, 6): ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1)),
}
KERNEL_TRANSFORM = {  # G, likewise
    (2, 4): ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)),
    (2, 6): (
        (1 / 4, 0, 0, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6, 1 / 3, 2 / 3),
        (1 / 24, -1 / 12, 1 / 6, -1 / 3, 2 / 3),
        (0, 0, 0, 0, 1),
    ),
    (4, 6): (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
}


def _transform_input(emit: Emitter, table: Sequence[Sequence[float]], values: Sequence[Any]) -> list[Any]:
    """Multiply B^T, A or G by vectors. Inner rows come in pairs that differ in the sign of their odd columns only."""
    first, *inner, last = table
    result = [emit.combine(first, values)]
    for row in inner[::2]:
        even, odd = (emit.combine(row[start::2], values[start::2]) for start in (0, 1))
        result += [emit.builder.fadd(even, odd), emit.builder.fsub(even, odd)]
    return [*result, emit.combine(last, values)]


def _transform_output(emit: Emitter, table: Sequence[Sequence[float]], values: Sequence[Any]) -> list[Any]:
    """Multiply A^T or G^T by vectors. Inner columns come in pairs that differ in the sign of their odd rows only."""
    first, *inner, last = values
    pairs = list(zip(inner[::2], inner[1::2], strict=True))
    halves = [[combine(*pair) for pair in pairs] for combine in (emit.builder.fadd, emit.builder.fsub)]
    return [
        emit.combine((row[0], *row[1:-1:2], row[-1]), (first, *halves[number % 2], last))
        for number, row in enumerate(table)
    ]


def pool(
    emit: Emitter, windows: Sequence[Sequence[Any]], is_mean: Any, activate: Callable[[Any], Any]
) -> tuple[list[Any], list[Any]]:
    """Return the mean of four activated vectors, or the largest, activated, and its number; for each of the windows.

    Activations never fall as their input rises, so the largest may be chosen first.
    """
    b = emit.builder
    means, largest, numbers = [], [], []
    with b.if_else(is_mean) as (mean, maximum):
        with mean:
            for window in windows:
                active = [activate(value) for value in window]
                total = b.fadd(b.fadd(*active[:2]), b.fadd(*active[2:]))
                means.append(b.fmul(emit.constant(0.25), total))
            after_mean = b.block
        with maximum:
            for window in windows:
                value, number = emit.largest(window)
                largest.append(activate(value))
                numbers.append(number)
            after_maximum = b.block
    pooled = []
    for ways, no_number in ((zip(means, largest, strict=True), None), (((None, n) for n in numbers), 0)):
        for one, other in ways:
            phi = b.phi(other.type)
            phi.add_incoming(one if no_number is None else emit.bytes_constant(no_number), after_mean)
            phi.add_incoming(other, after_maximum)
            pooled.append(phi)
    return pooled[: len(windows)], pooled[len(windows) :]


@intrinsic
def pool_window(typing, y, where, y_at, own, x, x_at, row_step, column_step, mode, function, slope):
    """Set a block of y to that of x (mode 0), or to the largest (1) or the mean (2) of 2 x 2 blocks at x, activated.

    ``y[y_at + f]`` from ``x[x_at + u row_step + v column_step + f]``, u and v below 2, f below filter_block and `own`.
    In mode 0 nothing but the first block is read. Where `where`, of bytes, is not None, ``where[y_at + f]`` is set to
    2 u + v of the largest.
    """
    check_arrays("pool_window", y, x)
    i = types.intp

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        emit = Emitter(context, builder, kinds[0])
        x = emit.pointer(kinds[4], *arguments[4:6])
        own, mode = arguments[3], arguments[8]
        is_none, is_mean = (builder.icmp_signed("==", mode, INT64(code)) for code in (0, 2))
        row, column = (builder.select(is_none, INT64(0), step) for step in arguments[6:8])
        windows = [
            [emit.load(emit.at(x, (row, u), (column, v)), vector) for u in range(2) for v in range(2)]
            for vector in range(VECTORS)
        ]
        pooled, numbers = pool(emit, windows, is_mean, emit.activation(*arguments[9:]))
        emit.store_block(pooled, emit.pointer(kinds[0], arguments[0], arguments[2]), own)
        if where is not types.none:
            emit.store_block(numbers, emit.pointer(kinds[1], arguments[1], arguments[2]), own)
        return context.get_dummy_value()

    return types.void(y, where, i, i, x, i, i, i, i, i, y.dtype), generate


@intrinsic
def unpool_window(typing, x, x_at, row_step, column_step, y, dy, where, y_at, slope, channels):
    """Set the 2 x 2 pixels of x that were pooled to y to their gradients, all but the largest to zero.

    ``x[x_at + u row_step + v column_step + k]`` = ``dy[y_at + k]``, times `slope` unless ``y[y_at + k]`` > 0, where
    ``where[y_at + k]`` = 2 u + v, else 0; k below channels, a multiple of the lanes.
    """
    check_arrays("unpool_window", x, y, dy)
    i = types.intp

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature.args[0])
        x = emit.pointer(signature.args[0], *arguments[0:2])
        y, dy, where = (emit.pointer(signature.args[i], arguments[i], arguments[7]) for i in (4, 5, 6))
        slope = emit.broadcast(arguments[8])
        with cgutils.for_range_slice(builder, INT64(0), arguments[9], INT64(emit.lanes), INT64) as (k, _):
            gradient = emit.load(builder.gep(dy, [k]))
            active = builder.fcmp_ordered(">", emit.load(builder.gep(y, [k])), emit.zero)
            gradient = builder.select(active, gradient, builder.fmul(slope, gradient))
            number = emit.load_bytes(builder.gep(where, [k]))
            for place in range(4):
                chosen = builder.icmp_unsigned("==", number, emit.bytes_constant(place))
                pixel = emit.at(builder.gep(x, [k]), (arguments[2], place // 2), (arguments[3], place % 2))
                emit.store(builder.select(chosen, gradient, emit.zero), pixel)
        return context.get_dummy_value()

    return types.void(x, i, i, i, y, dy, where, i, x.dtype, i), generate


def _input_tile(table: Sequence[Sequence[float]]) -> Callable[..., Any]:
    """Make the intrinsic that transforms a square of pixels d to ``T d T^T``, T a table of taps by pixels.

    From ``x[x_at + u row_step + v column_step + at + k]``, or from a patch with the same steps where not from_x, it
    sets ``y[y_at + (u taps + v) y_step + k]``, k below channels, a multiple of the lanes.
    """
    taps, pixels = range(len(table)), range(len(table[0]))

    @intrinsic
    def input_tile(typing, y, y_at, y_step, from_x, x, x_at, patch, row_step, column_step, at, channels):
        """Transform the pixels of a tile, channel by channel."""
        check_arrays("input_tile", y, x, patch)
        i = types.intp

        def generate(context, builder, signature, arguments):
            emit = Emitter(context, builder, signature.args[0])
            y, x = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 4))
            x = builder.select(arguments[3], x, emit.array(signature.args[6], arguments[6]).data)
            y_step = arguments[2]
            row, column, at, channels = arguments[7:]
            x = builder.gep(x, [at])
            step = INT64(emit.lanes)
            with cgutils.for_range_slice(builder, INT64(0), channels, step, INT64) as (channel, _):
                here, there = builder.gep(x, [channel]), builder.gep(y, [channel])
                columns = [
                    _transform_input(emit, table, [emit.load(emit.at(here, (row, u), (column, v))) for u in pixels])
                    for v in pixels
                ]
                for u in taps:
                    line = _transform_input(emit, table, [columns[v][u] for v in pixels])
                    for v in taps:
                        emit.store(line[v], emit.at(there, (y_step, u * len(taps) + v)))
            return context.get_dummy_value()

        return types.void(y, i, i, types.boolean, x, i, patch, i, i, i, i), generate

    return input_tile


def _output_tile(table: Sequence[Sequence[float]]) -> Callable[..., Any]:
    """Make the intrinsic that gives a tile of ``side x side`` values, ``T m T^T + bias``, T a table of side by reach.

    From ``m[m_at + (u reach + v) m_step + f]`` it sets ``y[(i side + j) filter_block + f]``.
    """
    side, taps = len(table), range(len(table[0]))

    @intrinsic
    def output_tile(typing, y, m, m_at, m_step, bias, bias_at):
        """Transform the products of a tile and a block of filters back."""
        check_arrays("output_tile", y, m, bias)
        i = types.intp

        def generate(context, builder, signature, arguments):
            emit = Emitter(context, builder, signature.args[0])
            y = emit.array(signature.args[0], arguments[0]).data
            m, bias = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (1, 4))
            for vector in range(VECTORS):
                columns = [
                    _transform_output(
                        emit, table, [emit.load(emit.at(m, (arguments[3], u * len(taps) + v)), vector) for u in taps]
                    )
                    for v in taps
                ]
                shift = emit.load(bias, vector)
                for u in range(side):
                    line = _transform_output(emit, table, [columns[v][u] for v in taps])
                    for v in range(side):
                        emit.store(builder.fadd(line[v], shift), y, (u * side + v) * VECTORS + vector)
            return context.get_dummy_value()

        return types.void(y, m, i, i, bias, i), generate

    return output_tile


input_tile_4, input_tile_6 = (_input_tile(INPUT_TRANSFORM[reach]) for reach in (4, 6))
kernel_tile_2_4, kernel_tile_2_6, kernel_tile_4_6 = map(_input_tile, KERNEL_TRANSFORM.values())
output_tile_2_4, output_tile_2_6, output_tile_4_6 = map(_output_tile, OUTPUT_TRANSFORM.values())
gradient_tile_2_4, gradient_tile_2_6, gradient_tile_4_6 = (
    _input_tile(tuple(zip(*table, strict=True))) for table in OUTPUT_TRANSFORM.values()
)
kernel_gradient_tile_2_4, kernel_gradient_tile_2_6, kernel_gradient_tile_4_6 = (
    _output_tile(tuple(zip(*table, strict=True))) for table in KERNEL_TRANSFORM.values()
)
