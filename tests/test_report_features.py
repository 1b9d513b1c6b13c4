"""What reports and the terminal say of features: which kind decided, what was tried, how much each kind contributes."""

import re

import numpy as np
import pytest
from commands import framecnn, record_opened, write_frames
from PIL import ImageDraw
from reports import Report
from small_networks import network_to_maps, small_pretrained
from textures import textures

from framecnn import DenseLayer, FlatteningLayer, FrameClassifier, FrameFolder, InputLayer, Sequential, load
from framecnn.estimators import explain
from framecnn.evaluation import assess
from framecnn.report import Evidence, draw_explanation, report_data, write_report
from framecnn.report.contents import describe_choice
from framecnn.report.explanations import explain_mistakes, filters_of_classes
from framecnn.report.feature_notes import describe_features, describe_networks

opened = pytest.fixture(record_opened)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = FrameFolder(write_frames(tmp_path_factory.mktemp("films") / "frames", n_groups=8), size=(24, 32))
    return dict(zip(("training", "validation", "test"), folder.split(seed=0), strict=True))


def fitted(parts, features):
    """Return a classifier that makes mistakes, since its labels are shuffled, and what was measured of it."""
    train = parts["training"]
    labels = np.random.default_rng(1).permutation(np.array(train.classes)[train.targets])
    with small_pretrained():
        classifier = FrameClassifier(features=features, n_filters=12, grid=(2, 2), alpha=0.1, random_state=0)
        classifier.fit(train.frames, labels, train.groups, train.paths)
    return classifier, assess(classifier, parts, has_given_parts=True)


@pytest.fixture(scope="module")
def both(parts):
    return fitted(parts, "both")


def written(measured, path):
    classifier, assessment = measured
    data = report_data(assessment, classifier)
    write_report(path, data)
    return data, Report(path.read_text(encoding="utf-8"))


def test_a_report_about_both_kinds_says_how_much_each_contributes(both, tmp_path):
    data, report = written(both, tmp_path / "report.html")
    decide = (
        r"Features that decide: both learned \((25|50|75|87\.5) % of the variance\) and pretrained \(held-out accuracy "
    )
    assert re.search(decide, report.words)
    assert len(data.evidence) > 1
    line = r"learned features [+-]\d+\.\d\d, pretrained features [+-]\d+\.\d\d"
    assert len(re.findall(line, report.words)) == 2 * len(data.evidence)  # on the cards and when enlarged
    assert "sums of the contributions of each kind of features" in report.words
    assert "belong to the few places, such as 7 × 7, at which a network describes a frame" in report.words
    assert "Networks that compute features" in report.words
    assert "7 layers, 614 parameters, 29,400 multiply-adds for a frame" in report.words
    assert list(data.filters) == list(data.class_filters) == ["24x32"]
    assert data.filters["24x32"].shape == (12, 6, 6, 3)


def test_of_a_mistake_the_kinds_and_the_map_have_the_same_sum(both):
    found = explain_mistakes(*both)
    signs = set()
    for shown in found.values():
        assert list(shown.by_kind) == ["learned", "pretrained"]
        assert sum(shown.by_kind.values()) == pytest.approx(shown.map.sum(), rel=1e-9, abs=1e-9)
        signs |= {value > 0 for value in shown.by_kind.values()}
    assert signs == {False, True}


def test_a_report_about_pretrained_features_has_maps_and_no_filters(parts, tmp_path):
    data, report = written(fitted(parts, "pretrained"), tmp_path / "report.html")
    assert report.source.count('<image id="m') == len(data.evidence) > 1
    assert "Contributions of pretrained features belong to the few places" in report.words
    assert "sums of the contributions of each kind" not in report.words
    assert "Learned filters" not in report.words
    assert data.filters == data.class_filters == {}
    assert data.settings["features"] == data.chosen["kind of features"] == "pretrained"


@pytest.mark.parametrize("last", [[], [FlatteningLayer(), DenseLayer(4)]])
def test_a_report_about_a_network_has_maps_if_the_network_has_places(parts, tmp_path, last):
    network = Sequential([InputLayer((24, 32, 3)), *network_to_maps((24, 32)).layers[1:], *last]).build(seed=0)
    data, report = written(fitted(parts, network), tmp_path / "report.html")
    assert bool(data.evidence) == ("Contributions of the features belong" in report.words) == (not last)
    assert "Features that decide: network." in report.words
    assert "features" not in data.settings
    assert data.filters == {}


