"""What is measured of a classifier on a folder: the main figure, given parts, the table, suspects; reports from it."""

import json
from dataclasses import replace

import numpy as np
import pytest
from commands import write_frames
from PIL import Image
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


def table_of(found):
    return {row.path: row for row in found.prediction_rows()}


def test_the_table_has_a_row_for_every_frame_and_says_which_model_the_probabilities_are_from(
    classifier, parts, monkeypatch
):
    monkeypatch.setattr(assessment, "SMALL_FRAMES", 5)
    monkeypatch.setattr(assessment, "SMALL_GROUPS", 2)
    found = assess(classifier, parts)
    rows = table_of(found)
    assert [*rows] == [path for name in PARTS for path in parts[name].paths]
    own = dict(zip(parts["training"].paths, classifier.held_out_probabilities_, strict=True))
    groups = dict(zip(parts["training"].paths, parts["training"].groups, strict=True))
    for row in rows.values():
        assert row.fold == ("held-out" if row.part == "training" else "")
        assert (row.out_of_distribution is None) == (row.part == "training")
        assert row.label == row.path.split("/")[0]
        assert groups[row.nearest_training_path] != row.group
        if row.part == "training":
            np.testing.assert_array_equal(row.probabilities, own[row.path])


def test_where_the_estimate_leads_the_table_holds_its_probabilities_and_so_its_mistakes(tmp_path):
    folder, classifier, parts, wrong = with_a_wrong_label(tmp_path)
    for given in (False, True):
        found = assess(classifier, parts, has_given_parts=given)
        rows, mean = table_of(found), found.estimate.mean
        assert {row.part: row.fold for row in rows.values()} == {
            name: "out-of-fold" if name == "training" or not given else "" for name in PARTS
        }
        paths = {file: path for part in parts.values() for file, path in zip(part.files, part.paths, strict=True)}
        for file, probabilities in zip(mean.paths, mean.probabilities, strict=True):
            np.testing.assert_array_equal(rows[paths[file]].probabilities, probabilities)
        names = found.main.classes
        for row in rows.values():
            if row.suspected_label:
                assert names[row.probabilities.argmax()] == row.suspected_label != row.label
        if not given:
            assert rows[folder.samples[wrong][0]].suspect_rank == 1


def with_a_wrong_label(tmp_path):
    """Return a folder with one wrong label, a classifier, the parts, and the row of the label."""
    folder = FrameFolder(write_frames(tmp_path / "films", n_groups=8), size=(24, 32))
    folder.targets[0] = (folder.targets[0] + 1) % 3
    parts = dict(zip(PARTS, folder.split(0.5, 0.25, 0.25), strict=True))
    train = parts["training"]
    return (
        folder,
        FrameClassifier(n_filters=12, random_state=0).fit(train.frames, train.targets, train.groups),
        parts,
        0,
    )


def test_a_wrong_label_is_suspected_in_the_table_the_json_and_the_report(tmp_path):
    folder, classifier, parts, wrong = with_a_wrong_label(tmp_path)
    found = write_training_report(tmp_path / "report.html", classifier, parts)
    path, truth = folder.samples[wrong]
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


def test_without_groups_to_hold_out_the_probabilities_are_those_of_the_model(parts):
    train = replace(parts["training"], groups=np.zeros(len(parts["training"]), str))
    classifier = FrameClassifier(n_filters=12, random_state=0).fit(train.frames, train.targets, train.groups)
    found = assess(classifier, {"training": train})
    assert found.held_out is found.estimate is None
    assert {row.fold for row in found.prediction_rows()} == {"none"}
    assert {row.nearest_training_path for row in found.prediction_rows()} == {""}
    assert found.suspects == []


def test_frames_of_the_only_group_of_a_class_are_neither_suspected_nor_counted_as_held_out(tmp_path):
    folder = FrameFolder(write_frames(tmp_path / "films", n_groups=6), size=(24, 32))
    alone = folder.targets == 1
    folder.groups[alone] = "blobs 0"
    everything = folder.select(np.arange(len(folder)))
    for seed in range(3):
        classifier = FrameClassifier(n_filters=12, random_state=seed)
        classifier.fit(everything.frames, everything.targets, everything.groups)
        found = assess(classifier, {"training": everything}, seed=seed)
        assert {row.label for row in found.prediction_rows() if row.fold == "none"} == {"blobs"}
        assert not {own.path for own in found.suspects} & {path for path, code in folder.samples if code == 1}
        assert found.held_out.n_frames == np.count_nonzero(~alone)
        assert found.held_out.accuracy > 0.8
        assert found.uncovered == ["blobs"]


