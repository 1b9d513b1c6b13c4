"""Copying and clearing of contiguous values."""

from numba.core import cgutils

from framecnn.kernels.codegen.intrinsics import Integer, Pointer, intrinsic
from framecnn.kernels.codegen.vectors import INT64, Emitter

__all__ = ["clear", "copy"]


@intrinsic
def copy(emit: Emitter, y: Pointer, x: Pointer, length: Integer) -> None:
    """Set ``y[y_at : y_at + length]`` to ``x[x_at : x_at + length]``, as one copy of memory."""
    cgutils.raw_memcpy(emit.builder, y, x, length, emit.itemsize)


@intrinsic
def clear(emit: Emitter, y: Pointer, length: Integer) -> None:
    """Set ``y[y_at : y_at + length]`` to zero."""
    cgutils.memset(emit.builder, y, emit.builder.mul(length, INT64(emit.itemsize)), 0)
