"""Locks of outputs: a hidden file beside each, which the system unlocks when its process dies."""

import errno
import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, SoftFileLock, Timeout

from framecnn.errors import DataError
from framecnn.storage.atomic import hidden_path

__all__ = ["lock_outputs"]

_PATIENCE = 0.1  # seconds: another run may be about to release its lock
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
"""Errors of file systems that cannot lock files: NFS without its lock daemon, some SMB and FUSE systems."""


@contextmanager
def lock_outputs(paths: Iterable[Path | None]) -> Iterator[None]:
    """Hold the lock of each output while the block runs.

    The lock is ``.framecnn-....lock`` in the folder of the output. It contains process and host of its owner, and is
    removed when the block ends. The lock of a dead process is taken over. If the file system cannot lock files, the
    file ``.framecnn-....pid`` is the lock; that of a dead process is taken over by the next run on the same host.

    Parameters
    ----------
    paths : iterable of Path or None
        The files to write; their folders must exist.

    Raises
    ------
    DataError
        If another run holds a lock, or a lock belongs to another user; the message names process and host.

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
        for lock, path in sorted(locks.items()):  # in one order, so that two runs cannot block each other
            held.enter_context(_hold(lock, path))
        yield


@contextmanager
def _hold(lock: Path, path: Path) -> Iterator[None]:
    holding: FileLock | SoftFileLock = FileLock(lock, fallback_to_soft=False)
    try:
        _acquire(holding, lock, path)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        with suppress(OSError):
            if not lock.stat().st_size:  # if another system can lock this file, it contains its owner
                lock.unlink()
        lock = lock.with_suffix(".pid")
        holding = SoftFileLock(lock)
        _acquire(holding, lock, path)
    # a SoftFileLock writes its owner and removes its file itself
    is_system_lock = not isinstance(holding, SoftFileLock)
    try:
        if is_system_lock:
            _write_owner(lock)
        yield
    finally:
        if is_system_lock and os.name != "nt":  # while it is held: it cannot be the lock of another process
            with suppress(OSError):
                lock.unlink()
        holding.release()
        if is_system_lock and os.name == "nt":  # there an open file cannot be removed
            with suppress(OSError):
                lock.unlink()


def _acquire(holding: FileLock | SoftFileLock, lock: Path, path: Path) -> None:
    try:
        holding.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 4)
    except Timeout:
        raise DataError(
            f"{path}: expected no other run to write here, but {_owner(lock)} does; wait until it has ended, end "
            f"it, or choose another path{_if_dead(lock) if isinstance(holding, SoftFileLock) else ''}"
        ) from None
    except PermissionError as error:
        if not os.path.lexists(lock):
            raise
        raise DataError(
            f"{path}: expected a lock of this user or none, but {_owner(lock)} of {_user(lock)} writes here, or was "
            f"killed; wait until it has ended, or choose another path{_if_dead(lock)}"
        ) from error


def _if_dead(lock: Path) -> str:
    return f"; if that process is gone, delete {str(lock)!r}"


def _write_owner(lock: Path) -> None:
    """Write process and host of the owner into a lock, after the first byte, which Windows locks."""
    with suppress(OSError), open(lock, "r+b", buffering=0) as file:  # on a full disk the lock holds without it
        file.seek(1)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}).encode("ascii"))
        file.truncate()


def _owner(lock: Path) -> str:
    """Return process and host that hold a lock, as :func:`_write_owner` (JSON) or SoftFileLock (lines) wrote them."""
    try:
        with open(lock, "rb", buffering=0) as file:
            file.seek(1)
            if file.read(1) == b"{":
                file.seek(1)
                owner = json.loads(file.read(4096))
                pid, host = owner["pid"], owner["host"]
            else:
                file.seek(0)
                pid, host, *_ = file.read(4096).decode("utf-8").splitlines()
        return f"process {int(pid)} on host {str(host)!r}"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def _user(lock: Path) -> str:
    try:
        return f"user {lock.owner()!r}"
    except (OSError, KeyError, NotImplementedError):  # a user without a name; Windows
        return "another user"
