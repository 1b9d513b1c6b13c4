"""The register-blocked inner product.

A block of pixels times a block of filters stays in registers while the products run: each kernel vector that is
loaded serves all pixels, each pixel value that is broadcast serves all filters. Numba's autovectoriser does not find
this form, hence the explicit instructions.

Positions and steps count elements of contiguous arrays; all that is read or written must lie inside them.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from framecnn.kernels.jit import REGISTER_BLOCK, kernel
from framecnn.kernels.threads import run
from framecnn.kernels.vectors import INT64, Emitter, check_arrays, copy, lanes
from framecnn.typing import Array

__all__ = [
    "FEW",
    "PIXELS",
    "VECTORS",
    "accumulate_block",
    "accumulate_few",
    "activated_block",
    "activated_pixel",
    "add_blocks",
    "add_products",
    "filter_block",
    "multiply_block",
    "pack_filters",
    "runs_of",
]

PIXELS, VECTORS = REGISTER_BLOCK
Steps = Sequence[tuple[Any, int]]
"""A step and how many times it is taken, of each kind."""

FEW = 5  # pixels of a smaller block: 9 values, a row of a window over three colours, are two of these


def filter_block(dtype: Any) -> int:
    """Return how many filters of `dtype` the register block holds.

    Examples
    --------
    >>> filter_block(np.float32) == 2 * filter_block(np.float64)
    True
    """
    return VECTORS * lanes(dtype)


def pack_filters(kernel: Array) -> Array:
    """Reorder a kernel so that the filters of a register block lie side by side, the last block filled with zeros.

    Parameters
    ----------
    kernel : (products, filters) array

    Returns
    -------
    (blocks, products, filter_block) array
    """
    products, filters = kernel.shape
    block = filter_block(kernel.dtype)
    packed = np.zeros((-(-filters // block), products, block), kernel.dtype)
    run(pack_filters_forward, products, filters, packed, np.ascontiguousarray(kernel))
    return packed


@kernel
def pack_filters_forward(packed, kernel, start, stop):
    """packed (blocks, products, block), zeros on entry, from kernel (products, filters); items are products."""
    blocks, products, block = packed.shape
    filters = kernel.shape[1]
    flat, values = packed.reshape(-1), kernel.reshape(-1)
    for item in range(start, stop):
        for b in range(blocks):
            own = min(block, filters - b * block)
            copy(flat, (b * products + item) * block, values, item * filters + b * block, own)


def add_products(
    emit: Emitter,
    start: Sequence[Any],
    x: Any,
    pixels: Sequence[Steps],
    element_step: Any,
    runs: tuple[Any, Any],
    run_length: Any,
    kernel: Any,
) -> list[Any]:
    """Two nested loops, runs and the elements of a run, with the accumulators as phi nodes of both.

    `start` are the sums to begin with, pixel by pixel; `pixels` are the steps to each from the first, and
    `element_step` leads along a run; `runs` are a pointer and a number.
    """
    b = emit.builder
    offsets, n_runs = runs
    entry = b.block
    run_head, element, run_end, done = (b.append_basic_block(n) for n in ("run", "element", "run_end", "done"))
    b.branch(run_head)

    b.position_at_end(run_head)
    run, run_kernel = b.phi(INT64), b.phi(kernel.type)
    run_sums = [b.phi(emit.vector) for _ in start]
    offset = b.load(b.gep(offsets, [run]))
    b.branch(element)

    b.position_at_end(element)
    t, here = b.phi(INT64), b.phi(kernel.type)
    sums = [b.phi(emit.vector) for _ in start]
    weights = [emit.load(here, v) for v in range(VECTORS)]
    pixel = b.gep(x, [b.add(offset, b.mul(t, element_step))])
    values = [emit.broadcast(b.load(emit.at(pixel, *steps))) for steps in pixels]
    factors = [(value, weight) for value in values for weight in weights]
    new_sums = [emit.fma(*factor, total) for factor, total in zip(factors, sums, strict=True)]
    next_t, next_here = b.add(t, INT64(1)), b.gep(here, [INT64(VECTORS * emit.lanes)])
    b.cbranch(b.icmp_signed("<", next_t, run_length), element, run_end)

    b.position_at_end(run_end)
    next_run = b.add(run, INT64(1))
    b.cbranch(b.icmp_signed("<", next_run, n_runs), run_head, done)

    for phi, first, following in (
        (run, INT64(0), next_run),
        (run_kernel, kernel, next_here),
        *zip(run_sums, start, new_sums, strict=True),
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(following, run_end)
    for phi, first, following in (
        (t, INT64(0), next_t),
        (here, run_kernel, next_here),
        *zip(sums, run_sums, new_sums, strict=True),
    ):
        phi.add_incoming(first, run_head)
        phi.add_incoming(following, element)

    b.position_at_end(done)
    return new_sums


def _signature(name: str, y: Any, x: Any, runs: Any, kernel: Any, bias: Any, *after: Any) -> Any:
    check_arrays(name, y, x, kernel, bias)
    if runs.dtype != types.int64:
        raise TypingError(f"{name}: expected int64 runs, got {runs}")
    i = types.intp
    return types.void(y, i, i, x, i, i, runs, i, kernel, i, bias, i, *after)


def runs_of(emit: Emitter, kind: Any, value: Any) -> tuple[Any, Any]:
    """Return the pointer to the runs and their number."""
    array = emit.array(kind, value)
    return array.data, emit.builder.extract_value(array.shape, 0)


def _write_products(pixels: int, context: Any, builder: Any, signature: Any, arguments: Any, activated: bool) -> Any:
    emit = Emitter(context, builder, signature.args[0])
    y, x, kernel, bias = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 3, 8, 10))
    runs = runs_of(emit, signature.args[6], arguments[6])
    start = [emit.load(bias, v) for _ in range(pixels) for v in range(VECTORS)]
    places = [[(arguments[5], p)] for p in range(pixels)]
    sums = add_products(emit, start, x, places, INT64(1), runs, arguments[7], kernel)
    activate = emit.activation(*arguments[12:]) if activated else lambda value: value
    for index, total in enumerate(sums):
        p, v = divmod(index, VECTORS)
        emit.store(activate(total), emit.at(y, (arguments[2], p)), v)
    return context.get_dummy_value()


@intrinsic
def multiply_block(typing, y, y_at, y_step, x, x_at, x_step, runs, run_length, kernel, kernel_at, bias, bias_at):
    """Add up the products of a block of pixels and a block of filters.

    For ``p < PIXELS`` and ``f < filter_block`` it sets ``y[y_at + p y_step + f]`` to ``bias[bias_at + f]`` plus the sum
    of ``x[x_at + p x_step + runs[r] + t] kernel[kernel_at + (r run_length + t) filter_block + f]``, run by run, t
    upwards, one fused multiply-add at a time.
    """

    def generate(context, builder, signature, arguments):
        return _write_products(PIXELS, context, builder, signature, arguments, activated=False)

    return _signature("multiply_block", y, x, runs, kernel, bias), generate


def _activated(pixels: int) -> Callable[..., Any]:
    """Make the intrinsic that does what ``multiply_block`` does, for so many pixels, and applies an activation."""

    @intrinsic
    def multiply_activated(
        typing, y, y_at, y_step, x, x_at, x_step, runs, run_length, kernel, kernel_at, bias, bias_at, function, slope
    ):
        """Add up products and apply an activation."""

        def generate(context, builder, signature, arguments):
            return _write_products(pixels, context, builder, signature, arguments, activated=True)

        return _signature("multiply_activated", y, x, runs, kernel, bias, types.intp, y.dtype), generate

    return multiply_activated


activated_block, activated_pixel = _activated(PIXELS), _activated(1)


def _accumulate(pixels: int) -> Callable[..., Any]:
    """Make the intrinsic that adds to a block of y outer products of neighbouring values of x and blocks of a kernel.

    For ``p < pixels`` and ``f < filter_block`` it adds to ``y[y_at + p y_step + f]`` the sum of
    ``x[x_at + p + runs[r] + t x_step] kernel[kernel_at + (r run_length + t) filter_block + f]``, as ``multiply_block``.
    """

    @intrinsic
    def accumulate(typing, y, y_at, y_step, x, x_at, x_step, runs, run_length, kernel, kernel_at):
        """Add outer products to a block."""
        check_arrays("accumulate", y, x, kernel)
        i = types.intp

        def generate(context, builder, signature, arguments):
            emit = Emitter(context, builder, signature.args[0])
            y, x, kernel = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 3, 8))
            runs = runs_of(emit, signature.args[6], arguments[6])
            places = [(emit.at(y, (arguments[2], p)), v) for p in range(pixels) for v in range(VECTORS)]
            start = [emit.load(*place) for place in places]
            neighbours = [[(INT64(1), p)] for p in range(pixels)]
            sums = add_products(emit, start, x, neighbours, arguments[5], runs, arguments[7], kernel)
            for total, place in zip(sums, places, strict=True):
                emit.store(total, *place)
            return context.get_dummy_value()

        return types.void(y, i, i, x, i, i, runs, i, kernel, i), generate

    return accumulate


accumulate_block, accumulate_few = _accumulate(PIXELS), _accumulate(FEW)


@intrinsic
def add_blocks(typing, y, y_at, x, x_at, count):
    """Add to ``y[y_at + f]`` the sum of ``x[x_at + p filter_block + f]``, p below count, f below filter_block."""
    check_arrays("add_blocks", y, x)
    i = types.intp

    def generate(context, builder, signature, arguments):
        emit = Emitter(context, builder, signature.args[0])
        y, x = (emit.pointer(signature.args[i], *arguments[i : i + 2]) for i in (0, 2))
        sums = [cgutils.alloca_once_value(builder, emit.load(y, v)) for v in range(VECTORS)]
        with cgutils.for_range(builder, arguments[4]) as loop:
            here = emit.at(builder.gep(x, [builder.mul(loop.index, INT64(VECTORS * emit.lanes))]))
            for v, total in enumerate(sums):
                builder.store(builder.fadd(builder.load(total), emit.load(here, v)), total)
        for v, total in enumerate(sums):
            emit.store(builder.load(total), y, v)
        return context.get_dummy_value()

    return types.void(y, i, x, i, i), generate