def test_integer_labels_are_class_numbers_of_the_training_part_and_names_elsewhere(tmp_path):
    films = tmp_path / "films"
    rng = np.random.default_rng(0)
    for number in range(12):
        (films / str(number)).mkdir(parents=True)
        for shot in range(4):
            grey = np.clip(20 * number + rng.integers(0, 9, (24, 32)), 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(films / str(number) / f"{shot}.png")
    folder = FrameFolder(films, size=(24, 32))
    part = folder.select(np.arange(len(folder)))
    assert folder.classes[2] == "10"
    labels = np.array(folder.classes, int)[folder.targets]
    settings = {"n_filters": 12, "grid": (1, 1), "alpha": 0.001, "random_state": 0}
    by_name = FrameClassifier(**settings).fit(part.frames, labels)
    names = list(map(str, range(12)))
    right = by_name.score(part.frames, labels)
    assert right > 0.8
    assert assess(by_name, {"films": part}).main.accuracy == right
    for own, classes in (
        (by_name, names),
        (FrameClassifier(**settings).fit(part.frames, folder.targets), folder.classes),
    ):
        with pytest.raises(
            DataError, match=r"got 0 to 11, which may be numbers of classes or their names; pass classes="
        ):
            assess(own, {"training": part})
        found = assess(own, {"training": part}, classes=classes)
        assert found.results["training"].accuracy == right
        assert found.main.classes == tuple(classes)
    with pytest.raises(DataError, match="expected a name for each of the 12 classes, got 2"):
        assess(by_name, {"films": part}, classes=["a", "b"])


def test_parts_that_differ_are_named_as_the_reason(parts):
    train = parts["training"]
    classifier = FrameClassifier(n_filters=12, random_state=0).fit(train.frames, train.targets, train.groups)
    test = replace(parts["test"], targets=(parts["test"].targets + 1) % 3)
    found = assess(classifier, {"training": train, "test": test}, has_given_parts=True)
    assert found.verdict
    assert found.reasons[0].startswith("The parts differ: held-out groups of the training part reach ")
    assert not any(
        reason.startswith("The parts") for reason in assess(classifier, {"training": train, "test": test}).reasons
    )


def test_features_that_know_the_labels_give_no_held_out_figures(parts):
    train = parts["training"]
    classifier = FrameClassifier(features="trained", random_state=0).fit(train.frames, train.targets, train.groups)
    assert classifier.features_.uses_labels_
    found = assess(classifier, parts)
    assert found.estimate is found.held_out is None
    assert found.main.part == "test"
    assert {row.part: row.fold for row in found.prediction_rows()} == {"training": "none", "validation": "", "test": ""}
    assert "training" not in {own.part for own in found.suspects}


def test_a_training_part_of_other_frames_is_refused(classifier, parts, folder, tmp_path):
    train = parts["training"]
    classifier.save(tmp_path / "m.safetensors")
    everything = folder.select(np.arange(len(folder)))
    for model in (classifier, load(tmp_path / "m.safetensors")):
        for part in (parts["test"], everything):
            message = (
                f"the 24 frames on which the model was fitted as the part 'training', got {len(part)} frames; pass"
            )
            with pytest.raises(DataError, match=message):
                assess(model, {"training": part})
        other = folder.select(np.arange(len(train)))
        message = (
            f"in the same order, as the part 'training', got '{other.paths[0]}' in the place of '{train.paths[0]}'"
        )
        with pytest.raises(DataError, match=message):
            assess(model, {"training": other})
        assert assess(model, {"other": other}).results["other"].n_frames == len(train)


def test_names_that_are_no_paths_are_no_reason_to_refuse_the_training_part(parts, tmp_path):
    train = parts["training"]
    for names in ([f"frame {number}" for number in range(len(train))], train.files, None):
        classifier = FrameClassifier(n_filters=12, random_state=0)
        classifier.fit(train.frames, train.targets, train.groups, names).save(tmp_path / "m.safetensors")
        assert assess(load(tmp_path / "m.safetensors"), parts).main.part == "out-of-fold"


def test_a_model_from_a_file_has_no_held_out_probabilities(classifier, parts, tmp_path):
    classifier.save(tmp_path / "model.safetensors")
    found = assess(load(tmp_path / "model.safetensors"), parts)
    assert found.held_out is None
    assert found.main.accuracy == assess(classifier, parts).main.accuracy
    assert {row.fold for row in found.prediction_rows()} == {"out-of-fold"}
    alone = assess(load(tmp_path / "model.safetensors"), parts, has_given_parts=True)
    assert {row.part: row.fold for row in alone.prediction_rows()}["test"] == ""


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
