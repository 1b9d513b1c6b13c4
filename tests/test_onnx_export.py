"""What is exported to ONNX gives our numbers in ONNX Runtime."""

import json
import sys

import numpy as np
import pytest
from agreement import CASES, built
from commands import framecnn, refused
from hypothesis import assume, given, settings
from spreading import exact_and_spread
from textures import textures

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FilterBankLayer,
    FlatteningLayer,
    FormatError,
    FrameClassifier,
    InputLayer,
    Layer,
    MissingExtraError,
    PoolingLayer,
    Sequential,
    SettingError,
    ShapeError,
    save,
)
from framecnn.interop.onnx_export import PICTURES, to_onnx
from framecnn.interop.onnx_layout import channels_first, channels_last
from framecnn.testing import models
from framecnn.testing.draws import draw_frames, draw_params

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

EPS = np.finfo(np.float32).eps


def run(file, x):
    """The outputs of ONNX Runtime by name, maps with channels last."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    number = np.float64 if session.get_inputs()[0].type == "tensor(double)" else np.float32
    values = session.run(None, {"x": channels_first(x.astype(number))})
    return {port.name: channels_last(value) for port, value in zip(session.get_outputs(), values, strict=True)}


def network(*layers):
    """Build a network with parameters drawn for a test, biases and moments included."""
    model = Sequential(layers).build(0)
    for layer in model.layers:
        draw_params(layer)
    return model


def assert_same_numbers(model, x, opset):
    """ONNX Runtime and framecnn each keep to the bound around the definition."""
    exact, spread = exact_and_spread(model.layers, x)
    y = run(to_onnx(model, opset=opset), x)["y"]
    assert y.shape == exact.shape
    assert y.dtype == np.float32
    assert (np.abs(y - exact) <= 2 * spread + 4 * EPS * np.minimum(np.abs(exact), 1)).all()
    assert (np.abs(y - model.predict(x)) <= 3 * spread + 4 * EPS).all()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_layer_gives_our_numbers(case):
    layer = built(case)
    first = [] if isinstance(layer, InputLayer) else [InputLayer(layer.input_shape)]
    model = Sequential([*first, layer])
    for own in first:
        own.build(layer.input_shape)
    x = draw_frames(layer, 3)
    assert_same_numbers(model, x / 40 if isinstance(layer, ActivationLayer) else x, opset=19)


NETWORKS = {
    "reference": [
        ConvLayer(6, kernel_size=3, padding="same"),
        ActivationLayer("relu"),
        PoolingLayer(2),
        FlatteningLayer(),
        DropoutLayer(0.5),
        DenseLayer(5),
        ActivationLayer("softmax"),
    ],
    "normalised": [
        ConvLayer(4, kernel_size=(3, 2), strides=2, use_bias=False),
        BatchNormLayer(),
        ActivationLayer("leaky_relu"),
        FlatteningLayer(),
        BatchNormLayer(epsilon=0.01),
        ActivationLayer("tanh"),
        DenseLayer(3, use_bias=False),
        ActivationLayer("sigmoid"),
    ],
    "maps": [
        ConvLayer(4, kernel_size=2, groups=2, dilation_rate=2, padding=((1, 0), (0, 2))),
        ActivationLayer("softmax"),
        PoolingLayer((3, 2), mode="adaptive_max"),
    ],
    "uneven cells": [PoolingLayer((5, 3), mode="adaptive_max")],
    "flattened": [DownsamplingLayer(2), PoolingLayer((3, 4), mode="adaptive_average"), FlatteningLayer()],
    "bank": [
        FilterBankLayer(5, kernel_size=4, strides=2),
        PoolingLayer((2, 2), mode="average"),
        FilterBankLayer(6, kernel_size=2, contrast=0.1),
        PoolingLayer((2, 3), mode="adaptive_average"),
        ActivationLayer("sqrt"),
        FlatteningLayer(),
        DenseLayer(2),
    ],
    "more cells than pixels": [
        PoolingLayer((2, 13), mode="adaptive_max"),
        PoolingLayer((1, 1), mode="adaptive_average"),
        PoolingLayer((3, 2), mode="adaptive_max"),
    ],
    "scaled rows": [FlatteningLayer(), InputLayer((13 * 17 * 4,), scale=0.5), DenseLayer(3)],
    "nothing": [DropoutLayer(0.2)],
}


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_networks_give_our_numbers_whatever_the_opset(layers, opset):
    model = network(InputLayer((13, 17, 4), scale=0.25), *layers)
    x = np.random.default_rng(0).integers(0, 9, (2, 13, 17, 4))
    assert_same_numbers(model, x, opset)


@settings(deadline=None, max_examples=50)
@given(models(dtype=np.float32))
def test_any_network_gives_our_numbers(model):
    poolings = [layer for layer in model.layers if isinstance(layer, PoolingLayer)]
    assume(all(layer.dilation_rate == (1, 1) for layer in poolings))  # ONNX Runtime refuses some of the borders
    for layer in model.layers:
        draw_params(layer)
    assert_same_numbers(model, np.random.default_rng(0).integers(0, 5, (2, *model.input_shape)), 22)


def test_a_network_of_rows_and_one_of_any_axes():
    rng = np.random.default_rng(0)
    assert_same_numbers(network(InputLayer((7,)), DenseLayer(3)), rng.normal(size=(4, 7)), 17)
    assert_same_numbers(network(InputLayer((5, 7)), ActivationLayer("softmax")), rng.normal(size=(4, 5, 7)), 17)


def test_a_float64_network_computes_in_float32_there():
    model = Sequential([InputLayer((6, 6, 2)), ConvLayer(3, kernel_size=3)]).build(0, np.float64)
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 2))
    _, spread = exact_and_spread(network(InputLayer((6, 6, 2)), ConvLayer(3, kernel_size=3)).layers, np.abs(x) + 1)
    assert (np.abs(run(to_onnx(model), x)["y"] - model.predict(x)) <= 2 * spread).all()


def features_and_spread(features, x):
    """What `FrameFeatures` gives in float64, and how far any float32 computation of it may be."""
    sides = [x, x[:, :, ::-1]] if features.averages_flips_ else [x]
    parts = [[exact_and_spread(chain.layers, side) for chain in features.networks_] for side in sides]
    raw, error = (np.mean([np.hstack([part[which] for part in side]) for side in parts], axis=0) for which in (0, 1))
    error = (error + 5 * EPS * (np.abs(raw) + np.abs(features.mean_))) / features.scale_
    return (raw - features.mean_) / features.scale_, error


def head_and_spread(head, row, error):
    """Distances and probabilities of a head in float64, and how far float32 may be from each."""
    if head.projection is not None:
        weights = np.abs(head.weights_)
        size = np.abs(row) + np.abs(head.mean_) + error
        error = error @ weights + EPS * ((len(weights) + 4) * (size @ weights) + np.abs(head.offset_))
        row = (row - head.mean_) @ head.weights_.astype(np.float64) + head.offset_
    distances = np.linalg.norm(row[:, None] - head.cluster_centers_, axis=2)
    moved = np.linalg.norm(error, axis=1, keepdims=True)
    exponent = (moved * (2 * distances + moved) / head.temperature_).max(axis=1, keepdims=True)
    probabilities = head.probabilities(distances)
    off = probabilities * np.expm1(np.minimum(2 * exponent, 50)) + 2 * EPS * probabilities + np.finfo(np.float32).tiny
    return distances, moved + 2 * EPS * distances, probabilities, np.minimum(off, 1)


def fitted(shape=(24, 32, 3), n_groups=4, change=lambda frames: frames, **settings):
    """A classifier of textures, and some frames of them."""
    x, labels, groups = textures(n_groups, shape)
    x = change(x)
    return FrameClassifier(n_filters=12, random_state=0, **settings).fit(x, labels, groups), x[:8]


CLASSIFIERS = {
    "whole frame, mirrored": {"grid": (1, 1)},
    "several clusters": {"grid": (2, 2), "clusters_per_class": 2},
    "plain head": {"projection": None, "clusters_per_class": 2},
    "two banks": {"grid": (3, 4), "depth": 2},
    "two scales": {"shape": (96, 100, 3), "n_groups": 2, "grid": (1, 1)},
    "grey floats": {"shape": (24, 32, 1), "change": lambda frames: frames / 255},
}


@pytest.mark.parametrize("settings", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_a_classifier_gives_our_distances_probabilities_and_labels(settings):
    classifier, x = fitted(**settings)
    classifier.head_.temperature_ = 1.0  # else all are 0 or 1
    given = run(to_onnx(classifier), x)
    features = features_and_spread(classifier.features_, x)
    distances, spread, probabilities, off = head_and_spread(classifier.head_, *features)
    assert (np.abs(given["distances"] - distances) <= 2 * spread).all()
    assert (np.abs(given["distances"] - classifier.transform(x)) <= 2 * spread).all()
    assert (np.abs(given["probabilities"] - probabilities) <= 2 * off).all()
    assert (np.abs(given["probabilities"] - classifier.predict_proba(x)) <= 2 * off).all()
    assert (classifier.classes_[given["label"]] == classifier.predict(x)).all()
    assert np.median(spread / distances) < 0.02, "a bound that says something"


def test_a_classifier_with_a_trained_network_gives_our_distances_as_near_as_onnx_asks():
    classifier, x = fitted(features="trained")
    given = run(to_onnx(classifier), x)
    np.testing.assert_allclose(given["distances"], classifier.transform(x), rtol=1e-3)  # of its own test cases
    assert (classifier.classes_[given["label"]] == classifier.predict(x)).all()


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_a_classifier_is_the_same_whatever_the_opset(opset):
    classifier, x = fitted(grid=(1, 1))
    usual, other = run(to_onnx(classifier), x), run(to_onnx(classifier, opset=opset), x)
    for name in ("label", "probabilities", "distances"):
        assert usual[name].tobytes() == other[name].tobytes()


def test_a_classifier_of_vectors_keeps_their_precision():
    x, labels, _ = textures(4)
    vectors = x[:, 0, :5, 0] / 3
    classifier = FrameClassifier(random_state=0).fit(vectors, labels)
    given = run(to_onnx(classifier), vectors)
    assert given["distances"].dtype == np.float64
    np.testing.assert_allclose(given["distances"], classifier.transform(vectors), rtol=1e-12)
    np.testing.assert_allclose(given["probabilities"], classifier.predict_proba(vectors), rtol=1e-10)
    assert (classifier.classes_[given["label"]] == classifier.predict(vectors)).all()


def test_a_class_without_a_cluster_has_no_probability():
    classifier, x = fitted(projection=None)
    classifier.head_.cluster_labels_ = np.zeros_like(classifier.head_.cluster_labels_)
    classifier.head_.temperature_ = 1e9  # at which all distances count the same
    assert run(to_onnx(classifier), x)["probabilities"].tolist() == [[1, 0, 0]] * len(x)


def test_the_file_says_its_classes_and_what_frames_must_be():
    classifier, _ = fitted(grid=(1, 1))
    file = to_onnx(classifier)
    about = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    frames = {"height": 24, "width": 32, "channels": 3, "layout": "NCHW", "resize": "stretched", "values": "integer"}
    assert about == {"classes": ["across", "blobs", "down"], "frames": frames, "pictures": PICTURES}
    grey = to_onnx(fitted(shape=(24, 32, 1))[0])
    assert {entry.key for entry in grey.metadata_props} == {"classes", "frames"}, "no picture file gives such frames"
    (port,) = file.graph.input
    assert [size.dim_param or size.dim_value for size in port.type.tensor_type.shape.dim] == ["n", 3, 24, 32]
    assert [port.name for port in file.graph.output] == ["label", "probabilities", "distances"]


def test_equal_models_are_equal_files_and_both_sides_of_a_frame_share_their_weights():
    classifier, _ = fitted(grid=(1, 1))
    assert classifier.features_.averages_flips_
    assert to_onnx(classifier).SerializeToString() == to_onnx(classifier).SerializeToString()
    kernels = [node.input[1] for node in to_onnx(classifier).graph.node if node.op_type == "Conv"]
    assert len(kernels) == 2
    assert len(set(kernels)) == 1


def test_a_file_is_written_atomically(tmp_path):
    model = network(InputLayer((7,)), DenseLayer(3))
    file = to_onnx(model, tmp_path / "model.onnx")
    assert onnx.load(tmp_path / "model.onnx") == file
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_a_command_writes_it(tmp_path):
    classifier, x = fitted(grid=(1, 1))
    classifier.save(tmp_path / "model.safetensors")
    ended = framecnn("export", tmp_path / "model.safetensors", tmp_path / "model.onnx", "--opset", "18")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"wrote {tmp_path}/model.onnx: opset 18; input x; outputs label, probabilities, distances\n"
    labels = run(onnx.load(tmp_path / "model.onnx"), x)["label"]
    assert (classifier.classes_[labels] == classifier.predict(x)).all()


def test_a_failed_export_command_gives_one_line(tmp_path):
    model = tmp_path / "model.safetensors"
    save(network(InputLayer((7,)), DenseLayer(3)), model)
    assert refused("export", model, tmp_path / "x.onnx", "--opset", "12").startswith("to_onnx: expected opset from 13 ")
    assert "no such file" in refused("export", tmp_path / "none", tmp_path / "x.onnx").lower()
    assert not (tmp_path / "x.onnx").exists()
    (tmp_path / "file").touch()
    assert "expected a folder to write to" in refused("export", model, tmp_path / "file" / "x.onnx")


def test_a_command_replaces_its_own_files_only(tmp_path):
    model, target = tmp_path / "model.safetensors", tmp_path / "model.onnx"
    save(network(InputLayer((7,)), DenseLayer(3)), model)
    before = model.read_bytes()
    assert "the command reads this file" in refused("export", model, model)
    assert model.read_bytes() == before
    assert [framecnn("export", model, target).code for _ in range(2)] == [0, 0]


@pytest.mark.parametrize("opset", [12, 999, True, 17.0, "17"])
def test_an_invalid_opset_is_refused(opset):
    with pytest.raises(SettingError, match=r"to_onnx: expected opset from 13 to \d+, got"):
        to_onnx(network(InputLayer((7,)), DenseLayer(3)), opset=opset)


def test_what_an_opset_lacks_is_refused():
    model = network(InputLayer((6, 6, 1)), PoolingLayer(2, dilation_rate=2, mode="average"))
    with pytest.raises(FormatError, match=r"opset 17 has, got: .*dilations.*; use a newer opset"):
        to_onnx(model)


def test_a_layer_that_onnx_does_not_have_is_refused():
    class Reversed(Layer):
        def infer_shape(self, input_shape):
            return input_shape

    try:
        model = Sequential([InputLayer((3,)), Reversed()]).build()
        with pytest.raises(FormatError, match=r"to_onnx: expected layers that ONNX has, got .*Reversed"):
            to_onnx(model)
    finally:
        del Layer.registry["Reversed"]


def test_what_is_no_finished_model_is_refused():
    with pytest.raises(TypeError, match="to_onnx: expected a Sequential or a FrameClassifier, got int"):
        to_onnx(3)
    with pytest.raises(ValueError, match="to_onnx: expected a fitted FrameClassifier"):
        to_onnx(FrameClassifier())
    with pytest.raises(ShapeError, match="InputLayer: expected a built layer"):
        to_onnx(Sequential([InputLayer((7,)), DenseLayer(3)]))


def test_without_onnx_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"to_onnx: .* pip install 'framecnn\[onnx\]'"):
        to_onnx(network(InputLayer((7,)), DenseLayer(3)))
