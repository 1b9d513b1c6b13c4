"""ONNX graphs that branch become nested ParallelLayers, with the numbers of ONNX Runtime."""

import numpy as np
import pytest
from onnx_graphs import FRAME, drawn, graph
from spreading import exact_and_spread

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    FormatError,
    InputLayer,
    PaddingLayer,
    ParallelLayer,
    PoolingLayer,
    ScalingLayer,
    Sequential,
)
from framecnn.interop.onnx_backend import Backend
from framecnn.interop.onnx_export import to_onnx
from framecnn.interop.onnx_import import from_onnx
from framecnn.interop.onnx_layout import channels_first, channels_last
from framecnn.kernels import FUNCTIONS
from framecnn.testing.draws import draw_params, same_bits

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

EPS = np.finfo(np.float32).eps


def reference(model, x):
    """The output of ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def assert_as_onnxruntime(model, slack=0.0):
    """Return the network of a model, which gives the numbers of ONNX Runtime, as it lays them out."""
    sizes = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim][1:]
    x = drawn(2, *sizes)
    (y,), wanted = Backend.run_model(model, [x]), reference(model, x)
    assert y.shape == wanted.shape
    network = from_onnx(model)
    ours = x if network.input_shape == tuple(sizes) else channels_last(x)
    exact, spread = exact_and_spread(network.layers, ours)
    assert np.median(spread) < 0.01 * np.abs(exact).max(), "a bound that says something"
    assert (np.abs(network.predict(ours) - exact) <= spread).all()
    assert np.abs(y - wanted).max() <= 2 * spread.max() + EPS + slack
    return network


GRAPHS = {
    "a residual": "r = Relu(x); c = Conv(r, k33); s = Add(r, c); y = Relu(s)",
    "the input added to itself": "y = Add(x, x)",
    "a square": "r = Relu(x); y = Mul(r, r)",
    "two equal inputs of a concatenation": "r = Relu(x); y = Concat(r, r)",
    "a projected shortcut": "a = Conv(x, k53); r = Relu(a); b = Conv(r, k55); c = Conv(x, p53); y = Add(b, c)",
    "inception": "a = Conv(x, p53); b = Conv(x, k53); p = Relu(x); c = Conv(p, k23); y = Concat(a, b, c, x)",
    "a sum of three": "a = Conv(x, k33); b = Conv(x, p33); y = Sum(a, b, x)",
    "sums of sums": "a = Conv(x, k33); b = Conv(x, p33); s = Add(a, b); y = Add(s, x)",
    "sums of sums on the right": "a = Conv(x, k33); b = Conv(x, p33); s = Add(a, b); y = Add(x, s)",
    "a branch that forks inside": "a = Conv(x, k33); b = Relu(a); c = Tanh(a); y = Concat(b, c, x)",
    "the same, the other way round": "a = Conv(x, k33); b = Relu(a); c = Tanh(a); d = Relu(x); y = Concat(d, x, b, c)",
    "a sum of a branch that forks": "a = Conv(x, k33); b = Relu(a); c = Tanh(a); y = Sum(b, x, c)",
    "nested": "r = Relu(x); a = Conv(r, k33); b = Tanh(a); s = Add(a, b); t = Conv(s, p33); y = Add(t, r)",
    "one after the other": "a = Conv(x, k33); s = Add(a, x); b = Conv(s, k33); t = Add(b, s); y = Concat(t, t)",
    "squeeze and excitation": "g = GlobalAveragePool(x); a = Conv(g, p23); r = Relu(a); b = Conv(r, p32); "
    "s = Sigmoid(b); y = Mul(x, s)",
    "a gate on the left": "g = GlobalAveragePool(x); a = Conv(g, p33); s = HardSigmoid(a); y = Mul(s, x)",
    "dense": "a = Conv(x, k23); c = Concat(x, a); b = Conv(c, k25); d = Concat(x, a, b); e = Conv(d, k27); "
    "y = Concat(x, a, b, e)",
    "dense without the first": "i = Concat(x); a = Conv(i, k23); c = Concat(x, a); b = Conv(c, k25); "
    "y = Concat(x, a, b)",
    "an output that nothing else needs": "r = Relu(x); a = Conv(x, k53); y = Add(r, x)",
    "a product of three": "a = Tanh(x); b = Sigmoid(x); s = Mul(a, b); y = Mul(s, x)",
    "rows": "f = Flatten(x); a = Gemm(f, w297x4); b = Relu(a); y = Add(a, b)",
    "flattened maps added": "a = Tanh(x); f = Flatten(a); g = Flatten(x); s = Add(f, g); y = Gemm(s, w297x4)",
    "flattened maps joined": "a = Conv(x, p23); f = Flatten(a); m = GlobalAveragePool(x); g = Flatten(m); "
    "d = Gemm(g, w3x5); c = Concat(f, d, g); y = Gemm(c, w206x4)",
    "flattened maps joined at the end": "a = Conv(x, p23); f = Flatten(a); g = Flatten(x); y = Concat(g, f)",
}


@pytest.mark.parametrize("text", GRAPHS.values(), ids=GRAPHS)
def test_graphs_that_branch_give_the_numbers_of_onnxruntime(text):
    model = graph(text)
    network = assert_as_onnxruntime(model)
    assert any(isinstance(layer, ParallelLayer) for layer in network.layers)
    back = from_onnx(to_onnx(network))
    x = channels_last(drawn(2, *FRAME))
    assert same_bits(back.predict(x), network.predict(x))


def test_branches_are_what_the_graph_says():
    assert from_onnx(graph(GRAPHS["a residual"])).layers[2] == ParallelLayer(
        [[], [ConvLayer(3, kernel_size=3, padding=((1, 1), (1, 1)), use_bias=False)]]
    )
    summed = from_onnx(graph(GRAPHS["sums of sums"])).layers[1]
    assert [len(branch) for branch in summed.branches] == [1, 1, 0], "(a + b) + x is one sum, from left to right"
    fork = from_onnx(graph(GRAPHS["a branch that forks inside"])).layers[1]
    assert [type(layer).__name__ for layer in fork.branches[0]] == ["ConvLayer", "ParallelLayer"]


def test_a_densely_connected_network_is_a_chain_of_blocks():
    text = "c0 = Relu(x)"
    for step in range(1, 9):
        joined = ", ".join(f"c{i}" for i in range(step))
        text += f"; i{step} = Concat({joined}); c{step} = Conv(i{step}, k3{3 * step})" if step < 4 else ""
    network = from_onnx(graph(text + "; y = Concat(c0, c1, c2, c3)"))
    assert [type(layer).__name__ for layer in network.layers] == ["InputLayer", "ActivationLayer"] + 3 * [
        "ParallelLayer"
    ]


ACTIVATIONS = {
    "silu": ("s = Sigmoid(x); y = Mul(x, s)", "silu"),
    "silu, the other way round": ("s = Sigmoid(x); y = Mul(s, x)", "silu"),
    "hard swish of two": ("s = HardSigmoid(x, sixth); y = Mul(x, s)", "hard_swish"),
    "hard swish divided last": ("a = Add(x, 3); c = Clip(a, 0, 6); m = Mul(x, c); y = Div(m, 6)", "hard_swish"),
    "hard swish divided first": ("a = Add(3, x); c = Clip(a, 0, 6); d = Div(c, 6); y = Mul(x, d)", "hard_swish"),
    "hard swish multiplied": ("a = Add(x, 3); c = Clip(a, 0, 6); d = Mul(c, 1/6); y = Mul(d, x)", "hard_swish"),
    "hard swish of a line": ("m = Mul(x, 1/6); a = Add(m, 0.5); c = Clip(a, 0, 1); y = Mul(x, c)", "hard_swish"),
    "hard sigmoid": ("a = Add(x, 3); c = Clip(a, 0, 6); y = Mul(1/6, c)", "hard_sigmoid"),
    "gelu": ("d = Div(x, r2); e = Erf(d); a = Add(e, 1); m = Mul(x, a); y = Mul(m, 0.5)", "gelu"),
    "gelu halved first": ("h = Mul(0.5, x); d = Div(x, r2); e = Erf(d); a = Add(1, e); y = Mul(h, a)", "gelu"),
    "gelu halved inside": ("d = Mul(x, h2); e = Erf(d); a = Add(e, 1); h = Mul(a, 0.5); y = Mul(x, h)", "gelu"),
    "relu of a maximum": ("y = Max(x, 0)", "relu"),
    "relu6 of a minimum": ("r = Relu(x); y = Min(r, 6)", "relu6"),
    "relu of a clip": ("y = Clip(x, 0)", "relu"),
}


@pytest.mark.parametrize(("text", "function"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activations_of_several_operators_are_one_layer(text, function):
    network = assert_as_onnxruntime(graph(text), slack=8 * EPS)  # their own rounding near zero
    assert network.layers[1:] == (ActivationLayer(function),)


def test_what_is_nearly_an_activation_is_read_as_it_stands():
    for text in (
        "s = Sigmoid(x); t = Tanh(x); y = Mul(t, s)",
        "s = HardSigmoid(x); y = Mul(x, s)",
        "s = Sigmoid(x); m = Mul(x, s); y = Mul(m, 2)",
    ):
        assert len(assert_as_onnxruntime(graph(text), slack=8 * EPS).layers) > 1


CONSTANTS = {
    "channels scaled": ("y = Mul(x, c3)", [ScalingLayer()]),
    "channels scaled and shifted": ("m = Mul(c3, x); y = Add(m, c3)", [ScalingLayer()]),
    "shifted, then divided": ("s = Sub(x, c3); y = Div(s, c3)", [ScalingLayer()]),
    "from a number": ("y = Sub(1, x)", [ScalingLayer()]),
    "one number later": ("r = Relu(x); y = Mul(r, 0.5)", [ActivationLayer("relu"), ScalingLayer()]),
    "rows": ("f = Flatten(x); m = Mul(f, v297); y = Gemm(m, w297x4)", None),
    "a bias, then another": (
        "a = Conv(x, p53); b = Add(a, c5); y = Add(b, c5)",
        [ConvLayer(5, kernel_size=1), ScalingLayer()],
    ),
    "a border": ("y = Pad(x, border, 0.5)", [PaddingLayer(((1, 0), (2, 3)), value=0.5)]),
    "a border of a convolution": (
        "p = Pad(x, border); y = Conv(p, k53)",
        [ConvLayer(5, kernel_size=3, padding=((2, 1), (3, 4)), use_bias=False)],
    ),
    "a border of a maximum": (
        "r = Relu(x); p = Pad(r, border1); y = MaxPool(p, 3)",
        [ActivationLayer("relu"), PoolingLayer(3, strides=2, padding=((1, 1), (1, 1)))],
    ),
    "a border of a maximum of any values": (
        "p = Pad(x, border1); y = MaxPool(p, 3)",
        [PaddingLayer(((1, 1), (1, 1))), PoolingLayer(3, strides=2)],
    ),
    "a general hard sigmoid": ("y = HardSigmoid(x)", [ScalingLayer(), ActivationLayer("hard_sigmoid")]),
}


@pytest.mark.parametrize(("text", "layers"), CONSTANTS.values(), ids=CONSTANTS)
def test_stored_numbers_become_layers(text, layers):
    network = assert_as_onnxruntime(graph(text), slack=8 * EPS)
    assert layers is None or list(network.layers[1:]) == layers


SHAPES = {
    "excitation by rows": "g = GlobalAveragePool(x); f = Flatten(g); a = Gemm(f, w3x2); r = Relu(a); "
    "b = Gemm(r, w2x3); s = Sigmoid(b); u = Unsqueeze(s, axes23); y = Mul(x, u)",
    "excitation by products": "g = ReduceMean(x, keepdims0); a = MatMul(g, w3x2); c = Add(a, v2); r = Relu(c); "
    "b = MatMul(r, w2x3); s = Sigmoid(b); u = Reshape(s, to_n311); y = Mul(u, x)",
    "two ways that squeeze": "g = GlobalAveragePool(x); f = Squeeze(g, axes23); m = GlobalMaxPool(x); h = Flatten(m); "
    "s = Add(f, h); a = Gemm(s, w3x3); u = Unsqueeze(a, axes23); t = Sigmoid(u); y = Mul(x, t)",
    "axes added one by one": "g = GlobalAveragePool(x); f = Flatten(g); s = Sigmoid(f); u = Unsqueeze(s, at2); "
    "v = Unsqueeze(u, at3); y = Mul(x, v)",
    "axes removed one by one": "g = GlobalAveragePool(x); a = Squeeze(g, at3); b = Squeeze(a, at2); y = Gemm(b, w3x4)",
    "all axes of one pixel removed": "g = GlobalAveragePool(x); f = Squeeze(g); y = Gemm(f, w3x4)",
    "nothing padded and nothing turned": "p = Pad(x, border0); t = Transpose(p, same); y = Relu(t)",
    "a gate of all pixels": "g = GlobalAveragePool(x); s = Sigmoid(g); h = Shape(x); e = Expand(s, h); y = Mul(x, e)",
    "a shape that is computed": "s = Shape(x); n = Gather(s, place0); v = Unsqueeze(n, at0); t = Concat(v, minus1); "
    "r = Reshape(x, t); y = Gemm(r, w297x4)",
    "channels last and back": "t = Transpose(x, last); m = Mul(t, v3); u = Transpose(m, first); y = Conv(u, k53)",
    "flattened channels last": "t = Transpose(x, last); f = Flatten(t); y = Gemm(f, w297x4)",
    "reduced channels last": "t = Transpose(x, last); m = ReduceMean(t, pixels_last); y = Gemm(m, w3x4)",
    "softmax and product channels last": "t = Transpose(x, last); m = MatMul(t, w3x4); s = Softmax(m); y = Tanh(s)",
    "a border channels last": "t = Transpose(x, last); p = Pad(t, border_last); y = Transpose(p, first)",
    "branches channels last": "t = Transpose(x, last); a = Tanh(t); c = Concat(a, t, axis3); y = Transpose(c, first)",
    "the same sizes again": "r = Reshape(x, to_same); y = Relu(r)",
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
def test_other_sizes_and_axes_give_the_numbers_of_onnxruntime(text):
    network = assert_as_onnxruntime(graph(text))
    x = channels_last(drawn(2, *FRAME))
    assert same_bits(from_onnx(to_onnx(network)).predict(x), network.predict(x))


def test_an_identity_is_an_input_alone():
    assert from_onnx(graph("y = Identity(x)")).names == ("input_1",)


def test_maps_of_one_pixel_and_three_axes_are_rows_at_the_end():
    model = graph("g = GlobalAveragePool(x); y = Squeeze(g, at3)")
    x = drawn(2, *FRAME)
    assert from_onnx(model).output_shape == (3,)
    assert np.allclose(from_onnx(model).predict(channels_last(x)), reference(model, x)[:, :, 0], rtol=1e-5)


def test_what_is_expanded_to_more_than_the_other_factor_is_refused():
    model = graph("g = GlobalAveragePool(x); h = Shape(x); e = Expand(g, h); y = Mul(g, e)")
    with pytest.raises(FormatError, match="cannot take Expand 'e': framecnn has no equivalent layer"):
        from_onnx(model)


def test_a_file_of_channels_last_takes_frames_as_they_are():
    model = graph("t = Transpose(x, first); c = Conv(t, k5x11); u = Transpose(c, last); y = Relu(u)", shape=(9, 7, 11))
    network = assert_as_onnxruntime(model)
    assert (network.input_shape, network.output_shape) == ((9, 7, 11), (9, 7, 5))


OURS = {
    "nested": [
        ParallelLayer(
            [
                [ConvLayer(4, kernel_size=3, padding="same"), BatchNormLayer(), ActivationLayer("relu6")],
                [ParallelLayer([[], [ConvLayer(1, kernel_size=1)]], merge="concatenate")],
            ]
        ),
        ActivationLayer("relu"),
    ],
    "gate": [
        ParallelLayer(
            [
                [PoolingLayer(1, mode="adaptive_average"), ConvLayer(3, kernel_size=1), ActivationLayer("sigmoid")],
                [],
                [ConvLayer(3, kernel_size=3, padding="same")],
            ],
            merge="multiply",
        )
    ],
    "three": [ParallelLayer([[], [ActivationLayer("tanh")], [ConvLayer(3, kernel_size=1)]])],
    "rows joined": [
        ParallelLayer(
            [[FlatteningLayer()], [PoolingLayer(3), FlatteningLayer(), ActivationLayer("tanh")], [FlatteningLayer()]],
            merge="concatenate",
        ),
        ScalingLayer(),
        BatchNormLayer(),
        DenseLayer(4),
    ],
    "rows in two orders": [ParallelLayer([[FlatteningLayer()], [FlatteningLayer(), DenseLayer(264)]]), DenseLayer(2)],
    "rows in one order": [FlatteningLayer(), ParallelLayer([[], [ActivationLayer("tanh")]]), DenseLayer(2)],
    "flattened inside, at the end": [ParallelLayer([[FlatteningLayer()], [FlatteningLayer()]], merge="multiply")],
    "scaled": [ScalingLayer(), ActivationLayer("relu"), PaddingLayer(((1, 0), (2, 3)), value=-1.5)],
}


@pytest.mark.parametrize("opset", [13, 17, 20, 24])
@pytest.mark.parametrize("layers", OURS.values(), ids=OURS)
def test_our_branches_are_written_and_read_back(layers, opset):
    model = Sequential([InputLayer((8, 11, 3), scale=0.5), *layers]).build(0)
    for layer in model.layers:
        draw_params(layer)
    x = np.random.default_rng(0).normal(size=(2, 8, 11, 3)).astype(np.float32)
    file = to_onnx(model, opset=opset)
    exact, spread = exact_and_spread(model.layers, x)
    y = channels_last(reference(file, channels_first(x)))
    assert (np.abs(y - exact) <= 2 * spread + 4 * EPS).all()
    back = from_onnx(file)
    assert (np.abs(back.predict(x) - model.predict(x)) <= 2 * spread).all()
    assert [type(layer) for layer in back.layers if not isinstance(layer, FlatteningLayer)] == [
        type(layer) for layer in model.layers if not isinstance(layer, FlatteningLayer)
    ]


@pytest.mark.parametrize("opset", [13, 14, 20, 24])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_activation_is_written_and_read_back_to_the_bit(function, opset):
    settings = {"leaky_relu": {"negative_slope": 0.25}, "elu": {"alpha": 0.5}}.get(function, {})
    model = Sequential([InputLayer((4, 5, 3)), ActivationLayer(function, **settings)]).build(0)
    x = 3 * drawn(2, 4, 5, 3)
    back = from_onnx(to_onnx(model, opset=opset))
    assert back.layers == model.layers
    assert same_bits(back.predict(x), model.predict(x))


def test_names_say_in_which_branch_a_node_lies():
    names = [node.name for node in to_onnx(Sequential([InputLayer((8, 11, 3)), *OURS["nested"]]).build(0)).graph.node]
    assert names[0] == "parallel_1/branch_1/conv_1/Conv_1"
    assert "parallel_1/branch_2/parallel_1/Concat_5" in names
    assert "parallel_1/Add_6" in names
