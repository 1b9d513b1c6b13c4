"""Fits, scans and predictions on the workers of a Dask cluster, with the same bits as in this process.

Frames, features and models are those of a single process: what differs is where tasks run. Workers read frames, and
write and read features, in folders that all of them see at the same paths: those of the frames, and the cache folder
of :func:`framecnn.working_memory`, or a temporary folder if workers are on this machine.

A Dask scheduler runs the code of whoever reaches it. :func:`local_cluster` listens on the loopback address only;
between machines use TLS, which Dask's own configuration sets (``distributed.comm.tls``).
"""

import hashlib
import logging
import os
import platform
import secrets
import signal
import tempfile
import warnings
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from framecnn.arguments import check_count
from framecnn.errors import MachineError, MissingExtraError, SettingError
from framecnn.execution import Executor, executing_on, in_tree, watched
from framecnn.kernels.jit import current_isa
from framecnn.text import listed
from framecnn.thread_count import get_num_threads, set_num_threads
from framecnn.version import __version__

__all__ = ["connected", "local_cluster", "run_on"]

LIBRARIES = ("numpy", "numba", "llvmlite", "pillow")
"""Libraries whose versions change the bits of features."""

AHEAD = 2  # tasks of a thread that wait on the scheduler, so that no worker waits for the client
DEATHS = 10  # of workers that a task may be held by, before it is taken for their cause
ANSWER_SECONDS = 10
LOOPBACK = "127.0.0.1"
SHOWN = 3  # workers and files that an error names


@contextmanager
def run_on(client: Any, *, allow_mixed: bool = False) -> Iterator[None]:
    """Run the work of estimators, folders and commands on a Dask cluster inside a ``with`` block.

    Results have the same bits as without it, for any number of workers. A worker may be killed, and others may join:
    what it held is done again. Tasks of a worker use its share of the CPUs of its machine, or as many threads as its
    environment variable ``FRAMECNN_NUM_THREADS`` says. The setting belongs to the whole process.

    Parameters
    ----------
    client : distributed.Client
    allow_mixed : bool, default False
        Whether workers may have other instruction sets or other versions of libraries than this process, which give
        other bits.

    Raises
    ------
    SettingError
        If workers differ from this process, and that is not allowed.
    MachineError
        If there is no worker, or workers do not see the same files as this process; later, if the connection to the
        scheduler is lost, or workers end again and again.
    MissingExtraError
        If the extra `dask` is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from framecnn import FrameClassifier
    >>> rng = np.random.default_rng(0)
    >>> across = np.repeat(rng.integers(0, 256, (8, 24, 1, 3), np.uint8), 32, axis=2)
    >>> down = np.repeat(rng.integers(0, 256, (8, 1, 32, 3), np.uint8), 24, axis=1)
    >>> X, y = np.concatenate([across, down]), ["across"] * 8 + ["down"] * 8
    >>> with local_cluster(2) as client, run_on(client):  # doctest: +SKIP
    ...     FrameClassifier(n_filters=20, random_state=0).fit(X, y)
    """
    _import_dask("run_on")
    import dask

    quiet = {"distributed.admin.large-graph-warning-threshold": "1 TiB"}
    with dask.config.set(quiet), executing_on(_Cluster(client, allow_mixed)):
        yield


@contextmanager
def local_cluster(n_workers: int) -> Iterator[Any]:
    """Start workers on this machine, each with its share of the CPUs, and yield the client; end them with the block.

    They are processes, and listen on the loopback address only, without a dashboard.

    Parameters
    ----------
    n_workers : int

    Yields
    ------
    distributed.Client

    Raises
    ------
    SettingError
        If `n_workers` is not a positive integer.
    MissingExtraError
        If the extra `dask` is not installed.
    """
    n_workers = check_count("local_cluster", "n_workers", n_workers)
    distributed = _import_dask("local_cluster")
    import dask

    with (
        tempfile.TemporaryDirectory(prefix="framecnn-workers-") as folder,
        _silent_logs(),
        dask.config.set({"distributed.scheduler.allowed-failures": DEATHS}),
    ):
        with warnings.catch_warnings(action="ignore"):  # of a port that is not free: another is taken
            cluster = distributed.LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                host=LOOPBACK,
                dashboard_address=None,
                local_directory=folder,
                silence_logs=logging.CRITICAL,
                preload=[__name__],
            )
        with cluster, distributed.Client(cluster) as client:
            yield client


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Connect to a scheduler, such as tcp://10.0.0.1:8786, and yield the client; raise MachineError if none answers."""
    distributed = _import_dask("connected")
    with _silent_logs():
        try:
            client = distributed.Client(address, timeout=ANSWER_SECONDS)
        except (OSError, ValueError) as error:
            raise MachineError(
                f"distributed: expected a scheduler at {address}, got no answer ({error}); start one: dask scheduler"
            ) from error
        with client:
            yield client


@contextmanager
def _silent_logs() -> Iterator[None]:
    """Log nothing of Dask inside the ``with`` block: what a user has to know is in the errors."""
    loggers = {name: logging.getLogger(name) for name in ("distributed", "asyncio", "tornado")}
    before = {name: logger.level for name, logger in loggers.items()}
    try:
        for logger in loggers.values():
            logger.setLevel(logging.CRITICAL)
        yield
    finally:
        for name, logger in loggers.items():
            logger.setLevel(before[name])


def _import_dask(who: str) -> Any:
    """Return the package distributed; raise MissingExtraError if it is not installed."""
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError(who, "distributed", "dask") from error
    return distributed


