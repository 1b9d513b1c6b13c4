"""Blocks of pixels and filters of a direct convolution: activation and pooling follow the products in registers."""

from collections.abc import Callable
from typing import Any

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import (
    Bytes,
    Integer,
    Optional,
    Pointer,
    Runs,
    Scalar,
    Values,
    intrinsic,
)
from framecnn.kernels.codegen.microkernel import NARROW, PIXELS, VECTORS, add_products
from framecnn.kernels.codegen.pooling import add_residual, pool
from framecnn.kernels.codegen.vectors import INT64, Emitter
from framecnn.kernels.epilogue import AVERAGE_POOLING

__all__ = [
    "NARROW",
    "POOLED",
    "convolved_block",
    "convolved_pixel",
    "narrow_block",
    "narrow_pixel",
    "pooled_block",
    "respond_block",
]

POOLED = PIXELS // 4  # pooled pixels computed at a time


def _convolving(side: int, count: int, vectors: int) -> Callable[..., Any]:
    """Return the intrinsic that computes `count` adjacent outputs: pixels (side 1), or pooled side x side squares.

    It adds up products as ``multiply_block`` does for the first `vectors` vectors of filters, begins with the bias,
    adds the residual, applies the activation, pools by `mode` and sets ``y[y_at + p y_step + f]`` for
    p < min(count, n_pixels), f < min(vectors * lanes, n_valid). The residual, if any, has the layout of y; `argmax`, if
    not None, receives the indices of the maxima at the same positions. Pixels of x are `across` and `down` apart.
    """
    squares = [[(side * p + v, u) for u in range(side) for v in range(side)] for p in range(count)]

    @intrinsic
    def convolve(
        emit: Emitter, y: Values, argmax: Bytes, residual: Optional, y_at: Integer, y_step: Integer,
        n_pixels: Integer, n_valid: Integer, x: Pointer, across: Integer, down: Integer, runs: Runs,
        run_length: Integer, kernel: Pointer, bias: Pointer, function: Integer, negative_slope: Scalar, mode: Integer,
    ) -> None:  # fmt: skip
        """Convolve pixels."""
        b = emit.builder
        start = [emit.load(bias, v) for _ in range(count * side * side) for v in range(vectors)]
        pixels = [[(across, j), (down, u)] for square in squares for j, u in square]
        sums = add_products(emit, start, x, pixels, INT64(1), runs, run_length, kernel)
        exists = [b.icmp_signed(">", n_pixels, INT64(p)) for p in range(count)]
        positions = [b.add(y_at, b.mul(y_step, INT64(p))) for p in range(count)]
        if side == 1:
            sources = [b.select(one, at, y_at) for one, at in zip(exists, positions, strict=True)]
            sums = add_residual(emit, sums, residual, sources, n_valid)
            sums = emit.activated(sums, function, negative_slope)
        activate = emit.piecewise(function, negative_slope)
        is_mean = b.icmp_signed("==", mode, INT64(AVERAGE_POOLING))
        size = side * side * vectors
        for p, (one, at) in enumerate(zip(exists, positions, strict=True)):
            values, indices = sums[p * size : (p + 1) * size], list[Any]()
            if side > 1:
                values, indices = pool(emit, [values[v::vectors] for v in range(vectors)], is_mean, activate)
            with b.if_then(one):
                emit.store_block(values, b.gep(y, [at]), n_valid)
                if indices and argmax is not None:
                    emit.store_block(indices, b.gep(argmax, [at]), n_valid)

    return convolve


convolved_block, pooled_block = _convolving(1, PIXELS, VECTORS), _convolving(2, POOLED, VECTORS)
convolved_pixel = _convolving(1, 1, VECTORS)
narrow_block, narrow_pixel = _convolving(1, PIXELS, NARROW), _convolving(1, 1, NARROW)


@intrinsic
def respond_block(
    emit: Emitter, sums: Pointer, level_step: Integer, x: Pointer, x_step: Integer, runs: Runs, run_length: Integer,
    kernel: Pointer, scale: Pointer, shifts: Pointer, levels: Integer,
) -> None:  # fmt: skip
    """Add to sums the responses of neighbouring windows of a filter bank, window by window.

    Response p < PIXELS is ``max(0, product * scale[scale_at + p] + shift)``, products as ``multiply_block`` adds them
    up from zero. Sums and shifts of level t < `levels` are at offset ``t * level_step``.
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
