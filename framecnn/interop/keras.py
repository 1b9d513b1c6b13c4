"""Conversion of networks to Keras and back. Needs the extra ``keras`` or ``keras-gpu``."""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from framecnn.errors import FormatError, MissingExtraError
from framecnn.interop.keras_graph import KerasGraph
from framecnn.interop.keras_import import parts_of
from framecnn.interop.keras_layers import KERAS_CONVERTERS, Step
from framecnn.interop.network_parts import NOT_NEGATIVE
from framecnn.layers import ActivationLayer, Layer, PaddingLayer, ParallelLayer, PoolingLayer
from framecnn.layers.chain import layer_names
from framecnn.networks.sequential import Sequential
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array

__all__ = ["copy_from_keras", "copy_to_keras", "from_keras", "load_keras", "to_keras"]


def to_keras(model: Sequential) -> Any:
    """Return a Keras model of the same layers and weights, in the model's dtype.

    Parameters
    ----------
    model : Sequential
        A built model.

    Returns
    -------
    keras.Sequential or keras.Model
        A functional model if there are branches. Its layers have the names of the model's, with "." for "/", such as
        ``"parallel_1.branch_1.conv_1"``. Training updates it as it would update the model.

    Raises
    ------
    ShapeError
        If the model is not built.
    FormatError
        If Keras has no equivalent layer: for filter banks, the square root, pooling with explicit padding or
        dilation, downsampling without a mean, padding with another value than zero, convolution with both strides and
        dilation, and layers without an entry in :data:`framecnn.interop.keras_layers.KERAS_CONVERTERS`, such as
        subclasses of framecnn's.
    MissingExtraError
        If Keras, or the library on which it runs, is not installed.

    Notes
    -----
    ``ConvLayer.algorithm`` is lost: Keras chooses its own algorithm. Explicit padding becomes a ZeroPadding2D layer,
    depthwise convolution with equal strides DepthwiseConv2D, which Keras can train on a CPU, and scaling an EinsumDense
    layer, the only one of Keras that multiplies and shifts channels by weights.

    Examples
    --------
    >>> from framecnn import ConvLayer, DenseLayer, FlatteningLayer, InputLayer
    >>> model = Sequential([InputLayer((8, 8, 3)), ConvLayer(4, kernel_size=3), FlatteningLayer(), DenseLayer(2)])
    >>> net = to_keras(model.build(seed=0))
    >>> [layer.name for layer in net.layers], net.output_shape
    (['conv_1', 'flattening_1', 'dense_1'], (None, 2))
    """
    layers = [layer.require_built() for layer in model.layers]
    keras, dtype = load_keras("to_keras"), layers[0].dtype.name
    inputs = keras.Input(model.input_shape, dtype=dtype)
    if any(type(layer) is ParallelLayer for layer in layers):
        net = keras.Model(inputs, _called(keras, layers, inputs, dtype))
    else:
        net = keras.Sequential([inputs])
        for name, layer, before in zip(model.names, layers, [None, *layers], strict=False):
            for equivalent in _equivalents(keras, name, layer, before, dtype):
                net.add(equivalent)
    copy_to_keras(model, net)
    return net


def from_keras(net: Any) -> Sequential:
    """Return a built model of the same layers and weights as a Keras model.

    Parameters
    ----------
    net : keras.Sequential or keras.Model
        Built, channels last, with one input and one output. It may branch if it consists of blocks in series and in
        parallel, whose values are added, multiplied or concatenated; these become ParallelLayers. It may contain
        other models.

    Returns
    -------
    Sequential
        The activation of a layer becomes an ActivationLayer after it.

    Raises
    ------
    FormatError
        If it is no such model, its dtypes differ, or framecnn has no equivalent of a layer or setting, which the
        message names.
    MissingExtraError
        If Keras, or the library on which it runs, is not installed.

    Notes
    -----
    The model predicts what the Keras model does. The optimizer, losses, regularizers and ``trainable`` are not
    converted. Layers that act in training only and have no equivalent are left out: augmentation, noise, and dropout of
    channels or branches. Numbers that multiply or shift channels (Rescaling, Normalization, ``x * 2 + 1``) become a
    ScalingLayer, which is trainable; one number at the input becomes its scale. An initializer without an equivalent
    becomes the default.

    Examples
    --------
    >>> keras = load_keras("this example")
    >>> x = inputs = keras.Input((8, 8, 3))
    >>> x = keras.layers.Add()([keras.layers.Conv2D(3, 3, padding="same", activation="relu")(x), x])
    >>> from_keras(keras.Model(inputs, x)).layers[1].branches
    ((ConvLayer(filters=3, kernel_size=(3, 3), padding='same'), ActivationLayer(function='relu')), ())
    """
    keras = load_keras("from_keras")
    if not isinstance(net, keras.Sequential | keras.Model) or not getattr(net, "inputs", None):
        raise FormatError(
            f"from_keras: expected a built keras.Sequential or functional model, got {type(net).__name__}; "
            "begin it with keras.Input(shape)"
        )
    shapes = [tuple(tensor.shape[1:]) for tensor in net.inputs]
    if len(shapes) != 1 or None in shapes[0]:
        raise FormatError(f"from_keras: expected one input of a known shape, got {shapes}; specify all its sizes")
    graph = KerasGraph(keras, net)
    policies = graph.policies or {net.dtype_policy.name}
    if len(policies) > 1 or not policies <= {"float32", "float64"}:
        raise FormatError(
            f"from_keras: expected layers of float32, or all of float64, got {', '.join(sorted(policies))}; "
            "build the model with one dtype"
        )
    return parts_of(graph, shapes[0]).network(policies.pop())


