"""What runs on a worker of a cluster: tasks, with its share of the CPUs, and checks of what it has and sees."""

import hashlib
import os
import platform
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from framecnn.errors import SettingError
from framecnn.execution import watched
from framecnn.kernels.jit import current_isa
from framecnn.text import listed
from framecnn.thread_count import get_num_threads, set_num_threads
from framecnn.version import __version__

__all__ = [
    "SHOWN",
    "THREADS",
    "Terms",
    "can_write_beside",
    "dask_setup",
    "difference",
    "digests_of",
    "facts_here",
    "host_of",
    "merge_parts",
    "run_task",
    "this_process",
    "unchanged",
]

LIBRARIES = ("numpy", "numba", "llvmlite", "pillow")
"""Libraries whose versions change the bits of features."""

SHOWN = 3
"""Workers that an error names."""

THREADS = get_num_threads()
"""The threads of this process, before tasks set their share."""


class Terms(NamedTuple):
    """What a task checks and sets on its worker.

    `facts` are those that it must have, or None if any will do; `threads` are those of all workers by host; `client` is
    the process of the client.
    """

    facts: Mapping[str, str] | None
    threads: Mapping[str, int]
    client: tuple[str, int]


def dask_setup(_: Any) -> None:
    """Leave the reaction to Ctrl-C, of which the system tells all processes of a terminal, to the client.

    Dask calls it in a worker that starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def unchanged(value: Any) -> Any:
    """Return a value: the task on which all depend that share it."""
    return value


def merge_parts(merge: Callable[[Any, Any, bool], Any], total: Any, part: Any) -> Any:
    """Return both parts of a total together."""
    return merge(total, part, False)


def run_task(terms: Terms, function: Callable[..., Any], shared: Any, *arguments: Any) -> Any:
    """Run a task on a worker, with the worker's share of the CPUs."""
    from distributed import get_worker

    worker = get_worker()
    if terms.facts is not None and terms.facts != facts_here():  # a worker that joined later
        raise SettingError(difference(terms.facts, {worker.address: facts_here()}))
    if "FRAMECNN_NUM_THREADS" not in os.environ and terms.client != this_process():
        sharing = terms.threads.get(host_of(worker.address), worker.state.nthreads)
        set_num_threads(max(1, THREADS // sharing))
    key = worker.get_current_task()

    def check() -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state == "cancelled":
            raise RuntimeError("the client does not need this task any more")

    with watched(check):
        found = function(shared, *arguments)
        return list(found) if isinstance(found, Iterator) else found


def facts_here() -> dict[str, str]:
    """Return what the bits of results depend on, beside the data."""
    return {"instruction set": current_isa(), "framecnn": __version__} | _versions()


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES}


def difference(facts: Mapping[str, str], others: Mapping[str, Mapping[str, str]]) -> str:
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


def this_process() -> tuple[str, int]:
    """Return what tells this process from those of all machines."""
    return platform.node(), os.getpid()


def host_of(address: str) -> str:
    """Return the host in the address of a worker, such as tcp://10.0.0.1:40331."""
    return address.rpartition(":")[0]


def can_write_beside(probe: Path) -> bool:
    """Return whether a file is there, and others can be written to its folder."""
    return probe.is_file() and os.access(probe.parent, os.W_OK)


def digests_of(paths: Sequence[Path]) -> list[str | None]:
    """Return the SHA-256 of files; None for one that cannot be read."""
    found: list[str | None] = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                found.append(hashlib.file_digest(file, "sha256").hexdigest())
        except OSError:
            found.append(None)
    return found
