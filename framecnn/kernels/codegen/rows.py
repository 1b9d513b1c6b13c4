"""Rows of values: copies, and sums, products and scaling, followed by the activation in registers.

Positions count elements of contiguous arrays; all reads and writes must lie inside the arrays.
"""

from collections.abc import Callable
from typing import Any

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Flag, Integer, Pointer, Scalar, intrinsic
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["copy_row", "merge_row", "scale_row"]


def _in_vectors(emit: Emitter, y: Any, sources: list[Any], count: Any, compute: Callable[..., list[Any]]) -> None:
    """Set ``y[:count]`` to `compute` of the sources' values, vector by vector; the last one may be a part."""
    b = emit.builder
    with cgutils.for_range_slice(b, INT64(0), count, INT64(emit.lanes), INT64) as (k, _):
        rest = b.sub(count, k)
        values = [emit.load_block(b.gep(source, [k]), 1, rest)[0] for source in sources]
        emit.store_block(compute(*values), b.gep(y, [k]), rest)


@intrinsic
def copy_row(emit: Emitter, y: Pointer, x: Pointer, count: Integer) -> None:
    """Set ``y[y_at + k]`` to ``x[x_at + k]``, for k < count; for few values faster than a call of memcpy."""
    _in_vectors(emit, y, [x], count, lambda value: [value])


@intrinsic
def merge_row(
    emit: Emitter, y: Pointer, a: Pointer, b: Pointer, count: Integer, is_product: Flag, function: Integer,
    negative_slope: Scalar,
) -> None:  # fmt: skip
    """Set ``y[y_at + k]`` to the activated sum of a and b, or product if `is_product`, for k < count."""

    def compute(left: Any, right: Any) -> list[Any]:
        builder = emit.builder
        merged = builder.select(is_product, builder.fmul(left, right), builder.fadd(left, right))
        return emit.activated([merged], function, negative_slope)

    _in_vectors(emit, y, [a, b], count, compute)


@intrinsic
def scale_row(
    emit: Emitter, y: Pointer, x: Pointer, factors: Pointer, offsets: Pointer, count: Integer, function: Integer,
    negative_slope: Scalar,
) -> None:  # fmt: skip
    """Set ``y[y_at + k]`` to the activated ``x factors + offsets``, for k < count; fused multiply-adds."""

    def compute(value: Any, factor: Any, offset: Any) -> list[Any]:
        return emit.activated([emit.fma(value, factor, offset)], function, negative_slope)

    _in_vectors(emit, y, [x, factors, offsets], count, compute)
