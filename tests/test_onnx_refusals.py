"""Errors name what cannot be imported from ONNX, and damaged or hostile files do no harm."""

import os
import sys

import numpy as np
import pytest
from onnx_graphs import CHAIN, FRAME, chain, drawn, graph, node
from refusals import little_memory

from framecnn import FilterBankLayer, FormatError, FrameClassifier, InputLayer, MissingExtraError, Sequential
from framecnn.interop.onnx_export import to_onnx
from framecnn.interop.onnx_import import from_onnx

onnx = pytest.importorskip("onnx")


UNTAKEN = {
    "Selu": ([node("Selu")], "cannot take Selu 'Selu_0': framecnn has no equivalent layer"),
    "auto_pad": ([node("Conv", drawn(1, 3, 2, 2), auto_pad="SAME")], "expected auto_pad NOTSET, VALID, SAME_UPPER or "),
    "kernel_shape": ([node("Conv", drawn(1, 3, 2, 2), kernel_shape=[3, 3])], "kernel_shape equal to the kernel's"),
    "rows of pixels": (
        [node("Mul", drawn(9, 11))],
        r"expected one number, or one per channel, \(1, 3, 1, 1\), got \(9, 11\)",
    ),
    "more axes": ([node("Add", drawn(1, 1, 3, 1, 1))], r"one per channel, \(1, 3, 1, 1\), got \(1, 1, 3, 1, 1\)"),
    "infinite factors": (
        [node("Mul", drawn(3, 1, 1)), node("Mul", np.full((3, 1, 1), 3e38, np.float32))] * 2,
        "finite f",
    ),
    "limits": ([node("Clip", np.float32(-1), np.float32(1))], "expected limits 0 and 6, or 0 alone, got -1 and 1"),
    "least": ([node("Min", np.float32(6))], "expected the minimum of 6 and a value right after Relu"),
    "most": ([node("Max", np.float32(1))], "expected the maximum of a value and 0"),
    "tanh form": ([node("Gelu", approximate="tanh")], "expected the exact gelu, got an approximate one", 20),
    "swish": ([node("Swish", alpha=2.0)], "expected alpha 1, got 2.0", 24),
    "reflection": (
        [node("Pad", np.array([0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect")],
        "expected a border of a constant value, got mode 'reflect'",
    ),
    "channels padded": (
        [node("Pad", np.array([0, 1, 0, 0, 0, 1, 0, 0]))],
        r"expected a border around rows and columns, axes 2 and 3, got \[1\]",
    ),
    "cropping": ([node("Pad", np.array([0, 0, -1, 0, 0, 0, 0, 0]))], "PaddingLayer: expected padding .* pixels, got "),
    "part of a frame": (
        [node("Slice", *map(np.array, ([2, 2], [8, 8], [2, 3], [1, 1])))],
        "expected every so many rows and columns of maps, from the first on",
    ),
    "mirrored": (
        [node("Slice", *map(np.array, ([-1], [-99], [3], [-1])))],
        r"with starts, ends, axes \[2, 3\] and steps",
    ),
    "the batch squeezed": (
        [node("Squeeze", np.array([0]))],
        r"expected axes of size 1 after the batch removed, got axes \[0\]",
    ),
    "another batch": ([node("Unsqueeze", np.array([0]))], "expected axes added after the batch, got one before it"),
    "five axes": ([node("Unsqueeze", np.array([2]))], r"a reshape to rows, \(n, 297\), got \[-1, 3, 1, 9, 11\]"),
    "transposed": (
        [node("Transpose", perm=[0, 1, 3, 2])],
        r"expected \(n, c, h, w\) turned into \(n, h, w, c\) or back, got perm \[0, 1, 3, 2\]",
    ),
    "channels last": (
        [node("Relu"), node("Transpose", perm=[0, 2, 3, 1]), node("GlobalMaxPool")],
        r"expected maps \(n, c, h, w\), got maps \(n, h, w, c\)",
    ),
    "joined with weights": (
        [node("Concat", drawn(1, 3, 9, 11), axis=1)],
        "computed values only, got one that the file",
    ),
    "root": ([node("Sqrt")], "expected Relu before it, as negative values have no root"),
    "softmax": (
        [node("Softmax", axis=3)],
        r"expected softmax along the channels of maps or along rows, got axis 3 of 4",
    ),
    "axis": ([node("Flatten", axis=2)], "all axes after the batch flattened, axis 1, got 2 of 4 axes"),
    "reshape": ([node("Reshape", np.array([-1, 9, 33]))], r"expected a reshape to rows, \(n, 297\), got \[-1, 9, 33\]"),
    "reshape to nothing": ([node("Reshape", np.array([0, 297]), allowzero=1)], r"expected a reshape to rows, .* \[0, "),
    "mean of rows": (
        [node("ReduceMean", axes=[2])],
        r"expected all pixels of maps reduced, axes 2 and 3, got axes \[2\]",
    ),
    "mean of all": ([node("ReduceMean")], "expected all pixels of maps reduced, axes 2 and 3, got axes none"),
    "mean of frames": ([node("ReduceMean", axes=[0, 2, 3])], r"axes 2 and 3, got axes \[0, 2, 3\]"),
    "mean of numbers": ([node("Flatten"), node("ReduceMean", axes=[1])], r"expected maps \(n, c, h, w\), got 2 axes"),
    "division by zero": ([node("Div", np.float32(0))], "expected a divisor other than 0"),
    "order": (
        [node("Flatten"), node("Gather", np.arange(297), axis=1)],
        "indices that reorder flattened maps",
    ),
    "rows": ([node("MatMul", drawn(11, 2))], r"expected rows \(n, d\), got 4 axes; flatten them first"),
    "products": (
        [node("Flatten"), node("MatMul", drawn(1, 297, 2))],
        r"expected weights \(297, units\), got \(1, 297,",
    ),
    "infinite product": (
        [node("Flatten"), node("Gemm", np.full((297, 1), 1e30, np.float32), alpha=1e30)],
        r"expected finite weights, got .*e\+30 times weights up to 1.*e\+30",
    ),
    "map of biases": (
        [node("Conv", drawn(1, 3, 1, 1)), node("Add", drawn(1, 9, 11))],
        r"expected one number, or one per channel, \(1, 1, 1, 1\), got \(1, 9, 11\)",
    ),
    "normalisation": (
        [node("BatchNormalization", *[np.ones(3, np.float32)] * 4, training_mode=0, epsilon=0.0)],
        "BatchNormLayer: expected epsilon as a positive number",
    ),
    "edges": (
        [node("AveragePool", kernel_shape=[3, 3], strides=[3, 3], pads=[1] * 4, ceil_mode=1, count_include_pad=1)],
        "expected count_include_pad without ceil_mode",
    ),
    "wide border": (
        [node("MaxPool", kernel_shape=[2, 2], pads=[2, 2, 2, 2])],
        "cannot take MaxPool 'MaxPool_0': PoolingLayer: expected every window to meet the frame",
    ),
    "dropout": (
        [node("Dropout", np.float32(0.5), np.array(True))],
        "expected dropout at inference, got training mode",
    ),
}


@pytest.mark.parametrize("case", UNTAKEN.values(), ids=UNTAKEN)
def test_what_cannot_be_taken_is_named(case):
    nodes, reason, *opset = case
    model = chain(*nodes, opset=opset[0] if opset else 17)
    with pytest.raises(FormatError, match=reason) as error:
        from_onnx(model)
    assert str(error.value).startswith("from_onnx: cannot take ")
    assert "\n" not in str(error.value)


def test_graphs_of_other_inputs_opsets_and_axes_are_refused():
    for shape, number, reason in (
        (["h", 9, 9], np.float32, r"expected input 'x' of fixed sizes after the batch, got \[0, 9, 9\]"),
        (FRAME, np.int32, "expected float32 or float64 as input 'x', got numbers of type 6"),
    ):
        with pytest.raises(FormatError, match=reason):
            from_onnx(chain(node("Identity"), shape=shape, number=number))
    old = chain(node("Relu"), opset=6)
    old.opset_import[0].version = 5
    with pytest.raises(FormatError, match="expected opset 6 or newer, got 5"):
        from_onnx(old)
    with pytest.raises(FormatError, match=r"cannot take Softmax .*got a list of numbers"):
        from_onnx(chain(node("Softmax"), shape=[]))
    with pytest.raises(FormatError, match="maps or rows"):
        from_onnx(chain(node("BatchNormalization", *[np.ones(3, np.float32)] * 4), shape=[3, 5]))
    with pytest.raises(FormatError, match=r"expected maps \(n, c, h, w\), got 3 axes"):
        from_onnx(chain(node("GlobalMaxPool"), shape=[3, 5]))
    with pytest.raises(FormatError, match=r"expected maps \(n, c, h, w\), got 5 axes"):
        from_onnx(chain(node("MaxPool", kernel_shape=[2, 2, 2]), shape=[3, 5, 5, 5]))


def test_a_weight_that_is_left_out_is_refused():
    model = chain(node("ReduceMean", np.array([2, 3])), opset=18)
    model.graph.node[0].input[1] = ""
    del model.graph.value_info[:]
    model.graph.output[0].CopyFrom(onnx.helper.make_empty_tensor_value_info("v0"))
    with pytest.raises(FormatError, match=r"cannot take ReduceMean .*: expected weights .* got none"):
        from_onnx(onnx.shape_inference.infer_shapes(model))


def test_normalisation_of_other_channels_is_refused():
    nodes = [node("Flatten"), node("BatchNormalization", *[np.ones(3, np.float32)] * 4)]
    with pytest.raises(FormatError, match="expected 297 numbers each of scale, bias, mean and variance"):
        from_onnx(chain(*nodes, opset=8))


def test_a_graph_of_several_inputs_or_outputs_is_refused():
    early = chain(node("Relu"), node("Relu"))
    early.graph.output[0].name = "v0"
    assert from_onnx(early).names == ("input_1", "activation_1"), "what the output does not need is left out"
    early.graph.output.append(chain(node("Relu"), node("Relu")).graph.output[0])
    with pytest.raises(FormatError, match="expected one input and one output, got 1 and 2"):
        from_onnx(early)
    places = chain(node("MaxPool", kernel_shape=[2, 2]))
    places.graph.node[0].output.append("places")
    assert from_onnx(places).names == ("input_1", "pooling_1")
    places.graph.node.append(onnx.helper.make_node("Identity", ["places"], ["end"]))
    places.graph.output[0].CopyFrom(onnx.helper.make_empty_tensor_value_info("end"))
    places = onnx.shape_inference.infer_shapes(places)
    with pytest.raises(FormatError, match=r"cannot take MaxPool .*expected one used output, got several"):
        from_onnx(places)


def test_filter_banks_and_classifiers_are_refused():
    bank = Sequential([InputLayer((9, 9, 3)), FilterBankLayer(4, kernel_size=3)]).build()
    with pytest.raises(FormatError, match=r"from_onnx: cannot take Cast 'filter_bank_1/Cast_2'"):
        from_onnx(to_onnx(bank))
    vectors = np.random.default_rng(0).normal(size=(8, 3))
    classifier = FrameClassifier(random_state=0).fit(vectors, [0, 1] * 4)
    with pytest.raises(FormatError, match="from_onnx: expected one input and one output, got 1 and 3"):
        from_onnx(to_onnx(classifier))


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (np.array([1, np.nan], np.float32), "expected finite weights, got NaN or infinity in 'own'"),
        (np.ones(2, np.float16), "expected weights of float32 or float64, got 'own' of float16"),
        (np.array(["text"], object), "expected weights of float32 or float64, got 'own' of object"),
    ],
)
def test_weights_are_finite_numbers(weight, reason):
    model = chain(node("Relu"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "own"))
    with pytest.raises(FormatError, match=reason):
        from_onnx(model)


def test_no_other_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_bytes(bytes(48))
    model = chain(node("Conv", drawn(1, 3, 2, 2)))
    (tensor,) = model.graph.initializer
    onnx.external_data_helper.set_external_data(tensor, "secret")
    tensor.ClearField("raw_data")
    with pytest.raises(
        FormatError, match="expected weights in the file, got 'Conv_0_0' in another file; save it as on"
    ):
        from_onnx(model)


def test_a_constant_that_is_no_number_is_refused():
    model = chain(node("Relu"))
    model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["text"], value_string="text"))
    with pytest.raises(FormatError, match="cannot take Constant: expected numeric constants, got value_string"):
        from_onnx(model)


