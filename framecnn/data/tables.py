"""CSV files whose cells, such as names of files, may hold any character."""

import codecs
import csv
import io
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["format_table", "read_table", "spreadsheet_cell", "text_of_cell"]

_FORMULA = ("=", "+", "-", "@", "'", "\t", "\r")
"""How a cell begins that a spreadsheet would run, or whose apostrophe would be taken for an added one."""
_SEPARATORS = ",;\t"
_SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n"])"?[,;\t]*(?:\r\n|\r|\n|$)', re.IGNORECASE)


def format_table(rows: Iterable[Sequence[str]]) -> bytes:
    r"""Return a table as comma-separated UTF-8, with a newline after each row.

    Parameters
    ----------
    rows : iterable of sequence of str
        The cells, with the header first. Names of files keep the bytes that they have on disk.

    Returns
    -------
    bytes

    Notes
    -----
    A row with a carriage return is quoted as a whole: Python before 3.11.9 and 3.12.3 does not quote such a cell.

    Examples
    --------
    >>> format_table([("path", "label"), ("a/1.jpg", "a"), ("a/2,\r.jpg", "a")])
    b'path,label\na/1.jpg,a\n"a/2,\r.jpg","a"\n'
    """
    text = io.StringIO(newline="")
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        (quoted if any("\r" in cell for cell in row) else plain).writerow(row)
    return text.getvalue().encode("utf-8", sys.getfilesystemencodeerrors())


def read_table(path: str | os.PathLike[str], columns: Iterable[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Return the header and the rows of a CSV file.

    The separator is a comma, a semicolon or a tab, or is given in a first line such as ``sep=;``, as for Excel. The
    encoding is UTF-8 or UTF-16, with or without a byte order mark.

    Parameters
    ----------
    path : path
        The file.
    columns : iterable of str
        Expected names; the separator with which the header has them is used.

    Returns
    -------
    list of str
        The header; if it has the columns with no separator, read with the one that gives the most cells; [] for an
        empty file.
    list of (int, list of str)
        The number of the line on which each row ends, and its cells. Empty lines are skipped.

    Raises
    ------
    OSError
        If the file cannot be read.
    csv.Error
        If it is not a CSV file.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "frames.csv")
    >>> with open(path, "w", encoding="utf-16") as file:
    ...     _ = file.write("path;group\\na/1.jpg;shot 1\\n")
    >>> read_table(path, ("path", "group"))
    (['path', 'group'], [(2, ['a/1.jpg', 'shot 1'])])
    """
    with open(path, "rb") as file:
        text = _decoded(file.read())
    named = _SEPARATOR_LINE.match(text)
    text, n_skipped = (text[named.end() :], 1) if named else (text, 0)
    separators = named[1] if named else _SEPARATORS
    headers: dict[str, list[str]] = {separator: next(_reader(text, separator), []) for separator in separators}
    most_cells = max(separators, key=lambda separator: len(headers[separator]))
    separator = next((separator for separator in separators if set(columns) <= set(headers[separator])), most_cells)
    reader = _reader(text, separator, strict=True)
    header: list[str] = next(reader, [])
    return header, [(reader.line_num + n_skipped, row) for row in reader if row]


def spreadsheet_cell(text: str) -> str:
    """Return text for a cell, with an apostrophe before it if a spreadsheet would run it as a formula.

    Parameters
    ----------
    text : str

    Returns
    -------
    str

    Examples
    --------
    >>> spreadsheet_cell("=cmd()"), spreadsheet_cell("sintel/001.jpg")
    ("'=cmd()", 'sintel/001.jpg')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def text_of_cell(cell: str) -> str:
    """Return the text for which :func:`spreadsheet_cell` returned a cell.

    Parameters
    ----------
    cell : str

    Returns
    -------
    str

    Examples
    --------
    >>> text_of_cell("'=cmd()"), text_of_cell("sintel/001.jpg"), text_of_cell("'twas")
    ('=cmd()', 'sintel/001.jpg', "'twas")
    """
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _decoded(data: bytes) -> str:
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16", "surrogatepass")
        if b"\0" in data[:2]:
            return data.decode("utf-16-be" if data[0] == 0 else "utf-16-le", "surrogatepass")
        return data.decode("utf-8-sig", sys.getfilesystemencodeerrors())
    except UnicodeDecodeError as error:
        raise csv.Error(f"byte {error.start} is not {error.encoding.upper()}") from None


def _reader(text: str, separator: str, strict: bool = False) -> Any:
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=strict)
