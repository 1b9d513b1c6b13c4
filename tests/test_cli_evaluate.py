"""``framecnn evaluate``: the accuracy of a model on a folder of frames."""

import csv
import json
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from commands import fingerprint, framecnn, train_quickly, write_frames
from PIL import Image
from reports import Report

from framecnn import FrameClassifier, FrameFolder, load
from framecnn.cli import environment, evaluate
from framecnn.data import LazyFrames


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_quickly(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def model(trained):
    return trained / "model.safetensors"


@pytest.fixture
def films(trained):
    return trained / "films"


def test_evaluate_prints_the_accuracy_of_a_model_on_a_folder(model, films, tmp_path):
    before = fingerprint(films)
    ended = framecnn("evaluate", model, films, "--json", tmp_path / "f.json")
    assert (ended.code, fingerprint(films)) == (0, before)
    lines = ended.out.splitlines()
    assert lines[:4] == [
        "frames   36 of 3 classes: across, blobs, down",
        "groups   18 (from frames.csv)",
        "meaning  expect this accuracy on frames like these; if they are from films, places or series of the training "
        "frames, it will be lower on others",
        "skipped  0 of 36 files",
    ]
    assert re.fullmatch(
        r"films accuracy +\d+\.\d % \(95 % interval [\d.]+ to [\d.]+; 36 frames of 18 groups\)", lines[5]
    )
    assert re.fullmatch(
        r"films: balanced accuracy [\d.]+ %, mean F1 [\d.]+ %, top-2 accuracy [\d.]+ % \(100 % is best\); "
        r"Brier score [\d.]+, log loss [\d.]+, calibration error [\d.]+ % \(0 is best\)",
        lines[7],
    )
    assert re.fullmatch(r"class +frames +precision +recall +F1 +frames mistaken for", lines[9])
    assert [re.match(r"(\w+) +12( +\d+\.\d %){3}", line)[1] for line in lines[10:13]] == ["across", "blobs", "down"]
    assert lines[-1] == f"wrote  {tmp_path / 'f.json'}  all figures"
    figures = json.loads((tmp_path / "f.json").read_text())
    assert (figures["part"], figures["n_frames"], figures["classes"]) == ("films", 36, ["across", "blobs", "down"])
    assert figures["accuracy"] > 0.9


def test_frames_that_were_trained_on_are_counted(model, films, tmp_path, monkeypatch):
    names = training_names(model)
    ended = framecnn("evaluate", model, films, "--report", tmp_path / "r.html", "--json", tmp_path / "f.json")
    warning = f"{len(names)} of 36 frames were trained on: the accuracy is too high; evaluate other frames"
    assert (ended.code, ended.err) == (0, f"warning: {warning}\n")
    assert warning in Report((tmp_path / "r.html").read_text("utf-8")).words
    assert json.loads((tmp_path / "f.json").read_text())["warnings"] == [warning]
    for path in films.glob("*/*.jpg"):
        if path.relative_to(films).as_posix() != names[0]:
            copy = tmp_path / "new" / path.relative_to(films)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    for name in names[1:]:
        (tmp_path / "new" / name).unlink()
    assert framecnn("evaluate", model, tmp_path / "new").err == ""
    shutil.copy(films / names[0], tmp_path / "new" / names[0])
    assert "warning: 1 of " in framecnn("evaluate", model, tmp_path / "new").err
    monkeypatch.setattr(evaluate, "load_classifier", lambda path: thinned(load(path)))
    assert "warning: at least 5 of 36 frames were trained on" in framecnn("evaluate", model, films).err


def training_names(model):
    """Return the names of the training frames of a model."""
    return load(model).training_names_.tolist()


def thinned(classifier):
    """Return a classifier that keeps five training frames, as one of many frames keeps 5,000."""
    outliers = classifier.head_.outliers_
    classifier.head_.outliers_ = replace(outliers, samples=outliers.samples[:5], rows=outliers.rows[:5])
    return classifier


def test_one_class_is_counted_as_one(model, tmp_path):
    films = write_frames(tmp_path / "films", names=("across",) * 3, with_groups=False)
    assert "frames   30 of 1 class: across\n" in framecnn("evaluate", model, films).out


def test_mistakes_are_listed(model, tmp_path):
    relabelled = write_frames(tmp_path / "films", n_groups=2, names=("down", "blobs", "across"))
    said = framecnn("evaluate", model, relabelled).out
    assert re.search(r"^across +4 +0\.0 % +0\.0 % +0\.0 % +down 4$", said, re.MULTILINE)
    shutil.rmtree(relabelled / "across")
    ended = framecnn("evaluate", model, relabelled, "--report", tmp_path / "r.html")
    assert re.search(r"^down +4 +- +0\.0 % +0\.0 % +across 4$", ended.out, re.MULTILINE)
    assert re.search(r"^across +0 +- +- +-$", ended.out, re.MULTILINE), "it is predicted, but has no frames"
    words = Report((tmp_path / "r.html").read_text("utf-8")).words
    assert "across0–––" in words.replace(" ", "")
    assert "Confusion matrix of the frames of “films”" in words
    assert "The misclassified frames of “films” with the highest" in words
    assert re.search(r"^down +4 +0\.0 % +0\.0 % +0\.0 % +across 4$", said, re.MULTILINE)


def test_suspected_wrong_labels_of_a_model_that_errs_come_with_a_caution(model, tmp_path):
    for moved, is_said in ((2, False), (10, True)):
        films = write_frames(tmp_path / str(moved), 12, with_groups=False)
        for path in sorted((films / "across").iterdir())[:moved]:
            path.rename(films / "down" / f"moved-{path.name}")
        said = framecnn("evaluate", model, films).out
        assert "suspected wrong labels: down/moved-" in said
        assert ("% itself: many of these may be its mistakes)" in said) == is_said


def test_classes_that_the_model_does_not_know_are_skipped(model, tmp_path):
    films = write_frames(tmp_path / "films", n_groups=2, names=("across", "new\x1b", "down"))
    ended = framecnn("evaluate", model, films)
    assert ended.code == 0
    assert "warning: skipped 4 frames of classes that the model does not know: new\\x1b\n" in ended.err
    assert re.search(r"^blobs +0 +- +- +-$", ended.out, re.MULTILINE)


def test_a_folder_of_one_class_is_evaluated_and_the_classes_without_frames_are_named(model, tmp_path):
    films = write_frames(tmp_path / "films")
    for name in ("across", "blobs"):
        shutil.rmtree(films / name)
    (films / "@eaDir").mkdir()
    ended = framecnn("evaluate", model, films, "--json", tmp_path / "f.json")
    assert ended.code == 0, ended.err
    assert "warning: no frames of across, blobs: the accuracy does not cover these classes\n" in ended.err
    assert re.search(r"^down +10 +\d+\.\d %", ended.out, re.MULTILINE)
    assert re.search(r"^blobs +0 +- +- +-$", ended.out, re.MULTILINE)
    assert "10 frames of 5 groups" in ended.out


def test_system_files_are_neither_predicted_nor_counted_as_unusable(model, tmp_path):
    films = write_frames(tmp_path / "films", n_groups=2)
    for place in (films, films / "down"):
        (place / "@eaDir").mkdir()
        for number in range(9):
            (place / "@eaDir" / f"{number}.jpg").write_bytes(b"x")
    (films / "down" / "Thumbs.db").write_bytes(b"x")
    predicted = framecnn("predict", model, films)
    assert (predicted.code, predicted.err) == (0, "")
    assert "@eaDir" not in predicted.out
    ended = framecnn("evaluate", model, films, "--max-bad", "0")
    assert ended.code == 0, ended.err
    assert "skipped  3 of 15 files (3 system)" in ended.out


def test_a_folder_without_any_class_of_the_model_is_an_error(model, tmp_path):
    films = write_frames(tmp_path / "films", n_groups=1, names=("a", "b", "c"))
    assert framecnn("evaluate", model, films).err == (
        "error: films: expected folders of the model's classes (across, blobs, down), got a, b, c; "
        "name the folders as in training\n"
    )


def test_a_frame_that_vanishes_during_evaluation_is_skipped(model, tmp_path, monkeypatch):
    films = write_frames(tmp_path / "films", n_groups=4)
    lost, read = min((films / "down").iterdir()), LazyFrames.__getitem__

    def losing(frames, key):
        lost.unlink(missing_ok=True)
        return read(frames, key)

    monkeypatch.setattr(LazyFrames, "__getitem__", losing)
    ended = framecnn("evaluate", model, films)
    assert ended.code == 0, ended.err
    assert f"1 frame vanished or changed during the run (first: 'down/{lost.name}'); starting again" in ended.err
    assert "23 frames of 12 groups" in ended.out


def test_evaluate_writes_the_report_and_the_predictions_of_the_frames(model, films, tmp_path):
    outputs = tmp_path / "r.html", tmp_path / "p.csv", tmp_path / "f.json"
    ended = framecnn("evaluate", model, films, *zip_options(("--report", "--predictions", "--json"), outputs))
    assert ended.code == 0, ended.err
    words = Report(outputs[0].read_text(encoding="utf-8")).words
    for text in ("These are the frames of “films”.", "Typical frames", "Learned filters", "Expected calibration error"):
        assert text in words, text
    with open(outputs[1], newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    figures = json.loads(outputs[2].read_text())
    assert len(rows) == figures["n_frames"] == 36
    assert {row["part"] for row in rows} == {"films"}
    assert {row["fold"] for row in rows} == {""}
    assert np.mean([row["label"] == row["prediction"] for row in rows]) == figures["accuracy"]
    assert {row["out_of_distribution"] for row in rows} <= {"yes", "no"}
    assert all((films / row["nearest_training_path"]).is_file() for row in rows)
    shares = np.array([[float(row[f"probability:{name}"]) for name in figures["classes"]] for row in rows])
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-6)


def zip_options(names, values):
    return [text for pair in zip(names, values, strict=True) for text in pair]


def test_the_report_names_the_table_of_predictions_if_there_is_one(model, films, tmp_path, monkeypatch):
    names, write = [], evaluate.write_report

    monkeypatch.setattr(
        evaluate, "write_report", lambda path, data, budget: names.append(data.predictions) or write(path, data, budget)
    )
    for options in ([], ["--predictions", tmp_path / "p.csv"]):
        ended = framecnn("evaluate", model, films, "--report", tmp_path / "r.html", *options)
        assert names, ended.err
    assert names == ["", "p.csv"]


def test_a_report_without_jinja2_is_refused_before_the_scan(model, films, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "find_spec", lambda name: None)
    ended = framecnn("evaluate", model, films, "--report", tmp_path / "r.html")
    assert (ended.code, ended.out) == (2, "")
    assert "framecnn evaluate --report: the package jinja2 is not installed" in ended.err


@pytest.mark.parametrize("option", ["--report", "--predictions", "--json"])
def test_a_file_of_another_command_is_not_replaced(model, films, tmp_path, option):
    mine = tmp_path / "mine"
    mine.write_text("my notes")
    ended = framecnn("evaluate", model, films, option, mine)
    assert "the file exists and was not written by this command" in ended.err
    assert mine.read_text() == "my notes"


def test_a_useless_result_is_said_first(model, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["framecnn"])  # the report shows it above the result
    relabelled = write_frames(tmp_path / "films", n_groups=6, names=("down", "blobs", "across"))
    for path in (relabelled / "blobs").iterdir():
        path.unlink()
    (relabelled / "blobs").rmdir()
    (relabelled / "frames.csv").unlink()
    ended = framecnn("evaluate", model, relabelled, "--json", tmp_path / "f.json", "--report", tmp_path / "r.html")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["verdict"].startswith(
        "Worse than guessing (33.3 %) and always answering 'across': accuracy 0.0 % against"
    )
    lines = ended.out.splitlines()
    assert lines[5] == figures["verdict"]
    assert [line.removeprefix("  - ") for line in lines[6 : 6 + len(figures["reasons"])]] == figures["reasons"]
    assert Report((tmp_path / "r.html").read_text(encoding="utf-8")).words.index(figures["verdict"]) < 600


@pytest.mark.parametrize("name", ["training", "test"])
def test_a_folder_with_the_name_of_a_part_is_a_folder(model, tmp_path, name):
    films = write_frames(tmp_path / name, n_groups=2)
    assert f"folder {name} accuracy" in framecnn("evaluate", model, films).out


def with_parts(films, part_of):
    """Add a column with the part of each frame, which depends on its class and group."""
    with open(films / "frames.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with open(films / "frames.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["path", "label", "group", "part"])
        table.writeheader()
        table.writerows(row | {"part": part_of(row)} for row in rows)
    return films


def test_counts_and_warnings_are_about_the_part_that_is_evaluated(model, tmp_path):
    films = write_frames(tmp_path / "films", n_groups=3, names=("across", "new", "down"))
    groups = {"across 2", "blobs 2"}
    with_parts(films, lambda row: "test" if row["group"] in groups else "train")
    ended = framecnn("evaluate", model, films)
    assert ended.code == 0, ended.err
    assert "evaluated: 4 frames of the test part\n" in ended.out
    assert "skipped 2 frames of classes that the model does not know: new\n" in ended.err
    assert "warning: no frames of blobs, down: the accuracy does not cover these classes\n" in ended.err
    assert "2 frames of 1 group" in ended.out


def test_a_class_of_the_training_part_alone_is_not_said_to_be_skipped(model, tmp_path):
    films = write_frames(tmp_path / "films", n_groups=3, names=("across", "new", "down"))
    with_parts(films, lambda row: "test" if row["group"] in ("across 2", "down 2") else "train")
    ended = framecnn("evaluate", model, films)
    assert ended.err.startswith("warning: no frames of blobs: the accuracy does not cover these classes\n")


def test_a_test_part_without_a_class_of_the_model_is_an_error(model, tmp_path):
    films = write_frames(tmp_path / "films", n_groups=3, names=("across", "new", "down"))
    with_parts(films, lambda row: "test" if row["group"] == "blobs 2" else "train")
    assert framecnn("evaluate", model, films).err == (
        "error: films: expected folders of the model's classes (across, blobs, down), got new; "
        "name the folders as in training\n"
    )


def test_frames_of_a_training_part_alone_are_evaluated_with_a_warning(model, tmp_path):
    films = with_parts(write_frames(tmp_path / "films", n_groups=2), lambda row: "train")
    ended = framecnn("evaluate", model, films, "--report", tmp_path / "r.html")
    warning = "8 of 12 frames were trained on: the accuracy is too high; evaluate other frames"
    assert (ended.code, ended.err) == (0, f"warning: {warning}\n")
    assert "not trained on" not in ended.out.split("\n\n")[1]
    assert warning in Report((tmp_path / "r.html").read_text(encoding="utf-8")).words


def test_a_test_part_that_vanishes_is_not_replaced_by_the_training_part(model, tmp_path, monkeypatch):
    films = with_parts(
        write_frames(tmp_path / "films", n_groups=3), lambda row: "test" if row["group"] == "down 2" else "train"
    )
    read = LazyFrames.__getitem__

    def losing(frames, key):
        for path in frames._paths:
            (films / path).unlink(missing_ok=True)
        return read(frames, key)

    monkeypatch.setattr(LazyFrames, "__getitem__", losing)
    ended = framecnn("evaluate", model, films, "--max-bad", "50")
    assert ended.code == 2
    assert "error: FrameFolder: the test part holds no usable frame, of 2 files; add some" in ended.err


def test_integer_labels_are_names_of_folders_whatever_their_order_as_text(tmp_path):
    films, rng = tmp_path / "films", np.random.default_rng(0)
    for number in range(12):
        (films / str(number)).mkdir(parents=True)
        for shot in range(4):
            grey = np.clip(20 * number + rng.integers(0, 9, (24, 32)), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(films / str(number) / f"{shot}.png")
    folder = FrameFolder(films, size=(24, 32))
    labels = np.array(folder.classes, int)[folder.targets]
    classifier = FrameClassifier(n_filters=12, grid=(1, 1), alpha=0.001, random_state=0).fit(folder.frames, labels)
    classifier.save(tmp_path / "m.safetensors")
    ended = framecnn("evaluate", tmp_path / "m.safetensors", films, "--json", tmp_path / "f.json")
    assert ended.code == 0, ended.err
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["accuracy"] == classifier.score(folder.frames, labels) > 0.8
    assert figures["classes"] == [str(number) for number in range(12)]
