"""Options of the folder: parts, labels and groups are found, used and shown by scan, train and evaluate alike."""

import csv
import re
import shutil

import numpy as np
import pytest
from commands import framecnn, quick, refused, write_frames
from pictures import film_folder

SIZE = ("--size", "24x32")


@pytest.fixture
def films(tmp_path):
    return write_frames(tmp_path / "films", n_groups=5)


@pytest.fixture
def given(tmp_path):
    """Return a folder with train and test folders, with the frames of different groups, without a table."""
    films = write_frames(tmp_path / "all", n_groups=6)
    with open(films / "frames.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        part = (
            "Test"
            if sorted({other["group"] for other in rows if other["label"] == row["label"]}).index(row["group"]) < 2
            else "train"
        )
        target = tmp_path / "given" / part / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(films / row["path"], target)
    return tmp_path / "given"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    quick(monkeypatch)


def warnings(ended):
    return [line for line in ended.err.splitlines() if line.startswith("warning: ")]


def test_train_uses_the_parts_that_are_given_and_evaluate_the_test_part(given, tmp_path):
    out = tmp_path / "m.safetensors"
    ended = framecnn("train", given, "-o", out, *SIZE, "--max-bad", "0")
    assert ended.code == 0
    assert ended.out.splitlines()[:2] == [
        "frames   36 of 3 classes: across, blobs, down",
        "parts    24 training, 12 test (from names of folders)",
    ]
    assert "split as given (names of folders): training, test; the training part is divided by group" in ended.out
    assert re.search(r"^all classes +18 +6 +12$", ended.out, re.MULTILINE)
    assert re.search(r"^test accuracy .* 12 frames of \d+ groups", ended.out, re.MULTILINE)
    said = framecnn("evaluate", out, given)
    assert "evaluated: 12 frames of the test part\n" in said.out
    assert re.search(r"^given accuracy .* 12 frames of", said.out, re.MULTILINE)


def test_parts_elsewhere_are_used_and_nothing_is_written_into_them(given, tmp_path):
    test = given / "Test"
    (test / "across").rename(test / "ACROSS ")
    ended = framecnn("train", given / "train", "--test", test, "-o", tmp_path / "m.safetensors", *SIZE)
    assert "parts    24 training, 12 test (from --test Test)\n" in ended.out
    assert warnings(ended)[0] == (
        "warning: classes of the test part whose names differ in case or blanks from the training part: 1 "
        "(first: 'ACROSS ', taken as 'across')"
    )
    assert (tmp_path / "m.safetensors").is_file()
    message = refused("train", given / "train", "--test", test, "-o", test / "m.safetensors", *SIZE)
    assert "expected a file outside " in message
    assert "expected a folder of frames, got 'gone', which does not exist" in refused(
        "scan", given / "train", "--test", "gone"
    )


def test_scan_shows_what_train_would_and_the_same_warnings(tmp_path):
    films = write_frames(tmp_path / "films", n_groups=4, names=("across", "blobs", "down"))
    path = films / "frames.csv"
    rows = path.read_text().splitlines()
    number = {group: i for i, group in enumerate(sorted({row.split(",")[2] for row in rows[1:]}))}
    lines = [
        f"{row},{row.split(',')[1]}{number[row.split(',')[2]] % 4 if 'blobs' not in row else 0}" for row in rows[1:]
    ]
    path.write_text("\n".join([rows[0] + ",movie", *lines]))
    (films / "blobs" / "notes.txt").write_text("x")
    scanned = framecnn("scan", films, *SIZE)
    trained = framecnn("train", films, "-o", tmp_path / "m.safetensors", *SIZE, "--max-bad", "0")
    assert scanned.code == trained.code == 0
    assert warnings(scanned) == warnings(trained) != []
    assert scanned.out.splitlines()[:4] == trained.out.splitlines()[:4]
    assert "meaning  each of across, down holds several movies, which stay whole: expect this accuracy" in scanned.out
    assert "(movies and shots from frames.csv)" in scanned.out
    assert "skipped  1 of 25 files (1 not-a-picture)" in scanned.out
    by_shot = framecnn("scan", films, *SIZE, "--group-by", "shot")
    assert "groups   12 (shots from frames.csv)" in by_shot.out


