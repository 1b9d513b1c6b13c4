"""Sets of outputs: several files that belong together are all replaced, or none is, also after a crash.

All are written to temporary files first. A journal then lists which file replaces which. If a run is killed during the
renames, the next run finishes or undoes them by the journal: see :func:`settle`.
"""

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from framecnn.errors import DataError
from framecnn.storage.atomic import atomic_write, hidden_path, is_temporary, naming_users_files, sweep, temporary_path

__all__ = ["settle", "settle_any", "switch", "write_together"]

_JOURNAL = ".journal"


class _Change(NamedTuple):
    """The replacement, or removal, of a file."""

    path: Path
    staged: Path | None
    """The file with the new content; None removes the file."""
    sha256: str | None
    backup: Path | None
    """A copy of the old content; None where there was no file."""

    @property
    def is_possible(self) -> bool:
        """Whether the new content exists, staged or renamed; a file to be removed must have a backup."""
        if self.staged is None:
            return not self.path.exists() or (self.backup is not None and _sha256(self.path) == _sha256(self.backup))
        return self.sha256 in (_sha256(self.staged), _sha256(self.path))

    def do(self) -> None:
        if self.staged is None:
            self.path.unlink(missing_ok=True)
        elif self.staged.exists():
            os.replace(self.staged, self.path)

    def undo(self) -> None:
        """Restore the old file; the new one is staged again, so that the next run can finish an interrupted `undo`."""
        if (self.path if self.staged is None else self.staged).exists():
            return  # the change was not made
        if self.staged is not None and self.path.exists():
            os.replace(self.path, self.staged)
        if self.backup is not None and self.backup.exists():
            os.replace(self.backup, self.path)


@contextmanager
def write_together(main: Path, removed: Sequence[Path] = ()) -> Iterator[Callable[[Path], Path]]:
    """Yield a function that maps each file to its temporary file; when the block ends, all replace their files.

    The caller holds the lock of `main` (:func:`~framecnn.storage.output_lock.lock_outputs`) and has called
    :func:`settle`. During the renames a reader finds each file complete, old or new; the file that was staged last is
    renamed last.

    Parameters
    ----------
    main : Path
        The file beside which the journal is written.
    removed : sequence of Path, optional
        Files that are removed when the others are replaced, if they exist.

    Yields
    ------
    callable
        ``stage(path)`` returns the temporary path to write. A file whose temporary is not written is not changed.

    Raises
    ------
    OSError
        If a file cannot be written; then none is changed, and ``filename`` is that of the file, not of its temporary.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with write_together(folder / "b") as stage:
    ...     for name in ("a", "b"):
    ...         _ = stage(folder / name).write_text("new")
    >>> sorted(path.name for path in folder.iterdir())
    ['a', 'b']
    """
    staged: dict[Path, Path] = {}

    def stage(path: Path) -> Path:
        return staged.setdefault(path, temporary_path(path))

    try:
        with naming_users_files(main, staged):
            yield stage
            for temporary in staged.values():
                if temporary.exists():
                    with open(temporary, "rb+") as written:
                        os.fsync(written.fileno())
            changes: dict[Path, Path | None] = {path: None for path in removed if path.exists()}
            switch(main, changes | {path: temporary for path, temporary in staged.items() if temporary.exists()})
    finally:
        if not hidden_path(main, _JOURNAL).exists():
            for temporary in staged.values():
                _remove(temporary)


def switch(main: Path, changes: Mapping[Path, Path | None], backups: Path | None = None) -> None:
    """Replace files by temporary ones that are written and flushed to disk: all of them, or none.

    Parameters
    ----------
    main : Path
        The file beside which the journal is written.
    changes : mapping of Path to Path or None
        Each file, and the temporary one that replaces it; None removes it.
    backups : Path, optional
        The temporary folder for copies of the old files. If None, each is beside its file.

    Raises
    ------
    OSError
        If a file cannot be replaced; then none is changed.
    """
    journal, records = hidden_path(main, _JOURNAL), list[_Change]()
    try:
        for number, (path, staged) in enumerate(changes.items()):
            backup = None
            if path.exists():
                backup = temporary_path(path) if backups is None else backups / f"old-{number}"
            records.append(_Change(path, staged, None if staged is None else _sha256(staged), backup))
            if backup is not None:
                _copy(path, backup)
        _flush_folders(records)
        with atomic_write(journal) as temporary:
            temporary.write_text(json.dumps([_as_json(change, journal.parent) for change in records]), encoding="ascii")
    except BaseException:
        _remove(journal)
        _drop_backups(records)
        raise
    try:
        for change in records:
            change.do()
    except BaseException:
        for change in reversed(records):
            change.undo()
        journal.unlink()
        _drop_backups(records)
        raise
    _flush_folders(records)
    _remove(journal)
    _drop_backups(records)


