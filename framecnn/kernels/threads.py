"""The thread pool of all computation: functions that release the GIL run over items, and results come in a fixed order.

The result of an item does not depend on the chunk it is part of, so its bits do not depend on the number of threads.
The caller computes too, so nested calls, and calls from other threads or a forked child, cannot deadlock.
"""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from framecnn.thread_count import get_num_threads
from framecnn.typing import Array

__all__ = [
    "ITEM_WORK",
    "Recorder",
    "available_threads",
    "contiguous",
    "not_recorded",
    "ordered_map",
    "read_only",
    "recording",
    "run",
    "single_threaded_blas",
]

CHUNK_WORK = 4_000_000  # multiply-adds: about 0.1 ms, while starting a chunk costs about 0.01 ms
ITEM_WORK = 1_000_000  # multiply-adds of an item, where items are as many rows of a frame as are worth while
SHARED_WORK = 500_000  # multiply-adds up to which waking another thread costs more than it saves
CHUNKS_PER_THREAD = 2  # at least, so that a thread that starts late takes fewer
MOST_CHUNKS = 128  # enough to keep dozens of threads busy to the end
Item = TypeVar("Item")
Result = TypeVar("Result")


class Recorder(Protocol):
    """What :func:`recording` tells of all computation."""

    def kernel(self, function: Callable[..., None], n_items: int, work_per_item: float, *arguments: Any) -> None:
        """Take note of a kernel that ran over items."""

    def other(self) -> None:
        """Take note of a computation that was no kernel."""


class _ThreadState(threading.local):
    """State of the current thread.

    Attributes
    ----------
    busy : bool
        Whether the thread is inside an :func:`ordered_map` that already uses every thread.
    guards : int
        Nesting depth of :func:`single_threaded_blas` in this thread.
    recorder : Recorder or None
        What is told of the kernels that this thread runs.
    """

    busy = False
    guards = 0
    recorder: "Recorder | None" = None


_thread = _ThreadState()
_pool: "_Pool | None" = None
_pool_lock = threading.RLock()
_blas_lock = threading.RLock()
_blas_users = 0
_blas_before: list[tuple[Any, int]] = []


# read at import: a caller that is pinned to one CPU later must not restrict the helper threads
_cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set[int]()
get_num_threads()  # caches the count now


class _Pool:
    """All threads but the calling one."""

    def __init__(self, n_threads: int):
        self.n_threads = n_threads
        self.executor = ThreadPoolExecutor(n_threads - 1, "framecnn", self._reset_affinity)
        self.members: list[int] = []
        self.callers_cpu: int | None = None

    def _reset_affinity(self) -> None:
        """Reset the CPU affinity that a new thread inherits from its creator."""
        self.members.append(threading.get_native_id())
        self.callers_cpu = None
        _restrict(threading.get_native_id(), _cpus)

    def submit(self, work: Callable[[], None], times: int) -> list[Future[None]]:
        if _current_cpu is not None and self.callers_cpu != (cpu := _current_cpu()):
            self.callers_cpu = cpu
            self._avoid_cpu(cpu)
        return [self.executor.submit(work) for _ in range(times)]

    def _avoid_cpu(self, cpu: int) -> None:
        """Keep the members off the caller's CPU.

        Linux wakes a thread on the CPU where it last ran, even if the caller is running there. If CPUs share no cache,
        as in some virtual machines, the thread waits for milliseconds and two threads take as long as one (measured).
        """
        for member in self.members:
            if member != threading.get_native_id():
                _restrict(member, _cpus - {cpu})


def _restrict(thread: int, cpus: set[int]) -> None:
    """Restrict a thread to some CPUs; leave it unchanged if the system has none of them."""
    if cpus:
        with suppress(OSError):
            os.sched_setaffinity(thread, cpus)


_current_cpu = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