def test_labels_and_groups_of_a_flat_folder(films, tmp_path):
    flat = tmp_path / "flat"
    flat.mkdir()
    with open(films / "frames.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with open(tmp_path / "labels.csv", "w", newline="") as file:
        csv.writer(file, delimiter=";").writerow(("file", "class", "film"))
        for row in rows:
            name = f"{row['label']}-{row['group'].replace('-', '')}-{row['path'][-7:]}"
            shutil.copy(films / row["path"], flat / name)
            csv.writer(file, delimiter=";").writerow((name, row["label"], row["group"]))
    columns = ("--labels", tmp_path / "labels.csv", "--path-column", "file", "--label-column", "class")
    ended = framecnn("train", flat, *columns, "--group-column", "film", "-o", tmp_path / "m.safetensors", *SIZE)
    assert ended.out.splitlines()[:3] == [
        "frames   30 of 3 classes: across, blobs, down",
        "labels   from labels.csv",
        "groups   15 (from labels.csv)",
    ]
    pattern = framecnn("scan", flat, "--label-pattern", r"(?P<label>[a-z]+)-(?P<group>.+)-\d+", *SIZE)
    assert pattern.out.splitlines()[:3] == [
        "frames   30 of 3 classes: across, blobs, down",
        "labels   from file names",
        "groups   15 (from file names)",
    ]
    assert "accuracy " in framecnn("evaluate", tmp_path / "m.safetensors", flat, *columns).out
    assert "expected a column 'clas' in " in refused("scan", flat, *columns[:4], "--label-column", "clas")
    assert refused("scan", flat, *columns[:4], "--label-column", "clas").endswith("; did you mean 'class'?")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "l.csv", "--label-pattern", "(?P<label>.)"], "expected --labels or --label-pattern, got both"),
        (["--group-column", "film"], "expected --labels CSV or --groups CSV with --group-column, got neither"),
        (["--label-pattern", "(?P<label>["], "label pattern: expected a regular expression such as "),
        (["--parts", "maybe"], "Invalid value for '--parts': expected folders or none, got 'maybe'"),
        (["--group-by", "film"], "Invalid value for '--group-by': expected movie or shot, got 'film'"),
        (
            ["--group-by", "movie"],
            "expected a movie for each frame to group by (--group-by movie), got none for 30 of 30",
        ),
        (
            ["--parts", "folders"],
            "expected folders called train, validation or test for --parts folders, got across, blobs",
        ),
    ],
)
@pytest.mark.parametrize("command", ["scan", "train"])
def test_options_that_do_not_fit_are_refused_before_the_scan(films, command, options, message):
    assert message in refused(command, films, *options)


def test_columns_may_describe_the_table_of_groups(films, tmp_path):
    table = tmp_path / "shots.csv"
    table.write_text((films / "frames.csv").read_text().replace("path,label,group", "file,label,shot"))
    ended = framecnn("scan", films, "--groups", table, "--path-column", "file", "--group-column", "shot", *SIZE)
    assert "groups   15 (from shots.csv)\n" in ended.out


def test_folders_that_may_be_parts_stop_the_command_until_an_option_says_what_they_are(tmp_path):
    films = film_folder(tmp_path / "films", {"train": 6, "car": 6})
    message = refused("train", films, "-o", tmp_path / "m.safetensors")
    assert message.endswith(
        "('car/000.png' lies beside them); give --parts folders (parts='folders') if they are, or --parts none "
        "(parts='none') if they are not"
    )
    assert "frames   12 of 2 classes: car, train\n" in framecnn("scan", films, "--parts", "none", *SIZE).out


def test_scan_shows_a_folder_without_a_training_part(tmp_path):
    films = film_folder(tmp_path / "films", {"test/a": 3, "test/b": 3})
    ended = framecnn("scan", films, "--parts", "folders", *SIZE)
    assert (ended.code, warnings(ended)) == (0, [])
    assert "parts    6 test (from names of folders)\n" in ended.out
    assert (
        "expected a training part, got only test; add one"
        in framecnn("train", films, "--parts", "folders", *SIZE, "-o", tmp_path / "m.safetensors").err
    )


def test_evaluate_takes_names_of_classes_in_any_case_and_suggests_others(films, tmp_path):
    framecnn("train", films, "-o", tmp_path / "m.safetensors", *SIZE)
    (films / "frames.csv").unlink()
    (films / "across").rename(films / "Across")
    (films / "blobs").rename(films / "blob")
    ended = framecnn("evaluate", tmp_path / "m.safetensors", films)
    assert warnings(ended)[:2] == [
        "warning: skipped 10 frames of classes that the model does not know: blob; did you mean 'blobs'?",
        "warning: class 'Across' is taken as the model's class 'across'",
    ]
    assert "no frames of blobs: the accuracy does not cover these classes" in warnings(ended)[2]
    assert re.search(r"^across +10 ", ended.out, re.MULTILINE)
    assert np.isfinite(float(re.search(r"^films accuracy +([\d.]+) %", ended.out, re.MULTILINE)[1]))
