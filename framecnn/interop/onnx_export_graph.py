"""Nodes and weights of an ONNX graph that is written, as plain data."""

from typing import Any, NamedTuple

import numpy as np

from framecnn.interop.onnx_layout import Flattened
from framecnn.typing import Array

__all__ = ["Graph", "Node", "Value"]


class Node(NamedTuple):
    """An operator, the names of its inputs and of its output, and its attributes."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]


class Graph:
    """Nodes and weights in the order in which they are added. Every value has a name.

    Parameters
    ----------
    opset : int
        The version of ONNX's operators.

    Attributes
    ----------
    nodes : list of Node
    weights : dict of str to array
        Equal weights are stored once.
    scope : str
        The prefix of the names of nodes and weights.

    Examples
    --------
    >>> graph = Graph(opset=17)
    >>> graph.scope = "scaling"
    >>> graph.add("Mul", "x", graph.constant(np.float32(0.5)))
    'scaling/Mul_1'
    >>> graph.weights
    {'scaling/weight_1': array(0.5, dtype=float32)}
    """

    def __init__(self, opset: int):
        self.opset = opset
        self.scope = "network"
        self.nodes: list[Node] = []
        self.weights: dict[str, Array] = {}
        self._names: dict[Any, str] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = f"{self.scope}/{operator}_{len(self.nodes) + 1}"
        self.nodes.append(Node(operator, inputs, output, attributes))
        return output

    def name_last(self, name: str) -> None:
        """Rename the output of the last node, which no other node may use yet."""
        self.nodes[-1] = self.nodes[-1]._replace(output=name)

    def constant(self, value: Any) -> str:
        """Add a weight, integers as int64, and return its name."""
        array = np.ascontiguousarray(value).reshape(np.shape(value))
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._names:
            name = self._names[key] = f"{self.scope}/weight_{len(self.weights) + 1}"
            self.weights[name] = array
        return self._names[key]

    def reduce(self, operator: str, value: str, axis: int, keepdims: bool = False) -> str:
        """Add ``"ReduceSum"`` or ``"ReduceMin"`` along an axis and return the name of its output."""
        if operator == "ReduceSum" or self.opset >= 18:  # since opset 18 axes are an input
            return self.add(operator, value, self.constant([axis]), keepdims=int(keepdims))
        return self.add(operator, value, axes=[axis], keepdims=int(keepdims))


class Value(NamedTuple):
    """The name of a value, and the shapes from which it was flattened, if ONNX's order of its features differs."""

    name: str
    flattened: Flattened = ()
