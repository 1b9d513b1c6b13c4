"""The structure of a folder of frames, one folder per class: the files of each class, and what is skipped unread."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from framecnn.data.decode import SUFFIXES
from framecnn.data.machine_errors import machine_error
from framecnn.data.reasons import Reason, Skip
from framecnn.errors import DataError

__all__ = ["class_folder", "list_classes", "skip_by_name", "structure_error"]

_SYSTEM = re.compile(
    r"@eadir|@tmp|#recycle|#snapshot|@recycle|@recently-snapshot|~snapshot"  # Synology, QNAP, NetApp
    r"|__macosx|network trash folder|temporary items|icon\r"  # macOS, in ZIP files and on shares
    r"|\$recycle\.bin|recycler|recycled|system volume information|found\.\d{3}|thumbs\.db(:encryptable)?"
    r"|ehthumbs(_vista)?\.db|desktop\.ini|picasa\.ini"  # Windows
    r"|lost\+found",  # ext2 to ext4
    re.IGNORECASE,
)


def list_classes(root: Path, table: Path, min_classes: int = 2) -> tuple[dict[str, list[str]], list[Skip]]:
    """Return the files of each class folder, without opening them.

    Parameters
    ----------
    root : Path
        The folder that holds the class folders; no part of its path is a link.
    table : Path
        The CSV file of groups, which is not listed as skipped if it lies in the folder.
    min_classes : int, default 2
        The smallest number of class folders.

    Returns
    -------
    dict of str to list of str
        The paths of the files of each class folder, relative to `root`, in no particular order.
    list of Skip
        The files and folders that are skipped.

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
        raise structure_error(root, f"pictures beside the class folders: {len(loose)} (first: {min(loose)!r})")
    if len(files) < min_classes:
        links = [skip.path for skip in skipped if skip.reason == "outside-root"]
        hint = f"; links out of the folder are not followed ({links[0]!r})" if links else ""
        names = "no class folder" if not files else f"only one class folder ({min(files)!r})"
        needed = "one is" if min_classes == 1 else "two are"
        raise structure_error(root, f"{names}, at least {needed} needed{hint}")
    return files, skipped


def skip_by_name(name: str) -> tuple[Reason, str] | None:
    """Return why a name alone rules out a file or folder, as reason and detail; None if it does not.

    Parameters
    ----------
    name : str
        The name without its folders.

    Returns
    -------
    (str, str) or None

    Examples
    --------
    >>> skip_by_name(".DS_Store")[0], skip_by_name("@eaDir")[0], skip_by_name("001.jpg")
    ('hidden', 'system', None)
    """
    if name.startswith("."):
        return "hidden", "names that start with a dot are skipped"
    if _SYSTEM.fullmatch(name):
        return "system", "it belongs to a NAS or an operating system"
    return None


def class_folder(path: str) -> str:
    """Return the name of the class folder in which a file lies, from its path relative to the folder of frames."""
    return path.split("/", 1)[0]


def structure_error(root: Path, problem: str) -> DataError:
    """Return an error whose message shows the expected structure of a folder of frames."""
    return DataError(
        f"{str(root)!r}: {problem}. Expected one folder per class, with its frames:\n"
        "    films/\n"
        "        sintel/\n"
        "            001.jpg\n"
        "            002.jpg\n"
        "        nosferatu/\n"
        "            001.jpg"
    )


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
        if problem := skip_by_name(entry.name):
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
