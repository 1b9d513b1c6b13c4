"""Tables of labels that do not fit their folder: what is said of them, and which paths are accepted."""

import pytest
from pictures import flat_folder

from framecnn.data import FrameFolder, Labels
from framecnn.errors import DataError

SIZE = (24, 32)


@pytest.fixture
def flat(tmp_path):
    return flat_folder(tmp_path / "flat")


def write_labels(path, root, header):
    """Write a table of the label and the film of each picture, separated by semicolons."""
    rows = (f"{picture.name};{picture.name[:3]};{picture.name[4:9]}" for picture in sorted(root.iterdir()))
    path.write_text("\n".join([header, *rows]))
    return path


def test_labels_are_a_file_or_labels(flat):
    with pytest.raises(ValueError, match=r"expected rows or a pattern, got only 'my.csv'; use Labels.from_csv"):
        Labels("my.csv")
    for option, column in (("labels", "label"), ("groups", "group")):
        with pytest.raises(
            TypeError,
            match=f"expected a CSV file or Labels, got dict; write a CSV file with the columns path and {column}",
        ):
            FrameFolder(flat, size=SIZE, **{option: {"cat_film0_000.png": "cat"}})


def test_absolute_paths_that_lead_into_the_folder_are_those_of_its_files(flat, tmp_path):
    path = write_labels(tmp_path / "t.csv", flat, "path;label;group")
    expected = FrameFolder(flat, size=SIZE, labels=path).samples
    (tmp_path / "link").symlink_to(flat)
    for folder in (flat, tmp_path / "link"):
        path = write_labels(tmp_path / "t.csv", flat, "path;label;group")
        text = path.read_text()
        path.write_text("\n".join([text.splitlines()[0], *(f"{folder}/{row}" for row in text.splitlines()[1:])]))
        found = FrameFolder(flat, size=SIZE, labels=path)
        assert (found.samples, found.scan_warnings) == (expected, [])
    path.write_text(f"path,label\ncat_film0_000.png,cat\n{flat}/cat_film0_000.png,dog\n")
    with pytest.raises(DataError, match=r"'cat_film0_000.png' has two labels, 'cat' and 'dog' \(another sp"):
        FrameFolder(flat, size=SIZE, labels=path)
    path.write_text("path,label\n/elsewhere/cat_film0_000.png,cat\n")
    with pytest.raises(DataError, match=r"no path of 't.csv' leads to a file of the folder: .*, got '/elsewhere/cat_"):
        FrameFolder(flat, size=SIZE, labels=path)


def test_paths_without_extension_are_an_error_with_a_file_that_may_be_meant(flat, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("path,label\ncat_film0_000,cat\ndog_film1_001,dog\n")
    with pytest.raises(
        DataError, match=r"got 'cat_film0_000'; correct them, or name another table; did you mean 'cat_film0_000.png'\?"
    ):
        FrameFolder(flat, size=SIZE, labels=path)


def test_an_empty_table_is_said_to_be_empty(tmp_path):
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(DataError, match=r"table: .*t.csv' is empty; add a header line, and a row for each frame"):
        Labels.from_csv(tmp_path / "t.csv")


def test_a_row_that_ends_before_its_label_is_an_error_that_names_the_line(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na.jpg,a\nb.jpg\n")
    with pytest.raises(DataError, match=r"table: line 3 of .*t.csv' has no label; fill it in or remove the line"):
        Labels.from_csv(tmp_path / "t.csv")


def test_a_part_that_is_none_is_named_with_its_table(flat, tmp_path):
    path = write_labels(tmp_path / "t.csv", flat, "path;label;part")
    with pytest.raises(
        DataError, match=r"^table: part of 'cat_film0_000.png' in 't.csv': expected training, .* as part, got 'film0'"
    ):
        FrameFolder(flat, size=SIZE, labels=path)


def test_groups_of_a_pattern_over_several_classes_are_warned_of(flat):
    shared = Labels.from_names(r"(?P<label>[a-z]+)_(?P<group>film\d)_.*")
    assert FrameFolder(flat, size=SIZE, labels=shared).scan_warnings[0].startswith("groups in file names that hold fra")
    apart = Labels.from_names(r"(?P<group>(?P<label>[a-z]+)_film\d)_.*")
    assert FrameFolder(flat, size=SIZE, labels=apart).scan_warnings == []
