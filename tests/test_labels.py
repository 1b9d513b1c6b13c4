"""Tables with labels, groups, movies and parts of frames, and the same facts in the names of files."""

import re
import unicodedata

import numpy as np
import pytest
from pictures import film_folder, flat_folder, scene

from framecnn.data import FrameFolder
from framecnn.data.labels import FrameFacts, Labels
from framecnn.errors import DataError

SIZE = (24, 32)
ROWS = [f"{name}/00{i}.png,{name},{name}_shot{i // 2},{i}.5" for name in "ab" for i in range(4)]


@pytest.fixture
def root(tmp_path):
    return film_folder(tmp_path / "films", {"a": 4, "b": 4})


def table(path, *rows, header="path,label,group,time_s"):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_frames_csv_in_the_folder_is_found_and_is_not_a_frame(root):
    table(root / "frames.csv", *ROWS)
    folder = FrameFolder(root, size=SIZE)
    assert folder.groups.tolist() == [f"{name}_shot{i}" for name in "ab" for i in (0, 0, 1, 1)]
    assert folder.group_source == "from frames.csv"
    assert (folder.skipped, folder.warnings) == ([], [])
    train, _, test = folder.split(0.5, 0, 0.5)
    assert sorted(np.unique(train.groups).tolist() + np.unique(test.groups).tolist()) == sorted(set(folder.groups))


def test_a_given_table_goes_before_the_one_in_the_folder(root, tmp_path):
    table(root / "frames.csv", *ROWS)
    given = table(tmp_path / "mine.csv", *(row.replace("shot", "scene") for row in ROWS))
    folder = FrameFolder(root, groups=given, size=SIZE)
    assert folder.groups[0] == "a_scene0"
    assert folder.group_source == "from mine.csv"
    assert [skip.path for skip in folder.skipped] == ["frames.csv"]


def test_without_a_table_the_groups_are_near_duplicates(root):
    folder = FrameFolder(root, size=SIZE)
    assert len(set(folder.groups)) == 8
    assert "near-duplicates" in folder.group_source


def test_a_spreadsheets_byte_order_mark_other_columns_and_dots_in_paths_are_fine(root, tmp_path):
    rows = [f"./{name}//00{i}.png,x,{name}{i}" for name in "ab" for i in range(4)]
    path = table(tmp_path / "t.csv", *rows, header="\ufeffpath,comment,group")
    assert FrameFolder(root, groups=path, size=SIZE).groups.tolist() == [f"{n}{i}" for n in "ab" for i in range(4)]


def test_rows_that_name_no_file_are_reported_and_ignored(root):
    table(root / "frames.csv", *ROWS, "a/gone.png,a,a_shot9,9", "../../etc/passwd,a,x,9")
    folder = FrameFolder(root, size=SIZE)
    assert len(folder) == folder.found == 8
    assert folder.warnings == ["paths in frames.csv that lead to no file: 2 (first: '../../etc/passwd')"]


def test_files_that_the_table_does_not_name_are_skipped(root):
    table(root / "frames.csv", *ROWS[:2], *ROWS[3:])
    folder = FrameFolder(root, size=SIZE)
    assert [(skip.path, skip.reason) for skip in folder.skipped] == [("a/002.png", "not-in-csv")]
    assert folder.warnings == [
        "files skipped because frames.csv has no row for them: 1 (first: 'a/002.png'); add rows for them to use them",
    ]


def test_a_class_that_the_table_does_not_name_at_all_is_an_error(root):
    table(root / "frames.csv", *ROWS[:4])
    with pytest.raises(
        DataError, match=re.escape("class 'b' holds no usable frame: 4 not-in-csv (add rows for its files)")
    ):
        FrameFolder(root, size=SIZE)


