"""Conversion of networks to Keras and back. Needs the extra ``keras`` or ``keras-gpu``."""

import logging
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from framecnn.errors import FormatError, MissingExtraError
from framecnn.interop.keras_layers import KERAS_CONVERTERS, Step, layers_of, no_layer_like
from framecnn.layers import InputLayer
from framecnn.networks.sequential import Sequential
from framecnn.thread_count import get_num_threads

__all__ = ["copy_from_keras", "copy_to_keras", "from_keras", "load_keras", "to_keras"]

FIXED_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "BatchNormalization": {"axis": -1, "center": True, "scale": True, "renorm": False},
    "Dropout": {"noise_shape": None},
    "ReLU": {"max_value": None, "threshold": 0},
    "Rescaling": {"offset": 0},
    "Softmax": {"axis": -1},
}
"""Settings without an equivalent in framecnn, by Keras class, and the only value that is accepted."""


def to_keras(model: Sequential) -> Any:
    """Return a Keras model of the same layers and weights, in the model's dtype.

    Parameters
    ----------
    model : Sequential
        A built model.

    Returns
    -------
    keras.Sequential
        Its layers have the names of the model's. Training updates it as it would update the model.

    Raises
    ------
    ShapeError
        If the model is not built.
    FormatError
        If Keras has no equivalent layer: for filter banks, the square root, pooling with explicit padding or
        dilation, downsampling without a mean, convolution with both strides and dilation, and layers without an entry
        in :data:`framecnn.interop.keras_layers.KERAS_CONVERTERS`, such as subclasses of framecnn's.
    MissingExtraError
        If Keras, or the library on which it runs, is not installed.

    Notes
    -----
    ``ConvLayer.algorithm`` is lost: Keras chooses its own algorithm. Explicit padding becomes a ZeroPadding2D layer.

    Examples
    --------
    >>> from framecnn import ConvLayer, DenseLayer, FlatteningLayer
    >>> model = Sequential([InputLayer((8, 8, 3)), ConvLayer(4, kernel_size=3), FlatteningLayer(), DenseLayer(2)])
    >>> net = to_keras(model.build(seed=0))
    >>> [layer.name for layer in net.layers], net.output_shape
    (['conv_1', 'flattening_1', 'dense_1'], (None, 2))
    """
    named = [(name, layer.require_built()) for name, layer in zip(model.names, model.layers, strict=True)]
    steps = [(name, step) for name, layer in named for step in KERAS_CONVERTERS.of(layer)(layer)]
    dtype = model.layers[0].dtype.name
    keras = load_keras("to_keras")
    net = keras.Sequential([keras.Input(model.input_shape, dtype=dtype)])
    for name, (kind, settings) in steps:
        keras_name = f"{name}_border" if kind == "ZeroPadding2D" else name
        net.add(getattr(keras.layers, kind)(**settings, name=keras_name, dtype=dtype))
    copy_to_keras(model, net)
    return net


