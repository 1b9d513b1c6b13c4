"""Passes over maps without a convolution: sums, products and concatenations of maps, and scaling by channel."""

from framecnn.kernels.buffers import empty
from framecnn.kernels.codegen.memory import copy
from framecnn.kernels.codegen.rows import merge_row, scale_row
from framecnn.kernels.epilogue import Epilogue
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import contiguous, run
from framecnn.typing import Array

__all__ = ["concatenate", "merge", "scale"]

ROW_VALUES = 4096  # in a row, where rows may be cut anywhere
VALUE_WORK = 4  # multiply-adds that take as long as reading and writing a value


def merge(a: Array, b: Array, operation: str, activation: str = "linear", negative_slope: float = 0.0) -> Array:
    """Return ``activation(a + b)``, or the product for ``"multiply"``, computed with all threads.

    Each value is rounded after the sum, or product, and in the activation, as in separate passes.

    Shapes: a and b (n, ...) alike; for products, one may be (n, 1, 1, c) beside maps (n, h, w, c). Result as the
    larger.
    """
    large, small = (b, a) if b.size > a.size else (a, b)
    y = empty(large.shape, large.dtype)
    row = y.shape[-1] if small.size < y.size or y.size % ROW_VALUES else ROW_VALUES
    rows, others = contiguous(large).reshape(-1, row), contiguous(small).reshape(-1, row)
    repeats = len(rows) // max(len(others), 1)
    epilogue, is_product = Epilogue.of(activation, negative_slope), operation == "multiply"
    run(merge_forward, len(rows), VALUE_WORK * row, y.reshape(rows.shape), rows, others, repeats, is_product, epilogue)
    return y


def scale(x: Array, factors: Array, offsets: Array, activation: str = "linear", negative_slope: float = 0.0) -> Array:
    """Return ``activation(x factors + offsets)``, computed with all threads; fused multiply-adds.

    Shapes: x (n, ..., c), factors and offsets (c,), result as x.
    """
    y = empty(x.shape, x.dtype)
    rows, epilogue = x.reshape(-1, x.shape[-1]), Epilogue.of(activation, negative_slope)
    run(scale_forward, len(rows), VALUE_WORK * len(factors), y.reshape(rows.shape), rows, factors, offsets, epilogue)
    return y


def concatenate(parts: list[Array]) -> Array:
    """Return arrays (n, ..., c) joined along their channels, copied with all threads."""
    y = empty((*parts[0].shape[:-1], sum(part.shape[-1] for part in parts)), parts[0].dtype)
    rows, at = y.reshape(-1, y.shape[-1]), 0
    for part in parts:
        values = part.reshape(-1, part.shape[-1])
        run(concatenate_forward, len(values), VALUE_WORK * values.shape[1], rows, values, at)
        at += values.shape[1]
    return y


@kernel
def merge_forward(y, a, b, repeats, is_product, epilogue, start, stop):
    """y (rows, c) = activated a + b, or a b, of a (rows, c) and b (rows / repeats, c); items are rows."""
    width = y.shape[1]
    flat, left, right = y.reshape(-1), a.reshape(-1), b.reshape(-1)
    negative_slope = y.dtype.type(epilogue.negative_slope)
    for i in range(start, stop):
        merge_row(
            flat, i * width, left, i * width, right, i // repeats * width, width, is_product,
            epilogue.activation, negative_slope,
        )  # fmt: skip


@kernel
def scale_forward(y, x, factors, offsets, epilogue, start, stop):
    """y (rows, c) = activated x factors + offsets of x (rows, c), factors and offsets (c,); items are rows."""
    width = y.shape[1]
    flat, values = y.reshape(-1), x.reshape(-1)
    negative_slope = y.dtype.type(epilogue.negative_slope)
    for i in range(start, stop):
        scale_row(
            flat, i * width, values, i * width, factors, 0, offsets, 0, width, epilogue.activation, negative_slope
        )


@kernel
def concatenate_forward(y, x, at, start, stop):
    """y (rows, c), in its columns from `at` on, = x (rows, part of c); items are rows."""
    flat, values = y.reshape(-1), x.reshape(-1)
    for i in range(start, stop):
        copy(flat, i * y.shape[1] + at, values, i * x.shape[1], x.shape[1])
