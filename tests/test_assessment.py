"""What is measured of a classifier on a folder: the main figure, given parts, the table, suspects; reports from it."""

import json

import numpy as np
import pytest
from commands import write_frames
from reports import Report

from framecnn import DataError, FrameClassifier, FrameFolder, load
from framecnn.evaluation import assess, assessment
from framecnn.report import write_training_report

PARTS = ("training", "validation", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return FrameFolder(write_frames(tmp_path_factory.mktemp("assessed") / "films", n_groups=8), size=(24, 32))


@pytest.fixture(scope="module")
def parts(folder):
    return dict(zip(PARTS, folder.split(0.5, 0.25, 0.25), strict=True))


@pytest.fixture(scope="module")
def classifier(parts):
    train = parts["training"]
    labels = np.array(train.classes)[train.targets]
    return FrameClassifier(n_filters=12, random_state=0).fit(train.frames, labels, train.groups, train.paths)


def test_the_out_of_fold_estimate_leads_where_the_test_part_is_small(classifier, parts, folder):
    found = assess(classifier, parts)
    assert found.main is found.estimate
    assert [figure.part for figure in found.figures] == ["out-of-fold", "test", "validation", "training"]
    assert found.main.n_frames == len(folder)
    assert set(found.main.mean.paths) == {str(folder.root / path) for path, _ in folder.samples}
    assert found.verdict == ""
    assert found.reasons == []
    figures = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert figures["main"] == "out-of-fold"
    assert set(figures["results"]) == {*PARTS, "held-out", "out-of-fold"}


def test_a_large_test_part_leads_without_an_estimate(classifier, parts, monkeypatch):
    monkeypatch.setattr(assessment, "SMALL_FRAMES", 5)
    monkeypatch.setattr(assessment, "SMALL_GROUPS", 2)
    found = assess(classifier, parts)
    assert found.estimate is None
    assert found.main is found.results["test"]
    for name, value in (("SMALL_FRAMES", 1000), ("SMALL_GROUPS", 1000)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assessment, name, value)
            assert assess(classifier, parts).estimate is not None


def test_given_parts_keep_the_test_part_as_the_main_figure_and_have_the_estimate_of_the_training_groups(
    classifier, parts
):
    found = assess(classifier, parts, has_given_parts=True)
    assert found.main is found.results["test"]
    assert [figure.part for figure in found.figures] == ["test", "out-of-fold", "validation", "training"]
    assert set(found.estimate.mean.groups) == set(parts["training"].groups)


def test_the_table_has_a_row_for_every_frame_and_held_out_probabilities_for_training_frames(classifier, parts):
    found = assess(classifier, parts)
    rows = list(found.prediction_rows())
    assert [row.path for row in rows] == [path for name in PARTS for path in parts[name].paths]
    own = dict(zip(parts["training"].paths, classifier.held_out_probabilities_, strict=True))
    groups = dict(zip(parts["training"].paths, parts["training"].groups, strict=True))
    for row in rows:
        assert row.fold == ("held-out" if row.part == "training" else "")
        assert (row.out_of_distribution is None) == (row.part == "training")
        assert row.label == row.path.split("/")[0]
        assert groups[row.nearest_training_path] != row.group
        if row.part == "training":
            np.testing.assert_array_equal(row.probabilities, own[row.path])


def test_a_wrong_label_is_suspected_in_the_table_the_json_and_the_report(tmp_path):
    folder = FrameFolder(write_frames(tmp_path / "films", n_groups=8), size=(24, 32))
    wrong = [row for row in range(len(folder)) if folder.groups[row] == folder.groups[0]][:1]
    folder.targets[wrong] = (folder.targets[wrong] + 1) % 3
    parts = dict(zip(PARTS, folder.split(0.5, 0.25, 0.25), strict=True))
    train = parts["training"]
    classifier = FrameClassifier(n_filters=12, random_state=0).fit(train.frames, train.targets, train.groups)
    found = write_training_report(tmp_path / "report.html", classifier, parts)
    path, truth = folder.samples[wrong[0]]
    assert found.suspects[0].path == path
    assert found.suspects[0].suggestion == folder.classes[truth]
    assert found.to_dict()["suspects"][0]["path"] == path
    first = next(row for row in found.prediction_rows() if row.suspect_rank == 1)
    assert (first.path, first.suspected_label) == (path, folder.classes[truth])
    words = Report((tmp_path / "report.html").read_text(encoding="utf-8")).words
    assert f"Labelled {folder.classes[(truth + 1) % 3]}perhaps {folder.classes[truth]}" in words


def test_frames_without_training_frames_are_assessed_alone(classifier, parts):
    found = assess(classifier, {"holiday": parts["test"]})
    assert found.main.part == "holiday"
    assert found.estimate is found.held_out is None
    assert {row.fold for row in found.prediction_rows()} == {""}


def test_empty_parts_have_figures(classifier, folder, parts):
    found = assess(classifier, {**parts, "test": folder.select(np.zeros(0, int))})
    assert found.results["test"].n_frames == 0
    assert found.main.part == "out-of-fold"
    nothing = assess(classifier, {"films": folder.select(np.zeros(0, int))})
    assert nothing.main.describe() == "no frames"
    assert list(nothing.prediction_rows()) == nothing.suspects == []
    json.dumps(nothing.to_dict(), allow_nan=False)


def test_a_class_that_the_model_does_not_know_is_an_error(classifier, tmp_path):
    films = write_frames(tmp_path / "films", n_groups=2, names=("across", "new", "down"))
    part = FrameFolder(films, size=(24, 32))
    with pytest.raises(DataError, match="expected frames of the model's classes, got frames of 'new'; leave them out"):
        assess(classifier, {"films": part.select(np.arange(len(part)))})


def test_without_groups_to_hold_out_the_probabilities_are_those_of_the_model(folder, parts):
    train = parts["training"]
    one = np.zeros(len(train))
    classifier = FrameClassifier(n_filters=12, random_state=0).fit(train.frames, train.targets, one)
    found = assess(classifier, {"training": train})
    assert found.held_out is None
    assert {row.fold for row in found.prediction_rows()} == {"none"}
    assert {row.nearest_training_path for row in found.prediction_rows()} == {""}


def test_a_model_from_a_file_has_no_held_out_probabilities(classifier, parts, tmp_path):
    classifier.save(tmp_path / "model.safetensors")
    found = assess(load(tmp_path / "model.safetensors"), parts)
    assert found.held_out is None
    assert found.main.accuracy == assess(classifier, parts).main.accuracy
    assert {row.fold for row in found.prediction_rows() if row.part == "training"} == {"none"}


def test_a_report_takes_one_call(classifier, parts, tmp_path):
    found = write_training_report(tmp_path / "report.html", classifier, parts, title="Textures")
    report = Report((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert found.main.part == "out-of-fold"
    for text in (
        "Textures",
        "are classified correctly by models that were not fitted on their groups.",
        "in each of 3 repeats, the 24 groups are divided into 4 folds",
        "Each figure is the mean over the repeats.",
        "Expected calibration error (0 is best)",
        "Typical frames",
    ):
        assert text in report.words, text
    assert report.tags.count("circle") == 15
    assert {"script", "iframe"}.isdisjoint(report.tags)
    assert set(report.links) <= {f"#{name}" for name in report.ids}