def test_a_few_bytes_never_ask_for_much_memory():
    huge = [node("Conv", drawn(1, 3, 1, 1), pads=[2**30, 0, 2**30, 0])]
    counted = [node("AveragePool", kernel_shape=[2**15, 2**15], pads=[2**15 - 9, 2**15 - 9, 0, 0], count_include_pad=1)]
    flat = [node("Flatten"), node("Softmax")]
    filled = graph("c = ConstantOfShape(huge); d = Gather(c, place0); y = Add(x, d)")
    models = [chain(*huge), chain(*counted), chain(*flat, shape=[2**20, 2**20, 3]), filled]
    for model in models:
        with (
            little_memory(),
            pytest.raises(FormatError, match=r"at most [\d,]+ values"),
        ):
            from_onnx(model)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def refusal(path):
    """The message for a file that cannot be read: one line that names it."""
    with pytest.raises(FormatError) as error:
        from_onnx(path)
    message = str(error.value)
    assert message.startswith("model.onnx: ")
    assert "\n" not in message
    assert len(message) < 450
    return message


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04pickle", bytes(100), b"\xff" * 100])
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    assert "expected a" in refusal(path)


def test_what_is_no_file_is_refused(path):
    os.mkfifo(path)
    assert "got a folder or a device" in refusal(path)
    with pytest.raises(FileNotFoundError):
        from_onnx(path.with_name("none"))


BRANCHES = (
    "a = Conv(x, p53); b = Relu(x); g = GlobalAveragePool(b); f = Flatten(g); u = Unsqueeze(f, axes23); m = Mul(u, b); "
    "c = Concat(a, m, x); s = Shape(c); n = Gather(s, place0); v = Unsqueeze(n, at0); t = Concat(v, minus1); "
    "y = Reshape(c, t)"
)


@pytest.mark.parametrize("model", [chain(*CHAIN), graph(BRANCHES)], ids=["chain", "branches"])
def test_a_damaged_file_is_refused_or_still_a_network(path, model):
    intact = model.SerializeToString()
    assert isinstance(from_onnx(model), Sequential)
    rng = np.random.default_rng(0)
    refused = 0
    for number in range(300):
        damaged = bytearray(intact)
        if number % 3:
            for place in rng.integers(0, len(intact), 3):
                damaged[place] = rng.integers(256)
        else:
            del damaged[rng.integers(len(intact)) :]
        path.write_bytes(damaged)
        try:
            assert isinstance(from_onnx(path), Sequential)
        except FormatError:
            refused += 1
    assert refused > 100


def test_without_onnx_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"from_onnx: .* pip install 'framecnn\[onnx\]'"):
        from_onnx("model.onnx")
