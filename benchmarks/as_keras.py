"""A framecnn network in Keras on TensorFlow, for prediction and training, plain and compiled by XLA."""

import numpy as np

from framecnn.interop.keras import load_keras, to_keras

__all__ = ["start_predict_on_batch", "start_tf_function", "start_training", "tensorflow"]


def tensorflow():
    """Return TensorFlow, with framecnn's number of threads and without TensorFloat-32."""
    load_keras("benchmarks")
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    return tf


def start_predict_on_batch(model, x):
    net = to_keras(model)
    return lambda: net.predict_on_batch(x)


def start_tf_function(model, x, device="/CPU:0", xla=False):
    tf = tensorflow()
    with tf.device(device):
        net, frames = to_keras(model), tf.constant(x)
        graph = tf.function(lambda frames: net(frames, training=False), jit_compile=xla)
        graph = graph.get_concrete_function(tf.TensorSpec(x.shape, tf.float32))
    return lambda: graph(frames).numpy()


def start_training(model, x, labels, device="/CPU:0", xla=False):
    """Return a function that updates once by Adam and returns the loss before the update."""
    tf = tensorflow()
    keras = load_keras("benchmarks")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    with tf.device(device):
        net, optimizer = to_keras(model), keras.optimizers.Adam()
        frames, targets = tf.constant(x), tf.constant(labels)
        optimizer.build(net.trainable_variables)

    @tf.function(jit_compile=xla)
    def step(frames, targets):
        with tf.GradientTape() as tape:
            value = loss(targets, net(frames, training=True))
        variables = net.trainable_variables
        optimizer.apply(tape.gradient(value, variables), variables)
        return value

    def run():
        with tf.device(device):
            return np.reshape(step(frames, targets).numpy(), 1)

    return run
