"""Pooling of 2 x 2 pixels in registers, and its gradient.

Positions and steps count elements of contiguous arrays; all that is read or written must lie inside them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Bytes, Integer, Pointer, Scalar, Values, intrinsic
from framecnn.kernels.codegen.microkernel import VECTORS
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["pool", "pool_window", "unpool_window"]


def pool(
    emit: Emitter, windows: Sequence[Sequence[Any]], is_mean: Any, activate: Callable[[Any], Any]
) -> tuple[list[Any], list[Any]]:
    """Return for each window the mean of its four activated vectors, or the largest, activated, and its number.

    The activations are non-decreasing, so the largest may be chosen before it is activated.
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
    no_numbers = [emit.bytes_constant(0)] * len(windows)
    for of_mean, of_maximum in (*zip(means, largest, strict=True), *zip(no_numbers, numbers, strict=True)):
        phi = b.phi(of_maximum.type)
        phi.add_incoming(of_mean, after_mean)
        phi.add_incoming(of_maximum, after_maximum)
        pooled.append(phi)
    return pooled[: len(windows)], pooled[len(windows) :]


@intrinsic
def pool_window(
    emit: Emitter, y: Values, where: Bytes, y_at: Integer, own: Integer, x: Pointer, row_step: Integer,
    column_step: Integer, mode: Integer, function: Integer, slope: Scalar,
) -> None:  # fmt: skip
    """Set a block of y to that of x (mode 0), or to the largest (1) or the mean (2) of 2 x 2 blocks at x, activated.

    ``y[y_at + f]`` from ``x[x_at + u row_step + v column_step + f]``, u and v below 2, f below filter_block and `own`.
    In mode 0 only the first block is read. Unless `where` is None, ``where[y_at + f]`` becomes 2 u + v of the largest.
    """
    b = emit.builder
    is_none, is_mean = (b.icmp_signed("==", mode, INT64(code)) for code in (0, 2))
    row, column = (b.select(is_none, INT64(0), step) for step in (row_step, column_step))
    windows = [
        [emit.load(emit.at(x, (row, u), (column, v)), vector) for u in range(2) for v in range(2)]
        for vector in range(VECTORS)
    ]
    pooled, numbers = pool(emit, windows, is_mean, emit.activation(function, slope))
    emit.store_block(pooled, b.gep(y, [y_at]), own)
    if where is not None:
        emit.store_block(numbers, b.gep(where, [y_at]), own)


@intrinsic
def unpool_window(
    emit: Emitter, x: Pointer, row_step: Integer, column_step: Integer, y: Values, dy: Values, where: Bytes,
    y_at: Integer, slope: Scalar, channels: Integer,
) -> None:  # fmt: skip
    """Set the 2 x 2 pixels of x that were pooled to y to their gradients: zero for all but the largest.

    Where ``where[y_at + k]`` = 2 u + v, ``x[x_at + u row_step + v column_step + k]`` becomes ``dy[y_at + k]``, times
    `slope` unless ``y[y_at + k]`` > 0; elsewhere 0. k is below channels, a multiple of the lanes.
    """
    b = emit.builder
    y, dy, where = (b.gep(array, [y_at]) for array in (y, dy, where))
    slopes = emit.broadcast(slope)
    with cgutils.for_range_slice(b, INT64(0), channels, INT64(emit.lanes), INT64) as (k, _):
        gradient = emit.load(b.gep(dy, [k]))
        active = b.fcmp_ordered(">", emit.load(b.gep(y, [k])), emit.zero)
        gradient = b.select(active, gradient, b.fmul(slopes, gradient))
        number = emit.load_bytes(b.gep(where, [k]))
        for place in range(4):
            chosen = b.icmp_unsigned("==", number, emit.bytes_constant(place))
            pixel = emit.at(b.gep(x, [k]), (row_step, place // 2), (column_step, place % 2))
            emit.store(b.select(chosen, gradient, emit.zero), pixel)
