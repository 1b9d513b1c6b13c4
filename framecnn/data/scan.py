"""The scan of a folder of class folders: every file is decoded once to find out whether it can be used."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from framecnn.data.decode import SUFFIXES, Signature, SkippedFrame, decode_signed
from framecnn.data.loader import map_ahead
from framecnn.data.machine_errors import machine_error
from framecnn.data.near_duplicates import Fingerprint, fingerprint
from framecnn.data.reasons import Reason
from framecnn.errors import DataError
from framecnn.thread_count import get_num_threads

__all__ = ["Scanned", "Skip", "class_of", "list_classes", "not_meant", "scan", "shape_error"]

_FILES_A_TASK = 16  # at most, of one thread
_SYSTEM = re.compile(
    r"@eadir|@tmp|#recycle|#snapshot|@recycle|@recently-snapshot|~snapshot"  # Synology, QNAP, NetApp
    r"|__macosx|network trash folder|temporary items|icon\r"  # macOS, in ZIP files and on shares
    r"|\$recycle\.bin|recycler|recycled|system volume information|found\.\d{3}|thumbs\.db(:encryptable)?"
    r"|ehthumbs(_vista)?\.db|desktop\.ini|picasa\.ini"  # Windows
    r"|lost\+found",  # ext2 to ext4
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Skip:
    """A file that is not used, and the reason.

    Parameters
    ----------
    path : str
        Relative to the scanned folder, with ``/``. A hidden folder, or one that is a link, counts as one file.
    reason : Reason
        A code: those of SkippedFrame, or ``hidden``, ``system`` (a file of a NAS or an operating
        system), ``outside-root`` (a link that leads out of the folder), ``not-in-class`` (beside the class folders),
        ``not-in-csv`` (the table of groups has no row for it).
    detail : str
        A description in one line.
    """

    path: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Scanned:
    """The facts about a usable file that are kept after the scan.

    Parameters
    ----------
    signature : (int, int)
        The state of the file, to notice later changes.
    notes : tuple of str
        The notes of ``decode``.
    fingerprint : Fingerprint
        Identifies its duplicates.
    """

    signature: Signature
    notes: tuple[str, ...]
    fingerprint: Fingerprint


def list_classes(root: Path, table: Path, min_classes: int = 2) -> tuple[dict[str, list[str]], list[Skip]]:
    """Return the files of each class folder, without opening them.

    Parameters
    ----------
    root : Path
        The folder of class folders, without links in its own path.
    table : Path
        The CSV of groups, which is not skipped if it lies in the folder.
    min_classes : int, default 2
        The smallest number of class folders.

    Returns
    -------
    dict of str to list of str
        The paths of the files of each class folder, relative to `root`, in no particular order.
    list of Skip
        What is skipped.

    Raises
    ------
    DataError
        If there are pictures beside the class folders, or fewer than `min_classes` class folders.
    """
    files: dict[str, list[str]] = {}
    skipped: list[Skip] = []
    loose = []
    for path, kind in _entries(root, "", skipped):
        if kind == "folder":
            files[path] = list(_files_below(root, path, skipped))
        elif path.lower().endswith(SUFFIXES):
            loose.append(path)
        elif root / path != table:
            skipped.append(Skip(path, "not-in-class", "it lies beside the class folders"))
    if loose:
        raise shape_error(root, f"pictures beside the class folders: {len(loose)} (first: {min(loose)!r})")
    if len(files) < min_classes:
        links = [skip.path for skip in skipped if skip.reason == "outside-root"]
        hint = f"; links out of the folder are not followed ({links[0]!r})" if links else ""
        names = "no class folder" if not files else f"only one class folder ({min(files)!r})"
        needed = "one is" if min_classes == 1 else "two are"
        raise shape_error(root, f"{names}, at least {needed} needed{hint}")
    return files, skipped


def not_meant(name: str) -> tuple[Reason, str] | None:
    """Return reason and detail if the name of a file or folder shows that it is not meant as frames, else None.

    Parameters
    ----------
    name : str
        The name without its folders.

    Returns
    -------
    (str, str) or None

    Examples
    --------
    >>> not_meant(".DS_Store")[0], not_meant("@eaDir")[0], not_meant("001.jpg")
    ('hidden', 'system', None)
    """
    if name.startswith("."):
        return "hidden", "names that start with a dot are skipped"
    if _SYSTEM.fullmatch(name):
        return "system", "it belongs to a NAS or an operating system"
    return None


def class_of(path: str) -> str:
    """Return the class folder of a path that is relative to the scanned folder."""
    return path.split("/", 1)[0]


def shape_error(root: Path, problem: str) -> DataError:
    """Return an error whose message shows the expected structure of the folder."""
    return DataError(
        f"FrameFolder: {str(root)!r}: {problem}. Expected one folder a class with its frames:\n"
        "    films/\n"
        "        sintel/\n"
        "            001.jpg\n"
        "            002.jpg\n"
        "        nosferatu/\n"
        "            001.jpg"
    )


def scan(
    root: Path, paths: Sequence[str], size: tuple[int, int], progress: Callable[[int, int], object] | None = None
) -> Iterator[tuple[str, Scanned | Skip]]:
    """Decode every file once, in threads, and yield the result, in the order of the paths.

    Parameters
    ----------
    root : Path
        The folder of class folders.
    paths : sequence of str
        The files, relative to `root`.
    size : (int, int)
        Height and width in pixels to decode to.
    progress : callable, optional
        Called as ``progress(done, total)`` after each file.

    Yields
    ------
    (str, Scanned or Skip)
        The path, and the facts about the file or the reason why it is not used.
    """

    def look(path: str) -> Scanned | Skip:
        try:
            decoded, signature = decode_signed(os.path.join(root, path), size, enlarge=False)
            return Scanned(signature, decoded.notes, fingerprint(decoded.pixels))
        except SkippedFrame as skipped:
            return Skip(path, skipped.reason, skipped.detail)
        except MemoryError as error:
            raise (machine_error(error, path) or error) from error

    threads = get_num_threads()
    n_at_once = min(_FILES_A_TASK, 1 + len(paths) // (8 * threads))
    portions = [paths[start : start + n_at_once] for start in range(0, len(paths), n_at_once)]
    looked = map_ahead(lambda portion: list(map(look, portion)), portions, threads, 2 * threads)
    for done, (path, seen) in enumerate(zip(paths, chain.from_iterable(looked), strict=True), 1):
        yield path, seen
        if progress is not None:
            progress(done, len(paths))


def _entries(root: Path, folder: str, skipped: list[Skip]) -> Iterator[tuple[str, str]]:
    """Yield the path and kind (folder, file) of the usable entries of a folder; add the others to `skipped`."""
    try:
        entries = list(os.scandir(root / folder))
    except OSError as error:
        if trouble := machine_error(error, root / folder):
            raise trouble from error
        skipped.append(Skip(folder, "unreadable", str(error.strerror)))
        return
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if problem := not_meant(entry.name):
            skipped.append(Skip(path, *problem))
        elif entry.is_symlink():
            if problem := _link_problem(root, entry.path):
                skipped.append(Skip(path, *problem))
            else:
                yield path, "file"
        else:
            yield path, "folder" if entry.is_dir() else "file"


def _link_problem(root: Path, path: str) -> tuple[Reason, str] | None:
    try:
        target = Path(os.path.realpath(path, strict=True))
    except OSError as error:
        if trouble := machine_error(error, path):
            raise trouble from error
        return "not-a-file", f"a broken link ({error.strerror})"
    return None if target.is_relative_to(root) else ("outside-root", "a link that leads out of the folder")


def _files_below(root: Path, folder: str, skipped: list[Skip]) -> Iterator[str]:
    pending = [folder]
    while pending:
        for path, kind in _entries(root, pending.pop(), skipped):
            if kind == "folder":
                pending.append(path)
            else:
                yield path
