"""Small ONNX models for tests: operators one after the other."""

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
