"""Programs: the kernels that a prediction runs, recorded once, then run again without Python between them.

Which kernels run, and on which memory, follows from shapes alone. So a program that was recorded for one batch computes
any other of its shape: the batch is copied to where the first one was. Threads take chunks of the first kernel's items;
whoever finds none left waits for the others, for a few microseconds, and goes on to the next kernel.
"""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from framecnn.kernels.buffers import Buffer, memory_of
from framecnn.kernels.codegen.calls import call, slots_of, take, wait_for
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import available_threads, ordered_map, recording
from framecnn.typing import Array

__all__ = ["Program", "Programs"]

CALL_WORK = 150_000  # multiply-adds of a chunk, at least: about 3 microseconds
CHUNKS = 2  # per thread, into which the items that are left are cut, so that the last chunks are the smallest
COUNTERS = 16  # values from the counters of one call to those of the next: two cache lines
MOST_BYTES = 64 * 1024 * 1024  # of memory of the programs of a computation

_give_way = getattr(ctypes.CDLL(None), "sched_yield", None) if hasattr(ctypes, "CDLL") else None
GIVE_WAY = ctypes.cast(_give_way, ctypes.c_void_p).value or 0 if _give_way else 0


class Program:
    """The kernels of a computation ``y = compute(x)`` that consists of kernels only.

    Parameters
    ----------
    compute : callable
        Called once, here; whatever it does apart from running kernels on arrays of
        :func:`framecnn.kernels.buffers.empty` must not depend on the values of x.
    x : array
        The first batch.

    Attributes
    ----------
    first : array
        The output for `x`.
    is_valid : bool
        Whether :meth:`run` computes the same as `compute`.
    """

    def __init__(self, compute: Callable[[Array], Array], x: Array):
        self.is_valid = True
        self._memory: list[Buffer] = []
        self._kept: list[Any] = []
        self._slots: list[bytes] = []
        self._calls: list[tuple[int, int, float]] = []
        self._x = x.copy()
        with memory_of(self._memory), recording(self):
            self._y = compute(self._x)
        self.first = self._y.copy()
        joined = np.frombuffer(b"".join(self._slots), np.int64).copy()
        ends = np.cumsum([len(slots) for slots in self._slots]) + joined.ctypes.data
        starts = [end - len(slots) for end, slots in zip(ends, self._slots, strict=True)]
        self._kept.append(joined)
        self._table = np.array(
            [
                [adapter, at, n_items, max(round(CALL_WORK / max(work, 1.0)), 1)]
                for (adapter, n_items, work), at in zip(self._calls, starts, strict=True)
            ],
            np.int64,
        ).reshape(-1, 4)
        self._counters = np.empty(COUNTERS * len(self._calls), np.int64)

    def kernel(self, function: Callable[..., None], n_items: int, work_per_item: float, *arguments: Any) -> None:
        """Record a kernel that runs over items."""
        try:
            adapter, slots = slots_of(function, arguments)
        except (KeyError, AttributeError):  # not compiled for these arguments, or not compiled at all
            self.is_valid = False
            return
        self._calls.append((adapter, n_items, work_per_item))
        self._slots.append(slots)
        self._keep(arguments)

    def other(self) -> None:
        """Note that the computation cannot be repeated by kernels alone."""
        self.is_valid = False

    def _keep(self, value: Any) -> None:
        """Keep arrays alive, except those in memory that is used again."""
        if isinstance(value, tuple):
            for item in value:
                self._keep(item)
        elif isinstance(value, np.ndarray) and not any(buffer.holds(value) for buffer in self._memory):
            self._kept.append(value)

    @property
    def nbytes(self) -> int:
        """The bytes of the memory that the program computes in."""
        return self._x.nbytes + sum(buffer.size for buffer in self._memory)

    def run(self, x: Array) -> Array:
        """Return the output for a batch of the shape of the first; one thread may call it at a time."""
        np.copyto(self._x, x)
        threads = available_threads()
        self._counters[:] = 0
        if threads == 1:
            run_calls(self._counters, self._table, GIVE_WAY, 1, 0, 1)
        else:
            ordered_map(
                lambda thread: run_calls(self._counters, self._table, GIVE_WAY, threads, thread, thread + 1),
                range(threads),
            )
        return self._y.copy()


class Programs:
    """A computation ``y = compute(x)`` of kernels only, with a program for each shape that it is called with again.

    Any number of threads may call it: each takes a program of its own, or computes without one.
    """

    def __init__(self, compute: Callable[[Array], Array]):
        self._compute = compute
        self._seen: dict[Any, list[Program]] = {}
        self._room = MOST_BYTES

    def __call__(self, x: Array) -> Array:
        key = x.shape, x.dtype
        if key not in self._seen:
            self._seen[key] = []
            return self._compute(x)
        free = self._seen[key]
        try:
            program = free.pop()
        except IndexError:
            return self._record(x, free)
        y = program.run(x)
        free.append(program)
        return y

    def _record(self, x: Array, free: list[Program]) -> Array:
        if self._room <= 0:
            return self._compute(x)
        program = Program(self._compute, x)
        self._room -= program.nbytes if program.is_valid else MOST_BYTES
        if program.is_valid and self._room >= 0:
            free.append(program)
        return program.first

    def __deepcopy__(self, memo: Any) -> "Programs":
        """Return the computation without programs, which hold addresses."""
        return Programs(self._compute)

    def __getstate__(self) -> dict[str, Any]:
        return {"_compute": self._compute, "_seen": {}, "_room": MOST_BYTES}


@kernel
def run_calls(counters, table, give_way, threads, start, stop):
    """Run all calls of a table (calls, 4): adapter, slots, items and the least items of a chunk; items are threads.

    counters (calls * COUNTERS,), zeros at first: of each call, the first item that nobody has taken, and the number of
    items that are done.
    """
    taken, flat = np.empty(1, np.int64), table.reshape(-1)
    for _ in range(start, stop):
        for number in range(len(table)):
            items, least, at = table[number, 2], table[number, 3], number * COUNTERS
            chunk = items if threads == 1 else max(least, items // (CHUNKS * threads))
            take(taken, 0, counters, at, chunk)
            while taken[0] < items:
                first, last = taken[0], min(taken[0] + chunk, items)
                call(flat, number * 4, first, last)
                take(taken, 0, counters, at + COUNTERS // 2, last - first)
                chunk = max(least, (items - last) // (CHUNKS * threads))
                take(taken, 0, counters, at, chunk)
            wait_for(counters, at + COUNTERS // 2, items, give_way)
