"""Training of Keras networks with the batches and the early stopping of :func:`framecnn.training.loop.fit`."""

import math
import time
from contextlib import closing
from typing import Any

from framecnn.data.augment import Augmentation
from framecnn.interop.keras import load_keras
from framecnn.training.batches import epoch_batches
from framecnn.training.history import History
from framecnn.training.schedules import LearningRate, rate_at
from framecnn.typing import Array

__all__ = ["fit_keras", "keras_device"]


def keras_device() -> str:
    """Return the device on which Keras computes: its first GPU, or the CPU if there is none.

    Examples
    --------
    >>> keras_device().split(":")[0] in ("CPU", "GPU")
    True
    """
    keras = load_keras("keras_device")
    gpus = keras.distribution.list_devices("gpu")
    if not gpus:
        return "CPU"
    if keras.backend.backend() != "tensorflow":
        return gpus[0].upper()
    import tensorflow as tf

    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return f"GPU: {details.get('device_name', gpus[0])}"


def fit_keras(
    net: Any,
    x: Array,
    y: Array,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    learning_rate: LearningRate = 0.001,
    validation_data: tuple[Array, Array] | None = None,
    patience: int | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
) -> History:
    """Train a Keras network of logits by Adam, set the weights of its best epoch, and return the history.

    Batches, their order and augmentation equal those of :func:`framecnn.training.loop.fit`.

    Parameters
    ----------
    net : keras.Sequential
    x : (n, h, w, c) array
    y : (n,) array of int
        The class of each frame.
    epochs : int, default 10
    batch_size : int, default 32
    learning_rate : float or schedule, default 0.001
    validation_data : (x, y), optional
        The best epoch is the one with the lowest validation loss; without these data it is the last.
    patience : int, optional
        Stop after this number of epochs without an improvement.
    augment : Augmentation, optional
    seed : int, default 0

    Returns
    -------
    History

    Raises
    ------
    FloatingPointError
        If a loss is not finite. The network then has the weights of the best epoch so far.
    """
    keras = load_keras("fit_keras")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.Adam(), loss, metrics=["accuracy"])
    best, history = net.get_weights(), History()
    while len(history) < epochs and not history.has_stalled(patience):
        epoch, start = len(history) + 1, time.perf_counter()
        rate = rate_at(learning_rate, int(net.optimizer.iterations))
        figures = _train_epoch(net, x, y, batch_size, learning_rate, augment, seed, epoch)
        if validation_data is not None:
            evaluated = net.evaluate(*validation_data, batch_size, verbose=0, return_dict=True)
            figures |= {f"val_{name}": value for name, value in evaluated.items()}
        if not all(map(math.isfinite, figures.values())):
            net.set_weights(best)
            raise FloatingPointError(f"fit_keras: expected finite losses, got {figures}; lower the learning rate")
        history.append(figures, rate, time.perf_counter() - start)
        if history.best_epoch == epoch:
            best = net.get_weights()
    net.set_weights(best)
    return history


def _train_epoch(
    net: Any,
    x: Array,
    y: Array,
    batch_size: int,
    learning_rate: LearningRate,
    augment: Augmentation | None,
    seed: int,
    epoch: int,
) -> dict[str, float]:
    """Update once per batch; return loss and accuracy over the epoch."""
    means = {"loss": 0.0, "accuracy": 0.0}
    _, batches = epoch_batches(x, y, batch_size, seed, epoch, augment)
    with closing(batches):
        for frames, labels in batches:
            net.optimizer.learning_rate = rate_at(learning_rate, int(net.optimizer.iterations))
            net.reset_metrics()  # else Keras returns a running mean that includes earlier batches
            figures = net.train_on_batch(frames, labels, return_dict=True)
            means = {name: mean + float(figures[name]) * len(labels) / len(y) for name, mean in means.items()}
    return means
