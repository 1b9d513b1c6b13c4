"""Networks to Keras and back: the same layers, layouts and weights. Needs the extra ``keras`` or ``keras-gpu``."""

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from framecnn.errors import MissingExtraError, ShapeError
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    PoolingLayer,
    initializers,
)
from framecnn.networks.sequential import Sequential
from framecnn.thread_count import get_num_threads

__all__ = ["copy_from_keras", "copy_to_keras", "from_keras", "load_keras", "to_keras"]

Step = tuple[str, dict[str, Any]]
"""A layer of Keras: the name of its class, and its settings."""

CONV = ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias")
NORM = ("momentum", "epsilon")
POOL = ("pool_size", "strides", "padding")
FUNCTIONS = ("relu", "sigmoid", "softmax", "tanh")
KERAS_SLOPE = 0.2  # of keras.activations.leaky_relu; that of the layer LeakyReLU stands in its settings

ONE_FORM: Mapping[str, Mapping[str, Any]] = {
    "BatchNormalization": {"axis": -1, "center": True, "scale": True, "renorm": False},
    "Dropout": {"noise_shape": None},
    "ReLU": {"max_value": None, "threshold": 0},
    "Rescaling": {"offset": 0},
    "Softmax": {"axis": -1},
}
"""Settings that Keras has and framecnn has not, by layer, and the value they must have."""


def to_keras(model: Sequential) -> Any:
    """Return a Keras model of the same layers and weights, in the model's dtype.

    Parameters
    ----------
    model : Sequential
        A built one.

    Returns
    -------
    keras.Sequential
        Its layers carry the names of ours. A training batch changes it as it changes ours.

    Raises
    ------
    ShapeError
        If the model is not built, or Keras has no layer that does the same: filter banks, the square root, pooling
        with a border or gaps of its own, downsampling without a mean, convolution with strides and gaps.
    MissingExtraError
        If Keras, or the library that it runs on, is not installed.

    Notes
    -----
    ``ConvLayer.algorithm`` has no counterpart: Keras chooses for itself. A border in pixels becomes a ZeroPadding2D.

    Examples
    --------
    >>> model = Sequential([InputLayer((8, 8, 3)), ConvLayer(4, kernel_size=3), FlatteningLayer(), DenseLayer(2)])
    >>> net = to_keras(model.build(seed=0))
    >>> [layer.name for layer in net.layers], net.output_shape
    (['conv_1', 'flattening_1', 'dense_1'], (None, 2))
    """
    steps = [(name, step) for name, layer in zip(model.names, model.layers, strict=True) for step in _in_keras(layer)]
    dtype = model.layers[0].built().dtype.name
    keras = load_keras("to_keras")
    net = keras.Sequential([keras.Input(model.input_shape, dtype=dtype)])
    for name, (kind, settings) in steps:
        own = f"{name}_border" if kind == "ZeroPadding2D" else name
        net.add(getattr(keras.layers, kind)(**settings, name=own, dtype=dtype))
    copy_to_keras(model, net)
    return net


def from_keras(net: Any) -> Sequential:
    """Return a built model of the same layers and weights as a Keras model.

    Parameters
    ----------
    net : keras.Sequential or keras.Model
        A built chain of layers, channels last. An activation inside a layer becomes a layer of its own.

    Returns
    -------
    Sequential

    Raises
    ------
    ShapeError
        If it is no built chain, its dtypes are mixed, or framecnn has no layer or setting that does the same.
    MissingExtraError
        If Keras, or the library that it runs on, is not installed.

    Notes
    -----
    What only matters before and during training is left behind: optimiser, losses, regularisers, and initialisers that
    framecnn does not have (its own default stands in the layer then).

    Examples
    --------
    >>> keras = load_keras("this example")
    >>> net = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, activation="relu")])
    >>> from_keras(net).names
    ('input_1', 'conv_1', 'activation_1')
    """
    keras = load_keras("from_keras")
    layers = _chain(keras, net)
    policies = {layer.dtype_policy.name for layer in layers} or {net.dtype_policy.name}
    if len(policies) > 1 or not policies <= {"float32", "float64"}:
        raise ShapeError(
            f"from_keras: expected layers of float32, or all of float64, got {', '.join(sorted(policies))}; "
            "build the model with one dtype"
        )
    steps = [_step(keras, layer) for layer in layers]
    scale = 1.0
    if steps and steps[0][0] == "Rescaling":
        scale = steps.pop(0)[1]["scale"]
    model = Sequential([InputLayer(net.input_shape[1:], scale=scale), *_ours(steps)]).build(dtype=policies.pop())
    return copy_from_keras(net, model)


