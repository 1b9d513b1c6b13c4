"""Which reasons a report and ``predict --explain`` show: of mistakes, of pictures, of classes."""

import os
import re
import sys
from copy import copy
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import numpy as np
import pytest
from commands import framecnn, quick, record_opened, refused, train_quickly, write_frames
from PIL import Image
from reports import Report, predicting
from textures import textures

from framecnn import FrameClassifier, FrameFolder, load
from framecnn.cli.environment import describe_origin
from framecnn.data.loader import FrameLost
from framecnn.errors import MachineError
from framecnn.estimators import explain
from framecnn.evaluation import EvaluationResult, assess
from framecnn.report import explanations, report_data
from framecnn.report.explanations import explain_mistakes, explain_pictures, filters_of_classes


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_quickly(tmp_path_factory.mktemp("trained"))


opened = pytest.fixture(record_opened)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return a classifier that makes mistakes on its test part, and what was measured of it."""
    folder = FrameFolder(write_frames(tmp_path_factory.mktemp("films") / "frames", n_groups=8), size=(24, 32))
    train, validation, test = folder.split(seed=0)
    labels = np.random.default_rng(1).permutation(np.array(train.classes)[train.targets])
    classifier = FrameClassifier(n_filters=12, grid=(2, 2), alpha=0.1, random_state=0)
    classifier.fit(train.frames, labels, train.groups, train.paths)
    parts = {"training": train, "validation": validation, "test": test}
    return classifier, assess(classifier, parts, has_given_parts=True)


def test_a_mistake_is_explained_against_its_true_class_with_training_frames_of_other_groups(measured):
    classifier, assessment = measured
    found = explain_mistakes(classifier, assessment)
    main, train = assessment.main, assessment.parts["training"]
    assert found
    for path, evidence in found.items():
        row = main.paths.index(path)
        assert evidence.label == main.classes[main.predictions[row]]
        assert evidence.against == main.classes[main.targets[row]]
        frame = np.asarray(assessment.parts["test"].frames[np.array([row])])[0]
        np.testing.assert_allclose(evidence.map, explain(classifier, frame, evidence.against).map)
        assert len(evidence.nearest) == 3
        for near, label in evidence.nearest:
            own = train.files.index(near)
            assert label == train.classes[train.targets[own]]
            assert train.groups[own] != main.groups[row]


@pytest.mark.parametrize("error", [FrameLost(["a.jpg"], "vanished"), MachineError("decode: no memory left")])
def test_a_frame_that_is_gone_loses_the_reasons_and_not_the_model(measured, monkeypatch, error):
    classifier, assessment = measured

    class Gone:
        def __getitem__(self, rows):
            raise error

    monkeypatch.setattr(type(assessment.parts["test"]), "frames", Gone())
    assert explain_mistakes(classifier, assessment) == {}
    distances = np.zeros((9, len(classifier.head_.cluster_labels_)))
    assert filters_of_classes(classifier, assessment.main.classes, distances, Gone()) == {}


def test_the_filters_of_a_class_are_those_that_add_most_on_its_typical_frames(measured):
    classifier, assessment = measured
    train, distances = assessment.parts["training"], assessment.details["training"].distances
    ((scale, found),) = filters_of_classes(classifier, train.classes, distances, train.frames).items()
    assert scale == "24x32"
    assert set(found) == set(train.classes)
    for code, label in enumerate(classifier.classes_):
        rows = np.sort(np.argsort(distances[:, code], kind="stable")[:6])
        features = classifier.features_.transform(np.asarray(train.frames[rows])).astype(float).mean(axis=0)
        added = (features * classifier.head_.weights_[:, code]).reshape(4, 2, 12).sum(axis=(0, 1))
        np.testing.assert_allclose(added[found[str(label)]], np.sort(added)[::-1][:10], rtol=1e-6)


@pytest.mark.parametrize("settings", [{"depth": 2}, {"features": "trained"}, {"projection": None}])
def test_a_model_whose_filters_have_no_weights_of_classes_shows_none(settings):
    X, y, _ = textures(3)
    classifier = FrameClassifier(n_filters=8, random_state=0, **settings).fit(X, y)
    assert filters_of_classes(classifier, sorted(set(y)), classifier.transform(X), X) == {}


def test_with_very_many_classes_the_filters_of_the_first_hundred_are_found():
    X, y = textures(42)[0], np.repeat(np.arange(126), 2)
    classifier = FrameClassifier(n_filters=4, grid=(1, 1), alpha=1.0, random_state=0).fit(X, y)
    names = [f"class {code}" for code in range(126)]
    (found,) = filters_of_classes(classifier, names, classifier.transform(X), X).values()
    assert list(found) == names[:100]


def test_filters_have_the_class_names_of_the_other_sections(measured):
    train = measured[1].parts["training"]
    numbered = FrameClassifier(n_filters=4, grid=(1, 1), alpha=0.1, random_state=0)
    numbered.fit(train.frames, train.targets, train.groups)
    (found,) = report_data(assess(numbered, {"training": train}), numbered).class_filters.values()
    assert list(found) == list(train.classes)


def test_of_a_class_without_a_cluster_only_its_own_mistakes_have_no_reasons(measured):
    classifier, assessment = measured
    test = assessment.main
    wrong = predicting((test.targets + 1 + np.arange(test.n_frames) % 2) % 3, 0.8, 3)
    main = EvaluationResult("test", test.classes, test.targets, wrong, [str(i) for i in range(len(wrong))], test.paths)
    assessment = replace(assessment, results=assessment.results | {"test": main})
    with_all = explain_mistakes(classifier, assessment)
    names = np.array(main.classes)
    truth, said = (dict(zip(main.paths, names[codes], strict=True)) for codes in (main.targets, main.predictions))
    label = truth[next(iter(with_all))]
    fewer, head = copy(classifier), copy(classifier.head_)
    kept = head.classes_[head.cluster_labels_] != label
    head.cluster_centers_, head.cluster_labels_ = head.cluster_centers_[kept], head.cluster_labels_[kept]
    fewer.head_ = head
    found = explain_mistakes(fewer, assessment).keys()
    of_others = {path for path in with_all if label not in (truth[path], said[path])}
    assert of_others
    assert of_others <= found <= {path for path in with_all if truth[path] != label}


def test_explain_draws_what_speaks_for_the_label_and_similar_training_frames(trained, opened):
    films, model = trained / "films", trained / "model.safetensors"
    frames = sorted((films / "down").iterdir())[:2]
    heights = []
    for options in (["--show"], ["--explain", "--training-folder", films]):
        ended = framecnn("predict", model, *frames, *options)
        assert (ended.code, ended.err) == (0, f"drew {opened[-1]}\n")
        with Image.open(opened[-1]) as drawn:
            heights.append(drawn.height)
    assert heights[1] > 2 * heights[0]


def test_explain_says_which_option_finds_training_frames(trained, opened, monkeypatch, tmp_path):
    films, model = trained / "films", trained / "model.safetensors"
    ended = framecnn("predict", model, next((films / "down").iterdir()), "--explain")
    said = "some similar training frames were not found; name their folder: --training-folder FOLDER"
    assert (ended.code, ended.err.splitlines()) == (0, [f"drew {opened[-1]}", said])
    monkeypatch.chdir(films)
    assert framecnn("predict", model, next((films / "down").iterdir()), "--explain").err == f"drew {opened[-1]}\n"
    ended = framecnn("predict", model, films, "--explain", "--training-folder", tmp_path)
    assert ended.err.splitlines()[-1] == said  # the named folder alone


def test_a_training_folder_is_a_folder_for_explain(trained, tmp_path):
    model = trained / "model.safetensors"
    alone = refused("predict", model, trained / "films", "--training-folder", tmp_path)
    assert "expected --training-folder with --explain, got --training-folder alone" in alone
    missing = refused("predict", model, trained / "films", "--explain", "--training-folder", tmp_path / "none")
    assert f"expected a folder, got '{tmp_path / 'none'}'" in missing
    inside = tmp_path / "films"
    inside.mkdir()
    over = ("--training-folder", inside, "--json", inside / "a.json")
    assert "expected a file outside" in refused("predict", model, trained / "films", "--explain", *over)


def test_training_frames_are_looked_for_in_the_folders_in_their_order(trained, tmp_path):
    films, model = trained / "films", load(trained / "model.safetensors")
    path = str(sorted((films / "down").iterdir())[0])
    nearest = explain_pictures(model, [path], [tmp_path, films])[path].nearest
    assert [file for file, _ in nearest] == [str(films / name) for _, name in nearest]
    copied = tmp_path / nearest[0][1]
    copied.parent.mkdir(parents=True)
    copied.write_bytes((films / nearest[0][1]).read_bytes())
    assert explain_pictures(model, [path], [tmp_path, films])[path].nearest[0][0] == str(copied)
    assert [file for file, _ in explain_pictures(model, [path], [])[path].nearest] == ["", "", ""]


def test_a_name_in_a_forged_model_never_leads_out_of_the_folders(trained, tmp_path, monkeypatch):
    films, model = trained / "films", copy(load(trained / "model.safetensors"))
    path = str(sorted((films / "down").iterdir())[0])
    secret = tmp_path / "secret.jpg"
    secret.write_bytes((films / "down" / os.path.basename(path)).read_bytes())
    (tmp_path / "inner" / "in").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "inner")
    leading_out = (str(secret), "../secret.jpg", "in/../../secret.jpg", f"{tmp_path}/inner/../secret.jpg")
    for name in (*leading_out, "nul\0.jpg", "\ud800.jpg", "", "."):
        model.training_names_ = np.full(len(model.training_names_), name, object)
        nearest = explain_pictures(model, [path], [Path(), tmp_path / "inner"])[path].nearest
        assert nearest == (("", name),) * 3


@pytest.mark.parametrize(
    ("name", "is_below"),
    [
        ("down/1.jpg", True),
        ("down\\..jpg", True),
        ("C:1.jpg", False),
        ("C:\\1.jpg", False),
        ("\\1.jpg", False),
        ("/1.jpg", False),
        ("\\\\server\\share\\1.jpg", False),
        ("//server/share/1.jpg", False),
        ("down\\..\\..\\1.jpg", False),
    ],
)
def test_on_windows_a_name_has_no_drive_and_no_server(name, is_below):
    assert explanations._is_below(PureWindowsPath(name)) == is_below


def test_a_model_without_names_of_training_frames_explains_without_them(tmp_path):
    X, y, _ = textures(3)
    Image.fromarray(X[0]).save(tmp_path / "a.png")
    classifier = FrameClassifier(n_filters=8, random_state=0).fit(X, y)
    (found,) = explain_pictures(classifier, [str(tmp_path / "a.png")], [tmp_path]).values()
    assert found.nearest == ()


def test_explain_of_trained_features_is_refused_after_the_predictions(tmp_path, opened):
    X, y, _ = textures(3)
    Image.fromarray(X[0]).save(tmp_path / "a.png")
    FrameClassifier(features="trained", random_state=0).fit(X, y).save(tmp_path / "m.safetensors")
    ended = framecnn("predict", tmp_path / "m.safetensors", tmp_path / "a.png", "--explain")
    assert ended.code == 2
    assert "a.png" in ended.out
    assert ended.err.startswith("error: explain: expected a FrameClassifier fitted on frames with features='learned'")


def test_the_budget_of_pictures_is_an_option(tmp_path, monkeypatch):
    quick(monkeypatch)
    films = write_frames(tmp_path / "films")
    sizes = []
    for megabytes in ("0", "4"):
        ended = framecnn(
            "train", films, "-o", tmp_path / "m.safetensors", "--picture-megabytes", megabytes, "--size", "24x32"
        )
        assert ended.code == 0
        report = Report((tmp_path / "m.report.html").read_text(encoding="utf-8"))
        sizes.append(report.source.count('<image id="f'))
        files = {os.path.normpath(file) for file in report.files}
        assert {f"films/{path.parent.name}/{path.name}" for path in films.glob("*/*.jpg")} <= files
    assert sizes[0] == 0 < sizes[1]
    assert "greater than or equal to 0" in refused("train", films, "--picture-megabytes", "-1")


@pytest.mark.parametrize(
    ("program", "shown"),
    [("/usr/bin/framecnn", "framecnn"), ("/x/framecnn/__main__.py", "framecnn"), ("mine.py", "mine.py")],
)
def test_the_command_is_shown_as_it_can_be_typed_again(monkeypatch, tmp_path, program, shown):
    monkeypatch.setattr(sys, "argv", [program, "train", "my films"])
    origin = describe_origin(tmp_path / "b.safetensors")
    assert (origin["Model"], origin["Command"]) == ("b.safetensors", f"{shown} train 'my films'")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", origin["Date"])


def test_no_mistake_needs_no_reason(measured, monkeypatch):
    classifier, assessment = measured
    monkeypatch.setattr(explanations, "shown_mistakes", lambda result: {})
    assert explain_mistakes(classifier, assessment) == {}
