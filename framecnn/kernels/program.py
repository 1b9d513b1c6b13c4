"""Programs: the kernels that a computation runs, recorded once, then run again without Python between them.

Which kernels run, and on which memory, follows from shapes alone. So a program that was recorded for one batch computes
any other of its shape: the batch is copied to where the first one was. Each thread takes chunks of a share of the first
kernel's items, then of the shares of others; whoever finds none left waits for the others, for a few microseconds, and
goes on to the next kernel. So a thread mostly reads what it wrote before, which its own cache may still hold.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from framecnn.kernels.buffers import Buffer, memory_of
from framecnn.kernels.codegen.calls import call, slots_of, take, wait_for
from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import available_threads, ordered_map, recording
from framecnn.typing import Array

__all__ = ["Program", "ProgramPool", "Programs", "Recording"]

CALL_WORK = 300_000  # multiply-adds of a chunk, at least: about 5 microseconds
CHUNKS = 4  # per thread, so that a thread that comes late takes fewer
COUNTER = 8  # values from one counter to the next: a cache line
MOST_BYTES = 64 * 1024 * 1024  # of memory of the programs of a computation

_give_way = getattr(ctypes.CDLL(None), "sched_yield", None) if hasattr(ctypes, "CDLL") else None
GIVE_WAY = ctypes.cast(_give_way, ctypes.c_void_p).value or 0 if _give_way else 0


class Recording:
    """Kernels that ran once, to run again on the same arrays.

    Parameters
    ----------
    memory : list of Buffer
        Memory for arrays of :func:`framecnn.kernels.buffers.empty`. Recordings may share it: what one leaves in an
        array that still exists when the next begins is there for the next.

    Attributes
    ----------
    is_valid : bool
        Whether :meth:`run` computes the same as what was recorded.
    """

    def __init__(self, memory: list[Buffer]):
        self.is_valid = True
        self._memory = memory
        self._kept: list[Any] = []
        self._slots: list[bytes] = []
        self._calls: list[tuple[int, int, float]] = []
        self._threads = 0  # for which the table says how large chunks are

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record what this thread computes inside the ``with`` block.

        Whatever it does apart from running kernels must not depend on values of arrays that change between runs.
        """
        with memory_of(self._memory), recording(self):
            yield
        joined = np.frombuffer(b"".join(self._slots), np.int64).copy()
        ends = np.cumsum([len(slots) for slots in self._slots]) + joined.ctypes.data
        starts = [end - len(slots) for end, slots in zip(ends, self._slots, strict=True)]
        self._kept.append(joined)
        self._table = np.array(
            [[adapter, at, n, 0] for (adapter, n, _), at in zip(self._calls, starts, strict=True)], np.int64
        ).reshape(-1, 4)

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

    def run(self) -> None:
        """Run the kernels again; one thread may call it at a time."""
        threads = available_threads()
        if threads != self._threads:
            self._threads = threads
            self._counters = np.empty((len(self._calls), threads + 1, COUNTER), np.int64)
            for row, (_, n_items, work) in zip(self._table, self._calls, strict=True):
                least = CALL_WORK / max(work, 1.0)
                row[3] = n_items if threads == 1 else max(round(least), n_items // (CHUNKS * threads), 1)
        self._counters[...] = 0
        if threads == 1:
            run_calls(self._counters, self._table, GIVE_WAY, 0, 1)
        else:
            ordered_map(
                lambda thread: run_calls(self._counters, self._table, GIVE_WAY, thread, thread + 1), range(threads)
            )


class Program:
    """The kernels of a computation ``y = compute(x)`` that consists of kernels only.

    Parameters
    ----------
    compute : callable
        Called once, here; recorded as :meth:`Recording.recorded` describes.
    x : array
        The first batch.
    """

    def __init__(self, compute: Callable[[Array], Array], x: Array):
        self._memory: list[Buffer] = []
        self._recording = Recording(self._memory)
        self._x = x.copy()
        with self._recording.recorded():
            self._y = compute(self._x)

    @property
    def is_valid(self) -> bool:
        """Whether :meth:`run` computes the same as `compute`."""
        return self._recording.is_valid

    @property
    def nbytes(self) -> int:
        """The bytes of the memory that the program computes in."""
        return self._x.nbytes + sum(buffer.size for buffer in self._memory)

    def run(self, x: Array) -> Array:
        """Return the output for a batch of the shape of the first; one thread may call it at a time."""
        np.copyto(self._x, x)
        self._recording.run()
        return self._y.copy()


class HasBytes(Protocol):
    """A program: whether it can be run, and how much memory it takes."""

    @property
    def is_valid(self) -> bool: ...

    @property
    def nbytes(self) -> int: ...


Kind = TypeVar("Kind", bound=HasBytes)


class ProgramPool(Generic[Kind]):
    """Programs by a key, such as the shape of a batch, which take limited memory together.

    Any number of threads may use it: each takes a program of its own.

    Parameters
    ----------
    most_bytes : int
    """

    def __init__(self, most_bytes: int):
        self._free: dict[Any, list[Kind]] = {}
        self._full: set[Any] = set()
        self._room = most_bytes

    def take(self, key: Any, record: Callable[[], Kind]) -> Kind | None:
        """Return a program until it is given back, a new one if none is free.

        It is None if the key is new, since most are not used again, and if there is no room for another program.
        """
        if key not in self._free:
            self._free.setdefault(key, [])
            return None
        try:
            return self._free[key].pop()
        except IndexError:
            if key in self._full:
                return None
        program = record()
        if not program.is_valid or program.nbytes > self._room:
            self._full.add(key)
            return None
        self._room -= program.nbytes
        return program

    def give_back(self, key: Any, program: Kind) -> None:
        """Let others take a program again."""
        self._free[key].append(program)


class Programs:
    """A computation ``y = compute(x)`` of kernels only, with a program for each shape that it is called with again."""

    def __init__(self, compute: Callable[[Array], Array]):
        self._compute = compute
        self._pool: ProgramPool[Program] = ProgramPool(MOST_BYTES)

    def __call__(self, x: Array) -> Array:
        key = x.shape, x.dtype
        program = self._pool.take(key, lambda: Program(self._compute, x))
        if program is None:
            return self._compute(x)
        try:
            return program.run(x)
        finally:
            self._pool.give_back(key, program)

    def __deepcopy__(self, memo: Any) -> "Programs":
        """Return the computation without programs, which hold addresses."""
        return Programs(self._compute)

    def __getstate__(self) -> dict[str, Any]:
        return {"_compute": self._compute, "_pool": ProgramPool(MOST_BYTES)}


@kernel
def run_calls(counters, table, give_way, start, stop):
    """Run all calls of a table (calls, 4): adapter, slots, items and items of a chunk; items are threads.

    counters (calls, threads + 1, COUNTER), zeros at first: of each call, how many items of the share of each thread are
    taken, and how many items are done.
    """
    taken, flat, counts = np.empty(1, np.int64), table.reshape(-1), counters.reshape(-1)
    threads = counters.shape[1] - 1
    for thread in range(start, stop):
        for number in range(len(table)):
            items, chunk, at = table[number, 2], table[number, 3], number * (threads + 1) * COUNTER
            done = at + threads * COUNTER
            for other in range(thread, thread + threads):
                share = other % threads
                begin, end = share * items // threads, (share + 1) * items // threads
                take(taken, 0, counts, at + share * COUNTER, chunk)
                while begin + taken[0] < end:
                    first = begin + taken[0]
                    last = min(first + chunk, end)
                    call(flat, number * 4, first, last)
                    take(taken, 0, counts, done, last - first)
                    take(taken, 0, counts, at + share * COUNTER, chunk)
            wait_for(counts, done, items, give_way)
