"""What follows the sums of a convolution in registers: residual, activation, pooling of 2 x 2 pixels, its gradient.

Positions and steps count elements of contiguous arrays; all reads and writes must lie inside the arrays.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Bytes, Integer, Optional, Pointer, Scalar, Values, intrinsic
from framecnn.kernels.codegen.microkernel import VECTORS
from framecnn.kernels.codegen.vectors import INT64, Emitter
from framecnn.kernels.epilogue import AVERAGE_POOLING, NO_POOLING

__all__ = ["add_residual", "maximum_window", "pool", "pool_window", "unpool_window"]


def pool(
    emit: Emitter, windows: Sequence[Sequence[Any]], is_mean: Any, activate: Callable[[Any], Any]
) -> tuple[list[Any], list[Any]]:
    """Return each window's mean of activated vectors or activated maximum, and the maximum's index.

    The activations are non-decreasing, so the maximum may be taken before it is activated.
    """
    b = emit.builder
    means, maxima, indices = [], [], []
    with b.if_else(is_mean) as (mean, maximum):
        with mean:
            for window in windows:
                active = [activate(value) for value in window]
                total = b.fadd(b.fadd(*active[:2]), b.fadd(*active[2:]))
                means.append(b.fmul(emit.constant(0.25), total))
            after_mean = b.block
        with maximum:
            for window in windows:
                value, index = emit.maximum(window)
                maxima.append(activate(value))
                indices.append(index)
            after_maximum = b.block
    pooled = []
    no_indices = [emit.bytes_constant(0)] * len(windows)
    for of_mean, of_maximum in (*zip(means, maxima, strict=True), *zip(no_indices, indices, strict=True)):
        phi = b.phi(of_maximum.type)
        phi.add_incoming(of_mean, after_mean)
        phi.add_incoming(of_maximum, after_maximum)
        pooled.append(phi)
    return pooled[: len(windows)], pooled[len(windows) :]


def add_residual(emit: Emitter, values: Sequence[Any], residual: Any, positions: Sequence[Any], n_valid: Any) -> Any:
    """Return vectors, pixel by pixel, plus those of the residual at the pixels' positions, if there is a residual."""
    b = emit.builder
    pointer, is_present = residual
    before, vectors = b.block, len(values) // len(positions)
    with b.if_then(is_present):
        added = [value for at in positions for value in emit.load_block(b.gep(pointer, [at]), vectors, n_valid)]
        sums = [b.fadd(value, other) for value, other in zip(values, added, strict=True)]
        after = b.block
    return emit.merge((values, before), (sums, after))


@intrinsic
def pool_window(
    emit: Emitter, y: Values, argmax: Bytes, residual: Optional, y_at: Integer, n_valid: Integer, x: Pointer,
    row_step: Integer, column_step: Integer, mode: Integer, function: Integer, negative_slope: Scalar,
) -> None:  # fmt: skip
    """Write a block of y: the block at x plus the residual, activated, or the 2 x 2 blocks at x activated and pooled.

    ``y[y_at + f]`` from ``x[x_at + u row_step + v column_step + f]``, for u, v < 2, f < min(filter_block, n_valid).
    Without pooling, only the first block is read; with it, there is no residual, and `argmax`, if not None, receives
    the indices of the maxima.
    """
    b = emit.builder
    is_none, is_mean = (b.icmp_signed("==", mode, INT64(code)) for code in (NO_POOLING, AVERAGE_POOLING))
    with b.if_else(is_none) as (alone, pooling):
        with alone:
            values = [emit.load(x, vector) for vector in range(VECTORS)]
            values = add_residual(emit, values, residual, [y_at], n_valid)
            emit.store_block(emit.activated(values, function, negative_slope), b.gep(y, [y_at]), n_valid)
        with pooling:
            windows = [
                [emit.load(emit.at(x, (row_step, u), (column_step, v)), vector) for u in range(2) for v in range(2)]
                for vector in range(VECTORS)
            ]
            pooled, indices = pool(emit, windows, is_mean, emit.piecewise(function, negative_slope))
            emit.store_block(pooled, b.gep(y, [y_at]), n_valid)
            if argmax is not None:
                emit.store_block(indices, b.gep(argmax, [y_at]), n_valid)


@intrinsic
def maximum_window(
    emit: Emitter, y: Pointer, x: Pointer, rows: Integer, columns: Integer, row_step: Integer, column_step: Integer,
    channels: Integer,
) -> None:  # fmt: skip
    """Set ``y[y_at + k]`` to the maximum of ``x[x_at + u row_step + v column_step + k]``, for k < channels.

    Over u < rows and v < columns, row by row; the last NaN wins.
    """
    b = emit.builder
    best = cgutils.alloca_once(b, emit.vector)

    def reduce(k: Any, load: Callable[[Any], Any], store: Callable[[Any, Any], None]) -> None:
        first = b.gep(x, [k])
        b.store(load(first), best)
        with cgutils.for_range(b, rows) as u, cgutils.for_range(b, columns) as v:
            value, so_far = (
                load(emit.at(first, (b.mul(row_step, u.index), 1), (b.mul(column_step, v.index), 1))),
                b.load(best),
            )
            wins = b.or_(b.fcmp_ordered(">", value, so_far), b.fcmp_unordered("uno", value, value))
            b.store(b.select(wins, value, so_far), best)
        store(b.load(best), b.gep(y, [k]))

    rest = b.srem(channels, INT64(emit.lanes))
    whole = b.sub(channels, rest)
    with cgutils.for_range_slice(b, INT64(0), whole, INT64(emit.lanes), INT64) as (k, _):
        reduce(k, emit.load, emit.store)
    with b.if_then(b.icmp_signed(">", rest, INT64(0))):
        reduce(
            whole,
            lambda pointer: emit.load_block(pointer, 1, rest)[0],
            lambda value, pointer: emit.store_block([value], pointer, rest),
        )


@intrinsic
def unpool_window(
    emit: Emitter, x: Pointer, row_step: Integer, column_step: Integer, y: Values, dy: Values, argmax: Bytes,
    y_at: Integer, negative_slope: Scalar, channels: Integer,
) -> None:  # fmt: skip
    """Set the 2 x 2 pixels of x that were pooled to y to their gradients: zero for all but the maximum.

    If ``argmax[y_at + k]`` is 2 u + v, ``x[x_at + u row_step + v column_step + k]`` becomes ``dy[y_at + k]``, times
    `negative_slope` unless ``y[y_at + k]`` > 0, else 0, for k < channels, a multiple of the lanes.
    """
    b = emit.builder
    y, dy, argmax = (b.gep(array, [y_at]) for array in (y, dy, argmax))
    slopes = emit.broadcast(negative_slope)
    with cgutils.for_range_slice(b, INT64(0), channels, INT64(emit.lanes), INT64) as (k, _):
        gradient = emit.load(b.gep(dy, [k]))
        active = b.fcmp_ordered(">", emit.load(b.gep(y, [k])), emit.zero)
        gradient = b.select(active, gradient, b.fmul(slopes, gradient))
        indices = emit.load_bytes(b.gep(argmax, [k]))
        for index in range(4):
            is_maximum = b.icmp_unsigned("==", indices, emit.bytes_constant(index))
            pixel = emit.at(b.gep(x, [k]), (row_step, index // 2), (column_step, index % 2))
            emit.store(b.select(is_maximum, gradient, emit.zero), pixel)
