"""Blocks of pixels and filters of a direct convolution: activation and pooling follow the products in registers."""

from collections.abc import Callable
from typing import Any

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Bytes, Integer, Pointer, Runs, Scalar, Values, intrinsic
from framecnn.kernels.codegen.microkernel import PIXELS, VECTORS, add_products
from framecnn.kernels.codegen.pooling import pool
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["POOLED", "convolved_block", "pooled_block", "respond_block"]

POOLED = PIXELS // 4  # pixels that are pooled 2 x 2 at a time


def _convolving(side: int, count: int) -> Callable[..., Any]:
    """Return the intrinsic that convolves `count` neighbouring pixels, or squares of side x side that are pooled.

    It adds up products as ``multiply_block`` does, begins with the bias, applies the activation, pools (mode 1: the
    largest, 2: the mean) and sets ``y[y_at + p y_step + f]``, p below `count` and present, f below filter_block and
    own. Unless `where` is None, its bytes at the same positions become 2 u + v of the largest. Pixels of x are
    `across` and `down` apart.
    """
    squares = [[(side * p + v, u) for u in range(side) for v in range(side)] for p in range(count)]

    @intrinsic
    def convolve(
        emit: Emitter, y: Values, where: Bytes, y_at: Integer, y_step: Integer, present: Integer, own: Integer,
        x: Pointer, across: Integer, down: Integer, runs: Runs, run_length: Integer, kernel: Pointer, bias: Pointer,
        function: Integer, slope: Scalar, mode: Integer,
    ) -> None:  # fmt: skip
        """Convolve pixels."""
        b = emit.builder
        start = [emit.load(bias, v) for _ in range(count * side * side) for v in range(VECTORS)]
        pixels = [[(across, j), (down, u)] for square in squares for j, u in square]
        sums = add_products(emit, start, x, pixels, INT64(1), runs, run_length, kernel)
        activate = emit.activation(function, slope)
        is_mean = b.icmp_signed("==", mode, INT64(2))
        size = side * side * VECTORS
        for p in range(count):
            square = sums[p * size : (p + 1) * size]
            windows = [square[v::VECTORS] for v in range(VECTORS)]
            if side > 1:
                values, numbers = pool(emit, windows, is_mean, activate)
            else:
                values, numbers = [activate(value) for value in square], []
            at = b.add(y_at, b.mul(y_step, INT64(p)))
            with b.if_then(b.icmp_signed(">", present, INT64(p))):
                emit.store_block(values, b.gep(y, [at]), own)
                if numbers and where is not None:
                    emit.store_block(numbers, b.gep(where, [at]), own)

    return convolve


convolved_block, pooled_block = _convolving(1, PIXELS), _convolving(2, POOLED)


@intrinsic
def respond_block(
    emit: Emitter, sums: Pointer, level_step: Integer, x: Pointer, x_step: Integer, runs: Runs, run_length: Integer,
    kernel: Pointer, scale: Pointer, shifts: Pointer, levels: Integer,
) -> None:  # fmt: skip
    """Add to sums the responses of neighbouring windows of a filter bank, window by window.

    A response is ``max(0, product * scale[scale_at + p] + shift)``, products as ``multiply_block`` adds them up from
    zero, p below PIXELS; sums and shifts of level t, below `levels`, lie ``t level_step`` after the first.
    """
    b = emit.builder
    pixels = [[(x_step, p)] for p in range(PIXELS)]
    products = add_products(emit, [emit.zero] * (PIXELS * VECTORS), x, pixels, INT64(1), runs, run_length, kernel)
    with cgutils.for_range(b, levels) as loop:
        step = b.mul(level_step, loop.index)
        total, shift = b.gep(sums, [step]), b.gep(shifts, [step])
        for v in range(VECTORS):
            value, offset = emit.load(total, v), emit.load(shift, v)
            for p in range(PIXELS):
                factor = emit.broadcast(b.load(emit.at(scale, (INT64(1), p))))
                response = emit.fma(products[p * VECTORS + v], factor, offset)
                is_below = b.fcmp_ordered("<", response, emit.zero)
                value = b.fadd(value, b.select(is_below, emit.zero, response))
            emit.store(value, total, v)