def _submit(work: Callable[[], None], times: int, n_threads: int) -> list[Future[None]]:
    """Submit `work` `times` times; a pool of another size finishes its work and is replaced."""
    global _pool
    with _pool_lock:  # else a pool could be shut down between lookup and submit
        if _pool is not None and _pool.n_threads != n_threads:
            _pool.executor.shutdown(wait=False)
            _pool = None
        if not times:
            return []
        if _pool is None:
            _pool = _Pool(n_threads)
        return _pool.submit(work, times)


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Return the results of `function` for all items, in their order, computed by all threads.

    An exception of `function` is raised after running items finish; no new item starts. Nested calls run serially if
    the outer items already use all threads.

    Parameters
    ----------
    function : callable
        Should spend its time outside the GIL: a kernel, a product, a decoder.
    items : iterable

    Returns
    -------
    list

    Examples
    --------
    >>> ordered_map(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    not_recorded()
    return _map(function, items)


def _map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    todo = list(items)
    results: list[Any] = [None] * len(todo)
    indices = iter(range(len(todo)))  # next() is atomic: every index is handed out once
    n_threads = get_num_threads()

    def work() -> None:
        before, _thread.busy = _thread.busy, _thread.busy or len(todo) >= n_threads
        try:
            for index in indices:
                results[index] = function(todo[index])
        except BaseException:
            deque(indices, maxlen=0)  # after an error no thread starts a new item
            raise
        finally:
            _thread.busy = before

    futures = [] if _thread.busy else _submit(work, max(min(n_threads, len(todo)) - 1, 0), n_threads)
    try:
        work()
    finally:
        started = [future for future in futures if not future.cancel()]
        if started:
            wait(started)
    for future in started:
        future.result()
    return results


def run(function: Callable[..., None], n_items: int, work_per_item: float, output: Any, *inputs: Any) -> None:
    """Call ``function(output, *inputs, start, stop)`` over chunks of ``range(n_items)``, with all threads.

    Parameters
    ----------
    function : kernel
        Its items must not depend on each other: each writes its own part of the output.
    n_items : int
        Number of items.
    work_per_item : float
        Multiply-adds of an item; the size of a chunk follows from them.
    output : array or tuple of arrays
        Written by the kernel.
    *inputs
        Further arguments. Arrays, except those in tuples, are passed read-only, since Numba compiles read-only and
        writable arrays separately.
    """
    fixed = [read_only(value) if isinstance(value, np.ndarray) else value for value in inputs]
    work = n_items * work_per_item
    grain = n_items
    if available_threads() > 1 and work > SHARED_WORK:
        largest = min(CHUNK_WORK, work / (CHUNKS_PER_THREAD * get_num_threads()))
        grain = max(round(largest / max(1.0, work_per_item)), n_items // MOST_CHUNKS, 1)
    if grain < n_items:
        _map(lambda start: function(output, *fixed, start, min(n_items, start + grain)), range(0, n_items, grain))
    elif n_items:
        function(output, *fixed, 0, n_items)
    if _thread.recorder:
        _thread.recorder.kernel(function, n_items, work_per_item, output, *fixed)


def available_threads() -> int:
    """Return how many threads a computation of this thread may use: one if others have work already."""
    return 1 if _thread.busy else get_num_threads()


def contiguous(array: Array) -> Array:
    """Return the array itself if it is contiguous, else a copy."""
    if array.flags.c_contiguous:
        return array
    not_recorded()
    return np.ascontiguousarray(array)


def not_recorded() -> None:
    """Tell the recorder of this thread, if there is one, that what follows is computed by no kernel."""
    if _thread.recorder:
        _thread.recorder.other()


@contextmanager
def recording(recorder: Recorder | None) -> Iterator[None]:
    """Tell a recorder, or none, of all that this thread computes inside the ``with`` block."""
    before, _thread.recorder = _thread.recorder, recorder
    try:
        yield
    finally:
        _thread.recorder = before


def read_only(array: Array) -> Array:
    """Return a read-only view of an array."""
    view = array.view()
    view.flags.writeable = False
    return view


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread inside the ``with`` block, even if other threads are inside it.

    The bits of a product depend on how many threads share it, so products whose bits are guaranteed are cut into fixed
    blocks, each computed by one BLAS thread. The guard is counted: overlapping blocks of two threads do not undo each
    other.
    """
    _enter_guard()
    try:
        yield
    finally:
        _leave_guard()


def _enter_guard() -> None:
    global _blas_users, _blas_before
    with _blas_lock:
        _thread.guards += 1
        _blas_users += 1
        if _blas_users == 1:
            libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            _blas_before = [(library, library.get_num_threads()) for library in libraries]
            _limit_blas([(library, 1) for library in libraries])


def _leave_guard() -> None:
    global _blas_users
    with _blas_lock:
        _thread.guards -= 1
        _blas_users -= 1
        if _blas_users == 0:
            _limit_blas(_blas_before)


def _limit_blas(limits: list[tuple[Any, int]]) -> None:
    """Set the thread counts of libraries, from any thread.

    Since 3.8 threadpoolctl obeys only the thread that first set OpenBLAS's count and silently ignores all others.
    """
    for library, n_threads in limits:
        release = getattr(library, "clear_controlling_thread", lambda force: None)
        release(force=True)
        library.set_num_threads(n_threads)
        release(force=True)


def _after_fork() -> None:
    """Reset, in a forked child, the pool, the locks and the guards of threads that it does not inherit."""
    global _pool, _pool_lock, _blas_users
    _pool, _pool_lock = None, threading.RLock()
    was_limited, _blas_users = _blas_users > 0, _thread.guards
    if was_limited and not _blas_users:
        _limit_blas(_blas_before)
    _blas_lock.release()


if hasattr(os, "register_at_fork"):  # hold the lock during fork, so that the BLAS thread count is consistent
    os.register_at_fork(before=_blas_lock.acquire, after_in_parent=_blas_lock.release, after_in_child=_after_fork)
