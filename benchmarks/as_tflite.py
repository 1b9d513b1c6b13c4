"""A framecnn network in TensorFlow Lite, whose float32 kernels are those of XNNPACK."""

import os

from framecnn import get_num_threads
from framecnn.interop.keras import to_keras

__all__ = ["start_tflite"]


def start_tflite(model, x):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    net = to_keras(model)
    graph = tf.function(lambda frames: net(frames, training=False))
    concrete = graph.get_concrete_function(tf.TensorSpec(x.shape, tf.float32))
    constant = convert_variables_to_constants_v2(concrete)  # else the interpreter reads variables that nobody has set
    converter = tf.lite.TFLiteConverter.from_concrete_functions([constant], net)
    interpreter = tf.lite.Interpreter(model_content=converter.convert(), num_threads=get_num_threads())
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run():
        interpreter.set_tensor(source["index"], x)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return run
