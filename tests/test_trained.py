"""Trained features: a network is trained on labels, and the k-means head classifies by its last hidden layer."""

import json

import numpy as np
import pytest
from refusals import refusal
from textures import CLASSES, Lazy, textures

from framecnn import FrameClassifier, KMeansClassifier, SettingError, get_num_threads, num_threads
from framecnn.cli.loading import load_classifier
from framecnn.estimators import TrainedFeatures, trained_features
from framecnn.layers import ConvLayer, PoolingLayer
from framecnn.report.contents import describe_choice
from framecnn.storage import container
from framecnn.storage.model_file import restore

FRAMES, LABELS, GROUPS = textures(10, (12, 16, 3))


def one_epoch(**parameters):
    return TrainedFeatures(epochs=1, random_state=0, **parameters)


def classifier(**parameters):
    return FrameClassifier(features="trained", random_state=0, **parameters)


@pytest.fixture(scope="module")
def fitted():
    return classifier().fit(FRAMES, LABELS, GROUPS)


def test_new_frames_get_the_label_of_their_texture(fitted):
    unseen, truth, _ = textures(10, (12, 16, 3), seed=1)
    assert fitted.score(unseen, truth) > 0.9
    assert fitted.classes_.tolist() == list(CLASSES)
    np.testing.assert_array_equal(LABELS[fitted.prototypes_], fitted.classes_[fitted.head_.cluster_labels_])


def test_a_classifier_is_its_features_followed_by_its_head(fitted):
    frames, _, _ = textures(2, (12, 16, 3), seed=1)
    assert isinstance(fitted.features_, TrainedFeatures)
    assert isinstance(fitted.head_, KMeansClassifier)
    features = fitted.features_.transform(frames)
    assert features.shape == (len(frames), 128)
    for method in ("predict", "predict_proba", "transform", "reject"):
        np.testing.assert_array_equal(getattr(fitted, method)(frames), getattr(fitted.head_, method)(features))
    np.testing.assert_array_equal(fitted.predict_proba(frames[3:4]), fitted.predict_proba(frames)[3:4])


def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads_and_another_seed_others(fitted):
    expected = fitted.transform(FRAMES)
    np.testing.assert_array_equal(classifier().fit_transform(FRAMES, LABELS, GROUPS), expected)
    with num_threads(get_num_threads() + 1):
        np.testing.assert_array_equal(classifier().fit(Lazy(FRAMES), LABELS, GROUPS).transform(FRAMES), expected)
    other = FrameClassifier(features="trained", random_state=1).fit(FRAMES, LABELS, GROUPS)
    assert (other.transform(FRAMES) != expected).any()


def test_a_loaded_classifier_predicts_the_same_bits_and_saves_the_same_bytes(fitted, tmp_path):
    fitted.save(tmp_path / "a.safetensors")
    loaded = load_classifier(tmp_path / "a.safetensors")
    loaded.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    for method in ("predict", "predict_proba", "transform", "reject"):
        np.testing.assert_array_equal(getattr(loaded, method)(FRAMES), getattr(fitted, method)(FRAMES))
    assert loaded.get_params() == fitted.get_params()
    tried = {"accuracies": {}, "features_accuracies": {}, "features_seconds": {}}
    wanted = {"grid": None, "alpha": fitted.head_.alpha_, "features": "trained", "learned_share": None} | tried
    assert loaded.chosen_ == fitted.chosen_ == wanted
    assert list(describe_choice(loaded)) == ["kind of features", "ridge penalty (alpha)"]


def two_networks(description, tensors):
    (network,) = description["features"]["backbones"]
    description["features"]["backbones"] = [network, network]
    own = {name: value for name, value in tensors.items() if name.startswith("features/backbone_1")}
    tensors.update({name.replace("backbone_1", "backbone_2"): value for name, value in own.items()})


def without_its_dense_layer(description, tensors):
    layers = description["features"]["backbones"][0]["layers"]
    del layers[-3:]
    del tensors["features/backbone_1/dense_1/kernel"], tensors["features/backbone_1/dense_1/bias"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (two_networks, "expected at most one network"),
        (without_its_dense_layer, "expected a network that maps frames to features"),
        (lambda description, _: description["features"].update(averages_flips=True), "a description of all settings"),
        (lambda description, _: description["features"].update(grid=[1, 1]), "a description of all settings"),
    ],
)
def test_a_forged_classifier_is_refused(fitted, tmp_path, change, message):
    path = tmp_path / "m.safetensors"
    fitted.save(path)
    description, tensors = container.read(path)
    change(description, tensors)
    container.write(path, description, tensors)
    assert message in refusal(path)


