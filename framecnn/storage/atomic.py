"""Whole files or none: write beside the target, flush to disk, rename; and sweep what dead processes left."""

import ctypes
import hashlib
import os
import platform
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["atomic_write", "hidden_path", "is_hidden", "is_temporary", "sweep", "temporary_path"]

_TEMPORARY = re.compile(r"\.framecnn-([0-9a-f]{12})-([0-9a-f]{8})-(\d{1,10})-[0-9a-f]{8}(\..*)?", re.DOTALL)
"""Of which file (see `_key`), on which host and by which process; then at random."""
_LONGEST_SUFFIX = 64  # bytes: the whole name must fit where the target's does


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Return a temporary path beside `path`; what is written there becomes `path` when the block ends well.

    Parameters
    ----------
    path : path
        The file to create or replace. Its folder must exist.

    Yields
    ------
    Path
        Where to write. After an exception it is removed, and an older `path` stays as it was.

    Raises
    ------
    OSError
        If the file cannot be written; its ``filename`` is `path`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with atomic_write(folder / "note.txt") as temporary:
    ...     _ = temporary.write_text("whole")
    >>> (folder / "note.txt").read_text()
    'whole'
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        temporary.open("xb").close()
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(temporary), temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def temporary_path(path: Path) -> Path:
    """Return a new name beside `path`, from which :func:`sweep` knows which process on which host it belongs to."""
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ""
    return path.parent / f".framecnn-{_key(path)}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"


def hidden_path(path: Path, suffix: str) -> Path:
    """Return the name of a hidden file that belongs to `path` and lies beside it: its lock, its journal.

    Examples
    --------
    >>> hidden_path(Path("model.safetensors"), ".lock").as_posix()
    '.framecnn-9d75c1098fc5.lock'
    """
    return path.parent / f".framecnn-{_key(path)}{suffix}"


def is_hidden(path: str) -> bool:
    """Return whether a file is one of framecnn's own that no user has named."""
    return os.path.basename(path).startswith(".framecnn-")


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that :func:`temporary_path` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(path: Path) -> None:
    """Remove the temporary files and folders that processes of this host, now dead, left of writing `path`.

    Files of any other name, of processes that live and of other hosts stay.

    Parameters
    ----------
    path : Path
        The file that was to be written.
    """
    key, host = _key(path), _host()
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match[1] == key and match[2] == host and not _is_alive(int(match[3])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)


def _key(path: Path) -> str:
    """Return a digest of a file's name, equal for names that some file systems take for one; a temporary's own key."""
    match = _TEMPORARY.fullmatch(path.name)
    name = unicodedata.normalize("NFC", path.name).casefold()
    return match[1] if match else hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _host() -> str:
    """Return a digest of what process numbers are counted in: the host, or on Linux the container."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # where os.kill would end it
        return _is_alive_on_windows(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is somebody else's
        return True
    return True


def _is_alive_on_windows(pid: int) -> bool:
    synchronize, access_denied, timeout = 0x00100000, 5, 0x102
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(synchronize, False, pid)
    if not handle:
        return bool(ctypes.get_last_error() == access_denied)  # type: ignore[attr-defined]
    alive = kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == timeout
    kernel.CloseHandle(ctypes.c_void_p(handle))
    return bool(alive)
