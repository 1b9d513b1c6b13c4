"""One run at a time for each output: a hidden lock file beside it, which the system frees when its process dies."""

import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from framecnn.atomic import hidden_path
from framecnn.errors import DataError

__all__ = ["lock_outputs"]

_PATIENCE = 0.1  # seconds: another run may be just giving its lock back


@contextmanager
def lock_outputs(paths: Iterable[Path | None]) -> Iterator[None]:
    """Hold the lock of each output while the block runs.

    The lock is ``.framecnn-....lock`` in the folder of the output. It holds process and host of its owner, and is gone
    when the block ends. One that a dead process left does not stop anybody: it is taken over.

    Parameters
    ----------
    paths : iterable of Path or None
        The files to write; their folders must exist.

    Raises
    ------
    DataError
        If another run holds one; the message says which process on which host.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> with lock_outputs([path]):
    ...     try:
    ...         with lock_outputs([path]):
    ...             pass
    ...     except DataError:
    ...         print("another run writes here")
    another run writes here
    """
    real = (Path(os.path.realpath(path)) for path in paths if path is not None)
    locks = {hidden_path(path, ".lock"): path for path in real}
    with ExitStack() as held:
        for lock, path in sorted(locks.items()):  # in one order, so that of two runs one goes on
            held.enter_context(_hold(lock, path))
        yield


@contextmanager
def _hold(lock: Path, path: Path) -> Iterator[None]:
    holding = FileLock(lock)
    try:
        holding.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 4)
    except Timeout:
        raise DataError(
            f"{path}: expected that no other run writes here, but {_owner(lock)} does; wait until it has ended, end "
            "it, or choose another place"
        ) from None
    try:
        _sign(lock)
        yield
    finally:
        if os.name != "nt":  # while it is held, lest somebody else's is removed
            with suppress(OSError):
                lock.unlink()
        holding.release()
        if os.name == "nt":  # which removes no file that is open
            with suppress(OSError):
                lock.unlink()


def _sign(lock: Path) -> None:
    """Write down who holds a lock, after the first byte: Windows locks that one."""
    with suppress(OSError), open(lock, "r+b", buffering=0) as file:  # on a full disk it holds all the same
        file.seek(1)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}).encode("ascii"))
        file.truncate()


def _owner(lock: Path) -> str:
    try:
        with open(lock, "rb", buffering=0) as file:
            file.seek(1)
            owner = json.loads(file.read(4096))
        return f"process {int(owner['pid'])} on host {str(owner['host'])!r}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
