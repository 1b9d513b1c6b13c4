"""Import of ONNX files as networks."""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framecnn.errors import FormatError
from framecnn.interop.onnx_chain import Chain, Layout, Operator
from framecnn.interop.onnx_graph import FileGraph, Node, read_graph
from framecnn.interop.onnx_import_operators import EITHER_SIDE, OPERATORS, VALUE_BY_VALUE, reshaped_rank
from framecnn.interop.onnx_layout import Flattened
from framecnn.interop.onnx_library import load_onnx
from framecnn.interop.onnx_patterns import with_whole_functions
from framecnn.interop.series_parallel import Chain as Steps
from framecnn.interop.series_parallel import Merge, decompose
from framecnn.layers import InputLayer
from framecnn.networks.sequential import Sequential
from framecnn.text import shortened

__all__ = ["ReadNetwork", "from_onnx", "read_network"]

MERGES = {"Add": "add", "Concat": "concatenate", "Mul": "multiply", "Sum": "add"}
"""Operators at which branches meet, and what that is called in a ParallelLayer."""


def from_onnx(model: Any) -> Sequential:
    """Return the network of an ONNX file, with its weights.

    The graph must be series-parallel: its operators stand one after the other, and branches that separate at a value
    meet again at one Add, Sum, Mul or Concat, inside others or not. They become a ParallelLayer. Read are:

    * Conv, MaxPool, AveragePool, global pooling, ReduceMean and ReduceMax over all pixels, Pad with a constant value;
    * Gemm and MatMul with stored weights, BatchNormalization, additions and multiplications of one stored number per
      channel;
    * Relu, LeakyRelu, Clip from 0 to 6, Sigmoid, HardSigmoid, HardSwish, Swish, Gelu, Elu, Softplus, Tanh and Softmax,
      also where swish, hard swish and gelu are written as several operators;
    * Flatten, and Reshape, Squeeze, Unsqueeze and Transpose where they flatten, give maps of one pixel other axes, or
      turn channels first into channels last;
    * Dropout, which is dropped, Identity, operators on constants and on shapes, and all that
      :func:`framecnn.interop.onnx_export.to_onnx` writes for networks without filter banks and maxima of uneven cells.

    Frames must have fixed sizes; the batch may have any. PyTorch writes such files, with and without ``dynamo=True``.

    Frames and maps become channels last: if the file takes (n, c, h, w), the network takes (n, h, w, c), and weights
    after a flattening are reordered to match. The output of a network that ends flattened is in framecnn's order.

    Parameters
    ----------
    model : path or onnx.ModelProto

    Returns
    -------
    Sequential
        Built, of the dtype of the file's input, float32 or float64.

    Raises
    ------
    FormatError
        If the file is damaged or not an ONNX model, or has an operator or setting without an equivalent, which the
        message names.
    OSError
        If it cannot be read.
    MissingExtraError
        If onnx is not installed.

    Notes
    -----
    Automatic padding with the odd pixel first (SAME_LOWER), and a number of windows that is rounded up (ceil_mode),
    become explicit padding. A border of zeros becomes padding of the convolution after it. Averages that count the
    padding become convolutions. A concatenation that begins like an earlier one is read as that one and the rest, as in
    densely connected networks.

    Examples
    --------
    >>> from framecnn import DenseLayer, InputLayer
    >>> from framecnn.interop.onnx_export import to_onnx
    >>> from_onnx(to_onnx(Sequential([InputLayer((2,)), DenseLayer(1)]).build())).names
    ('input_1', 'dense_1')
    """
    onnx = load_onnx("from_onnx")
    who = "from_onnx"
    if not isinstance(model, onnx.ModelProto):
        path = Path(model)
        who, model = path.name, _parsed(onnx, path)
    return read_network(model, who).network


@dataclass(frozen=True)
class ReadNetwork:
    """A network from a file, and how the file lays out its input and its output.

    Attributes
    ----------
    network : Sequential
    input_layout, output_layout : "channels_first" or "channels_last"
        Of frames or maps.
    flattened : tuple of shapes
        From which the output was flattened, if it is rows whose values ONNX orders differently.
    """

    network: Sequential
    input_layout: Layout
    output_layout: Layout
    flattened: Flattened


def read_network(model: Any, who: str) -> ReadNetwork:
    """Return the network of an onnx.ModelProto, and its layouts.

    Parameters
    ----------
    model : onnx.ModelProto
    who : str
        The first word of error messages.

    Raises
    ------
    FormatError
        As in :func:`from_onnx`.
    """
    onnx = load_onnx("from_onnx")
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # of many classes, raised in C++
        raise FormatError(f"{who}: expected a valid ONNX model, got an invalid one ({shortened(error)})") from error
    try:
        return _read(with_whole_functions(read_graph(onnx, model)))
    except ValueError as error:
        raise FormatError(f"{who}: {shortened(error)}") from error


def _parsed(onnx: Any, path: Path) -> Any:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would block
        raise FormatError(f"{path.name}: expected an ONNX file, got a folder or a device; name the file")
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's own
        raise FormatError(f"{path.name}: expected an ONNX file, got another file or a damaged one") from error


def _read(graph: FileGraph) -> ReadNetwork:
    _check_nodes(graph)
    steps = _steps(graph)
    layout: Layout = "channels_last" if _begins_channels_last(steps) else "channels_first"
    sizes = graph.sizes or (1,)
    first = len(sizes) == 3 and layout == "channels_first"
    chain = Chain((*sizes[1:], sizes[0]) if first else sizes, layout)
    chain.append(InputLayer(chain.shape))
    _Reader(graph).read(chain, steps, becomes_maps=False)
    if chain.layout == "half squeezed":
        chain.reshape((chain.shape[2],), becomes_maps=False)
    return ReadNetwork(chain.model(graph.dtype), layout, chain.layout, chain.flattened)


