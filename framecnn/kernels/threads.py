"""The one thread pool: kernels that release the GIL run over chunks of items, results come in fixed order.

What an item gives does not depend on the chunk it is part of, so the bits of a result do not depend on the number of
threads. The calling thread works too, so a call from inside a chunk, from many Python threads or from a forked child
can never wait for itself.
"""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from framecnn.thread_count import get_num_threads

__all__ = ["ordered_map", "run", "single_threaded_blas"]

CHUNK_WORK = 4_000_000  # multiply-adds: about 0.1 ms, where handing out a chunk costs about 0.01 ms
MOST_CHUNKS = 128  # enough to keep dozens of threads busy to the end
Item = TypeVar("Item")
Result = TypeVar("Result")


class _Here(threading.local):
    """What a thread knows of itself: whether it works on one of enough items to keep every thread busy."""

    busy = False


_here = _Here()
_pool: "_Pool | None" = None
_pool_lock = threading.RLock()
_blas_lock = threading.RLock()
_blas_users = 0
_blas_before: list[tuple[Any, int]] = []


def _after_fork() -> None:
    """A child of fork inherits neither threads nor the holders of locks."""
    global _pool, _pool_lock, _blas_lock
    _pool, _pool_lock, _blas_lock = None, threading.RLock(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Pool:
    """All threads but the calling one."""

    def __init__(self, n_threads: int):
        self.n_threads = n_threads
        self.executor = ThreadPoolExecutor(n_threads - 1, "framecnn", self._join)
        self.members: list[int] = []
        self.callers_cpu: int | None = None

    def _join(self) -> None:
        self.members.append(threading.get_native_id())
        self.callers_cpu = None

    def submit(self, work: Callable[[], None], times: int) -> list[Future[None]]:
        if _current_cpu is not None and self.callers_cpu != (cpu := _current_cpu()):
            self.callers_cpu = cpu
            self._leave(cpu)
        return [self.executor.submit(work) for _ in range(times)]

    def _leave(self, cpu: int) -> None:
        """Keep the members off the caller's CPU.

        Linux wakes a thread where it ran last, even if the caller is there now; where CPUs share no cache, as in some
        virtual machines, nobody moves it for milliseconds and two threads take as long as one (measured).
        """
        others = os.sched_getaffinity(0) - {cpu}
        for member in self.members:
            if others and member != threading.get_native_id():
                with suppress(OSError):
                    os.sched_setaffinity(member, others)


_current_cpu = getattr(ctypes.CDLL(None), "sched_getcpu", None) if hasattr(os, "sched_setaffinity") else None


def _submit(work: Callable[[], None], times: int, n_threads: int) -> list[Future[None]]:
    """Let up to as many helpers begin `work`; a pool for another number of threads ends once it has done its own."""
    global _pool
    with _pool_lock:  # nobody ends a pool between another's finding it and submitting to it
        if _pool is not None and _pool.n_threads != n_threads:
            _pool.executor.shutdown(wait=False)
            _pool = None
        if not times:
            return []
        if _pool is None:
            _pool = _Pool(n_threads)
        return _pool.submit(work, times)


def ordered_map(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Call `function` on every item with all threads; give the results in the order of the items.

    An exception of `function` is raised here, once the items that were begun have ended; no other is begun. Where the
    items keep all threads busy, a call from inside `function` stays in its thread.

    Parameters
    ----------
    function : callable
        Spends its time outside the GIL: a kernel, a product, a decoder.
    items : iterable

    Returns
    -------
    list

    Examples
    --------
    >>> ordered_map(abs, [-1, 2, -3])
    [1, 2, 3]
    """
    todo = list(items)
    results: list[Any] = [None] * len(todo)
    numbers = iter(range(len(todo)))  # next() on it is atomic: every number is handed out once

    n_threads = get_num_threads()

    def work() -> None:
        before, _here.busy = _here.busy, _here.busy or len(todo) >= n_threads
        try:
            for number in numbers:
                results[number] = function(todo[number])
        except BaseException:
            deque(numbers, maxlen=0)  # after an error nobody begins another item
            raise
        finally:
            _here.busy = before

    futures = [] if _here.busy else _submit(work, max(min(n_threads, len(todo)) - 1, 0), n_threads)
    try:
        work()
    finally:
        started = [future for future in futures if not future.cancel()]
        wait(started)
    for future in started:
        future.result()
    return results


def run(function: Callable[..., None], n_items: int, work_per_item: float, output: Any, *inputs: Any) -> None:
    """Call ``function(output, *inputs, start, stop)`` over chunks of ``range(n_items)``, with all threads.

    Parameters
    ----------
    function : kernel
        Items must not depend on each other: each writes its own part of the output.
    n_items : int
        Number of items.
    work_per_item : float
        Multiply-adds an item costs; decides how many make a chunk.
    output : array or tuple of arrays
        What the kernel writes.
    *inputs
        What it takes besides. All arrays go in read-only, so that whether the caller's are does not decide which of
        two compiled kernels runs.
    """
    grain = max(round(CHUNK_WORK / max(1.0, work_per_item)), n_items // MOST_CHUNKS, 1)
    if _here.busy:
        grain = max(n_items, 1)
    fixed = _read_only(inputs)
    ordered_map(lambda start: function(output, *fixed, start, min(n_items, start + grain)), range(0, n_items, grain))


def _read_only(value: Any) -> Any:
    """Return a value whose arrays, also those in tuples, are read-only views."""
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    elif isinstance(value, tuple):
        parts = map(_read_only, value)
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    return value


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Keep BLAS to one thread inside the block, whoever else is inside at the same time.

    A product's bits depend on how many threads share it, so products whose bits are promised are cut into fixed
    blocks, each by one BLAS thread. The guard is counted: overlapping blocks of two threads do not undo each other.
    """
    global _blas_users, _blas_before
    with _blas_lock:
        _blas_users += 1
        if _blas_users == 1:
            libraries = ThreadpoolController().select(user_api="blas").lib_controllers
            _blas_before = [(library, library.get_num_threads()) for library in libraries]
            _limit_blas([(library, 1) for library in libraries])
    try:
        yield
    finally:
        with _blas_lock:
            _blas_users -= 1
            if _blas_users == 0:
                _limit_blas(_blas_before)


def _limit_blas(limits: list[tuple[Any, int]]) -> None:
    """Set libraries' numbers of threads, from any thread.

    Since 3.8 threadpoolctl obeys only the thread that set OpenBLAS's number first and ignores all others silently.
    """
    for library, number in limits:
        let_go = getattr(library, "clear_controlling_thread", lambda force: None)
        let_go(force=True)
        library.set_num_threads(number)
        let_go(force=True)
