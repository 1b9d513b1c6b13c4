"""A block of pixels and filters of a direct convolution: what follows the products happens in registers."""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from framecnn.kernels.microkernel import PIXELS, VECTORS, add_products, runs_of
from framecnn.kernels.tiles import pool
from framecnn.kernels.vectors import INT64, Emitter, check_arrays

__all__ = ["POOLED", "convolved_block", "pooled_block", "respond_block"]

POOLED = PIXELS // 4  # pixels that are pooled 2 x 2 at a time


def _convolve(side: int, count: int) -> Callable[..., Any]:
    """Make the intrinsic that convolves `count` neighbouring pixels, or squares of side x side that are pooled.

    It adds up products as ``multiply_block`` does, begins with the bias, applies the activation, pools (mode 1: the
    largest, 2: the mean) and sets ``y[y_at + p y_step + f]``, p below `count` and present, f below filter_block and
    own; likewise `where`, of bytes, unless it is None, to 2 u + v of the largest. Pixels of x are `across` and `down`
    apart.
    """
    squares = [[(side * p + v, u) for u in range(side) for v in range(side)] for p in range(count)]

    @intrinsic
    def convolve(
        typing, y, where, y_at, y_step, present, own, x, x_at, across, down, runs, run_length,
        kernel, kernel_at, bias, bias_at, function, slope, mode,
    ):  # fmt: skip
        """Convolve pixels."""
        check_arrays("convolve", y, x, kernel, bias)
        i = types.intp

        def generate(context, b, signature, arguments):
            kinds = signature.args
            emit = Emitter(context, b, kinds[0])
            x, kernel, bias = (emit.pointer(kinds[i], *arguments[i : i + 2]) for i in (6, 12, 14))
            y_at, y_step, present, own = arguments[2:6]
            start = [emit.load(bias, v) for _ in range(count * side * side) for v in range(VECTORS)]
            pixels = [[(arguments[8], j), (arguments[9], u)] for square in squares for j, u in square]
            runs = runs_of(emit, kinds[10], arguments[10])
            sums = add_products(emit, start, x, pixels, INT64(1), runs, arguments[11], kernel)
            activate = emit.activation(arguments[16], arguments[17])
            is_mean = b.icmp_signed("==", arguments[18], INT64(2))
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
                    emit.store_block(values, emit.pointer(kinds[0], arguments[0], at), own)
                    if numbers and where is not types.none:
                        emit.store_block(numbers, emit.pointer(kinds[1], arguments[1], at), own)
            return context.get_dummy_value()

        arguments = (y, where, i, i, i, i, x, i, i, i, runs, i, kernel, i, bias, i, i, y.dtype, i)
        return types.void(*arguments), generate

    return convolve


convolved_block, pooled_block = _convolve(1, PIXELS), _convolve(2, POOLED)


@intrinsic
def respond_block(
    typing,
    sums,
    sums_at,
    level_step,
    x,
    x_at,
    x_step,
    runs,
    run_length,
    kernel,
    kernel_at,
    scale,
    scale_at,
    shifts,
    shifts_at,
    levels,
):
    """Add to sums the responses of neighbouring windows of a filter bank, window by window.

    A response is ``max(0, product * scale[scale_at + p] + shift)``, products as ``multiply_block`` adds them up from
    zero, p below PIXELS; sums and shifts of level t, below `levels`, lie ``t level_step`` after the first.
    """
    check_arrays("respond_block", sums, x, kernel, scale, shifts)
    i = types.intp

    def generate(context, b, signature, arguments):
        kinds = signature.args
        emit = Emitter(context, b, kinds[0])
        x, kernel, scale = (emit.pointer(kinds[i], *arguments[i : i + 2]) for i in (3, 8, 10))
        pixels = [[(arguments[5], p)] for p in range(PIXELS)]
        runs = runs_of(emit, kinds[6], arguments[6])
        products = add_products(emit, [emit.zero] * (PIXELS * VECTORS), x, pixels, INT64(1), runs, arguments[7], kernel)
        with cgutils.for_range(b, arguments[14]) as loop:
            step = b.mul(arguments[2], loop.index)
            total, shift = (b.gep(emit.pointer(kinds[i], *arguments[i : i + 2]), [step]) for i in (0, 12))
            for v in range(VECTORS):
                value, offset = emit.load(total, v), emit.load(shift, v)
                for p in range(PIXELS):
                    factor = emit.broadcast(b.load(emit.at(scale, (INT64(1), p))))
                    response = emit.fma(products[p * VECTORS + v], factor, offset)
                    silent = b.fcmp_ordered("<", response, emit.zero)
                    value = b.fadd(value, b.select(silent, emit.zero, response))
                emit.store(value, total, v)
        return context.get_dummy_value()

    return types.void(sums, i, i, x, i, i, runs, i, kernel, i, scale, i, shifts, i, i), generate
