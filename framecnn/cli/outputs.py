"""The files that commands write: which paths are refused, JSON, and sets of files that are written together.

``--json FILE`` of any command writes one object. It begins with ``written_by`` (the command and the version in one
text), ``schema`` (the number of this layout), ``command`` and ``version``; what follows depends on the command.
``results.schema.json`` beside this module describes all of it as a JSON Schema. A new key leaves the number as it is;
it goes up when a key is renamed, removed or gets another meaning. Numbers that do not exist are null, never NaN.
"""

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from framecnn.cli import console
from framecnn.errors import DataError
from framecnn.storage.atomic import atomic_write
from framecnn.storage.output_lock import lock_outputs
from framecnn.storage.output_set import settle_any, write_together
from framecnn.version import __version__

__all__ = [
    "DRAWING_MARK",
    "SCHEMA",
    "OutputSet",
    "check_outputs",
    "check_replaced",
    "json_file",
    "json_mark",
    "report_mark",
    "write_json",
]

SCHEMA = 1
"""The number of the layout of JSON files."""
DRAWING_MARK = b"framecnn predict drawing"
"""Bytes at the beginning of every drawing that is written to a file."""
NUMBERS = re.compile(r'\[\n[^][{}"]+\]')
"""A list of numbers in indented JSON, which becomes one line; the text of a string has no such line break."""


def json_file(value: Path | None) -> Path | None:
    """Return the file of ``--json``; for ``-`` keep standard output for the JSON alone, and return None."""
    if value is None or str(value) != "-":
        return value
    console.keep_output_for_json()
    return None


def check_outputs(paths: Sequence[Path | None], inputs: Sequence[Path | None]) -> list[Path | None]:
    """Return where outputs are to be written; raise before the work starts if one cannot be written.

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
        replaced; if its folder cannot be made or written to.

    Notes
    -----
    Folders that do not exist are made once all outputs have been accepted.
    """
    real = [None if path is None else Path(os.path.realpath(path)) for path in paths]
    times = Counter(real)
    read = [Path(os.path.realpath(path)) for path in inputs if path is not None]
    for path, file in zip(paths, real, strict=True):
        if path is None or file is None:
            continue
        if times[file] > 1:
            raise DataError(f"{path}: two outputs would be written to this file; choose another name for one")
        if file.exists() and not file.is_file():
            raise DataError(f"{path}: expected a file to write, got a folder or a device; name a file")
        _check_is_not_an_input(path, file, read)
        _check_folder(path, file.parent)
        if file.exists():
            _check_replaceable(path)
    for file in real:
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
    return [
        path if path is None or str(file) == os.path.abspath(path) else file
        for path, file in zip(paths, real, strict=True)
    ]


def _check_is_not_an_input(path: Path, file: Path, inputs: Sequence[Path]) -> None:
    """Raise DataError if an output, or the link to it, is an input or lies in one."""
    link = Path(os.path.realpath(path.parent), path.name)
    for source in inputs:
        if source in (file, link):
            raise DataError(f"{path}: the command reads this file; choose another name to write to")
        if file.is_relative_to(source) or link.is_relative_to(source):
            raise DataError(f"{path}: expected a file outside {str(source)!r}, which is only read; choose another")


def _check_folder(path: Path, folder: Path) -> None:
    """Raise DataError unless files can be written to a folder, or the folder can be made."""
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise DataError(f"{path}: expected a folder to write to, but {str(folder)!r} is none; choose another")
    if not os.access(folder, os.W_OK):
        raise DataError(f"{path}: expected a folder to write to, but {str(folder)!r} is read-only; choose another")


def _check_replaceable(path: Path) -> None:
    """Raise DataError if a file cannot be opened for writing: protected or, on Windows, open in another program."""
    try:
        open(path, "r+b").close()
    except OSError as error:
        raise DataError(
            f"{path}: expected a file that can be replaced, but it cannot be opened for writing ({error.strerror}); "
            "close it in other programs, or choose another name"
        ) from None


