"""Networks from ONNX files give the numbers of ONNX Runtime."""

import numpy as np
import pytest
from onnx_graphs import CHAIN, FRAME, chain, drawn, node
from spreading import exact_and_spread

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FlatteningLayer,
    InputLayer,
    PoolingLayer,
    ResizingLayer,
    Sequential,
    SettingError,
)
from framecnn.interop.onnx_backend import Backend
from framecnn.interop.onnx_export import to_onnx
from framecnn.interop.onnx_import import from_onnx
from framecnn.interop.onnx_layout import channels_first, channels_last
from framecnn.testing.draws import same_bits

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def reference(model, x):
    """The output of ONNX Runtime."""
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]


def assert_as_onnxruntime(model):
    """The numbers of ONNX Runtime, as it lays them out, within the bound around the definition."""
    x = drawn(2, *FRAME)
    (y,), wanted = Backend.run_model(model, [x]), reference(model, x)
    assert y.shape == wanted.shape
    assert y.dtype == wanted.dtype
    _, spread = exact_and_spread(from_onnx(model).layers, channels_last(x))
    spread = channels_first(spread) if spread.ndim == 4 else spread.max(axis=1, keepdims=True)
    assert (np.abs(y - wanted) <= 2 * spread + np.finfo(np.float32).eps).all()


ROUND_TRIPS = {
    "conv": [ConvLayer(4, kernel_size=3, padding="same", strides=2), ActivationLayer("relu"), PoolingLayer(2)],
    "flattened": [PoolingLayer(2), FlatteningLayer(), ActivationLayer("tanh")],
    "dense": [PoolingLayer(3, mode="average", padding="same"), FlatteningLayer(), DropoutLayer(0.5), DenseLayer(5)],
    "grouped": [ConvLayer(6, kernel_size=(1, 2), groups=3, dilation_rate=2, padding=((0, 1), (2, 0)), use_bias=False)],
    "activations": [ActivationLayer(name) for name in ("tanh", "sigmoid", "leaky_relu", "relu", "sqrt", "softmax")],
    "uneven cells": [PoolingLayer((3, 4), mode="adaptive_average"), ActivationLayer("relu")],
    "resized": [ResizingLayer((5, 20)), ConvLayer(2, kernel_size=1)],
    "strided": [DownsamplingLayer((2, 3), mode="stride"), ConvLayer(2, kernel_size=1)],
    "adaptive": [DownsamplingLayer(2), PoolingLayer((2, 5), mode="adaptive_max"), ConvLayer(2, kernel_size=1)],
}


@pytest.mark.parametrize("layers", ROUND_TRIPS.values(), ids=ROUND_TRIPS)
@pytest.mark.parametrize("opset", [13, 17, 21])
def test_what_was_exported_comes_back_to_the_bit(layers, opset):
    model = Sequential([InputLayer((8, 11, 3), scale=0.3), *layers]).build(0)
    back = from_onnx(to_onnx(model, opset=opset))
    x = np.random.default_rng(0).random((3, 8, 11, 3))
    assert same_bits(back.predict(x), model.predict(x))


def test_batch_normalisation_comes_back_with_an_epsilon_of_float32():
    model = Sequential([InputLayer((4, 5, 3)), BatchNormLayer(), FlatteningLayer(), BatchNormLayer(), DenseLayer(2)])
    model.build(0)
    x = np.random.default_rng(0).random((3, 4, 5, 3))
    _, spread = exact_and_spread(model.layers, x)
    assert (np.abs(from_onnx(to_onnx(model)).predict(x) - model.predict(x)) <= 2 * spread).all()


def test_a_file_on_disk_comes_back(tmp_path):
    model = Sequential([InputLayer((7,)), DenseLayer(3)]).build(0)
    to_onnx(model, tmp_path / "model.onnx")
    back = from_onnx(str(tmp_path / "model.onnx"))
    assert {key: value.tobytes() for key, value in back.state_dict().items()} == {
        key: value.tobytes() for key, value in model.state_dict().items()
    }


def window(rng, automatic):
    """Draw how a window slides over FRAME."""
    settings = {"strides": rng.integers(1, 4, 2).tolist(), "dilations": rng.integers(1, 3, 2).tolist()}
    if automatic:
        settings["auto_pad"] = str(rng.choice(["VALID", "SAME_UPPER", "SAME_LOWER"]))
        settings["dilations"] = [1, 1]  # ONNX Runtime does not take both
    else:
        settings["pads"] = rng.integers(0, 2, 4).tolist()
    return settings


