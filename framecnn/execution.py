"""Where work on shards runs: in this process, or on the workers of a cluster; the algorithms do not differ.

Work is cut into tasks, and what a task returns depends on its arguments alone. Sums of tasks are added in a fixed
tree. So results have the same bits wherever, how often, and in which order the tasks run.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["FAN_IN", "Executor", "check_cancelled", "executing_on", "get_executor", "in_tree", "watched"]

FAN_IN = 64
Item = TypeVar("Item")
Part = TypeVar("Part")


class Executor:
    """Runs tasks in this process, one after another; each of them uses all threads.

    A task is a function of the module level, called as ``function(shared, *task)``: `shared` is what all tasks have in
    common, and a task itself holds what it alone needs.
    """

    is_remote = False
    """Whether tasks run in other processes, which see what they have in common in files."""

    n_tasks = 1
    """How many tasks run at a time."""

    def portions(self, items: Sequence[Item], size: int = 1) -> list[Sequence[Item]]:
        """Return items in the portions of which each is a task: here one, on a cluster `size` items each."""
        return [items] if len(items) else []

    def map(self, function: Callable[..., Any], shared: Any, tasks: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """Yield ``function(shared, *task)`` for all tasks, in their order."""
        return (function(shared, *task) for task in tasks)

    def total(
        self,
        function: Callable[..., Any],
        shared: Any,
        tasks: Iterable[Sequence[Any]],
        merge: Callable[[Any, Any, bool], Any],
    ) -> Any:
        """Return what all tasks give, merged in a tree with a fan-in of 64 at every level.

        ``merge(total, part, in_place)`` returns both together; it may change `total` if `in_place` is true.
        """
        return in_tree(self.map(function, shared, tasks), lambda total, part: merge(total, part, True))

    def check_folder(self, folder: str | os.PathLike[str]) -> None:
        """Raise MachineError unless all workers see a folder, which is created, at the same path."""

    def check_files(self, files: Iterable[str | os.PathLike[str]]) -> None:
        """Raise MachineError unless all workers see the same files at the same paths."""


_executor = Executor()


def get_executor() -> Executor:
    """Return what runs tasks: this process, unless :func:`framecnn.distributed.run_on` has set a cluster."""
    return _executor


@contextmanager
def executing_on(executor: Executor) -> Iterator[None]:
    """Run tasks by an executor inside the ``with`` block; it belongs to the whole process."""
    global _executor
    before, _executor = _executor, executor
    try:
        yield
    finally:
        _executor = before


def in_tree(parts: Iterable[Part], merge: Callable[[Part, Part], Part]) -> Part:
    """Return parts merged in order: 64 to a total, 64 of these totals to one of the next level, and so on.

    Examples
    --------
    >>> in_tree(["a", "b", "c"], lambda total, part: f"({total} + {part})")
    '((a + b) + c)'
    """
    totals: list[list[Any]] = []  # of each level: the total so far, and the number of its parts

    def add(part: Part, level: int) -> None:
        if level == len(totals):
            totals.append([None, 0])
        total, n = totals[level]
        totals[level] = [merge(total, part) if n else part, n + 1]
        if n + 1 == FAN_IN:
            full, totals[level] = totals[level][0], [None, 0]
            add(full, level + 1)

    for part in parts:
        add(part, 0)
    found, *higher = [total for total, n in totals if n]
    for total in higher:
        found = merge(total, found)
    return found


class _Watch(threading.local):
    check: Callable[[], None] | None = None


_watch = _Watch()


def check_cancelled() -> None:
    """Raise an error in a task whose client has gone, or do nothing; long tasks call it now and then."""
    if _watch.check is not None:
        _watch.check()


@contextmanager
def watched(check: Callable[[], None]) -> Iterator[None]:
    """Let :func:`check_cancelled` call a function in this thread inside the ``with`` block."""
    before, _watch.check = _watch.check, check
    try:
        yield
    finally:
        _watch.check = before