def settle(
    main: Path, paths: Sequence[Path | None] = (), is_ours: Callable[[Path], bool] = lambda path: False
) -> list[Path]:
    """Finish the switch of a killed run, or undo it if files are missing; remove temporary files of dead runs.

    The caller holds the lock of `main`.

    Parameters
    ----------
    main : Path
        The file beside which the journal would be.
    paths : sequence of Path or None
        The files that this run will write. Other files are not changed.
    is_ours : callable, optional
        ``is_ours(path)`` returns whether another file, given by its real path, may be changed too.

    Returns
    -------
    list of Path
        The files that the killed run was replacing.

    Raises
    ------
    DataError
        If the journal is damaged, belongs to another user, or names other files.
    """
    outputs = [path for path in (main, *paths) if path is not None]
    changes = _finish(main, outputs, is_ours)
    _sweep([main], outputs)
    return [change.path for change in changes]


def settle_any(paths: Sequence[Path]) -> None:
    """Do what :func:`settle` does for files of which any one may have been the main file of the killed run.

    The caller holds the locks of all. Temporary files are removed last: a journal beside another file may need them.
    """
    for path in paths:
        _finish(path, paths, lambda other: False)
    _sweep(paths, paths)


def _finish(main: Path, outputs: Sequence[Path], is_ours: Callable[[Path], bool]) -> list[_Change]:
    """Finish or undo the switch of which the journal lies beside `main`; return its changes."""
    journal = hidden_path(main, _JOURNAL)
    changes: list[_Change] = []
    if os.path.lexists(journal):
        changes = _read(journal, outputs, is_ours)
        forward = all(change.is_possible for change in changes)
        for change in changes:
            if forward:
                change.do()
            elif _sha256(change.path) in (None, change.sha256):  # a file that was written later is kept
                if change.backup is None:
                    _remove(change.path)
                elif change.backup.exists():
                    os.replace(change.backup, change.path)
        _flush_folders(changes)
        journal.unlink()
        _drop_backups(changes)
        for change in changes:
            if change.staged is not None:
                _remove(change.staged)
    return changes


def _sweep(mains: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Remove temporary files of dead runs beside the outputs, and beside the journals of the main files."""
    for path in (*(hidden_path(main, _JOURNAL) for main in mains), *outputs):
        sweep(path)


def _read(journal: Path, outputs: Sequence[Path], is_ours: Callable[[Path], bool]) -> list[_Change]:
    """Return the changes in a journal: untrusted data, which may name only files that this run may write."""
    state = os.lstat(journal)
    if not stat.S_ISREG(state.st_mode) or (hasattr(os, "getuid") and state.st_uid != os.getuid()):
        raise DataError(
            f"{journal}: expected the journal of an interrupted run as a file of this user, got a link, a folder or "
            "another user's file; look at the files beside it, then delete it"
        )
    try:
        entries = json.loads(journal.read_bytes())
        changes = [
            _Change(
                path=journal.parent / entry["path"],
                staged=None if entry["staged"] is None else journal.parent / entry["staged"],
                sha256=entry["sha256"],
                backup=None if entry["backup"] is None else journal.parent / entry["backup"],
            )
            for entry in entries
        ]
        targets = {_target(path) for path in outputs}
        foreign = [
            change.path
            for change in changes
            if not (_target(change.path) in targets or is_ours(_target(change.path)))
            or not all(_is_allowed(path, change.path, journal.parent) for path in (change.staged, change.backup))
        ]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{journal}: expected the journal of an interrupted run, got something else; look at the files beside it, "
            "then delete it"
        ) from error
    if foreign:
        raise DataError(
            f"{journal}: an interrupted run was writing {str(foreign[0])!r}, which this run does not write; repeat "
            "the interrupted run, or delete the journal"
        )
    return changes


def _target(path: Path) -> Path:
    """Return the path that renaming to `path` writes: links to folders are resolved, a link to a file is not."""
    return Path(os.path.realpath(path.parent)) / path.name


def _is_allowed(temporary: Path | None, path: Path, folder: Path) -> bool:
    """Return whether a temporary of `path` is beside it, or in a temporary folder that is not a link."""
    if temporary is None:
        return True
    parent = temporary.parent
    beside = is_temporary(temporary.name) and parent == path.parent
    staged = is_temporary(parent.name) and parent.parent == folder and not parent.is_symlink()
    try:
        mode = os.lstat(temporary).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    return (beside or staged) and (stat.S_ISREG(mode) or stat.S_ISLNK(mode))


def _as_json(change: _Change, folder: Path) -> dict[str, Any]:
    def named(path: Path | None) -> str | None:
        if path is None:
            return None
        return str(path.relative_to(folder) if path.is_relative_to(folder) else Path(os.path.abspath(path)))

    return change._asdict() | {
        "path": named(change.path),
        "staged": named(change.staged),
        "backup": named(change.backup),
    }


def _sha256(path: Path) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


def _copy(path: Path, backup: Path) -> None:
    try:
        os.link(path, backup)
    except OSError:  # some file systems have no hard links
        shutil.copy2(path, backup)
        with open(backup, "rb+") as copied:
            os.fsync(copied.fileno())


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _drop_backups(changes: Sequence[_Change]) -> None:
    for change in changes:
        if change.backup is not None:
            _remove(change.backup)


def _flush_folders(changes: Sequence[_Change]) -> None:
    """Flush the folders of files to disk; Windows keeps the order of renames without it."""
    paths = [path for change in changes for path in (change.path, change.staged) if path is not None]
    for folder in {path.parent for path in paths} if os.name != "nt" else ():
        with suppress(OSError):  # some file systems cannot flush a folder
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
