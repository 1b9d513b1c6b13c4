"""The executor that runs tasks on the workers of a Dask cluster."""

import os
import secrets
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from framecnn.distributed.worker import (
    SHOWN,
    Terms,
    can_write_beside,
    difference,
    digests_of,
    facts_here,
    host_of,
    merge_parts,
    run_task,
    this_process,
    unchanged,
)
from framecnn.errors import MachineError, SettingError
from framecnn.execution import Executor, in_tree
from framecnn.text import listed

__all__ = ["Cluster"]

ASK_SECONDS = 5  # between two questions whether there are workers
ALONE_SECONDS = 120  # that a run waits for workers when there are none
AHEAD = 2  # tasks of a thread that wait on the scheduler, so that no worker waits for the client


class Cluster(Executor):
    """Runs tasks on the workers of a Dask cluster."""

    is_remote = True

    def __init__(self, client: Any, allow_mixed: bool):
        self._client, self._seen = client, set[Path]()
        with self._told():
            threads = client.nthreads()
            if not threads:
                raise MachineError("run_on: expected at least one worker, got none; start some: dask worker ADDRESS")
            facts = facts_here()
            others = {address: own for address, own in self._run(facts_here).items() if own != facts}
        if others and not allow_mixed:
            raise SettingError(difference(facts, others))
        by_host: Counter[str] = Counter()
        for address, n in threads.items():
            by_host[host_of(address)] += n
        self.n_tasks = sum(threads.values())
        self._terms = Terms(None if allow_mixed else facts, by_host, this_process())

    def portions(self, items: Sequence[Any], size: int = 1) -> list[Sequence[Any]]:
        """Return items in portions of a size."""
        return [items[start : start + size] for start in range(0, len(items), size)]

    def map(self, function: Callable[..., Any], shared: Any, tasks: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """Yield the results of all tasks, in their order; few tasks are submitted ahead of the one that is awaited."""
        pending: deque[Any] = deque()
        with self._told(), self._released_at_the_end() as submit:
            for future in self._submitted(submit, function, shared, tasks):
                pending.append(future)
                if len(pending) > AHEAD * self.n_tasks:
                    yield from self._first_results(pending)
            while pending:
                yield from self._first_results(pending)

    def total(
        self,
        function: Callable[..., Any],
        shared: Any,
        tasks: Iterable[Sequence[Any]],
        merge: Callable[[Any, Any, bool], Any],
    ) -> Any:
        """Return the results of all tasks, merged in a tree by workers: only the total comes to the client."""
        pending: deque[Any] = deque()
        with self._told(), self._released_at_the_end() as submit:

            def parts() -> Iterator[Any]:
                for future in self._submitted(submit, function, shared, tasks):
                    pending.append(future)
                    yield future
                    if len(pending) > AHEAD * self.n_tasks:
                        self._wait(pending.popleft())

            total = in_tree(parts(), lambda total, part: submit(merge_parts, merge, total, part))
            return self._first_results(deque([total]))[0]

    def check_folder(self, folder: str | os.PathLike[str]) -> None:
        """Raise MachineError unless all workers can read and write a folder, which is created."""
        folder = Path(os.path.abspath(folder))
        if folder in self._seen:
            return
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".framecnn-probe-{secrets.token_hex(8)}"
        probe.touch()
        try:
            blind = [address for address, sees in self._run(can_write_beside, probe).items() if sees is not True]
        finally:
            probe.unlink()
        if blind:
            raise MachineError(
                f"run_on: expected all workers to write to {os.fspath(folder)!r}, got no such folder on "
                f"{listed(blind, SHOWN)}; name a cache folder on a disk that all machines share"
            )
        self._seen.add(folder)

    def check_files(self, files: Iterable[str | os.PathLike[str]]) -> None:
        """Raise MachineError unless all workers see the same files, by their SHA-256."""
        paths = [Path(os.path.abspath(file)) for file in files]
        own = digests_of(paths)
        for address, found in self._run(digests_of, paths).items():
            for path, here, there in zip(paths, own, found, strict=True):
                if here != there:
                    raise MachineError(
                        f"run_on: expected all workers to see {os.fspath(path)!r} as this process does, got "
                        f"{'no such file' if there is None else 'another file'} on {address}; give all machines the "
                        "same disk, at the same path"
                    )

    def _submitted(
        self, submit: Callable[..., Any], function: Callable[..., Any], shared: Any, tasks: Iterable[Sequence[Any]]
    ) -> Iterator[Any]:
        """Yield the futures of all tasks; what they share is a task of its own, which workers fetch from each other."""
        common = submit(unchanged, shared)
        for task in tasks:
            arguments = [list(value) if isinstance(value, Iterator) else value for value in task]
            yield submit(run_task, self._terms, function, common, *arguments)

    @contextmanager
    def _released_at_the_end(self) -> Iterator[Callable[..., Any]]:
        """Yield a function that submits a task; at the end, whatever ends it, tasks that are left need not be done."""
        submitted = weakref.WeakSet[Any]()

        def submit(function: Callable[..., Any], *arguments: Any) -> Any:
            future = self._client.submit(function, *arguments, pure=False)
            submitted.add(future)
            return future

        try:
            yield submit
        finally:
            for future in list(submitted):
                with suppress(Exception):  # the connection is lost
                    future.release()

    def _run(self, function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        """Return what a function returns on each worker."""
        found = self._client.run(function, *arguments, on_error="return")
        for address, value in found.items():
            if isinstance(value, Exception):
                raise MachineError(f"run_on: expected workers that can run framecnn, got {value!r} on {address}")
        return found

    def _first_results(self, pending: deque[Any]) -> list[Any]:
        """Wait for the first of some tasks; return its result, and those of the next ones that are done, too.

        Workers send results to this process, not through the scheduler.
        """
        self._wait(pending[0])
        ready = [pending.popleft()]
        while pending and pending[0].done():
            ready.append(pending.popleft())
        return self._client.gather(ready, direct=True)

    def _wait(self, future: Any) -> None:
        """Wait for a task as long as there are workers; raise its error if it failed."""
        from distributed import wait

        alone_since = None
        while not future.done():
            with suppress(TimeoutError):
                wait(future, timeout=ASK_SECONDS)  # type: ignore[no-untyped-call]
            alone_since = None if future.done() or self._client.nthreads() else alone_since or time.monotonic()
            if alone_since and time.monotonic() > alone_since + ALONE_SECONDS:
                raise MachineError(
                    f"run_on: expected workers at {self._client.scheduler.address}, got none for {ALONE_SECONDS} s; "
                    "start some, and repeat the run: it resumes from the cache folder"
                )
        if future.status != "finished":
            self._client.gather(future)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Raise MachineError for what happens to a cluster."""
        from distributed import CancelledError, KilledWorker
        from distributed.comm.core import CommClosedError

        try:
            yield
        except KilledWorker as error:
            raise MachineError(
                "run_on: expected workers to survive their tasks, but a task ended several of them; give each more "
                "memory, or start fewer on a machine"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise MachineError(
                f"run_on: lost the connection to the scheduler at {self._client.scheduler.address}; start it again, "
                "and repeat the run: it resumes from the cache folder"
            ) from error
