"""The table with the group of each frame: ``frames.csv``, or a file with the same columns."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from framecnn.data.class_folders import class_folder
from framecnn.data.names import portable_path
from framecnn.data.tables import read_table
from framecnn.errors import DataError

__all__ = ["GROUPS_FILE", "check_table", "match_table", "read_groups"]

GROUPS_FILE = "frames.csv"
"""The name of the table of groups inside a folder of frames."""


def read_groups(path: Path) -> dict[str, tuple[str, str]]:
    """Return the group and the label of each frame in a CSV file.

    Parameters
    ----------
    path : Path
        A CSV file with a header and the columns ``path`` (relative to the folder of frames, with ``/``) and ``group``,
        and optionally ``label``. Other columns are ignored.

    Returns
    -------
    dict of str to (str, str)
        The group and the label (empty if there is none) of each path.

    Raises
    ------
    DataError
        If the file cannot be read, lacks a column, has no rows or a row without path or group, or puts a frame into two
        groups.

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
        raise DataError(
            f"groups: cannot read {str(path)!r} ({error.strerror}); name a CSV file, or leave out groups (--groups)"
        ) from None
    except csv.Error as error:
        raise DataError(
            f"groups: {str(path)!r} is not a CSV file ({error}); save it as comma-separated UTF-8"
        ) from None
    if not {"path", "group"} <= set(columns):
        raise DataError(
            f"groups: expected the columns path and group (and label, time_s) in {str(path)!r}, "
            f"got {columns}; add a header line with these names"
        )
    if not rows:
        raise DataError(f"groups: {str(path)!r} has no rows; add a row for each frame, or remove the file")
    table: dict[str, tuple[str, str]] = {}
    for line, cells in rows:
        row = dict(zip(columns, cells, strict=False))
        if not row.get("path") or not row.get("group"):
            raise DataError(
                f"groups: line {line} of {str(path)!r} has no path or no group; fill it in or remove the line"
            )
        frame = str(PurePosixPath(row["path"]))
        entry = (row["group"], row.get("label", ""))
        if table.setdefault(frame, entry)[0] != entry[0]:
            raise DataError(
                f"groups: {str(path)!r} puts {frame!r} into the groups {table[frame][0]!r} and {entry[0]!r} "
                f"(line {line}); a frame has one group"
            )
    return table


def match_table(table: dict[str, tuple[str, str]], found: Sequence[str]) -> dict[str, tuple[str, str]]:
    r"""Return the table with paths spelled as the files are: ``/``, and the same form of accents.

    Parameters
    ----------
    table : dict
        As ``read_groups`` returns it.
    found : sequence of str
        Paths of the files in the class folders.

    Returns
    -------
    dict of str to (str, str)
        The same entries; a path without a file is kept.

    Raises
    ------
    DataError
        If no path of the table leads to a file, or two spellings of a path have different groups.

    Examples
    --------
    >>> match_table({"cats\\1.jpg": ("film", "")}, ["cats/1.jpg"])
    {'cats/1.jpg': ('film', '')}
    """
    files = {portable_path(path): path for path in found}
    matched: dict[str, tuple[str, str]] = {path: table[path] for path in found if path in table}
    for path in sorted(set(table) - set(matched)):
        file = files.get(portable_path(path))
        name = path if file is None or file in table else file
        if matched.setdefault(name, table[path])[0] != table[path][0]:
            raise DataError(
                f"groups: the table puts {name!r} into the groups {matched[name][0]!r} and {table[path][0]!r}, "
                "in two spellings; a frame has one group"
            )
    if found and not any(path in matched for path in found):
        raise DataError(
            f"groups: no path of the table leads to a file of the folder: expected paths such as {min(found)!r}, "
            f"got {min(table)!r}; correct them, or name another table"
        )
    return matched


def check_table(table: dict[str, tuple[str, str]], found: Sequence[str]) -> Iterator[str]:
    """Yield a warning for each kind of difference between a table of groups and the files.

    Parameters
    ----------
    table : dict
        As ``read_groups`` returns it.
    found : sequence of str
        Paths of the files in the class folders, sorted.

    Yields
    ------
    str
        Up to three: rows without a file, files without a row, and labels that differ from the class folder.
    """
    gone = sorted(set(table) - set(found))
    if gone:
        yield f"files in the table of groups that do not exist: {len(gone)} (first: {gone[0]!r})"
    unnamed = [path for path in found if path not in table]
    if unnamed:
        yield (
            f"files skipped because the table of groups has no row for them: {len(unnamed)} (first: {unnamed[0]!r}); "
            "add rows for them to use them"
        )
    moved = [path for path in found if path in table and table[path][1] not in ("", class_folder(path))]
    if moved:
        yield (
            f"frames whose label in the table of groups differs from their folder: {len(moved)} "
            f"(first: {moved[0]!r}, labelled {table[moved[0]][1]!r}); the folder counts"
        )
