"""A framecnn network in Keras, on TensorFlow: the same layers, layouts and weights."""

import os

from benchmarks.channels_first import Unsupported
from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    InputLayer,
    PoolingLayer,
    get_num_threads,
)

__all__ = ["network", "start_predict_on_batch", "start_tf_function", "tensorflow"]


def tensorflow():
    """Import TensorFlow quietly, with framecnn's number of threads."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import tensorflow as tf

    threading, n = tf.config.threading, get_num_threads()
    if threading.get_intra_op_parallelism_threads() != n:  # an error once TensorFlow has begun with another number
        threading.set_intra_op_parallelism_threads(n)
        threading.set_inter_op_parallelism_threads(n)
    return tf


def network(model):
    """Give the Keras model of a built Sequential."""
    tensorflow()
    import keras

    net = keras.Sequential([layer for ours in model.layers for layer in _layers(keras, ours)])
    net.set_weights(list(model.state_dict().values()))
    return net


def _layers(keras, layer):
    match layer:
        case InputLayer():
            rescaling = [keras.layers.Rescaling(layer.scale)] if layer.scale != 1 else []
            return [keras.Input(layer.shape), *rescaling]
        case ConvLayer(padding="valid" | "same"):
            settings = {
                name: getattr(layer, name)
                for name in ("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias")
            }
            return [keras.layers.Conv2D(**settings)]
        case ActivationLayer(function="relu"):
            return [keras.layers.ReLU()]
        case PoolingLayer(mode="max", padding="valid" | "same", dilation_rate=(1, 1)):
            return [keras.layers.MaxPooling2D(layer.pool_size, layer.strides, layer.padding)]
        case FlatteningLayer():
            return [keras.layers.Flatten()]
        case DenseLayer():
            return [keras.layers.Dense(layer.units, use_bias=layer.use_bias)]
    raise Unsupported(f"no equivalent of {layer}")


def start_predict_on_batch(model, x):
    net = network(model)
    return lambda: net.predict_on_batch(x)


def start_tf_function(model, x):
    tf, net = tensorflow(), network(model)
    graph = tf.function(lambda frames: net(frames, training=False)).get_concrete_function(
        tf.TensorSpec(x.shape, tf.float32)
    )
    frames = tf.constant(x)
    return lambda: graph(frames).numpy()
