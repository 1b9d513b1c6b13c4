"""Output arrays in memory that is used again: fresh memory costs a page fault wherever it is first written."""

import math
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from framecnn.typing import Array, Shape

__all__ = ["Buffer", "empty", "memory_of", "reused_memory", "take_free"]

SMALLEST = 64 * 1024  # bytes; smaller arrays lie in memory that Python keeps anyway
KEPT = 32 * 1024 * 1024  # bytes that a thread keeps from one prediction to the next
ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class Buffer:
    """Memory that one array at a time lies in, and views of it.

    The array is made from a memoryview, which views of an array keep as their root, so that a weak reference to the
    array tells whether any of them still exists.
    """

    def __init__(self, size: int):
        self._bytes = np.empty(size + ALIGNMENT, np.uint8)
        self._start = -self._bytes.ctypes.data % ALIGNMENT
        self.size = size
        self._array: weakref.ref[Array] | None = None

    @property
    def is_free(self) -> bool:
        """Whether no array lies in the memory."""
        return self._array is None or self._array() is None

    def array(self, shape: Shape, dtype: Any) -> Array:
        """Return an uninitialised array at the start of the memory."""
        whole: Array = np.frombuffer(self._bytes.data, dtype, math.prod(shape), self._start)
        self._array = weakref.ref(whole)
        return whole.reshape(shape)

    def holds(self, array: Array) -> bool:
        """Return whether an array lies in the memory."""
        return np.may_share_memory(self._bytes, array)


class _Buffers(threading.local):
    """The buffers of the current thread, and how many :func:`reused_memory` it is in."""

    depth = 0
    smallest = SMALLEST
    may_drop = True

    def __init__(self) -> None:
        self.all: list[Buffer] = []

    def free(self) -> list[Buffer]:
        """Return the buffers that no array lies in, the smallest first."""
        return sorted((buffer for buffer in self.all if buffer.is_free), key=lambda buffer: buffer.size)


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
            for buffer in _buffers.free():
                size += buffer.size
                if size <= most_kept:
                    kept.append(buffer)
            _buffers.all = kept


def take_free() -> list[Buffer]:
    """Return the free memory that this thread keeps, which is then the caller's."""
    free = _buffers.free()
    _buffers.all = [buffer for buffer in _buffers.all if buffer not in free]
    return free


@contextmanager
def memory_of(buffers: list[Buffer]) -> Iterator[None]:
    """Let :func:`empty` use the buffers of a list in this thread, and add those that it lacks; none is ever dropped."""
    before = _buffers.all, _buffers.depth, _buffers.smallest, _buffers.may_drop
    _buffers.all, _buffers.depth, _buffers.smallest, _buffers.may_drop = buffers, 1, 0, False
    try:
        yield
    finally:
        _buffers.all, _buffers.depth, _buffers.smallest, _buffers.may_drop = before


def empty(shape: Shape, dtype: Any) -> Array:
    """Return an uninitialised array, inside :func:`reused_memory` in memory that was used before, if any is free.

    A buffer that is too small is replaced by a larger one, so there are never more than arrays at a time.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if not _buffers.depth or not size or size < _buffers.smallest:
        return np.empty(shape, dtype)
    fitting = [buffer for buffer in _buffers.all if buffer.size >= size and buffer.is_free]
    if fitting:
        return min(fitting, key=lambda buffer: buffer.size).array(shape, dtype)
    if _buffers.may_drop and (free := _buffers.free()):
        _buffers.all.remove(free[-1])
    _buffers.all.append(Buffer(size))
    return _buffers.all[-1].array(shape, dtype)
