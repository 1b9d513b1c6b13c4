"""Operators on constants give what ONNX's reference implementation gives."""

import numpy as np
import pytest
from onnx_graphs import drawn

from framecnn.interop.onnx_constants import LARGEST_FOLDED, Folding

onnx = pytest.importorskip("onnx")
evaluator = pytest.importorskip("onnx.reference")

SHAPE = np.array([5, -3, 7, 2])
MAPS = drawn(1, 3, 1, 4)


def numbers(*values):
    """Integers as ONNX stores sizes."""
    return np.array(values, np.int64)


CASES = {
    "Add": ("Add", {}, [MAPS, drawn(3, 1, 1)]),
    "Sub": ("Sub", {}, [SHAPE, numbers(2)]),
    "Mul": ("Mul", {}, [SHAPE, SHAPE]),
    "Div": ("Div", {}, [MAPS, drawn(4)]),
    "Div of integers": ("Div", {}, [SHAPE, numbers(2)]),
    "Div by negative integers": ("Div", {}, [SHAPE, numbers(-2)]),
    "Neg": ("Neg", {}, [MAPS]),
    "Sqrt": ("Sqrt", {}, [MAPS**2]),
    "Cast to floats": ("Cast", {"to": 1}, [SHAPE]),
    "Cast to integers": ("Cast", {"to": 7}, [MAPS * 9]),
    "Concat": ("Concat", {"axis": 0}, [SHAPE, numbers(1)]),
    "Concat along the last": ("Concat", {"axis": -1}, [MAPS, MAPS]),
    "ConstantOfShape": ("ConstantOfShape", {}, [numbers(2, 3)]),
    "ConstantOfShape of ones": ("ConstantOfShape", {"value": numbers(1)}, [numbers(4)]),
    "Gather": ("Gather", {"axis": 1}, [MAPS, numbers(2, -1)]),
    "Gather of one": ("Gather", {}, [SHAPE, np.array(1)]),
    "Reshape": ("Reshape", {}, [MAPS, numbers(0, -1)]),
    "Reshape of zero": ("Reshape", {"allowzero": 1}, [MAPS[:0], numbers(0, 3)]),
    "Slice": ("Slice", {}, [SHAPE, numbers(1), numbers(9)]),
    "Slice backwards": ("Slice", {}, [SHAPE, numbers(-1), numbers(np.iinfo(np.int64).min), numbers(0), numbers(-1)]),
    "Slice along an axis": ("Slice", {}, [MAPS, numbers(0), numbers(-1), numbers(-1), numbers(2)]),
    "Squeeze": ("Squeeze", {}, [MAPS]),
    "Squeeze of axes": ("Squeeze", {}, [MAPS, numbers(2)]),
    "Transpose": ("Transpose", {}, [MAPS]),
    "Transpose in an order": ("Transpose", {"perm": [0, 2, 3, 1]}, [MAPS]),
    "Unsqueeze": ("Unsqueeze", {}, [SHAPE, numbers(0, -1)]),
}
OLDER = {
    "Slice": ("Slice", {"starts": [1], "ends": [3]}, [SHAPE]),
    "Slice along an axis": ("Slice", {"starts": [1], "ends": [9], "axes": [1]}, [MAPS]),
    "Squeeze": ("Squeeze", {"axes": [0, 2]}, [MAPS]),
    "Unsqueeze": ("Unsqueeze", {"axes": [1]}, [SHAPE]),
}


def wanted(operator, settings, inputs, opset):
    """What ONNX's reference implementation gives."""
    names = [f"i{place}" for place in range(len(inputs))]
    stored = {
        name: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for name, value in settings.items()
    }
    node = onnx.helper.make_node(operator, names, ["y"], **stored)
    types = [onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for value in inputs]
    ports = [
        onnx.helper.make_tensor_value_info(name, kind, value.shape)
        for name, kind, value in zip(names, types, inputs, strict=True)
    ]
    graph = onnx.helper.make_graph([node], "test", ports, [onnx.helper.make_empty_tensor_value_info("y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    return evaluator.ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.parametrize(
    ("case", "opset"),
    [(case, 18) for case in CASES.values()] + [(case, 9) for case in OLDER.values()],
    ids=[*CASES, *(f"{name} of opset 9" for name in OLDER)],
)
def test_a_constant_is_what_onnx_says(case, opset):
    given, right = Folding().folded(*case), wanted(*case, opset)
    assert (given.dtype, given.shape) == (right.dtype, right.shape)
    assert (given == right).all()


def test_only_so_many_values_are_computed():
    folding = Folding()
    part = np.zeros(LARGEST_FOLDED // 4 + 1, bool)
    for _ in range(3):
        folding.folded("Neg", {}, [part.astype(np.int8)])
        folding.folded("Transpose", {}, [part])  # a view, which takes no memory
    with pytest.raises(ValueError, match="expected at most 16,777,216 values computed from constants"):
        folding.folded("Cast", {"to": 1}, [part])