def test_the_folder_of_a_frame_is_its_class_if_the_table_has_a_different_label(root):
    table(root / "frames.csv", *ROWS[:7], ROWS[7].replace(",b,", ",a,"))
    folder = FrameFolder(root, size=SIZE)
    assert folder.samples[7] == ("b/003.png", 1)
    assert folder.warnings == [
        "frames whose label in frames.csv differs from their folder: 1 "
        "(first: 'b/003.png', labelled 'a'); the folder counts (--labels makes the table count)"
    ]


def test_paths_with_backslashes_and_accents_as_a_mac_writes_them_name_their_files(tmp_path):
    root = film_folder(tmp_path / "films", {"été": 2, "b": 2})
    rows = [
        unicodedata.normalize("NFD", f"{name}\\00{i}.png,{name},{name}{i}") for name in ("été", "b") for i in range(2)
    ]
    table(root / "frames.csv", *rows)
    folder = FrameFolder(root, size=SIZE)
    assert folder.groups.tolist() == ["b0", "b1", *(unicodedata.normalize("NFD", f"été{i}") for i in range(2))]
    assert folder.skipped == []


def grouped(rows):
    return Labels("t.csv", frozenset({"group"}), {path: FrameFacts(group=group) for path, group in rows.items()})


def test_a_file_with_exactly_the_path_of_a_row_has_priority():
    labels = grouped({"a/1.png": "slash", "a\\1.png": "backslash", "a\\2.png": "other"})
    known = labels.match(["a/1.png", "a\\1.png", "a/2.png"])
    assert {path: facts.group for path, facts in known.items()} == {
        "a/1.png": "slash",
        "a\\1.png": "backslash",
        "a/2.png": "other",
    }
    assert labels.match(["a/1.png", "a/3.png"]) == {"a/1.png": FrameFacts(group="slash")}


def test_one_frame_written_in_two_ways_has_one_group():
    same = grouped({"a\\1.png": "g", ".\\a\\1.png": "g"})
    assert same.match(["a/1.png"]) == {"a/1.png": FrameFacts(group="g")}
    assert same.warnings(["a/1.png"], same.match(["a/1.png"])) == []
    other = grouped({"a\\1.png": "g", ".\\a\\1.png": "h"})
    with pytest.raises(
        DataError, match=r"'a/1.png' has two groups, 'h' and 'g' \(another spelling in 't.csv'\); a frame"
    ):
        other.match(["a/1.png"])


@pytest.mark.parametrize("start", ["C:\\films\\", "/home/me/films/", "films/"])
def test_a_table_without_a_path_of_the_folder_is_an_error_with_an_example(root, start):
    table(root / "frames.csv", *(start + row for row in ROWS))
    hint = "" if start.startswith("/") else "; did you mean 'a/000.png'?"
    with pytest.raises(DataError) as error:
        FrameFolder(root, size=SIZE)
    assert str(error.value) == (
        "table: no path of 'frames.csv' leads to a file of the folder: expected paths such as 'a/000.png', "
        f"got {start + 'a/000.png'!r}; correct them, or name another table{hint}"
    )


def test_a_table_without_rows_is_an_error(root):
    path = table(root / "frames.csv")
    with pytest.raises(DataError, match=r"frames\.csv' has no rows; add a row for each frame, or remove the file"):
        FrameFolder(root, size=SIZE)
    path.unlink()
    assert len(FrameFolder(root, size=SIZE)) == 8


@pytest.mark.parametrize("header", ["label,film", "group", "a,b,c", "path|label|group", ""])
def test_a_table_without_the_column_of_paths_is_an_error(tmp_path, header):
    path = table(tmp_path / "t.csv", "1,2,3", header=header)
    with pytest.raises(DataError, match=r"table: expected a column 'path' in .*; name the columns, or add") as error:
        Labels.from_csv(path)
    assert repr(str(path)) in str(error.value)


@pytest.mark.parametrize("header", ["path,label", "path;label"])
def test_a_table_of_groups_needs_a_group_a_movie_or_a_part(root, header):
    table(root / "frames.csv", f"a/000.png{header[4]}a", header=header)
    with pytest.raises(
        DataError, match=r"table: expected a column group or movie or part in 'frames.csv', got none to use"
    ):
        FrameFolder(root, size=SIZE)


