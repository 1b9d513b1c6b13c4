"""Import of ONNX files as networks."""

import stat
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.errors import FormatError
from framecnn.interop.onnx_import_operators import OPERATORS, VALUE_BY_VALUE, Chain, Operator
from framecnn.interop.onnx_library import FLOATS, load_onnx
from framecnn.networks.sequential import Sequential
from framecnn.text import shortened
from framecnn.typing import Array, Shape

__all__ = ["from_onnx", "read_network"]

DOMAINS = ("", "ai.onnx")  # two names of ONNX's own operators
OLDEST_OPSET = 6  # the first with broadcasting and shapes much like today's


def from_onnx(model: Any) -> Sequential:
    """Return the network of an ONNX file, with its weights.

    The graph must be a chain of operators that framecnn has: Conv, BatchNormalization, Relu, LeakyRelu, Sigmoid, Tanh,
    Softmax, MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool, ReduceMax and ReduceMean over all pixels, Flatten,
    Reshape to rows, Gemm, MatMul, Add of a bias, Identity, Dropout (which is dropped), a multiplication or division by
    one number right after the input, and all that :func:`framecnn.interop.onnx_export.to_onnx` writes. Frames must have
    fixed sizes. PyTorch writes such files, with and without ``dynamo=True``.

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
    become explicit padding. Averages that count the padding become convolutions.

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
    return read_network(model, who)[0]


def read_network(model: Any, who: str) -> tuple[Sequential, Shape | None]:
    """Return the network of an onnx.ModelProto, and the shape that its output was flattened from.

    Parameters
    ----------
    model : onnx.ModelProto
    who : str
        The first word of error messages.

    Returns
    -------
    network : Sequential
    flattened : (int, int, int) or None
        The (h, w, c) of the maps if the output is rows flattened from maps, whose values ONNX orders differently.

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
        chain, dtype = _walk(onnx, model)
        return chain.model(dtype), chain.flattened
    except ValueError as error:
        raise FormatError(f"{who}: {shortened(error)}") from error


def _parsed(onnx: Any, path: Path) -> Any:
    if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would block
        raise FormatError(f"{path.name}: expected an ONNX file, got a folder or a device; name the file")
    try:
        return onnx.load_model_from_string(path.read_bytes())
    except Exception as error:  # protobuf's own
        raise FormatError(f"{path.name}: expected an ONNX file, got another file or a damaged one") from error


def _walk(onnx: Any, model: Any) -> tuple[Chain, np.dtype]:
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}
    ports = [port for port in graph.input if port.name not in stored]
    if (len(ports), len(graph.output)) != (1, 1):
        raise ValueError(f"expected one input and one output, got {len(ports)} and {len(graph.output)}")
    opset = max((entry.version for entry in model.opset_import if entry.domain in DOMAINS), default=0)
    if opset < OLDEST_OPSET:
        raise ValueError(f"expected opset {OLDEST_OPSET} or newer, got {opset}; use onnx.version_converter")
    dtype, shape, batch = _port(ports[0])
    weights = {tensor.name: _array(onnx, tensor) for tensor in graph.initializer}
    used = {value for node in graph.node for value in node.input} | {graph.output[0].name}
    chain, name = Chain(shape or (1,)), ports[0].name
    for node in graph.node:
        settings = {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
        try:
            if node.op_type == "Constant":
                weights[node.output[0]] = _constant(onnx, settings)
            else:
                _check_operator(node, shape, used)
                OPERATORS[node.op_type](chain, Operator(settings, _weights(node, name, weights), opset, batch))
                name = node.output[0]
        except ValueError as error:
            called = f"{node.op_type} {node.name!r}" if node.name else node.op_type
            raise ValueError(f"cannot take {called}: {error}") from error
    if graph.output[0].name != name:
        raise ValueError(f"expected the last value as output, got {graph.output[0].name!r}")
    return chain, dtype


def _check_operator(node: Any, shape: Shape, used: set[str]) -> None:
    if node.domain not in DOMAINS or node.op_type not in OPERATORS:
        raise ValueError("framecnn has no equivalent layer")
    if not shape and node.op_type not in VALUE_BY_VALUE:
        raise ValueError("expected frames (n, c, h, w) or rows (n, d) as input, got a list of numbers")
    if used.intersection(node.output[1:]):
        raise ValueError("expected one used output, got several")


def _weights(node: Any, name: str, weights: dict[str, Array]) -> list[Array | None]:
    """Return the inputs of a node other than the value called `name`, which must be weights."""
    inputs = list(node.input)
    if name not in (inputs if node.op_type in ("Add", "Mul") else inputs[:1]):
        raise ValueError("expected a chain, in which the input of every operator is the output of the previous one")
    inputs.remove(name)
    computed = [other for other in inputs if other and other not in weights]
    if computed:
        raise ValueError(f"expected weights that the file holds, got the computed value {computed[0]!r}")
    return [weights.get(other) for other in inputs]


def _port(value: Any) -> tuple[np.dtype, Shape, int | None]:
    """Return dtype, shape without the batch (empty for a vector), and batch size of the input."""
    kind = value.type.tensor_type
    if kind.elem_type not in FLOATS:
        raise ValueError(f"expected float32 or float64 as input {value.name!r}, got numbers of type {kind.elem_type}")
    batch, *sizes = [dimension.dim_value for dimension in kind.shape.dim] or [0]
    if not all(size > 0 for size in sizes) or not kind.shape.dim:
        raise ValueError(f"expected input {value.name!r} of fixed sizes after the batch, got {sizes}")
    shape = (*sizes[1:], sizes[0]) if len(sizes) == 3 else tuple(sizes)
    return FLOATS[kind.elem_type], shape, batch or None


def _array(onnx: Any, tensor: Any) -> Array:
    """Return a stored weight; raise ValueError if it is in another file or not a number."""
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ValueError(f"expected weights in the file, got {tensor.name!r} in another file; save it as one file")
    array = onnx.numpy_helper.to_array(tensor)
    if array.dtype not in FLOATS.values() and array.dtype.kind not in "ib":
        raise ValueError(f"expected weights of float32 or float64, got {tensor.name!r} of {array.dtype}")
    if not np.isfinite(array).all():
        raise ValueError(f"expected finite weights, got NaN or infinity in {tensor.name!r}")
    return array


def _constant(onnx: Any, settings: dict[str, Any]) -> Array:
    match settings:
        case {"value": tensor}:
            return _array(onnx, tensor)
        case {"value_float": number} | {"value_floats": number}:
            return np.asarray(number, np.float32)
        case {"value_int": number} | {"value_ints": number}:
            return np.asarray(number, np.int64)
    raise ValueError(f"expected numeric constants, got {', '.join(settings)}")