def test_a_report_about_rows_of_a_network_without_filters_is_a_report(parts, tmp_path):
    network = Sequential([InputLayer((24, 32, 3)), FlatteningLayer(), DenseLayer(4)]).build(seed=0)
    data, report = written(fitted(parts, network), tmp_path / "report.html")
    assert list(data.networks) == ["network, 24x32"]
    assert "3 layers, 9,220 parameters, 9,216 multiply-adds for a frame" in report.words


def test_filters_of_classes_are_those_of_learned_features(both, parts):
    classifier, assessment = both
    train, distances = parts["training"], assessment.details["training"].distances
    (found,) = filters_of_classes(classifier, train.classes, distances, train.frames).values()
    assert set(found) == set(train.classes)
    assert all(0 <= number < 12 for numbers in found.values() for number in numbers)


def test_what_was_tried_is_said_with_its_cost(tmp_path):
    X, y, groups = textures(6, (12, 16, 3))
    with small_pretrained():
        classifier = FrameClassifier(features="auto", n_filters=12, random_state=0).fit(X, y, groups)
    kind = classifier.chosen_["features"]
    figures = {name: rf"{re.escape(f'{100 * share:.1f}')} %" for name, share in accuracies(classifier).items()}
    said = describe_features(classifier)
    name = "both learned and pretrained" if kind == "both" else kind
    assert said.startswith(f"{name} (held-out accuracy ")
    assert re.search(rf"\(held-out accuracy {figures[kind]}, \d+\.\d s; ", said)
    for other in figures.keys() - {kind}:
        assert re.search(rf"; {other} {figures[other]}, \d+\.\d s[;)]", said)
    assert describe_choice(classifier)["kind of features"] == said
    classifier.save(tmp_path / "model.safetensors")
    assert describe_features(load(tmp_path / "model.safetensors")) == re.sub(r", \d+\.\d s", "", said)


def accuracies(classifier):
    return classifier.chosen_["features_accuracies"]


def test_feature_vectors_have_no_kind_and_no_networks():
    X, y, _ = textures(3, (12, 16, 3))
    classifier = FrameClassifier(random_state=0).fit(X.reshape(len(X), -1)[:, :20], y)
    assert list(describe_choice(classifier)) == ["ridge penalty (alpha)"]
    assert describe_networks(classifier) == {}


def test_the_summary_of_a_model_says_what_each_network_computes(both, tmp_path):
    both[0].save(tmp_path / "model.safetensors")
    said = framecnn("summary", tmp_path / "model.safetensors").out
    assert "24x32 pixels, 3 channels, each also flipped left to right for learned features\n" in said
    assert re.search(
        r"^kind of features +both learned \([\d.]+ % of the variance\) and pretrained \(held-out accuracy .+\)$",
        said,
        re.MULTILINE,
    )
    assert "\nnetwork 1 of 2, for frames of 24x32 pixels, learned features\n" in said
    assert "\nnetwork 2 of 2, for frames of 24x32 pixels, pretrained features\n" in said


def test_a_drawing_says_how_much_each_kind_contributes(both, parts, opened, tmp_path, monkeypatch):
    both[0].save(tmp_path / "model.safetensors")
    path, texts = parts["test"].files[0], []
    draw = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda pen, at, text, *rest, **more: texts.append(text) or draw(pen, at, text, *rest),
    )
    ended = framecnn(
        "predict", tmp_path / "model.safetensors", path, "--explain", "--training-folder", parts["test"].root
    )
    assert (ended.code, ended.err) == (0, f"drew {opened[-1]}\n")
    own = explain(both[0], np.asarray(parts["test"].frames[np.array([0])])[0]).by_kind
    assert f"learned features {own['learned']:+.2f}, pretrained features {own['pretrained']:+.2f}" in texts
    evidence = [Evidence("a", "b", np.eye(4), by_kind=kinds) for kinds in ({"learned": 1.0}, own)]
    heights = [draw_explanation(path, "", {"a": 0.9, "b": 0.1}, each).height for each in evidence]
    assert heights[0] < heights[1]