@pytest.mark.parametrize(
    ("row", "lacks"),
    [
        ("a/0.png,a,,1", "no group"),
        (",a,g,1", "no path"),
        ("a/0.png", "no group and no label"),
        (",a", "no path and no group"),
    ],
)
def test_a_row_without_path_or_group_is_an_error_that_names_the_line(tmp_path, row, lacks):
    path = table(tmp_path / "t.csv", "a/1.png,a,g,1", row)
    with pytest.raises(DataError, match=rf"table: line 3 of .*t.csv' has {lacks}; fill it in or remove the line"):
        Labels.from_csv(path)


def test_one_frame_with_two_groups_or_two_labels_is_an_error(tmp_path):
    same = table(tmp_path / "same.csv", "a/1.png,a,g,1", "a/1.png,a,g,1")
    assert Labels.from_csv(same).rows == {"a/1.png": FrameFacts("a", "g")}
    two = table(tmp_path / "two.csv", "a/1.png,a,g,1", "./a/1.png,a,h,1")
    with pytest.raises(
        DataError, match=r"table: 'a/1.png' has two groups, 'g' and 'h' \(line 3 of .*two.csv'\); a frame"
    ):
        Labels.from_csv(two)
    table(two, "a/1.png,a,g,1", "a/1.png,b,g,1")
    with pytest.raises(
        DataError, match=r"table: 'a/1.png' has two labels, 'a' and 'b' \(line 3 of .*two.csv'\); a frame"
    ):
        Labels.from_csv(two)


def test_a_file_that_is_not_csv_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"table: cannot read .*none.csv' \(No such file or directory\); name a CSV"):
        Labels.from_csv(tmp_path / "none.csv")
    broken = tmp_path / "broken.csv"
    broken.write_text('path,group\n"a/1.png" x,g\n')
    with pytest.raises(DataError, match=r"table: .*broken.csv' is not a CSV file \(.*\); save it as comma-separated"):
        Labels.from_csv(broken)


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8"), ("\t", "utf-16"), (";", "utf-8-sig")])
def test_a_table_as_spreadsheets_save_it_is_read(root, separator, encoding):
    path = table(root / "frames.csv", *ROWS)
    path.write_text(path.read_text().replace(",", separator), encoding=encoding)
    folder = FrameFolder(root, size=SIZE)
    assert folder.groups.tolist() == [f"{name}_shot{i}" for name in "ab" for i in (0, 0, 1, 1)]
    assert folder.warnings == []


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_first_line_that_names_the_separator_is_read(root, first, newline):
    path = table(root / "frames.csv", *ROWS)
    path.write_text(newline.join([first, *path.read_text().replace(",", ";").splitlines(), ""]), newline="")
    folder = FrameFolder(root, size=SIZE)
    assert folder.groups.tolist() == [f"{name}_shot{i}" for name in "ab" for i in (0, 0, 1, 1)]