class _Terms(NamedTuple):
    """What a task checks and sets on its worker.

    `facts` are those that it must have, or None if any will do; `threads` are those of all workers by host; `client` is
    the process of the client.
    """

    facts: Mapping[str, str] | None
    threads: Mapping[str, int]
    client: tuple[str, int]


class _Cluster(Executor):
    """Runs tasks on the workers of a Dask cluster."""

    is_remote = True

    def __init__(self, client: Any, allow_mixed: bool):
        self._client, self._seen = client, set[Path]()
        with self._told():
            threads = client.nthreads()
            if not threads:
                raise MachineError("run_on: expected at least one worker, got none; start some: dask worker ADDRESS")
            facts = _facts()
            others = {worker: own for worker, own in self._run(_facts).items() if own != facts}
        if others and not allow_mixed:
            raise SettingError(_difference(facts, others))
        by_host: Counter[str] = Counter()
        for worker, n in threads.items():
            by_host[_host(worker)] += n
        self.n_tasks = sum(threads.values())
        self._terms = _Terms(None if allow_mixed else facts, by_host, _process())

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
                    yield self._result(pending.popleft())
            while pending:
                yield self._result(pending.popleft())

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

            return self._result(in_tree(parts(), lambda total, part: submit(_merge, merge, total, part)))

    def check_folder(self, folder: str | os.PathLike[str]) -> None:
        """Raise MachineError unless all workers can read and write a folder, which is created."""
        folder = Path(os.path.abspath(folder))
        if folder in self._seen:
            return
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".framecnn-probe-{secrets.token_hex(8)}"
        probe.touch()
        try:
            blind = [worker for worker, sees in self._run(_can_write_beside, probe).items() if sees is not True]
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
        own = _digests(paths)
        for worker, found in self._run(_digests, paths).items():
            for path, here, there in zip(paths, own, found, strict=True):
                if here != there:
                    raise MachineError(
                        f"run_on: expected all workers to see {os.fspath(path)!r} as this process does, got "
                        f"{'no such file' if there is None else 'another file'} on {worker}; give all machines the "
                        "same disk, at the same path"
                    )

    def _submitted(
        self, submit: Callable[..., Any], function: Callable[..., Any], shared: Any, tasks: Iterable[Sequence[Any]]
    ) -> Iterator[Any]:
        """Yield the futures of all tasks; what they share is a task of its own, which workers fetch from each other."""
        common = submit(_same, shared)
        for task in tasks:
            arguments = [list(value) if isinstance(value, Iterator) else value for value in task]
            yield submit(_run, self._terms, function, common, *arguments)

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
        for worker, value in found.items():
            if isinstance(value, Exception):
                raise MachineError(f"run_on: expected workers that can run framecnn, got {value!r} on {worker}")
        return found

    def _result(self, future: Any) -> Any:
        return self._client.gather(future, direct=True)

    def _wait(self, future: Any) -> None:
        from distributed import wait

        wait(future)  # type: ignore[no-untyped-call]
        if future.status != "finished":
            self._result(future)

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


def dask_setup(_: Any) -> None:
    """Leave the reaction to Ctrl-C, of which the system tells all processes of a terminal, to the client.

    Dask calls it in a worker that starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _same(value: Any) -> Any:
    return value


def _merge(merge: Callable[[Any, Any, bool], Any], total: Any, part: Any) -> Any:
    return merge(total, part, False)


_THREADS = get_num_threads()  # of this process, before tasks set their share


def _run(terms: _Terms, function: Callable[..., Any], shared: Any, *arguments: Any) -> Any:
    """Run a task on a worker, with the worker's share of the CPUs."""
    from distributed import get_worker

    worker = get_worker()
    if terms.facts is not None and terms.facts != _facts():  # a worker that joined later
        raise SettingError(_difference(terms.facts, {worker.address: _facts()}))
    if "FRAMECNN_NUM_THREADS" not in os.environ and terms.client != _process():
        sharing = terms.threads.get(_host(worker.address), worker.state.nthreads)
        set_num_threads(max(1, _THREADS // sharing))
    key = worker.get_current_task()

    def check() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise RuntimeError("the client does not need this task any more")

    with watched(check):
        found = function(shared, *arguments)
        return list(found) if isinstance(found, Iterator) else found


def _facts() -> dict[str, str]:
    """Return what the bits of results depend on, beside the data."""
    return {"instruction set": current_isa(), "framecnn": __version__} | {name: version(name) for name in LIBRARIES}


def _difference(facts: Mapping[str, str], others: Mapping[str, Mapping[str, str]]) -> str:
    """Return an error about workers that differ, with the facts of each that do."""
    found = [
        f"{worker} ({', '.join(f'{name} {value}' for name, value in own.items() if value != facts[name])})"
        for worker, own in others.items()
    ]
    wanted = ", ".join(
        f"{name} {value}" for name, value in facts.items() if any(own[name] != value for own in others.values())
    )
    return (
        f"run_on: expected workers with {wanted} as here, got {listed(found, SHOWN)}; results would have other bits: "
        "use equal machines, or allow_mixed=True (--allow-mixed)"
    )


def _process() -> tuple[str, int]:
    return platform.node(), os.getpid()


def _host(address: str) -> str:
    """Return the host in the address of a worker, such as tcp://10.0.0.1:40331."""
    return address.rpartition(":")[0]


def _can_write_beside(probe: Path) -> bool:
    return probe.is_file() and os.access(probe.parent, os.W_OK)


def _digests(paths: Sequence[Path]) -> list[str | None]:
    """Return the SHA-256 of files; None for one that cannot be read."""
    found: list[str | None] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            found.append(None)
    return found