@pytest.mark.parametrize(
    ("X", "parameters"),
    [
        (FRAMES / 255, {}),
        (FRAMES.astype(np.int16), {}),
        (FRAMES[..., :1], {}),
        (FRAMES.reshape(len(FRAMES), -1), {"frame_shape": (12, 16, 3)}),
        (FRAMES.reshape(len(FRAMES), -1)[:, :5], {}),
    ],
    ids=["floats", "int16", "grey", "flat rows", "vectors"],
)
def test_every_kind_of_input_is_learned_and_comes_back(X, parameters):
    own = one_epoch(**parameters).fit(X, LABELS, GROUPS)
    description, tensors = own.fitted_state()
    loaded = restore(TrainedFeatures, json.loads(container.canonical(description)), tensors)
    np.testing.assert_array_equal(loaded.transform(X), own.transform(X))
    assert loaded.history_ is None


def test_the_frames_of_a_group_are_all_for_training_or_all_for_validation(monkeypatch):
    seen = {}

    def fit(network, x, y, *, validation_data, **settings):
        seen["train"], seen["validation"] = x, validation_data[0]

    monkeypatch.setattr(trained_features, "fit", fit)
    classifier().fit(FRAMES, LABELS, GROUPS)
    rows = {frame.tobytes(): group for frame, group in zip(FRAMES, GROUPS, strict=True)}
    training, validation = ({rows[frame.tobytes()] for frame in seen[part]} for part in ("train", "validation"))
    assert not training & validation
    assert len(training | validation) == len(set(GROUPS))
    assert len(validation) == 6


def test_frames_of_one_group_are_all_for_training():
    features = TrainedFeatures(epochs=3, random_state=0).fit(FRAMES, LABELS, np.zeros(len(FRAMES)))
    assert features.history_.val_loss == [None] * 3


def test_large_frames_are_averaged_down_to_the_size_of_the_network():
    frames, labels, groups = textures(2, (100, 160, 3))
    features = one_epoch().fit(frames, labels, groups)
    (network,) = features.networks_
    assert isinstance(network.layers[1], PoolingLayer)
    assert network.layers[2].input_shape == (*trained_features.NETWORK_SIZE, 3)
    small = np.repeat(np.repeat(frames[:, ::50, ::40], 50, axis=1), 40, axis=2)
    assert features.transform(small).shape == (len(frames), 128)


@pytest.mark.parametrize(("side", "blocks"), [(96, 4), (32, 4), (31, 3), (16, 3), (8, 2), (4, 1), (3, 0)])
def test_small_frames_get_a_shallow_network(side, blocks):
    frames = np.random.default_rng(0).integers(0, 256, (6, side, side + 1, 1), np.uint8)
    (network,) = one_epoch().fit(frames, np.arange(6) % 2).networks_
    filters = [layer.filters for layer in network.layers if isinstance(layer, ConvLayer)]
    assert filters == [32, 64, 128, 128][:blocks]


def test_frames_of_few_pixels_are_learned():
    for shape in ((2, 1, 1), (5, 3, 1), (4, 4, 2)):
        frames = np.random.default_rng(0).integers(0, 256, (12, *shape), np.uint8)
        assert len(one_epoch().fit(frames, np.arange(12) % 2).transform(frames)) == 12


def test_the_grid_of_learned_features_does_not_matter(fitted):
    other = classifier(grid=(2, 2), n_filters=3).fit(FRAMES, LABELS, GROUPS)
    np.testing.assert_array_equal(other.transform(FRAMES), fitted.transform(FRAMES))


@pytest.mark.parametrize(
    ("parameters", "data", "message"),
    [
        ({"frame_shape": (3, 3)}, {}, "TrainedFeatures: expected frame_shape as .* got"),
        ({}, {"X": np.full(FRAMES.shape, np.nan)}, "TrainedFeatures: expected finite float32 frames, got NaN"),
        ({}, {"y": np.zeros(len(FRAMES))}, "FrameClassifier: expected at least two classes"),
    ],
)
def test_what_does_not_fit_is_refused(parameters, data, message):
    with pytest.raises(ValueError, match=message):
        classifier(**parameters).fit(**{"X": FRAMES, "y": LABELS} | data)


@pytest.mark.parametrize("features", ["trianed", 1, np.array(["learned", "trained"])], ids=str)
def test_features_are_learned_or_trained(features):
    with pytest.raises(SettingError, match=r"FrameClassifier: expected features as one of learned, trained, .* got"):
        FrameClassifier(features=features).fit(FRAMES, LABELS)


@pytest.mark.parametrize("epochs", [0, 1.5, None])
def test_the_number_of_epochs_is_a_positive_integer(epochs):
    with pytest.raises(SettingError, match="TrainedFeatures: expected epochs as a positive integer, got"):
        TrainedFeatures(epochs=epochs).fit(FRAMES, LABELS)
