"""The files that commands write: which paths are refused, and JSON."""

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from framecnn.errors import DataError
from framecnn.storage.atomic import atomic_write
from framecnn.version import __version__

__all__ = ["JSON_MARK", "REPORT_MARK", "check_outputs", "check_replaced", "versions", "write_json"]

JSON_MARK = b'"written_by": "framecnn'
"""Bytes in the beginning of every JSON file that framecnn writes."""

REPORT_MARK = b"framecnn</title>"
"""Bytes in the beginning of every report that framecnn writes."""


def check_outputs(paths: Sequence[Path | None], inputs: Sequence[Path | None]) -> list[Path | None]:
    """Return where outputs are to be written; refuse, before the work starts, what could not be written after it.

    Parameters
    ----------
    paths : sequence of Path or None
        The files to write.
    inputs : sequence of Path or None
        The files and folders that the command reads. Nothing is written over the files or into the folders.

    Returns
    -------
    list of Path or None
        The paths in the same order; one that leads through a link is replaced by the file that it leads to.

    Raises
    ------
    DataError
        If two outputs are the same file; if one is an input or lies in one, is a folder or a device, or cannot be
        replaced; if its folder is missing or cannot be written to.
    """
    real = [None if path is None else Path(os.path.realpath(path)) for path in paths]
    times = Counter(real)
    read = [Path(os.path.realpath(path)) for path in inputs if path is not None]
    for path, file in zip(paths, real, strict=True):
        if path is None or file is None:
            continue
        if times[file] > 1:
            raise DataError(f"{path}: expected a file of its own for each output, got this one twice; rename one")
        if file.exists() and not file.is_file():
            raise DataError(f"{path}: expected a file to write, got a folder or a device; name a file")
        if not file.parent.is_dir():
            raise DataError(f"{path}: expected an existing folder to write to, got {str(file.parent)!r}; create it")
        _check_is_no_input(path, file, read)
        if not os.access(file.parent, os.W_OK):
            raise DataError(
                f"{path}: expected a folder to write to, but {str(file.parent)!r} is read-only; choose another"
            )
        if file.exists():
            _check_replaceable(path)
    return [
        path if path is None or str(file) == os.path.abspath(path) else file
        for path, file in zip(paths, real, strict=True)
    ]


def _check_is_no_input(path: Path, file: Path, inputs: Sequence[Path]) -> None:
    """Raise DataError if an output, or the link that stands for it, is an input or lies in one."""
    link = Path(os.path.realpath(path.parent), path.name)
    for source in inputs:
        if source in (file, link):
            raise DataError(f"{path}: expected a file of its own to write, got one that is read; choose another name")
        if file.is_relative_to(source) or link.is_relative_to(source):
            raise DataError(f"{path}: expected a file outside {str(source)!r}, which is only read; choose another")


def _check_replaceable(path: Path) -> None:
    """Raise DataError if a file cannot be opened for writing: protected or, on Windows, open in another program."""
    try:
        open(path, "r+b").close()
    except OSError as error:
        raise DataError(
            f"{path}: expected a file that can be replaced, but it cannot be opened for writing ({error.strerror}); "
            "close it in other programs, or choose another file"
        ) from None


def check_replaced(marks: Mapping[Path | None, bytes]) -> None:
    """Raise DataError if a file that would be replaced was not written by framecnn.

    Parameters
    ----------
    marks : mapping of Path or None to bytes
        Each output, and the bytes that such a file of framecnn has in its beginning.
    """
    for path, mark in marks.items():
        if path is not None and path.is_file() and (beginning := _beginning(path)) and mark not in beginning:
            raise DataError(
                f"{path}: expected no file or one that framecnn wrote, got another; move it or choose another name"
            )


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write JSON as a whole file, with the version of framecnn as its first entry."""
    marked = {"written_by": f"framecnn {__version__}", **data}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(marked, indent=2) + "\n", encoding="ascii")


def versions(*extras: str) -> dict[str, str]:
    """Return the versions of Python, framecnn, what it needs, and those of `extras` that are installed."""
    found = {"Python": platform.python_version()}
    found |= {name: metadata.version(name) for name in ("framecnn", "numpy", "numba", "scikit-learn", "pillow")}
    for name in extras:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
