"""The table that says which frames belong together: ``frames.csv``, or a file of the same columns."""

import csv
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from framecnn.data.scan import class_of
from framecnn.data.tables import read_table
from framecnn.errors import DataError

__all__ = ["GROUPS_FILE", "check_table", "match_table", "read_groups"]

GROUPS_FILE = "frames.csv"
"""The name under which a folder's own table of groups is found."""


def read_groups(path: Path) -> dict[str, tuple[str, str]]:
    """Read the group and the label of each frame from a CSV file.

    Parameters
    ----------
    path : Path
        A CSV file with a header and the columns ``path`` (relative to the folder of frames, with ``/``) and ``group``;
        ``label`` may be there, other columns are not looked at.

    Returns
    -------
    dict of str to (str, str)
        The group and the label (empty where there is none) of each path.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, has a row without path or group, or gives one path two groups.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "frames.csv"
    >>> _ = path.write_text("path,label,group,time_s\\ncats/1.jpg,cats,film_shot001,0.5\\n")
    >>> read_groups(path)
    {'cats/1.jpg': ('film_shot001', 'cats')}
    """
    try:
        columns, rows = read_table(path, ("path", "group"))
    except OSError as error:
        raise DataError(f"groups: cannot read {str(path)!r} ({error.strerror}); give a CSV file or none") from None
    except csv.Error as error:
        raise DataError(
            f"groups: {str(path)!r} is not a CSV file ({error}); save it as comma-separated UTF-8"
        ) from None
    if not {"path", "group"} <= set(columns):
        raise DataError(
            f"groups: expected the columns path and group (and label, time_s) in {str(path)!r}, "
            f"got {columns}; add a header line with these names"
        )
    table: dict[str, tuple[str, str]] = {}
    for line, cells in rows:
        row = dict(zip(columns, cells, strict=False))
        if not row.get("path") or not row.get("group"):
            raise DataError(f"groups: line {line} of {str(path)!r} has no path or no group; fill it in or take it out")
        frame = str(PurePosixPath(row["path"]))
        entry = (row["group"], row.get("label", ""))
        if table.setdefault(frame, entry)[0] != entry[0]:
            raise DataError(
                f"groups: {str(path)!r} puts {frame!r} into the groups {table[frame][0]!r} and {entry[0]!r} "
                f"(line {line}); a frame has one group"
            )
    return table


def match_table(table: dict[str, tuple[str, str]], found: Sequence[str]) -> dict[str, tuple[str, str]]:
    r"""Return a table under the names of the files, where it has them with backslashes or other accents' code points.

    Parameters
    ----------
    table : dict
        What ``read_groups`` gave.
    found : sequence of str
        Paths of the files in the class folders.

    Returns
    -------
    dict of str to (str, str)
        The same entries; a path that names no file even so is kept as it is.

    Raises
    ------
    DataError
        If not one path of the table names a file, or two that name one file have two groups.

    Examples
    --------
    >>> match_table({"cats\\1.jpg": ("film", "")}, ["cats/1.jpg"])
    {'cats/1.jpg': ('film', '')}
    """
    files = {_portable(path): path for path in found}
    matched: dict[str, tuple[str, str]] = {path: table[path] for path in found if path in table}
    for path in sorted(set(table) - set(matched)):
        file = files.get(_portable(path))
        name = path if file is None or file in table else file
        if matched.setdefault(name, table[path])[0] != table[path][0]:
            raise DataError(
                f"groups: the table puts {name!r} into the groups {matched[name][0]!r} and {table[path][0]!r}, "
                "written in two ways; a frame has one group"
            )
    if table and found and not any(path in matched for path in found):
        raise DataError(
            f"groups: expected paths as {min(found)!r}, relative to the folder of frames, "
            f"got {min(table)!r} and not one path that names a file of the folder; write them so, or give another table"
        )
    return matched


def _portable(path: str) -> str:
    return unicodedata.normalize("NFC", str(PurePosixPath(path.replace("\\", "/"))))


def check_table(table: dict[str, tuple[str, str]], found: Sequence[str]) -> Iterator[str]:
    """Say in which ways a table of groups does not fit the files that were found.

    Parameters
    ----------
    table : dict
        What ``read_groups`` gave.
    found : sequence of str
        Paths of the files in the class folders, sorted.

    Yields
    ------
    str
        One sentence for: rows that name no file, files without a row, labels that are not the name of the folder.
    """
    gone = sorted(set(table) - set(found))
    if gone:
        yield f"files in the table of groups that are not there: {len(gone)} (first: {gone[0]!r})"
    unnamed = [path for path in found if path not in table]
    if unnamed:
        yield (
            f"files skipped because the table of groups has no row for them: {len(unnamed)} (first: {unnamed[0]!r}); "
            "add rows for them to use them"
        )
    moved = [path for path in found if path in table and table[path][1] not in ("", class_of(path))]
    if moved:
        yield (
            f"frames labelled otherwise in the table of groups than by their folder, which counts: {len(moved)} "
            f"(first: {moved[0]!r}, labelled {table[moved[0]][1]!r})"
        )
