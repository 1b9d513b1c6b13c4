"""Products of a matrix of rows and packed weights: 1 x 1 convolutions, where pixels are the rows, and dense layers."""

from typing import Any, NamedTuple

import numpy as np

from framecnn.kernels.codegen.conv_block import NARROW, convolved_block, convolved_pixel, narrow_block, narrow_pixel
from framecnn.kernels.codegen.microkernel import PIXELS
from framecnn.kernels.codegen.vectors import lanes
from framecnn.kernels.epilogue import NO_POOLING, Epilogue, residual_or_none
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import read_only, run
from framecnn.typing import Array

__all__ = ["RowBlocks", "multiply_range", "multiply_rows"]

PANEL_BYTES = 192 * 1024  # of rows that are multiplied by all filters in turn: less than half of the smallest L2 cache
FIRST_LEVEL_BYTES = 24 * 1024  # of weights that stay in the L1 cache, so that rows are read and written once
FEWEST_ITEMS = 16  # so that threads can share few rows too
SINGLES = 3  # rows up to which computing each alone is faster than one register block


_ONE_RUN = np.zeros(1, np.int64)


class RowBlocks(NamedTuple):
    """How rows and filters are cut: items are `rows` rows times `blocks` blocks of filters.

    A block of filters of which at most `narrow` exist is computed with half of its vectors.
    """

    rows: int
    blocks: int
    narrow: int
    runs: Array

    @classmethod
    def of(cls, blocks: int, dtype: Any, rows: int = 0) -> "RowBlocks":
        """Return the plan for so many blocks of filters and rows."""
        return cls(rows, blocks, NARROW * lanes(dtype), _ONE_RUN)


def multiply_rows(
    x: Array, weights: Array, bias: Array, y: Array, epilogue: Epilogue, residual: Array | None = None
) -> None:
    """Write ``activation(x weights + bias + residual)`` to y, with all threads; sums run upwards over the features.

    Error of each value at most ``(d + 2) eps (|x| |weights| + |residual|)``.

    Shapes: y (n, units), x (n, d), weights (blocks, d, block), bias (blocks, block), residual as y.
    """
    n_blocks, features, block = weights.shape
    blocks = n_blocks if weights.nbytes <= FIRST_LEVEL_BYTES else 1
    fitting = PANEL_BYTES // (features * x.itemsize)
    rows = max(min(fitting, len(x) * n_blocks // (FEWEST_ITEMS * blocks)) // PIXELS * PIXELS, PIXELS)
    plan = RowBlocks.of(blocks, x.dtype, rows)
    items = -(-len(x) // rows) * (n_blocks // blocks)
    inputs = (read_only(x), residual_or_none(residual, x.dtype))
    run(matrix_forward, items, min(rows, len(x)) * features * blocks * block, y, inputs, weights, bias, plan, epilogue)


@kernel
def matrix_forward(y, inputs, weights, bias, plan, epilogue, start, stop):
    """y (n, f) from inputs x (n, d) and residual (size of y,) or (0,).

    weights (blocks, d, block), bias (blocks, block). Items are plan.blocks blocks of filters of
    plan.rows rows; all blocks of the first rows come first.
    """
    x = inputs[0]
    parts = len(weights) // plan.blocks
    for item in range(start, stop):
        first, b = item // parts * plan.rows, item % parts * plan.blocks
        rows = (first, min(first + plan.rows, len(x)), 0)
        multiply_range(y, inputs, rows, (b, b + plan.blocks), weights, bias, plan, epilogue)


@kernel
def multiply_range(y, inputs, rows, span, weights, bias, plan, epilogue):
    """Write some rows and blocks of filters of the result of :func:`matrix_forward`.

    `rows` is (first, last, origin): y begins with row `origin`. `span` is (first block, last block).
    """
    x, residual = inputs
    first, last, origin = rows
    _, features, block = weights.shape
    filters = y.shape[1]
    negative_slope = x.dtype.type(epilogue.negative_slope)
    flat, values = y.reshape(-1), x.reshape(-1)
    n = first
    while n < last:
        single = last - n <= SINGLES or len(x) < PIXELS
        if not single:
            n = min(n, len(x) - PIXELS)
        for b in range(span[0], span[1]):
            to, n_valid = (n - origin) * filters + b * block, filters - b * block
            narrow = n_valid <= plan.narrow
            if narrow and single:
                narrow_pixel(
                    flat, None, residual, to, filters, 1, n_valid, values, n * features, features, 0,
                    plan.runs, features, weights, b * features * block, bias, b * block,
                    epilogue.activation, negative_slope, NO_POOLING,
                )  # fmt: skip
            elif single:
                convolved_pixel(
                    flat, None, residual, to, filters, 1, n_valid, values, n * features, features, 0,
                    plan.runs, features, weights, b * features * block, bias, b * block,
                    epilogue.activation, negative_slope, NO_POOLING,
                )  # fmt: skip
            elif narrow:
                narrow_block(
                    flat, None, residual, to, filters, last - n, n_valid, values, n * features, features, 0,
                    plan.runs, features, weights, b * features * block, bias, b * block,
                    epilogue.activation, negative_slope, NO_POOLING,
                )  # fmt: skip
            else:
                convolved_block(
                    flat, None, residual, to, filters, last - n, n_valid, values, n * features, features, 0,
                    plan.runs, features, weights, b * features * block, bias, b * block,
                    epilogue.activation, negative_slope, NO_POOLING,
                )  # fmt: skip
        n += 1 if single else PIXELS