def copy_to_keras(model: Sequential, net: Any) -> None:
    """Set the weights of a Keras model of the same layers.

    Parameters
    ----------
    model : Sequential
        The source of the weights.
    net : keras.Model
        A model that :func:`to_keras` returned for it.
    """
    for path, layer in _inner_layers(model.layers):
        if layer.params:
            target = net.get_layer(_keras_name(path))
            weights = zip(layer.params.values(), target.weights, strict=True)
            target.set_weights([np.reshape(value, weight.shape) for value, weight in weights])


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
    with_weights = [(path, layer) for path, layer in _inner_layers(model.layers) if layer.params]
    if not {_keras_name(path) for path, _ in with_weights} <= {layer.name for layer in net.layers}:
        return model.load_state_dict(from_keras(net).state_dict())
    state: dict[str, Array] = {}
    for path, layer in with_weights:
        weights = zip(layer.params.items(), net.get_layer(_keras_name(path)).get_weights(), strict=True)
        state |= {f"{path}/{name}": weight.reshape(value.shape) for (name, value), weight in weights}
    return model.load_state_dict(state)


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


def _called(keras: Any, layers: Sequence[Layer], value: Any, dtype: str, prefix: str = "") -> Any:
    """Return the symbolic output of the equivalents of a chain of built layers."""
    for name, layer, before in zip(layer_names(layers), layers, [None, *layers], strict=False):
        path = f"{prefix}{name}"
        if type(layer) is ParallelLayer:
            outputs = [
                _called(keras, branch, value, dtype, f"{path}/branch_{number}/")
                for number, branch in enumerate(layer.built_branches(), start=1)
            ]
            merge = getattr(keras.layers, layer.merge.capitalize())
            value = merge(name=_keras_name(path), dtype=dtype)(outputs)
        else:
            for equivalent in _equivalents(keras, path, layer, before, dtype):
                value = equivalent(value)
    return value


def _equivalents(keras: Any, path: str, layer: Layer, before: Layer | None, dtype: str) -> Iterator[Any]:
    """Yield the Keras layers that are together equivalent to a built layer after another."""
    steps: list[Step] = []
    padded = type(layer) is PoolingLayer and layer.mode == "max" and not isinstance(layer.padding, str)
    if padded and isinstance(before, ActivationLayer) and before.function in NOT_NEGATIVE:
        steps.append(("ZeroPadding2D", {"padding": layer.config["padding"]}))
        layer = Layer.from_config(layer.config | {"padding": "valid"})
    for kind, settings in [*steps, *KERAS_CONVERTERS.of(layer)(layer)]:
        border = kind == "ZeroPadding2D" and not isinstance(layer, PaddingLayer)
        name = _keras_name(path) + ("_border" if border else "")
        yield getattr(keras.layers, kind)(**settings, name=name, dtype=dtype)


def _keras_name(path: str) -> str:
    """Return the name of a layer in Keras, which allows no slash."""
    return path.replace("/", ".")


def _inner_layers(layers: Sequence[Layer], prefix: str = "") -> Iterator[tuple[str, Layer]]:
    """Yield all built layers that are not ParallelLayers, with their paths such as ``parallel_1/branch_1/conv_1``."""
    for name, layer in zip(layer_names(layers), layers, strict=True):
        if type(layer) is ParallelLayer:
            for number, branch in enumerate(layer.built_branches(), start=1):
                yield from _inner_layers(branch, f"{prefix}{name}/branch_{number}/")
        else:
            yield f"{prefix}{name}", layer
