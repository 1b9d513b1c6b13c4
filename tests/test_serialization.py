"""Saving and loading: a loaded model equals the saved one, in a file that other programs can read."""

import json
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from textures import textures

import framecnn
from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    FilterBankLayer,
    FlatteningLayer,
    FrameClassifier,
    InputLayer,
    Layer,
    PoolingLayer,
    Sequential,
    ShapeError,
    load,
    save,
)

FRAMES, LABELS, GROUPS = textures(4, (16, 20, 3))
CLASSIFIERS = {
    "defaults": {},
    "grid": {"grid": (3, 2)},
    "grid in an array": {"grid": np.array([2, 2])},
    "depth": {"depth": 2},
    "plain head": {"projection": None},
    "plain head, grid": {"projection": None, "grid": (2, 2), "clusters_per_class": 2},
    "clusters": {"clusters_per_class": np.int64(2)},
    "alpha": {"alpha": 0.1},
    "float32 alpha": {"alpha": np.float32(0.1)},
    "random filters": {"filters": "random"},
    "pca filters": {"filters": "pca"},
    "no seed": {"random_state": None},
    "seed of NumPy": {"random_state": np.int64(7)},
    "random state": {"random_state": np.random.RandomState(3)},
}


def fitted(X, y=LABELS, **parameters):
    parameters = {"n_filters": 8, "random_state": 0} | parameters
    return FrameClassifier(**parameters).fit(X, y, GROUPS)


def assert_same_predictions(loaded, classifier, X):
    for method in ("predict", "predict_proba", "transform", "reject"):
        answer, expected = getattr(loaded, method)(X), getattr(classifier, method)(X)
        assert answer.dtype == expected.dtype
        assert answer.tolist() == expected.tolist()


def vectors(dtype):
    return np.random.default_rng(0).normal(np.repeat([-2, 0, 2], 8)[:, None], 1, (24, 5)).astype(dtype)


def network(dtype=np.float32):
    layers = [
        InputLayer((12, 14, 3), scale=1 / 255),
        DownsamplingLayer(2),
        ConvLayer(4, kernel_size=3, padding=((0, 1), (2, 0)), strides=(1, 2)),
        ActivationLayer("leaky_relu", negative_slope=0.1),
        FilterBankLayer(3, kernel_size=2, contrast=0.5, thresholds=(0.1, 0.2)),
        PoolingLayer(2, mode="average", padding="same"),
        FlatteningLayer(),
        DenseLayer(5, use_bias=False),
        ActivationLayer("softmax"),
    ]
    return Sequential(layers).build(1, dtype)


