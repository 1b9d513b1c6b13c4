"""The manifest of a folder of frames: a CSV file that lists every file, used or skipped."""

from collections.abc import Iterable
from pathlib import Path

from framecnn.data.tables import format_table, spreadsheet_cell
from framecnn.storage.atomic import atomic_write

__all__ = ["MANIFEST_COLUMNS", "MANIFEST_MARK", "write_manifest"]

MANIFEST_COLUMNS = ("path", "label", "group", "status", "reason", "detail", "notes")
"""The columns of every manifest."""

MANIFEST_MARK = ",".join(MANIFEST_COLUMNS).encode()
"""The bytes at the beginning of every manifest."""


def write_manifest(path: Path, rows: Iterable[tuple[str, ...]]) -> None:
    """Write a manifest in UTF-8, sorted by path; bytes of file names that are not UTF-8 are kept.

    Parameters
    ----------
    path : Path
        The file to write.
    rows : iterable of tuple of 7 str
        Path, label, group, status (``used`` or ``skipped``), reason, detail and notes of each file. A cell that a
        spreadsheet would run as a formula gets a leading apostrophe.
    """
    table = [MANIFEST_COLUMNS, *([spreadsheet_cell(text) for text in row] for row in sorted(rows))]
    with atomic_write(path) as temporary:
        temporary.write_bytes(format_table(table))
