"""Clients of Dask clusters, and what runs work on them."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from framecnn.arguments import check_count
from framecnn.distributed import worker
from framecnn.distributed.cluster import Cluster
from framecnn.errors import MachineError, MissingExtraError
from framecnn.execution import executing_on

__all__ = ["connected", "local_cluster", "run_on"]

DEATHS = 10  # of workers that a task may be held by, before it is taken for their cause
RESTART_TIME = "10 minutes"  # that a worker may take to start again; importing takes long on a busy machine
ANSWER_SECONDS = 10
LOOPBACK = "127.0.0.1"


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
    with dask.config.set(quiet), executing_on(Cluster(client, allow_mixed)):
        yield


@contextmanager
def local_cluster(n_workers: int) -> Iterator[Any]:
    """Start workers on this machine, each with its share of the CPUs, and yield the client; end them with the block.

    They are processes, and listen on the loopback address only, without a dashboard. They import the script that starts
    them, so it does so below ``if __name__ == "__main__":``.

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
        dask.config.set(
            {"distributed.scheduler.allowed-failures": DEATHS, "distributed.deploy.lost-worker-timeout": RESTART_TIME}
        ),
    ):
        with warnings.catch_warnings(action="ignore"):  # of a port that is not free: another is taken
            cluster = distributed.LocalCluster(
                n_workers=n_workers,
                threads_per_worker=1,
                host=LOOPBACK,
                dashboard_address=None,
                local_directory=folder,
                silence_logs=logging.CRITICAL,
                preload=[worker.__name__],
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