def copy_to_keras(model: Sequential, net: Any) -> None:
    """Set the weights of a Keras model of the same layers.

    Parameters
    ----------
    model : Sequential
        Where the weights come from.
    net : keras.Model
        What :func:`to_keras` gave.
    """
    net.set_weights(list(model.state_dict().values()))


def copy_from_keras(net: Any, model: Sequential) -> Sequential:
    """Set the weights of a model to those of a Keras model of the same layers.

    Parameters
    ----------
    net : keras.Model
        Where the weights come from.
    model : Sequential
        What the Keras model was made from, or :func:`from_keras` made of it.

    Returns
    -------
    Sequential
        The model itself.
    """
    return model.load_state_dict(dict(zip(model.state_dict(), net.get_weights(), strict=True)))


def load_keras(who: str) -> Any:
    """Import Keras without the log lines of TensorFlow, which gets as many threads as framecnn.

    Keras runs on TensorFlow unless the environment variable ``KERAS_BACKEND`` names another library. Threads stay as
    they are where TensorFlow has begun to work.

    Parameters
    ----------
    who : str
        Whom an error names.

    Returns
    -------
    module
        ``keras``.

    Raises
    ------
    MissingExtraError
        If Keras, or the library that it runs on, is not installed.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # else it explains to users how to write our loops
    try:
        with _hidden_stderr("keras" not in sys.modules):
            import keras
    except ImportError as error:
        raise MissingExtraError(who, error.name or "keras", "keras") from error
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with suppress(RuntimeError):  # it has begun to work
            tf.config.threading.set_intra_op_parallelism_threads(get_num_threads())
            tf.config.threading.set_inter_op_parallelism_threads(get_num_threads())
    return keras


@contextmanager
def _hidden_stderr(hide: bool) -> Iterator[None]:
    """Let what native code prints on standard error go nowhere: TensorFlow's first lines obey no log level."""
    if not hide:
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _in_keras(layer: Layer) -> list[Step]:
    """Return the layers of Keras that do what one of ours does."""
    match layer:
        case InputLayer():
            return [("Rescaling", {"scale": layer.scale})] if layer.scale != 1 else []
        case ConvLayer() if 1 in (max(layer.strides), max(layer.dilation_rate)):  # type: ignore[call-overload]
            settings = _settings(layer, (*CONV, "kernel_initializer"))
            if isinstance(layer.padding, str):
                return [("Conv2D", settings)]
            return [("ZeroPadding2D", {"padding": layer.padding}), ("Conv2D", settings | {"padding": "valid"})]
        case PoolingLayer(mode="max" | "average", padding="valid" | "same", dilation_rate=(1, 1)):
            kind = "MaxPooling2D" if layer.mode == "max" else "AveragePooling2D"
            return [(kind, _settings(layer, POOL))]
        case PoolingLayer(mode="adaptive_max"):
            return [("AdaptiveMaxPooling2D", {"output_size": layer.pool_size})]
        case PoolingLayer(mode="adaptive_average"):
            return [("AdaptiveAveragePooling2D", {"output_size": layer.pool_size})]
        case DownsamplingLayer(mode="mean"):
            return [("AveragePooling2D", {"pool_size": layer.factor})]
        case FlatteningLayer():
            return [("Flatten", {})]
        case DenseLayer():
            return [("Dense", _settings(layer, ("units", "use_bias", "kernel_initializer")))]
        case ActivationLayer(function="leaky_relu"):
            return [("LeakyReLU", {"negative_slope": layer.negative_slope})]
        case ActivationLayer() if layer.function in FUNCTIONS:
            return [("Activation", {"activation": layer.function})]
        case BatchNormLayer():
            return [("BatchNormalization", _settings(layer, NORM))]
        case DropoutLayer():
            return [("Dropout", {"rate": layer.rate})]
    raise ShapeError(f"to_keras: expected layers that Keras has, got {layer}; take it out, or use another")


def _settings(layer: Layer, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in names}


