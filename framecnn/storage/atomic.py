"""Atomic writes: to a temporary file beside the target, flushed to disk, then renamed; and removal of old leftovers."""

import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import psutil

from framecnn.storage.file_names import same_name_key

__all__ = ["atomic_write", "hidden_path", "is_temporary", "naming_users_files", "sweep", "temporary_path"]

_PREFIX = ".framecnn-"
_TEMPORARY = re.compile(r"\.framecnn-([0-9a-f]{12})-([0-9a-f]{8})-(\d{1,9})-[0-9a-f]{8}(\..*)?", re.DOTALL)
"""Key of the file (see `_key`), host, process, random digits; then the suffix."""
_LONGEST_SUFFIX = 64  # bytes; a temporary name must not be longer than the file system allows


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there replaces `path` when the block ends without error.

    Parameters
    ----------
    path : path
        The file to create or replace. Its folder must exist.

    Yields
    ------
    Path
        The path to write to. After an exception it is removed, and an older `path` is unchanged.

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
        with naming_users_files(path):
            temporary.open("xb").close()
            yield temporary
            with open(temporary, "rb+") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def naming_users_files(path: Path, staged: Mapping[Path, Path] = MappingProxyType({})) -> Iterator[None]:
    """Replace the name of a hidden file in an OSError by that of the user's file.

    Parameters
    ----------
    path : Path
        The path to report if the error names some other hidden file, or no file.
    staged : mapping of Path to Path, optional
        Files to report instead of their temporary files: ``{file: temporary}``.
    """
    try:
        yield
    except OSError as error:
        parts = () if error.filename is None else Path(os.fsdecode(error.filename)).parts
        if error.errno is not None and (not parts or any(part.startswith(_PREFIX) for part in parts)):
            names = {temporary: file for file, temporary in staged.items()}
            error.filename, error.filename2 = str(names.get(Path(*parts), path)), None
        raise


def temporary_path(path: Path) -> Path:
    """Return a new path beside `path`, whose name tells :func:`sweep` the process and host that the file belongs to."""
    suffix = path.suffix if len(os.fsencode(path.suffix)) <= _LONGEST_SUFFIX else ""
    return path.parent / f"{_PREFIX}{_key(path)}-{_host()}-{os.getpid()}-{secrets.token_hex(4)}{suffix}"


def hidden_path(path: Path, suffix: str) -> Path:
    """Return the path of a hidden file of `path` beside it: its lock, its journal.

    Examples
    --------
    >>> hidden_path(Path("model.safetensors"), ".lock").as_posix()
    '.framecnn-9d75c1098fc5.lock'
    """
    return path.parent / f"{_PREFIX}{_key(path)}{suffix}"


def is_temporary(name: str) -> bool:
    """Return whether a file name is one that :func:`temporary_path` returns."""
    return _TEMPORARY.fullmatch(name) is not None


def sweep(path: Path) -> None:
    """Remove the temporary files and folders of `path` that dead processes of this host left behind.

    Files with other names, of running processes or of other hosts are kept.

    Parameters
    ----------
    path : Path
        The file that those processes were writing.
    """
    key, host = _key(path), _host()
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match and match[1] == key and match[2] == host and not psutil.pid_exists(int(match[3])):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)


def _key(path: Path) -> str:
    """Return a digest of a file's name, whatever its case; for a temporary file, the key in its name."""
    match = _TEMPORARY.fullmatch(path.name)
    name = same_name_key(path.name).encode("utf-8", "surrogateescape")
    return match[1] if match else hashlib.sha256(name).hexdigest()[:12]


def _host() -> str:
    """Return a digest of the host and, on Linux, of the container: of the name space of process numbers."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]