@pytest.mark.parametrize("seed", range(20))
def test_convolutions_slide_as_onnx_says(seed):
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 3]))
    kernel = drawn(3 * int(rng.integers(1, 4)), 3 // groups, *rng.integers(1, 4, 2))
    bias = [drawn(len(kernel))] if seed % 2 else []
    assert_as_onnxruntime(chain(node("Conv", kernel, *bias, group=groups, **window(rng, seed % 3 == 0))))


@pytest.mark.parametrize("seed", range(30))
def test_pooling_slides_as_onnx_says(seed):
    rng = np.random.default_rng(seed)
    kind = "MaxPool" if seed % 2 else "AveragePool"
    settings = window(rng, seed % 3 == 0) | {"kernel_shape": rng.integers(2, 4, 2).tolist()}
    if seed % 3:
        settings["ceil_mode"] = int(rng.integers(2))
    if kind == "AveragePool":
        settings["count_include_pad"] = int(rng.integers(2)) * (1 - settings.get("ceil_mode", 0))
    assert_as_onnxruntime(chain(node(kind, **settings), opset=19))


CHAINS = {
    "product and sum": [node("Flatten"), node("MatMul", drawn(297, 4)), node("Add", drawn(4))],
    "convolution and sum": [node("Conv", drawn(5, 3, 2, 2)), node("Add", drawn(5, 1, 1)), node("Relu")],
    "reshape": [node("Reshape", np.array([-1, 297])), node("Gemm", drawn(2, 297), drawn(2), transB=1, alpha=0.5)],
    "reshape that allows zero": [node("Reshape", np.array([-1, 297]), allowzero=1), node("Gemm", drawn(297, 2))],
    "division": [node("Div", np.float32(3)), node("Flatten"), node("Gemm", drawn(297, 2))],
    "reshape of zero": [node("Reshape", np.array([0, -1])), node("Gemm", drawn(297, 2), drawn(1, 2), beta=2.0)],
    "flattened": [node("MaxPool", kernel_shape=[3, 4]), node("Flatten", axis=-3), node("Sigmoid")],
    "flattened, normalised, softmax": [
        node("Flatten"),
        node("BatchNormalization", drawn(297), drawn(297), drawn(297), drawn(297) ** 2),
        node("Softmax"),
        node("Flatten"),
        node("Gemm", drawn(297, 3)),
    ],
    "softmax over channels": [node("Softmax", axis=1)],
    "all": CHAIN,
    "largest": [node("GlobalMaxPool"), node("Relu"), node("Sqrt")],
}


@pytest.mark.parametrize("nodes", CHAINS.values(), ids=CHAINS)
def test_chains_give_the_numbers_of_onnxruntime(nodes):
    assert_as_onnxruntime(chain(*nodes))


@pytest.mark.parametrize("kind", ["ReduceMax", "ReduceMean"])
@pytest.mark.parametrize("settings", [{}, {"keepdims": 1}, {"keepdims": 0}])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [3, -2]])
def test_reduced_pixels_are_global_pooling_as_pytorch_writes_it(kind, settings, axes):
    after = [] if settings.get("keepdims") == 0 else [node("Flatten")]
    older = [node(kind, axes=axes, **settings), *after, node("Gemm", drawn(3, 2))]
    newer = [node(kind, np.array(axes), **settings), *after, node("Gemm", drawn(3, 2))]
    assert_as_onnxruntime(chain(*older, opset=17))
    assert_as_onnxruntime(chain(*newer, opset=20))
    assert isinstance(from_onnx(chain(*newer, opset=20)).layers[1], PoolingLayer)


def test_frames_and_maps_become_channels_last():
    model = from_onnx(chain(node("Conv", drawn(4, 3, 3, 3))))
    assert (model.input_shape, model.output_shape) == ((9, 11, 3), (7, 9, 4))
    assert model.names == ("input_1", "conv_1")


def test_old_softmax_works_along_rows():
    nodes = [node("GlobalMaxPool"), node("Softmax"), node("Flatten"), node("Softmax")]
    assert_as_onnxruntime(chain(*nodes, opset=12))


def test_a_file_made_for_one_batch_takes_any():
    model = from_onnx(chain(node("Reshape", np.array([4, -1])), batch=4))
    assert model.predict(np.zeros((7, 9, 11, 3))).shape == (7, 297)


def test_a_shape_may_be_a_constant():
    model = chain(node("Reshape", np.array([-1, 297])))
    (shape,) = model.graph.initializer
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [shape.name], value_ints=[-1, 297]))
    del model.graph.initializer[:]
    assert_as_onnxruntime(model)


def test_weights_may_be_constants_and_stand_first_in_sums():
    model = chain(node("Flatten"), node("MatMul", drawn(297, 1)), node("Add", drawn(1)))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    product, addition = model.graph.node[1], model.graph.node[2]
    addition.input[:] = addition.input[::-1]
    constants = [
        onnx.helper.make_node("Constant", [], [addition.input[0]], value_floats=[0.5]),
        onnx.helper.make_node("Constant", [], [product.input[1]], value=stored[product.input[1]]),
    ]
    rest = list(model.graph.node)
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(constants + rest)
    assert_as_onnxruntime(model)


def test_a_float64_file_is_a_float64_network():
    model = from_onnx(chain(node("Gemm", np.eye(3)), shape=[3], number=np.float64))
    assert model.predict(np.full((1, 3), 1 / 3)).tolist() == [[1 / 3] * 3]


def test_one_node_runs_alone():
    kernel = np.ones((1, 1, 2, 2), np.float32)
    operator = onnx.helper.make_node("Conv", ["x", "w"], ["y"], auto_pad="SAME_LOWER")
    (y,) = Backend.run_node(operator, [np.ones((1, 1, 2, 2), np.float32), kernel])
    assert y.tolist() == [[[[1, 2], [2, 4]]]]
    assert Backend.supports_device("CPU")
    assert not Backend.supports_device("CUDA")
    assert Backend.is_compatible(chain(node("Relu")))
    assert not Backend.is_compatible(chain(node("Relu")), "CUDA")
    with pytest.raises(SettingError, match="Backend: expected the device CPU, got 'CUDA'"):
        Backend.prepare(chain(node("Relu")), "CUDA")