def _chain(keras: Any, net: Any) -> list[Any]:
    """Return the layers of a Keras model, save its InputLayer; a ShapeError unless each follows on the one before."""
    if not isinstance(net, keras.Sequential | keras.Model) or not getattr(net, "inputs", None):
        raise ShapeError(
            f"from_keras: expected a built keras.Sequential or functional model, got {type(net).__name__}; "
            "begin it with keras.Input(shape)"
        )
    shapes = [tuple(tensor.shape[1:]) for tensor in net.inputs]
    if len(shapes) != 1 or None in shapes[0]:
        raise ShapeError(f"from_keras: expected one input of a known shape, got {shapes}; say all its sizes")
    layers = [layer for layer in net.layers if not isinstance(layer, keras.layers.InputLayer)]
    if not isinstance(net, keras.Sequential):
        ends = [net.inputs[0], *(layer.output for layer in layers)]
        follows = [layer.input is end for layer, end in zip(layers, ends, strict=False)]
        uses = Counter(node.operation.name for nodes in net._nodes_by_depth.values() for node in nodes)
        shared = [name for name, count in uses.items() if count > 1]
        if shared:
            raise ShapeError(
                f"from_keras: expected every layer once, got {shared[0]!r} used more than once; "
                "give each place a layer of its own, with the same weights"
            )
        if not all(follows) or [*map(id, net.outputs)] != [id(ends[-1])]:
            names = ", ".join(layer.name for layer in layers)
            raise ShapeError(f"from_keras: expected a chain of layers, got a graph of {names}; cut a chain out of it")
    return layers


def _step(keras: Any, layer: Any) -> Step:
    """Return class name and settings of a layer of Keras; a ShapeError where framecnn has no such setting."""
    kind, config = type(layer).__name__, layer.get_config()
    if getattr(keras.layers, kind, None) is not type(layer):
        raise _stranger(layer.name, kind)
    if config.get("axis") == len(layer.output.shape) - 1:
        config["axis"] = -1
    for name, value in {"data_format": "channels_last", **ONE_FORM.get(kind, {})}.items():
        if config.get(name, value) != value:
            raise ShapeError(
                f"from_keras: expected {kind} {layer.name!r} with {name}={value!r}, got {config[name]!r}, "
                "which framecnn has not; change the setting"
            )
    return kind, config


def _stranger(name: str, kind: str) -> ShapeError:
    return ShapeError(f"from_keras: expected layers that framecnn has, got {kind} {name!r}; take it out")


def _ours(steps: list[Step]) -> Iterator[Layer]:
    """Yield our layers that do what a chain of Keras layers does."""
    while steps:
        match steps:
            case [("ZeroPadding2D", border), ("Conv2D", {"padding": "valid"} as conv), *steps]:
                yield from _one("Conv2D", conv | {"padding": border["padding"]})
            case [(kind, config), *steps]:
                yield from _one(kind, config)


def _one(kind: str, config: Mapping[str, Any]) -> Iterator[Layer]:
    """Yield our layers that do what one layer of Keras does."""
    reduction = "max" if "Max" in kind else "average"
    match kind:
        case "Conv2D":
            yield ConvLayer(**{name: config[name] for name in CONV}, kernel_initializer=_initializer(config))
            yield from _activation(config, KERAS_SLOPE)
        case "Dense":
            yield DenseLayer(config["units"], use_bias=config["use_bias"], kernel_initializer=_initializer(config))
            yield from _activation(config, KERAS_SLOPE)
        case "Activation":
            yield from _activation(config, KERAS_SLOPE)
        case "ReLU":
            yield from _activation({**config, "activation": "leaky_relu" if config["negative_slope"] else "relu"})
        case "LeakyReLU":
            yield from _activation({**config, "activation": "leaky_relu"})
        case "Softmax":
            yield ActivationLayer("softmax")
        case "MaxPooling2D" | "AveragePooling2D":
            yield PoolingLayer(**{name: config[name] for name in POOL}, mode=reduction)
        case "AdaptiveMaxPooling2D" | "AdaptiveAveragePooling2D":
            yield PoolingLayer(config["output_size"], mode=f"adaptive_{reduction}")
        case "GlobalMaxPooling2D" | "GlobalAveragePooling2D":
            yield PoolingLayer(1, mode=f"adaptive_{reduction}")
            yield from () if config["keepdims"] else (FlatteningLayer(),)
        case "Flatten":
            yield FlatteningLayer()
        case "BatchNormalization":
            yield BatchNormLayer(**{name: config[name] for name in NORM})
        case "Dropout":
            yield DropoutLayer(config["rate"])
        case _:
            raise _stranger(config["name"], kind)


def _activation(config: Mapping[str, Any], slope: float | None = None) -> Iterator[Layer]:
    """Yield the layer of an activation; none for the linear one."""
    function = config["activation"]
    if function == "leaky_relu":
        yield ActivationLayer(function, negative_slope=config["negative_slope"] if slope is None else slope)
    elif function in FUNCTIONS:
        yield ActivationLayer(function)
    elif function != "linear":
        raise _stranger(config["name"], f"the activation {function!r} of")


def _initializer(config: Mapping[str, Any]) -> str:
    """Return our name of the initialiser of a kernel; the default where we have none like it."""
    names = {name.replace("_", ""): name for name in initializers.NAMES}
    kind = (config["kernel_initializer"] or {}).get("class_name", "").lower()
    return names.get(kind, "glorot_uniform")