def _steps(graph: FileGraph) -> Steps:
    """Return the nodes and merges from the input to the output."""
    if graph.input == graph.output:
        return ()
    source = graph.input
    producers: dict[str, Any] = {source: source} | {node.outputs[0]: node for node in graph.nodes}
    inputs = {node: [producers[name] for name in graph.computed(node)] for node in graph.nodes}
    return decompose(inputs, source, producers[graph.output], [node for node in inputs if node.operator == "Concat"])


def _check_nodes(graph: FileGraph) -> None:
    """Raise ValueError unless every node has an equivalent, for one computed value or for several that meet in it."""
    made = {graph.input} | {node.outputs[0] for node in graph.nodes}
    used = {name for node in graph.nodes for name in node.inputs} | {graph.output}
    for node in graph.nodes:
        computed = graph.computed(node)
        if node.operator not in OPERATORS:
            problem = "framecnn has no equivalent layer"
        elif not graph.sizes and node.operator not in VALUE_BY_VALUE:
            problem = "expected frames (n, c, h, w) or rows (n, d) as input, got a list of numbers"
        elif used.intersection(node.outputs[1:]):
            problem = "expected one used output, got several"
        elif not computed:
            problem = "expected an input that depends on the network's input, got stored weights only"
        elif len(computed) > 1 and node.operator not in MERGES:
            problem = f"expected weights that the file holds, got the computed value {computed[-1]!r}"
        elif 1 < len(computed) < len(node.inputs):
            problem = "expected computed values only, got one that the file holds"
        elif node.operator not in EITHER_SIDE and node.inputs[0] != computed[0]:
            problem = f"expected the computed value first and weights after it, got {computed[0]!r} after weights"
        else:
            continue
        raise ValueError(f"cannot take {node}: {problem}")
    if graph.output not in made:
        raise ValueError(f"expected an output that depends on the input, got {graph.output!r}")


def _begins_channels_last(steps: Steps) -> bool:
    """Return whether the first operator that depends on the order of axes turns (n, h, w, c) into (n, c, h, w)."""
    for step in steps:
        if not isinstance(step, Node) or step.operator not in VALUE_BY_VALUE | EITHER_SIDE:
            break
    else:
        return False
    return isinstance(step, Node) and step.operator == "Transpose" and step.settings.get("perm") == [0, 3, 1, 2]


class _Reader:
    """The conversion of decomposed graphs to layers."""

    def __init__(self, graph: FileGraph):
        self._graph = graph

    def read(self, chain: Chain, steps: Steps, becomes_maps: bool) -> None:
        """Add the layers of steps to a chain; `becomes_maps` says whether rows at its end become maps again."""
        for step, again in zip(steps, self._become_maps(steps, becomes_maps), strict=True):
            node: Any = step.node if isinstance(step, Merge) else step
            try:
                if isinstance(step, Merge):
                    self._read_merge(chain, _with_joined_branches(step), again)
                else:
                    OPERATORS[node.operator](chain, self._operator(node, again))
            except _NamedError:
                raise
            except ValueError as error:
                raise _NamedError(f"cannot take {node}: {error}") from error

    def _read_merge(self, chain: Chain, merge: Merge, becomes_maps: bool) -> None:
        branches = [chain.branch() for _ in merge.branches]
        for branch, steps in zip(branches, merge.branches, strict=True):
            self.read(branch, steps, becomes_maps)
        node: Any = merge.node
        if node.operator == "Concat":
            axis, rank = node.settings["axis"], branches[0].rank
            if axis % rank != branches[0].channel_axis:
                raise ValueError(f"expected channels or features concatenated, got axis {axis} of {rank}")
        chain.merge(MERGES[node.operator], branches)

    def _operator(self, node: Node, becomes_maps: bool) -> Operator:
        (computed,) = self._graph.computed(node)
        place = node.inputs.index(computed)
        weights = [self._graph.constants.get(name) for name in (*node.inputs[:place], *node.inputs[place + 1 :])]
        return Operator(node.settings, weights, place == 0, self._graph.opset, self._graph.batch, becomes_maps)

    def _become_maps(self, steps: Steps, at_end: bool) -> list[bool]:
        """Return for each step whether rows after it become maps again before other maps become rows."""
        found, answers = at_end, []
        for step in reversed(steps):
            answers.append(found)
            if isinstance(step, Node):
                weights = [self._graph.constants.get(name) for name in step.inputs[1:]]
                rank = reshaped_rank(step.operator, weights, step.settings.get("keepdims", 1))
                found = found if rank is None else rank == 4
        return answers[::-1]


def _with_joined_branches(merge: Merge) -> Merge:
    """Return a merge of the branches of both, if the first branch is only a merge of the same kind: (a + b) + c."""
    node: Any = merge.node
    first = merge.branches[0]
    if len(first) == 1 and isinstance(inner := first[0], Merge):
        other: Any = inner.node
        if MERGES[other.operator] == MERGES[node.operator] and other.settings == node.settings:
            joined = _with_joined_branches(inner).branches
            return Merge(node, (*joined, *merge.branches[1:]))
    return merge


class _NamedError(ValueError):
    """An error that names its node already."""
