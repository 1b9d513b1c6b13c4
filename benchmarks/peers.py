"""framecnn and its peers, each with the same weights and the same number of threads.

A peer prepares a network and a batch, and returns a function without arguments that returns the output, channels last.
Work that does not depend on the values of the batch (its memory layout, compiling, packing weights) belongs to the
preparation and is not timed.
"""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks import as_keras, as_ncnn, as_onnx, as_pytorch, as_tflite
from benchmarks.channels_first import Unsupported
from framecnn import ConvLayer, Sequential
from framecnn.training.loop import train_step
from framecnn.training.losses import softmax_cross_entropy
from framecnn.training.optimizers import Adam

__all__ = [
    *(
        "BLOCK_PEERS",
        "FILTER_BANK_PEERS",
        "FRAMECNN",
        "KNOWN_NETWORK_PEERS",
        "NETWORK_PEERS",
        "TRAINING",
        "TRAINING_PEERS",
    ),
    *("Peer", "Missing", "keras_on", "training"),
]

UPDATES_COMPARED = 1
"""The number of updates before the loss on which peers in training must agree."""


class Missing(Exception):
    """A peer that cannot be timed, and the reason."""


@dataclass(frozen=True)
class Peer:
    """An implementation that runs a network.

    Parameters
    ----------
    name : str
    start : callable
        ``start(model, x) -> run`` and ``run() -> y``, x and y channels last.
    packages : tuple of str
        The packages that it imports.
    kind : str
        The kind of its algorithms; the fastest peer of each kind is reported: ``direct`` (computes every product),
        ``winograd`` (saves products), ``bfloat16`` (may compute in less than float32, so differences are reported and
        not limited), ``gpu`` or ``own`` (framecnn).
    """

    name: str
    start: Callable[[Sequential, Any], Callable[[], Any]]
    packages: tuple[str, ...] = ()
    kind: str = "direct"

    @property
    def may_differ(self):
        return self.kind == "bfloat16"

    def prepare(self, model, x):
        """Return a function that runs `model` on `x` (n, h, w, c), and its first output; raise Missing on failure."""
        absent = [package for package in self.packages if importlib.util.find_spec(package) is None]
        if absent:
            raise Missing(f"not installed: {', '.join(absent)}")
        try:
            with native_stdout_on_stderr():
                run = self.start(model, x)
                return run, np.array(run())
        except Exception as error:  # any error of another library: the result names it
            raise Missing(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}") from error


def start_framecnn(model, x):
    return partial(model.predict, x, batch_size=len(x))


def start_framecnn_direct(model, x):
    """Return a function that runs the same network without Winograd, to measure the micro-kernel."""
    if "algorithm" not in {field.name for field in dataclasses.fields(ConvLayer)}:
        raise Unsupported("ConvLayer has no setting 'algorithm'")
    layers = [
        dataclasses.replace(layer, **({"algorithm": "direct"} if isinstance(layer, ConvLayer) else {}))
        for layer in model.layers
    ]
    return start_framecnn(Sequential(layers).load_state_dict(model.state_dict()), x)


def start_framecnn_training(model, x, labels):
    """Return a function that updates once by Adam and returns the loss before the update."""
    twin, optimizer = Sequential(map(dataclasses.replace, model.layers)).load_state_dict(model.state_dict()), Adam()
    return lambda: np.array([train_step(twin, x, labels, softmax_cross_entropy, optimizer)])


def training(start):
    """Return the start function of a peer that trains on the batch repeatedly, and outputs the loss before an update.

    The first call makes more updates, so that losses agree only if gradients and updates do.
    """

    def start_steps(model, x):
        step = start(model, x, np.arange(len(x)) % model.output_shape[0])
        first = iter([UPDATES_COMPARED])

        def run():
            for _ in range(next(first, 0)):
                step()
            return step()

        return run

    return start_steps


@contextmanager
def native_stdout_on_stderr() -> Iterator[None]:
    """Redirect what native code prints from stdout, which is for the tables, to stderr."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def keras_on(device, start, wrap=lambda start: start):
    """Return Keras on a device, ``CPU`` or ``GPU``, plain and compiled by XLA."""
    return tuple(
        Peer(
            f"Keras{', XLA' if xla else ''} on the {device}",
            wrap(partial(start, device=f"/{device}:0", xla=xla)),
            ("keras", "tensorflow"),
            "direct" if device == "CPU" else "gpu",
        )
        for xla in (False, True)
    )


FRAMECNN = Peer("framecnn", start_framecnn, kind="own")
FRAMECNN_DIRECT = Peer("framecnn, direct", start_framecnn_direct, kind="own")

KERAS = (
    Peer("Keras predict_on_batch", as_keras.start_predict_on_batch, ("keras", "tensorflow")),
    Peer("Keras tf.function", as_keras.start_tf_function, ("keras", "tensorflow")),
)
PYTORCH = (
    Peer("PyTorch contiguous", as_pytorch.start_contiguous, ("torch",)),
    Peer("PyTorch channels-last", as_pytorch.start_channels_last, ("torch",)),
    Peer("PyTorch compile + freezing", as_pytorch.start_compiled, ("torch",)),
)
ENGINES = (
    Peer("ONNX Runtime", as_onnx.start_onnxruntime, ("onnx", "onnxruntime")),
    Peer("OpenVINO float32", as_onnx.start_openvino_float32, ("onnx", "openvino")),
    Peer("OpenVINO default", as_onnx.start_openvino_default, ("onnx", "openvino"), "bfloat16"),
    Peer("ncnn", as_ncnn.start_ncnn, ("ncnn",), "winograd"),
    Peer("MNN", as_onnx.start_mnn, ("onnx", "MNN"), "winograd"),
)

TFLITE = Peer("TensorFlow Lite", as_tflite.start_tflite, ("keras", "tensorflow"))

NETWORK_PEERS = (*KERAS, *PYTORCH, *ENGINES)
KNOWN_NETWORK_PEERS = (KERAS[1], PYTORCH[2], *ENGINES, TFLITE)
BLOCK_PEERS = (FRAMECNN_DIRECT, *KERAS, *PYTORCH)
FILTER_BANK_PEERS = PYTORCH

TRAINING = Peer("framecnn", training(start_framecnn_training), kind="own")
TRAINING_PEERS = (
    *keras_on("CPU", as_keras.start_training, training),
    Peer("PyTorch channels-last", training(as_pytorch.start_training), ("torch",)),
    Peer("PyTorch compiled", training(partial(as_pytorch.start_training, compile=True)), ("torch",)),
)
