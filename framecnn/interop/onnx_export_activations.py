"""Activation functions as ONNX operators."""

import math

import numpy as np

from framecnn.interop.onnx_export_graph import Graph
from framecnn.layers import ActivationLayer

__all__ = ["add_activation"]

OPERATORS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softplus": "Softplus"}


def add_activation(graph: Graph, layer: ActivationLayer, x: str) -> str:
    """Add the nodes of a built activation to a graph, and return the name of its output.

    Functions that the graph's opset does not have yet are written as the operators that define them.

    Examples
    --------
    >>> graph = Graph(opset=13)
    >>> add_activation(graph, ActivationLayer("hard_swish").build((3,)), "x")
    'network/Mul_2'
    """
    match layer.function:
        case "softmax":
            return graph.add("Softmax", x, axis=1 if len(layer.input_shape) == 3 else -1)
        case "leaky_relu":
            return graph.add("LeakyRelu", x, alpha=layer.negative_slope)
        case "sqrt":
            return graph.add("Sqrt", graph.add("Relu", x))
        case "relu6":
            return graph.add("Clip", x, *(graph.constant(np.float32(limit)) for limit in (0, 6)))
        case "hard_sigmoid":
            return _hard_sigmoid(graph, x)
        case "hard_swish":
            return graph.add("HardSwish", x) if graph.opset >= 14 else graph.add("Mul", x, _hard_sigmoid(graph, x))
        case "silu":
            return graph.add("Mul", x, graph.add("Sigmoid", x))
        case "gelu":
            return graph.add("Gelu", x) if graph.opset >= 20 else _gelu(graph, x)
        case "elu":
            return graph.add("Elu", x, alpha=layer.alpha)
        case function:
            return graph.add(OPERATORS[function], x)


def _hard_sigmoid(graph: Graph, x: str) -> str:
    return graph.add("HardSigmoid", x, alpha=1 / 6, beta=0.5)


def _gelu(graph: Graph, x: str) -> str:
    root, one, half = (graph.constant(np.float32(number)) for number in (math.sqrt(2), 1, 0.5))
    doubled = graph.add("Add", graph.add("Erf", graph.add("Div", x, root)), one)
    return graph.add("Mul", graph.add("Mul", x, half), doubled)
