"""The files of a folder of frames, and what is skipped unread."""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from framecnn.data.machine_errors import machine_error
from framecnn.data.reasons import Reason, Skip
from framecnn.errors import DataError

__all__ = ["list_files", "skip_by_name", "structure_error"]

_SYSTEM = re.compile(
    r"@eadir|@tmp|#recycle|#snapshot|@recycle|@recently-snapshot|~snapshot"  # Synology, QNAP, NetApp
    r"|__macosx|network trash folder|temporary items|icon\r"  # macOS, in ZIP files and on shares
    r"|\$recycle\.bin|recycler|recycled|system volume information|found\.\d{3}|thumbs\.db(:encryptable)?"
    r"|ehthumbs(_vista)?\.db|desktop\.ini|picasa\.ini"  # Windows
    r"|lost\+found",  # ext2 to ext4
    re.IGNORECASE,
)

_COMPANIONS = {
    *(".txt", ".md", ".rst", ".rtf", ".pdf", ".doc", ".docx", ".htm", ".html", ".url", ".log", ".nfo", ".sfv", ".md5"),
    *(".xml", ".xmp", ".json", ".jsonl", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".db", ".sqlite", ".lnk"),
    *(
        ".csv",
        ".tsv",
        ".xls",
        ".xlsx",
        ".ods",
        ".parquet",
        ".npy",
        ".npz",
        ".mat",
        ".pkl",
        ".h5",
        ".safetensors",
        ".onnx",
        ".keras",
        ".zip",
        ".gz",
        ".tar",
    ),
    *(".srt", ".sub", ".idx", ".ass", ".vtt", ".py", ".ipynb", ".sh", ".bat", ".aae"),
}
"""Extensions, in lower case, of files that commonly lie beside pictures."""


def list_files(root: Path, left_out: Collection[Path] = ()) -> tuple[list[str], set[str], list[Skip]]:
    """Return the files of a folder that may be pictures, without opening them.

    Parameters
    ----------
    root : Path
        The folder; no part of its path is a link.
    left_out : collection of Path, default ()
        Files and folders in it that are read for another purpose, such as the table of groups.

    Returns
    -------
    list of str
        The paths of the files, relative to `root`, sorted.
    set of str
        The paths of all folders, also of empty ones.
    list of Skip
        The files and folders that are skipped.
    """
    files: list[str] = []
    folders: set[str] = set()
    skipped: list[Skip] = []
    absent = {path.relative_to(root).as_posix() for path in left_out if path.is_relative_to(root)}
    pending = [""]
    while pending:
        for path, kind in _entries(root, pending.pop(), skipped):
            if path in absent:
                pass
            elif kind == "folder":
                folders.add(path)
                pending.append(path)
            else:
                files.append(path)
    return sorted(files), folders, [skip for skip in skipped if skip.path not in absent]


def skip_by_name(name: str, is_file: bool = False) -> tuple[Reason, str] | None:
    """Return why a name alone rules out a file or folder, as reason and detail; None if it does not.

    Parameters
    ----------
    name : str
        The name without its folders.
    is_file : bool, default False
        Whether it is known to be a file, whose extension then counts.

    Returns
    -------
    (str, str) or None

    Examples
    --------
    >>> skip_by_name(".DS_Store")[0], skip_by_name("@eaDir")[0], skip_by_name("001.jpg")
    ('hidden', 'system', None)
    >>> skip_by_name("001.xml", is_file=True)
    ('not-a-picture', 'files called .xml are not pictures')
    """
    if name.startswith("."):
        return "hidden", "names that start with a dot are skipped"
    if _SYSTEM.fullmatch(name):
        return "system", "it belongs to a NAS or an operating system"
    suffix = os.path.splitext(name)[1].lower()
    if is_file and suffix in _COMPANIONS:
        return "not-a-picture", f"files called {suffix} are not pictures"
    return None


def structure_error(root: Path, problem: str) -> DataError:
    """Return an error whose message shows the expected structure of a folder of frames."""
    return DataError(
        f"{str(root)!r}: {problem}. Expected one folder per class, with its frames:\n"
        "    films/\n"
        "        sintel/\n"
        "            001.jpg\n"
        "            002.jpg\n"
        "        nosferatu/\n"
        "            001.jpg\n"
        "or labels from a table (--labels) or from the names of the files (--label-pattern)"
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
        if problem := skip_by_name(entry.name, is_file=not entry.is_dir(follow_symlinks=False)):
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