def described(path):
    with safe_open(path, "numpy") as file:
        return json.loads(file.metadata()["framecnn"])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_loaded_classifier_predicts_the_same_bits_and_saves_the_same_bytes(tmp_path, name):
    classifier = fitted(FRAMES, **CLASSIFIERS[name])
    classifier.save(tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    loaded.save(tmp_path / "b.safetensors")
    assert_same_predictions(loaded, classifier, FRAMES)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert loaded.chosen_ == classifier.chosen_ | {"grid": tuple(classifier.chosen_["grid"])}
    assert loaded.prototypes_.tolist() == classifier.prototypes_.tolist()


@pytest.mark.parametrize(
    ("X", "parameters"),
    [
        (FRAMES / 255, {}),
        (FRAMES.astype(np.float32), {}),
        (FRAMES.astype(np.int16), {}),
        (FRAMES[..., :1], {}),
        (FRAMES.reshape(len(FRAMES), -1), {"frame_shape": (16, 20, 3)}),
        (FRAMES, {"frame_shape": [16, 20, 3]}),
        (vectors(np.float32), {}),
        (vectors(np.float64), {}),
        (vectors(np.float64), {"projection": None}),
    ],
    ids=["float64", "float32", "int16", "grey", "flat rows", "frame_shape", "vectors32", "vectors64", "plain vectors"],
)
def test_a_classifier_of_every_kind_of_input_comes_back(tmp_path, X, parameters):
    classifier = fitted(X, **parameters)
    classifier.save(tmp_path / "m.safetensors")
    assert_same_predictions(load(tmp_path / "m.safetensors"), classifier, X)


@pytest.mark.parametrize(
    "names",
    [
        ["left", "middle", "right"],
        ["", "\x1b[31m\n'\"", "日本 🎬\u202e"],
        ["a\udcff", "b", "c"],
        [-3, 0, 9],
        np.array([0, 1, 255], np.uint8),
        np.array([0, 1, 2**63], np.uint64),
        np.array([1, 2, 3], ">i4"),
        [-1.0, 0.0, 2.0],
        np.array([1, 2, 3], np.float16),
        [False, True, True],
        np.array(["x", "y", "zzz"], object),
    ],
    ids=str,
)
def test_labels_come_back_with_their_dtype(tmp_path, names):
    y = np.asarray(names)[np.repeat([0, 1, 2], 8)]
    classifier = fitted(vectors(float), y)
    save(classifier, tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    assert loaded.classes_.dtype == classifier.classes_.dtype
    assert loaded.predict(vectors(float)).tolist() == classifier.predict(vectors(float)).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_comes_back_bit_for_bit(tmp_path, dtype):
    model = network(dtype)
    save(model, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    x = FRAMES[:, :12, :14]
    assert loaded.predict(x).dtype == dtype
    assert loaded.predict(x).tobytes() == model.predict(x).tobytes()
    assert loaded.layers == model.layers
    save(loaded, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("layer", framecnn.layers.__all__)
def test_every_layer_comes_back_in_each_of_its_cases(tmp_path, layer):
    for case in getattr(getattr(framecnn.layers, layer), "cases", ()):
        model = Sequential([InputLayer(case.input_shape), getattr(framecnn.layers, layer)(**case.settings)]).build(0)
        save(model, tmp_path / "m.safetensors")
        loaded = load(tmp_path / "m.safetensors")
        x = np.random.default_rng(0).normal(size=(2, *case.input_shape))
        assert loaded.layers == model.layers
        assert loaded.predict(x).tobytes() == model.predict(x).tobytes()


def test_a_layer_that_a_user_defined_comes_back(tmp_path, monkeypatch):
    monkeypatch.setattr(Layer, "registry", dict(Layer.registry))  # the class below is gone after this test

    @dataclass(frozen=True)
    class Brighten(Layer):
        by: float

        def infer_shape(self, input_shape):
            return input_shape

        def forward(self, x):
            return x + x.dtype.type(self.by)

    save(Sequential([InputLayer((2,)), Brighten(0.5)]).build(), tmp_path / "m.safetensors")
    assert load(tmp_path / "m.safetensors").predict([[1, 2]]).tolist() == [[1.5, 2.5]]


def test_other_programs_read_the_tensors(tmp_path):
    model = network()
    save(model, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "numpy") as file:
        assert set(file.keys()) == set(model.state_dict())
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(file.get_tensor(name), value)


def test_arrays_in_another_memory_order_are_saved_correctly(tmp_path):
    classifier = fitted(FRAMES)
    weights = classifier.head_.weights_
    classifier.head_.weights_ = np.asfortranarray(weights)
    save(classifier, tmp_path / "m.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "m.safetensors").head_.weights_, weights)


def test_a_file_contains_the_model_and_neither_time_nor_place(tmp_path):
    fitted(FRAMES).save(tmp_path / "m.safetensors")
    description = described(tmp_path / "m.safetensors")
    assert set(description) == {
        *("format", "kind", "sha256", "versions"),
        *("parameters", "features", "head", "accuracies", "features_accuracies", "features_kind"),
    }
    assert set(description["versions"]) == {"framecnn", "numpy", "numba", "scikit-learn"}
    assert description["head"]["classes"]["values"] == ["across", "blobs", "down"]
    frames = {"shape": [16, 20, 3], "resize": "stretched", "values": "integer"}
    assert description["features"]["frames"] == frames


def test_path_and_number_of_threads_change_no_byte(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    paths = tmp_path / "a.safetensors", tmp_path / "elsewhere" / "another name.bin"
    for n, path in enumerate(paths, start=1):
        with framecnn.num_threads(n):
            fitted(FRAMES).save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path, monkeypatch):
    def disk_full(path, content):
        with open(path, "wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    path = tmp_path / "m.safetensors"
    save(network(), path)
    before = path.read_bytes()
    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save(network(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_model_file_has_the_mode_of_any_new_file(tmp_path):
    (tmp_path / "ordinary").touch()
    save(network(), tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_a_loaded_classifier_is_a_complete_estimator(tmp_path):
    fitted(FRAMES, grid=(2, 2)).save(tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    again = clone(loaded).fit(FRAMES, LABELS, GROUPS)
    assert_same_predictions(again, loaded, FRAMES)
    assert_same_predictions(pickle.loads(pickle.dumps(loaded)), loaded, FRAMES)
    assert list(loaded.get_feature_names_out()) == list(again.get_feature_names_out())
    with pytest.raises(ValueError, match="expected frames of integers"):
        loaded.predict(FRAMES / 255)
    with pytest.raises(ValueError, match=r"expected frames of shape \(n, 16, 20, 3\)"):
        loaded.predict(FRAMES[:, :8])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: object(), TypeError, "save: expected a model of Sequential or FrameClassifier or .*, got object"),
        (lambda: FrameClassifier(), NotFittedError, "not fitted"),
        (lambda: Sequential([InputLayer((2,))]), ShapeError, r"call build\(seed\)"),
        (lambda: broken(np.nan), ValueError, "save: expected finite numbers, got NaN or infinity in dense_1/kernel"),
        (lambda: broken(np.inf), ValueError, "got NaN or infinity in dense_1/kernel"),
        (lambda: strange_labels(), TypeError, r"numbers, bools or strings, got dtype \|S1; convert y"),
        (lambda: Sequential([InputLayer((2**20, 2**20, 1))]).build(), ShapeError, "at most 1,073,741,824 values"),
    ],
)
def test_what_cannot_be_loaded_is_not_saved(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        save(make(), tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def broken(value):
    model = Sequential([InputLayer((2,)), DenseLayer(1)]).build()
    model.layers[1].params["kernel"] = np.full((2, 1), value)
    return model


def strange_labels():
    classifier = fitted(vectors(float), np.repeat([1, 2, 3], 8))
    classifier.head_.classes_ = np.array([b"a", b"b", b"c"])
    return classifier