def check_replaced(marks: Mapping[Path | None, bytes]) -> None:
    """Raise DataError if a file that would be replaced was not written by the same command.

    Parameters
    ----------
    marks : mapping of Path or None to bytes
        Each output, and bytes that the beginning of such a file contains.
    """
    for path, mark in marks.items():
        if path is not None and path.is_file() and (beginning := _beginning(path)) and mark not in beginning:
            raise DataError(
                f"{path}: the file exists and was not written by this command; move it or choose another name"
            )


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def json_mark(command: str) -> bytes:
    """Return bytes at the beginning of every JSON file that a command writes."""
    return f'"written_by": "framecnn {command} '.encode()


def report_mark(kind: str) -> bytes:
    """Return bytes at the beginning of every report of a kind: ``training`` or ``comparison``."""
    return f"framecnn {kind} report</title>".encode()


def write_json(path: Path | None, command: str, data: Mapping[str, Any]) -> None:
    """Write the results of a command as JSON, to a whole file or to standard output.

    Parameters
    ----------
    path : Path or None
        The file. If None, the JSON is printed if ``--json -`` asked for it, else nothing is done.
    command : str
    data : mapping of str to JSON's types
        What follows the common head, which the documentation of this module describes.
    """
    head = {"written_by": f"framecnn {command} {__version__}", "schema": SCHEMA, "command": command}
    indented = json.dumps(head | {"version": __version__, **data}, indent=2, allow_nan=False) + "\n"
    text = NUMBERS.sub(lambda found: "".join(found[0].split()), indented)
    if path is not None:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="ascii")
    elif console.output_is_json() and sys.stdout is not None:
        sys.stdout.write(text)


class OutputSet:
    """The files that a command writes: all are replaced, or none is.

    Parameters
    ----------
    command : str
        Its name.
    json : Path or None
        The file of ``--json``; None if there is none, and for standard output.
    inputs : sequence of Path or None
        The files and folders that the command reads.
    **others : (Path or None, bytes)
        Each other file by a name: its path, None if it is not asked for, and bytes at its beginning if an earlier run
        wrote it.

    Attributes
    ----------
    paths : dict of str to Path or None
        Where each file is to be written, as :func:`check_outputs` returns it; ``"json"`` is the last.

    Raises
    ------
    DataError
        As :func:`check_outputs`.
    """

    def __init__(
        self, command: str, json: Path | None, inputs: Sequence[Path | None], **others: tuple[Path | None, bytes]
    ):
        given = {name: path for name, (path, _) in others.items()} | {"json": json}
        self.paths = dict(zip(given, check_outputs([*given.values()], inputs), strict=True))
        self._command = command
        self._marks = {name: mark for name, (_, mark) in others.items()} | {"json": json_mark(command)}

    @property
    def files(self) -> list[Path]:
        """The files that are asked for."""
        return [path for path in self.paths.values() if path is not None]

    def name_of(self, name: str) -> str:
        """Return the file name of one of the files; empty if it is not asked for."""
        path = self.paths[name]
        return "" if path is None else path.name

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the locks of the files; finish or undo what a killed run was writing; refuse files of other origin.

        Raises
        ------
        DataError
            If another run holds a lock, or a file was not written by the same command.
        """
        with lock_outputs(self.files):
            settle_any(self.files)  # the killed run may have had other options, so that its journal is beside any
            check_replaced({path: self._marks[name] for name, path in self.paths.items()})
            yield

    def write(
        self, figures: Mapping[str, Any], removed: Sequence[Path] = (), **writers: Callable[[Path], object]
    ) -> None:
        """Write the files, while they are held.

        Parameters
        ----------
        figures : mapping of str to JSON's types
            What :func:`write_json` writes: to the file of ``--json``, or to standard output when all is written.
        removed : sequence of Path, optional
            Files that are removed at the same moment, if they exist.
        **writers : callable
            By the name of each other file, what is called with a path to write it there. The last is renamed last.
        """
        if self.files:
            with write_together(self.files[0], removed) as stage:
                if (json := self.paths["json"]) is not None:
                    write_json(stage(json), self._command, figures)
                for name, write in writers.items():
                    if (path := self.paths[name]) is not None:
                        write(stage(path))
        if self.paths["json"] is None:
            write_json(None, self._command, figures)