def from_keras(net: Any) -> Sequential:
    """Return a built model of the same layers and weights as a Keras model.

    Parameters
    ----------
    net : keras.Sequential or keras.Model
        A built chain of layers, channels last. The activation of a layer becomes an ActivationLayer after it.

    Returns
    -------
    Sequential

    Raises
    ------
    FormatError
        If it is not a built chain, its dtypes differ, or framecnn has no equivalent layer or setting.
    MissingExtraError
        If Keras, or the library on which it runs, is not installed.

    Notes
    -----
    The optimizer, losses and regularizers are not converted. An initializer without an equivalent becomes the default.

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
        raise FormatError(
            f"from_keras: expected layers of float32, or all of float64, got {', '.join(sorted(policies))}; "
            "build the model with one dtype"
        )
    steps = [_step(keras, layer) for layer in layers]
    scale = 1.0
    if steps and steps[0][0] == "Rescaling":
        scale = steps.pop(0)[1]["scale"]
    model = Sequential([InputLayer(net.input_shape[1:], scale=scale), *layers_of(steps)]).build(dtype=policies.pop())
    return copy_from_keras(net, model)


def copy_to_keras(model: Sequential, net: Any) -> None:
    """Set the weights of a Keras model of the same layers.

    Parameters
    ----------
    model : Sequential
        The source of the weights.
    net : keras.Model
        A model that :func:`to_keras` returned.
    """
    net.set_weights(list(model.state_dict().values()))


def copy_from_keras(net: Any, model: Sequential) -> Sequential:
    """Set the weights of a model to those of a Keras model of the same layers.

    Parameters
    ----------
    net : keras.Model
        The source of the weights.
    model : Sequential
        The model that was converted to the Keras model, or to which :func:`from_keras` converted it.

    Returns
    -------
    Sequential
        The model itself.
    """
    return model.load_state_dict(dict(zip(model.state_dict(), net.get_weights(), strict=True)))


def load_keras(who: str) -> Any:
    """Return the module ``keras``, imported without the log lines of TensorFlow.

    Keras runs on TensorFlow unless the environment variable ``KERAS_BACKEND`` names another library. TensorFlow gets
    as many threads as framecnn, unless it has already run.

    Parameters
    ----------
    who : str
        The function that an error names.

    Returns
    -------
    module
        ``keras``.

    Raises
    ------
    MissingExtraError
        If Keras, or the library on which it runs, is not installed.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # its warnings concern framecnn's loops, not the user's
    try:
        with _hidden_stderr("keras" not in sys.modules):
            import keras
    except ImportError as error:
        raise MissingExtraError(who, error.name or "keras", "keras") from error
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with suppress(RuntimeError):  # it has already run
            tf.config.threading.set_intra_op_parallelism_threads(get_num_threads())
            tf.config.threading.set_inter_op_parallelism_threads(get_num_threads())
    return keras


@contextmanager
def _hidden_stderr(hide: bool) -> Iterator[None]:
    """Discard what native code prints on standard error: TensorFlow's first lines ignore the log level."""
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


def _chain(keras: Any, net: Any) -> list[Any]:
    """Return the layers of a Keras model except its InputLayer; raise FormatError unless they form a chain."""
    if not isinstance(net, keras.Sequential | keras.Model) or not getattr(net, "inputs", None):
        raise FormatError(
            f"from_keras: expected a built keras.Sequential or functional model, got {type(net).__name__}; "
            "begin it with keras.Input(shape)"
        )
    shapes = [tuple(tensor.shape[1:]) for tensor in net.inputs]
    if len(shapes) != 1 or None in shapes[0]:
        raise FormatError(f"from_keras: expected one input of a known shape, got {shapes}; specify all its sizes")
    layers = [layer for layer in net.layers if not isinstance(layer, keras.layers.InputLayer)]
    if not isinstance(net, keras.Sequential):
        ends = [net.inputs[0], *(layer.output for layer in layers)]
        follows = [layer.input is end for layer, end in zip(layers, ends, strict=False)]
        uses = Counter(node.operation.name for nodes in net._nodes_by_depth.values() for node in nodes)
        shared = [name for name, count in uses.items() if count > 1]
        if shared:
            raise FormatError(
                f"from_keras: expected every layer once, got {shared[0]!r} used more than once; "
                "use a separate layer with the same weights in each place"
            )
        if not all(follows) or [*map(id, net.outputs)] != [id(ends[-1])]:
            names = ", ".join(layer.name for layer in layers)
            raise FormatError(f"from_keras: expected a chain of layers, got a graph of {names}; convert part of it")
    return layers


def _step(keras: Any, layer: Any) -> Step:
    """Return class name and settings of a Keras layer; raise FormatError if a setting has no equivalent."""
    kind, config = type(layer).__name__, layer.get_config()
    if getattr(keras.layers, kind, None) is not type(layer):
        raise no_layer_like(kind, layer.name)
    if config.get("axis") == len(layer.output.shape) - 1:
        config["axis"] = -1
    for name, value in {"data_format": "channels_last", **FIXED_SETTINGS.get(kind, {})}.items():
        if config.get(name, value) != value:
            raise FormatError(
                f"from_keras: expected {kind} {layer.name!r} with {name}={value!r}, got {config[name]!r}, "
                "the only value that framecnn supports; change the setting"
            )
    return kind, config
