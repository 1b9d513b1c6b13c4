"""Small ONNX models for tests: operators one after the other."""

import re

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

FRAME = (3, 9, 11)


def drawn(*shape):
    """Weights, the same for the same shape."""
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32)


def node(kind, *weights, **settings):
    """An operator on the value before it, and the weights beside that."""
    return kind, weights, settings


def chain(*nodes, shape=FRAME, opset=17, number=np.float32, batch="n"):
    """An ONNX model of operators one after the other, on inputs (batch, *shape)."""
    made, weights, value = [], [], "x"
    for place, (kind, beside, settings) in enumerate(nodes):
        names = [f"{kind}_{place}_{i}" for i in range(len(beside))]
        weights += [onnx.numpy_helper.from_array(array, name) for array, name in zip(beside, names, strict=True)]
        made.append(onnx.helper.make_node(kind, [value, *names], [f"v{place}"], f"{kind}_{place}", **settings))
        value = f"v{place}"
    number = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(number))
    port = onnx.helper.make_tensor_value_info("x", number, [batch, *shape])
    graph = onnx.helper.make_graph(made, "test", [port], [onnx.helper.make_empty_tensor_value_info(value)], weights)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8))


CHAIN = [
    node("Mul", np.float32(2)),
    node("Identity"),
    node("Conv", drawn(4, 3, 3, 3), drawn(4), pads=[1, 1, 1, 1]),
    node("BatchNormalization", drawn(4), drawn(4), drawn(4), drawn(4) ** 2, epsilon=0.01),
    node("LeakyRelu", alpha=0.2),
    node("Dropout"),
    node("GlobalAveragePool"),
    node("Tanh"),
    node("Flatten"),
    node("Gemm", drawn(4, 2)),
]
"""Operators of a small network, on FRAME."""


def graph(text, shape=FRAME, opset=17):
    """An ONNX model of statements such as ``a = Conv(x, k53); y = Relu(a)``, with the output y.

    Arguments that are neither values nor settings are drawn weights: ``k53`` a kernel of 5 filters of 3 x 3 pixels on 3
    channels, with a border, ``p53`` one of single pixels, ``w3x4`` a matrix, ``v3`` a list, ``c3`` one per channel.
    """
    made, weights, known = [], {}, {"x"}
    for statement in text.split("; "):
        output, kind, arguments = re.fullmatch(r"(\w+) = (\w+)\((.*)\)", statement).groups()
        inputs, settings = [], {"axis": 1} if kind in ("Concat", "Flatten") else {}
        for argument in arguments.split(", "):
            if argument in known:
                inputs.append(argument)
            elif argument in SETTINGS:
                settings |= SETTINGS[argument]
            elif kind == "MaxPool":
                settings |= {"kernel_shape": [int(argument)] * 2, "strides": [2, 2]}
            else:
                weights[argument] = stored(argument)
                inputs.append(argument)
                if argument.startswith("k"):
                    settings |= {"pads": [1, 1, 1, 1]}
        if kind == "Concat" and "minus1" in inputs:
            settings["axis"] = 0
        made.append(onnx.helper.make_node(kind, inputs, [output], output, **settings))
        known.add(output)
    port = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", *shape])
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    body = onnx.helper.make_graph(made, "test", [port], [onnx.helper.make_empty_tensor_value_info("y")], tensors)
    opsets = [onnx.helper.make_opsetid("", opset)]
    return onnx.shape_inference.infer_shapes(onnx.helper.make_model(body, opset_imports=opsets, ir_version=8))


SETTINGS = {
    "sixth": {"alpha": 1 / 6},
    "keepdims0": {"axes": [2, 3], "keepdims": 0},
    "pixels_last": {"axes": [1, 2], "keepdims": 0},
    "last": {"perm": [0, 2, 3, 1]},
    "first": {"perm": [0, 3, 1, 2]},
    "same": {"perm": [0, 1, 2, 3]},
    "axis0": {"axis": 0},
    "axis3": {"axis": 3},
    "to_text": {"to": 8},
    "to_int64": {"to": 7},
}
INTEGERS = {
    "border": [0, 0, 1, 2, 0, 0, 0, 3],
    "border0": [0] * 8,
    "border1": [0, 0, 1, 1, 0, 0, 1, 1],
    "border_last": [0, 1, 2, 0, 0, 0, 3, 0],
    "axes23": [2, 3],
    "at0": [0],
    "at2": [2],
    "at3": [3],
    "huge": [2**27],
    "minus1": [-1],
    "place0": 0,
    "to_n311": [-1, 3, 1, 1],
    "to_same": [0, 3, -1, 11],
}
NUMBERS = {"1/6": 1 / 6, "r2": 2**0.5, "h2": 0.5**0.5}


def stored(name):
    """A weight by its name."""
    if name in INTEGERS:
        return np.array(INTEGERS[name])
    if name in NUMBERS or re.fullmatch(r"[\d.]+", name):
        return np.float32(NUMBERS.get(name) or float(name))
    kind, sizes = name[0], [int(size) for size in re.findall(r"\d+" if "x" in name else r"\d", name[1:])]
    match kind:
        case "k" | "p":
            return drawn(*sizes, *((3, 3) if kind == "k" else (1, 1))) / 3
        case "c":
            return drawn(int(name[1:]), 1, 1)
        case "v":
            return drawn(int(name[1:]))
    return drawn(*sizes) / 5
