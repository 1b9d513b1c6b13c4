"""One run at a time for each output: a hidden lock file beside it, which the system frees when its process dies."""

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

_PATIENCE = 0.1  # seconds: another run may be just giving its lock back
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP}
"""What file systems say that lock no files: NFS without its lock daemon, some of SMB and FUSE."""


@contextmanager
def lock_outputs(paths: Iterable[Path | None]) -> Iterator[None]:
    """Hold the lock of each output while the block runs.

    The lock is ``.framecnn-....lock`` in the folder of the output. It holds process and host of its owner, and is gone
    when the block ends. One that a dead process left does not stop anybody: it is taken over. Where the file system
    locks no files, ``.framecnn-....pid`` stands for the lock; the next run on the same host takes over a dead one's.

    Parameters
    ----------
    paths : iterable of Path or None
        The files to write; their folders must exist.

    Raises
    ------
    DataError
        If another run holds one, or a lock belongs to another user; the message says which process on which host.

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
        for lock, path in sorted(locks.items()):  # in one order, so that of two runs one gets all
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
            if not lock.stat().st_size:  # that of a system which locks this file holds a name
                lock.unlink()
        lock = lock.with_suffix(".pid")
        holding = SoftFileLock(lock)
        _acquire(holding, lock, path)
    is_native = not isinstance(holding, SoftFileLock)  # which signs and removes its file itself
    try:
        if is_native:
            _sign(lock)
        yield
    finally:
        if is_native and os.name != "nt":  # while it is held, lest somebody else's is removed
            with suppress(OSError):
                lock.unlink()
        holding.release()
        if is_native and os.name == "nt":  # which removes no file that is open
            with suppress(OSError):
                lock.unlink()


def _acquire(holding: FileLock | SoftFileLock, lock: Path, path: Path) -> None:
    try:
        holding.acquire(timeout=_PATIENCE, poll_interval=_PATIENCE / 4)
    except Timeout:
        raise DataError(
            f"{path}: expected that no other run writes here, but {_owner(lock)} does; wait until it has ended, end "
            f"it, or choose another place{_if_dead(lock) if isinstance(holding, SoftFileLock) else ''}"
        ) from None
    except PermissionError as error:
        if not os.path.lexists(lock):
            raise
        raise DataError(
            f"{path}: expected a lock of this user or none, but {_owner(lock)} of {_user(lock)} writes here, or was "
            f"killed; wait until it has ended, or choose another place{_if_dead(lock)}"
        ) from error


def _if_dead(lock: Path) -> str:
    return f"; if that process is gone, delete {str(lock)!r}"


def _sign(lock: Path) -> None:
    """Write down who holds a lock, after the first byte: Windows locks that one."""
    with suppress(OSError), open(lock, "r+b", buffering=0) as file:  # on a full disk it holds all the same
        file.seek(1)
        file.write(json.dumps({"pid": os.getpid(), "host": platform.node()}).encode("ascii"))
        file.truncate()


def _owner(lock: Path) -> str:
    """Return who holds a lock, as :func:`_sign` or, in lines, a SoftFileLock wrote it down."""
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
    except (OSError, KeyError, NotImplementedError):  # one without a name; Windows
        return "another user"
