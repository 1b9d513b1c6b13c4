"""A framecnn network in Keras, on TensorFlow."""

from framecnn.interop.keras import load_keras, to_keras

__all__ = ["start_predict_on_batch", "start_tf_function", "tensorflow"]


def tensorflow():
    """Import TensorFlow quietly, with framecnn's number of threads."""
    load_keras("benchmarks")
    import tensorflow as tf

    return tf


def start_predict_on_batch(model, x):
    net = to_keras(model)
    return lambda: net.predict_on_batch(x)


def start_tf_function(model, x):
    tf, net = tensorflow(), to_keras(model)
    graph = tf.function(lambda frames: net(frames, training=False)).get_concrete_function(
        tf.TensorSpec(x.shape, tf.float32)
    )
    frames = tf.constant(x)
    return lambda: graph(frames).numpy()