def test_a_line_that_names_the_separator_counts_in_line_numbers_and_may_name_any(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sep=|\npath|group\na/1.png|g\n|g\n")
    with pytest.raises(DataError, match=r"table: line 4 of .*t.csv' has no path"):
        Labels.from_csv(path)


@pytest.fixture
def flat(tmp_path):
    return flat_folder(tmp_path / "flat")


def write_labels(path, root, header="file;class;film"):
    rows = [f"{p.name}; {p.name[:3]} ;{p.name.split('_')[1]}" for p in sorted(root.glob("*.png"))]
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def test_labels_and_groups_come_from_a_table_with_any_names_of_columns(flat, tmp_path):
    path = write_labels(flat / "mine.csv", flat)
    folder = FrameFolder(
        flat, size=SIZE, labels=Labels.from_csv(path, "file", label_column="class", group_column="film")
    )
    assert folder.classes == ["cat", "dog"]
    assert [folder.classes[target] for target in folder.targets] == [path[:3] for path, _ in folder.samples]
    assert set(folder.groups) == {"film0", "film1", "film2"}
    assert (folder.label_source, folder.group_source) == ("mine.csv", "from mine.csv")
    assert folder.group_note == (
        "expect this accuracy on groups that were not trained on; if several groups are from one film, add a column "
        "movie, else the model may only recognise the film"
    )
    assert folder.skipped == [], "the table that is read is no file of the folder"
    given = FrameFolder(flat, size=SIZE, labels=write_labels(flat / "named.csv", flat, "path;label;group"))
    assert (given.groups == folder.groups).all()
    assert [(skip.path, skip.reason) for skip in given.skipped] == [("mine.csv", "not-a-picture")]


def test_labels_and_groups_come_from_the_names_of_files(flat, tmp_path):
    scene(99).save(flat / "other.png")
    folder = FrameFolder(flat, size=SIZE, labels=Labels.from_names(r"(?P<label>[a-z]+)_(?P<group>film\d)_\d+"))
    assert folder.classes == ["cat", "dog"]
    assert set(folder.groups) == {"film0", "film1", "film2"}
    assert (folder.label_source, folder.group_source) == ("file names", "from file names")
    assert [(skip.path, skip.reason) for skip in folder.skipped] == [("other.png", "no-label")]
    assert folder.warnings == [
        "files skipped because the label pattern does not match their names: 1 (first: 'other.png')",
        "groups in file names that hold frames of several classes: 3 (first: 'film0' of cat, dog); if these are "
        "different series, let (?P<group>...) include the label",
    ]
    with_extension = FrameFolder(flat, size=SIZE, labels=Labels.from_names(r"(?P<label>[a-z]+)_.*\.png"))
    assert with_extension.samples == folder.samples
    assert with_extension.group_source.startswith("clusters of near-duplicates")


def test_a_pattern_with_a_slash_is_matched_with_the_path_and_one_without_a_label_keeps_the_class_folders(tmp_path):
    root = film_folder(tmp_path, {"a/film1": 2, "a/film2": 2, "b/film3": 2})
    folder = FrameFolder(root, size=SIZE, labels=Labels.from_names(r"[^/]+/(?P<movie>[^/]+)/.*"))
    assert folder.classes == ["a", "b"]
    assert folder.movies.tolist() == ["film1"] * 2 + ["film2"] * 2 + ["film3"] * 2
    assert (folder.label_source, folder.group_source) == (
        "names of the class folders",
        "movies from file names and clusters of near-duplicates",
    )


def test_a_table_of_labels_goes_before_class_folders_and_frames_csv_adds_what_it_lacks(root, tmp_path):
    table(root / "frames.csv", *ROWS)
    labels = table(
        tmp_path / "moods.csv",
        *(f"{n}/00{i}.png,{'dark' if i < 2 else 'light'}" for n in "ab" for i in range(4)),
        header="path,label",
    )
    folder = FrameFolder(root, size=SIZE, labels=labels)
    assert folder.classes == ["dark", "light"]
    assert folder.targets.tolist() == [0, 0, 1, 1] * 2
    assert folder.groups.tolist() == [f"{name}_shot{i}" for name in "ab" for i in (0, 0, 1, 1)]
    assert (folder.label_source, folder.group_source, folder.warnings) == ("moods.csv", "from frames.csv", [])


def test_parts_come_from_a_column(root):
    rows = [f"{row},{part}" for row, part in zip(ROWS, ["train", "Train", "val", "test"] * 2, strict=True)]
    table(root / "frames.csv", *rows, header="path,label,group,time_s,part")
    folder = FrameFolder(root, size=SIZE)
    assert [len(part) for part in folder.split()] == [4, 2, 2]
    assert folder.split()[0].split_note == "as given (frames.csv): training, validation, test"
    table(root / "frames.csv", *rows[:-1], rows[-1].replace(",test", ",held"), header="path,label,group,time_s,part")
    with pytest.raises(
        DataError,
        match=r"'b/003.png' in 'frames.csv': expected training, validation, test or a name such as train as part",
    ):
        FrameFolder(root, size=SIZE)
    pattern = Labels.from_names(r"(?P<label>\w+?)(_(?P<part>train))?")
    root.joinpath("frames.csv").unlink()
    (root / "a" / "000.png").rename(root / "a" / "x_train.png")
    with pytest.raises(
        DataError, match=r"expected a part for every frame or for none, got none for 'a/001.png'; fill it"
    ):
        FrameFolder(root, size=SIZE, labels=pattern)


def test_a_label_that_is_empty_is_a_skip(flat):
    path = write_labels(flat / "mine.csv", flat, "path;label;group")
    path.write_text(path.read_text().replace("cat_film0_000.png; cat ;", "cat_film0_000.png; ;"))
    folder = FrameFolder(flat, size=SIZE, labels=path)
    assert [(skip.path, skip.reason, skip.detail) for skip in folder.skipped] == [
        ("cat_film0_000.png", "no-label", "its label is empty")
    ]
    assert folder.scan_warnings == [
        "files skipped because their label in mine.csv is empty: 1 (first: 'cat_film0_000.png')"
    ]


def test_columns_that_are_missing_are_named_with_a_similar_one(flat, tmp_path):
    path = write_labels(tmp_path / "t.csv", flat)
    with pytest.raises(
        DataError,
        match=r"expected a column 'clas' in .*t.csv', got \['file', 'class', 'film'\]; name the columns, or add",
    ):
        Labels.from_csv(path, "file", label_column="clas")
    with pytest.raises(
        DataError, match=r"table: expected a column 'path' in .*; name the columns, or add a header line"
    ):
        FrameFolder(flat, size=SIZE, labels=path)
    with pytest.raises(
        DataError, match=r"expected a column label in 't.csv', got none to use; name the column \(--label"
    ):
        FrameFolder(flat, size=SIZE, labels=Labels.from_csv(path, "file"))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(?P<label>[a-z", r"expected a regular expression such as .*, got '\(\?P<label>\[a-z' \(unterminated"),
        ("[a-z]+_.*", r"expected named groups among \(\?P<label>...\), .*, got none in '\[a-z\]\+_"),
        ("(?P<lable>[a-z]+)_.*", r"expected .*, got \(\?P<lable>...\) in .*; did you mean 'label'\?"),
    ],
)
def test_a_pattern_that_is_wrong_is_an_error(pattern, message):
    with pytest.raises(DataError, match=rf"label pattern: {message}"):
        Labels.from_names(pattern)


def test_a_pattern_or_a_table_that_fits_no_file_is_an_error_and_one_wrong_path_is_a_warning(flat, tmp_path):
    with pytest.raises(
        DataError,
        match=r"expected it to match the names of files, such as 'cat_film0_000.png', got .*, which matches none of",
    ):
        FrameFolder(flat, size=SIZE, labels=Labels.from_names(r"(?P<label>\d+)"))
    path = write_labels(tmp_path / "t.csv", flat, "path;label;group")
    path.write_text(path.read_text().replace("cat_film0_000", "cat_film0_00"))
    folder = FrameFolder(flat, size=SIZE, labels=path)
    assert folder.scan_warnings == [
        "paths in t.csv that lead to no file: 1 (first: 'cat_film0_00.png'); did you mean 'cat_film0_000.png'?",
        "files skipped because t.csv has no row for them: 1 (first: 'cat_film0_000.png'); "
        "add rows for them to use them",
    ]


def test_names_of_columns_match_in_any_case_and_none_may_be_there_twice(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(" Path,LABEL ,time_s\n1.jpg,cat,0.5\n")
    assert Labels.from_csv(path).rows == {"1.jpg": FrameFacts("cat")}
    path.write_text("path,label,label\n1.jpg,cat,dog\n")
    with pytest.raises(DataError, match=r"table: .*t.csv' has 2 columns 'label'; rename one"):
        Labels.from_csv(path)
