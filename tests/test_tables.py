"""CSV files hold names with any character, and every reader reads back what was written."""

import csv
import io
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framecnn.data.tables import format_table, read_table, spreadsheet_cell

COLUMNS = ("path", "group")
# what os.fsdecode can give: every character, and halves of characters for bytes that are not UTF-8
HALVES = "".join(map(chr, range(0xDC80, 0xDD00)))
characters = (
    st.characters(exclude_categories=["Cs"]) | st.sampled_from(HALVES) | st.sampled_from("\r\n\0\t,;\"'=+-@ \\")
)
cells = st.text(characters, max_size=8).map(os.fsencode).map(os.fsdecode)  # two halves may make a whole
tables = st.lists(st.tuples(cells, cells), max_size=5)


def read(data, tmp_path):
    (tmp_path / "t.csv").write_bytes(data)
    return read_table(tmp_path / "t.csv", COLUMNS)


@given(tables)
def test_every_character_is_read_back(tmp_path_factory, rows):
    header, found = read(format_table([COLUMNS, *rows]), tmp_path_factory.mktemp("t"))
    assert header == list(COLUMNS)
    assert [tuple(row) for _, row in found] == rows


@given(tables)
@settings(deadline=None)  # importing pandas takes a second
def test_the_csv_module_and_pandas_read_the_same(rows):
    pandas = pytest.importorskip("pandas")
    data = format_table([COLUMNS, *rows])
    text = io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")
    assert list(csv.reader(text, strict=True)) == [list(COLUMNS), *map(list, rows)]
    if b"\0" not in data and rows:
        frame = pandas.read_csv(
            io.BytesIO(data),
            dtype=object,
            keep_default_na=False,
            skip_blank_lines=False,
            encoding_errors="surrogateescape",
        )
        assert list(frame.itertuples(index=False, name=None)) == rows


@given(cells)
def test_a_cell_for_a_spreadsheet_is_not_a_formula_and_keeps_its_text(cell):
    harmless = spreadsheet_cell(cell)
    assert not harmless.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert harmless in (cell, f"'{cell}")
    assert (harmless == cell) != harmless.startswith("'")


def test_a_carriage_return_does_not_split_a_row():
    assert format_table([COLUMNS, ("a/1\r.jpg", "g")]) == b'path,group\n"a/1\r.jpg","g"\n'


def test_names_are_written_as_the_file_system_gives_them(tmp_path, monkeypatch):
    assert format_table([(os.fsdecode(b"\xff.jpg"),)]) == b"\xff.jpg\n"
    monkeypatch.setattr(sys, "getfilesystemencodeerrors", lambda: "surrogatepass")  # Windows: halves of UTF-16
    assert read(format_table([COLUMNS, ("\ud800.jpg", "g")]), tmp_path)[1] == [(2, ["\ud800.jpg", "g"])]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize(
    ("encoding", "mark"), [("utf-8", ""), ("utf-8-sig", ""), ("utf-16", ""), ("utf-16-le", ""), ("utf-16-be", "\ufeff")]
)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_files_saved_by_spreadsheets_are_read(tmp_path, separator, encoding, mark, newline):
    lines = [("path", "été", "group"), ("a/1.jpg", "x, y; z", "g\n1"), (), ("a/2.jpg", "", "g2")]
    text = newline.join(separator.join(f'"{cell}"' for cell in line) for line in lines) + newline
    header, rows = read((mark + text).encode(encoding), tmp_path)
    assert (header, [row for _, row in rows]) == (list(lines[0]), [list(lines[1]), list(lines[3])])


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    assert [line for line, _ in read(b'path,group\na,"g\n1"\n\nb,g\n', tmp_path)[1]] == [3, 5]


def test_other_files_have_no_header_or_are_an_error(tmp_path, monkeypatch):
    assert read(b"", tmp_path) == ([], [])
    assert read(b"path|group\n1|2\n", tmp_path) == (["path|group"], [(2, ["1|2"])])
    with pytest.raises(csv.Error, match=r"byte 4 is not UTF-16"):
        read(b"\xff\xfep\0a", tmp_path)
    with pytest.raises(csv.Error, match="expected after"):
        read(b'path,group\n"a/1.png" x,g\n', tmp_path)
    monkeypatch.setattr(sys, "getfilesystemencodeerrors", lambda: "surrogatepass")
    with pytest.raises(csv.Error, match=r"byte 11 is not UTF-8"):
        read(b"path,group\n\xe9,g\n", tmp_path)
