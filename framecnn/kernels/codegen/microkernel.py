"""The register-blocked inner product.

A block of pixels times a block of filters stays in registers while the products run: each kernel vector that is
loaded serves all pixels, each pixel value that is broadcast serves all filters. Numba's autovectoriser does not find
this form, hence the explicit instructions.

Positions and steps count elements of contiguous arrays; all reads and writes must lie inside the arrays.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Integer, Pointer, Runs, intrinsic
from framecnn.kernels.codegen.vectors import INT64, Emitter, lanes
from framecnn.kernels.jit import REGISTER_BLOCK

__all__ = [
    "FEW",
    "NARROW",
    "PIXELS",
    "VECTORS",
    "accumulate_block",
    "accumulate_few",
    "accumulate_few_narrow",
    "accumulate_narrow",
    "add_blocks",
    "add_narrow",
    "add_products",
    "filter_block",
    "multiply_block",
]

PIXELS, VECTORS = REGISTER_BLOCK
Steps = Sequence[tuple[Any, int]]
"""Pairs of a step and its count."""

FEW = 5  # pixels of a smaller block; two of them cover the 9 values in a row of a 3 x 3 window with three colours


NARROW = VECTORS // 2  # vectors of a block for few filters


def filter_block(dtype: Any) -> int:
    """Return the number of filters of `dtype` in a register block.

    Examples
    --------
    >>> filter_block("float32") == 2 * filter_block("float64")
    True
    """
    return VECTORS * lanes(dtype)


def add_products(
    emit: Emitter,
    start: Sequence[Any],
    x: Any,
    pixels: Sequence[Steps],
    element_step: Any,
    runs: Any,
    run_length: Any,
    kernel: Any,
    width: int = VECTORS,
) -> list[Any]:
    """Write two nested loops, over runs and the elements of a run, and return the accumulators.

    The accumulators are phi nodes of both loops. `start` holds their initial
    values, pixel by pixel and for the first vectors of a block of filters; `pixels` the steps from the first pixel to
    each pixel; `element_step` is the step between the elements of a run; `runs` is a pointer to the positions of the
    runs, and their number. The kernel has `width` vectors for each element.
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
    t, weights_at = b.phi(INT64), b.phi(kernel.type)
    sums = [b.phi(emit.vector) for _ in start]
    weights = [emit.load(weights_at, v) for v in range(len(start) // len(pixels))]
    pixel = b.gep(x, [b.add(offset, b.mul(t, element_step))])
    values = [emit.broadcast(b.load(emit.at(pixel, *steps))) for steps in pixels]
    factors = [(value, weight) for value in values for weight in weights]
    new_sums = [emit.fma(*factor, total) for factor, total in zip(factors, sums, strict=True)]
    next_t, next_weights_at = b.add(t, INT64(1)), b.gep(weights_at, [INT64(width * emit.lanes)])
    b.cbranch(b.icmp_signed("<", next_t, run_length), element, run_end)

    b.position_at_end(run_end)
    next_run = b.add(run, INT64(1))
    b.cbranch(b.icmp_signed("<", next_run, n_runs), run_head, done)

    for phi, first, following in (
        (run, INT64(0), next_run),
        (run_kernel, kernel, next_weights_at),
        *zip(run_sums, start, new_sums, strict=True),
    ):
        phi.add_incoming(first, entry)
        phi.add_incoming(following, run_end)
    for phi, first, following in (
        (t, INT64(0), next_t),
        (weights_at, run_kernel, next_weights_at),
        *zip(sums, run_sums, new_sums, strict=True),
    ):
        phi.add_incoming(first, run_head)
        phi.add_incoming(following, element)

    b.position_at_end(done)
    return new_sums


@intrinsic
def multiply_block(
    emit: Emitter, y: Pointer, y_step: Integer, x: Pointer, x_step: Integer, runs: Runs, run_length: Integer,
    kernel: Pointer, bias: Pointer,
) -> None:  # fmt: skip
    """Set a block of pixels and filters to its bias plus the sums of its products.

    For ``p < PIXELS`` and ``f < filter_block``, ``y[y_at + p y_step + f]`` becomes ``bias[bias_at + f]`` plus the sum
    of ``x[x_at + p x_step + runs[r] + t] kernel[kernel_at + (r run_length + t) filter_block + f]``, run by run, t
    upwards, one fused multiply-add at a time.
    """
    sums = _products(emit, PIXELS, x, x_step, (runs, run_length), kernel, bias)
    _store(emit, sums, y, y_step)


def _products(
    emit: Emitter, pixels: int, x: Any, x_step: Any, runs: tuple[Any, Any], kernel: Any, bias: Any
) -> list[Any]:
    """Return the bias plus the sums of products for neighbouring pixels."""
    start = [emit.load(bias, v) for _ in range(pixels) for v in range(VECTORS)]
    return add_products(emit, start, x, [[(x_step, p)] for p in range(pixels)], INT64(1), *runs, kernel)


def _store(emit: Emitter, sums: Iterable[Any], y: Any, y_step: Any) -> None:
    for index, total in enumerate(sums):
        p, v = divmod(index, VECTORS)
        emit.store(total, emit.at(y, (y_step, p)), v)


def _accumulate(pixels: int, vectors: int) -> Callable[..., Any]:
    """Return the intrinsic that adds to a block of y the outer products of values of x and blocks of a kernel.

    For ``p < pixels`` and ``f < block = vectors * lanes``, ``y[y_at + p y_step + f]`` grows by the sum of
    ``x[x_at + p + runs[r] + t x_step] kernel[kernel_at + (r run_length + t) block + f]``, summed in the order of
    ``multiply_block``.
    """

    @intrinsic
    def accumulate(
        emit: Emitter, y: Pointer, y_step: Integer, x: Pointer, x_step: Integer, runs: Runs, run_length: Integer,
        kernel: Pointer,
    ) -> None:  # fmt: skip
        """Add outer products to a block."""
        positions = [(emit.at(y, (y_step, p)), v) for p in range(pixels) for v in range(vectors)]
        start = [emit.load(*position) for position in positions]
        neighbours = [[(INT64(1), p)] for p in range(pixels)]
        sums = add_products(emit, start, x, neighbours, x_step, runs, run_length, kernel, vectors)
        for total, position in zip(sums, positions, strict=True):
            emit.store(total, *position)

    return accumulate


accumulate_block, accumulate_few = _accumulate(PIXELS, VECTORS), _accumulate(FEW, VECTORS)
accumulate_narrow, accumulate_few_narrow = _accumulate(PIXELS, NARROW), _accumulate(FEW, NARROW)


def _add(vectors: int) -> Callable[..., Any]:
    """Return the intrinsic that adds to ``y[y_at + f]`` the sum of ``x[x_at + p block + f]``.

    For p < count, f < block = vectors * lanes.
    """

    @intrinsic
    def add(emit: Emitter, y: Pointer, x: Pointer, count: Integer) -> None:
        """Add blocks."""
        b = emit.builder
        sums = [cgutils.alloca_once_value(b, emit.load(y, v)) for v in range(vectors)]
        with cgutils.for_range(b, count) as loop:
            block = b.gep(x, [b.mul(loop.index, INT64(vectors * emit.lanes))])
            for v, total in enumerate(sums):
                b.store(b.fadd(b.load(total), emit.load(block, v)), total)
        for v, total in enumerate(sums):
            emit.store(b.load(total), y, v)

    return add


add_blocks, add_narrow = _add(VECTORS), _add(NARROW)
