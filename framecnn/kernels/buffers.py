"""Output arrays in memory that is used again: fresh memory costs a page fault wherever it is first written."""

import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from framecnn.typing import Array, Shape

__all__ = ["empty", "memory_of", "reused_memory"]

SMALLEST = 64 * 1024  # bytes; smaller arrays lie in memory that Python keeps anyway
KEPT = 32 * 1024 * 1024  # bytes that a thread keeps from one prediction to the next
ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class _Buffers(threading.local):
    """The buffers of the current thread, and how many :func:`reused_memory` it is in."""

    depth = 0
    smallest = SMALLEST
    may_drop = True

    def __init__(self) -> None:
        self.arrays: list[Array] = []

    def free(self) -> list[Array]:
        """Return the buffers that no array lies in, the smallest first."""
        unused = sys.getrefcount(object()) + 2  # the list and the loop also refer to a buffer
        return sorted((array for array in self.arrays if sys.getrefcount(array) <= unused), key=len)

    def drop(self, array: Array) -> None:
        self.arrays = [other for other in self.arrays if other is not array]


_buffers = _Buffers()


@contextmanager
def reused_memory(most_kept: int = KEPT) -> Iterator[None]:
    """Let :func:`empty` reuse memory inside the ``with`` block, in this thread.

    Memory is free again once no array lies in it. Arrays that live on after the block keep theirs. After the block, the
    thread keeps up to `most_kept` bytes for the next one.
    """
    _buffers.depth += 1
    try:
        yield
    finally:
        _buffers.depth -= 1
        if not _buffers.depth:
            kept, size = [], 0
            for array in _buffers.free():
                size += len(array)
                if size <= most_kept:
                    kept.append(array)
            _buffers.arrays = kept


@contextmanager
def memory_of(arrays: list[Array]) -> Iterator[None]:
    """Let :func:`empty` use the buffers of a list in this thread, and add those that it lacks; none is ever dropped."""
    before = _buffers.arrays, _buffers.depth, _buffers.smallest, _buffers.may_drop
    _buffers.arrays, _buffers.depth, _buffers.smallest, _buffers.may_drop = arrays, 1, 0, False
    try:
        yield
    finally:
        _buffers.arrays, _buffers.depth, _buffers.smallest, _buffers.may_drop = before


def empty(shape: Shape, dtype: Any) -> Array:
    """Return an uninitialised array, inside :func:`reused_memory` in memory that was used before, if any is free.

    A buffer that is too small is replaced by a larger one, so there are never more than arrays at a time.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not _buffers.depth or size < _buffers.smallest:
        return np.empty(shape, dtype)
    free = _buffers.free()
    fitting = [array for array in free if len(array) >= size + ALIGNMENT]
    if fitting:
        buffer = fitting[0]
    else:
        if free and _buffers.may_drop:
            _buffers.drop(free.pop())
        buffer = np.empty(size + ALIGNMENT, np.uint8)
        _buffers.arrays.append(buffer)
    start = -buffer.ctypes.data % ALIGNMENT
    array: Array = buffer[start : start + size].view(dtype).reshape(shape)
    return array
