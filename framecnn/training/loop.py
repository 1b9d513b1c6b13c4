"""Training by back-propagation: one update per batch, and after each epoch a checkpoint to resume from.

Random numbers depend on the seed and the number of the epoch (order of the frames, dropout), and in augmentation also
on the number of the frame. So neither threads nor interruptions change a bit of the result.
"""

import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.arguments import check_count
from framecnn.data.augment import Augmentation
from framecnn.errors import SettingError, ShapeError
from framecnn.kernels.buffers import reused_memory
from framecnn.layers.base import check_batch_shape
from framecnn.training import checkpoint as checkpoints
from framecnn.training.batches import Batch, epoch_batches, ordered_batches
from framecnn.training.history import History
from framecnn.training.losses import QUIET, Loss, softmax_cross_entropy
from framecnn.training.model import TrainableModel
from framecnn.training.optimizers import Adam, Optimizer
from framecnn.training.progress import Figures, Progress, Watch, print_progress
from framecnn.typing import Array

__all__ = ["fit", "train_step"]

KEPT = 512 * 1024 * 1024
"""Bytes that are kept from update to update: about the maps of 128 frames of 32 x 32 in a small residual network."""


def train_step(
    model: TrainableModel, x: Array, y: Any, loss: Loss, optimizer: Optimizer, rng: np.random.Generator | None = None
) -> float:
    """Update the parameters of a model once, by the gradient of the loss on a batch; return the loss.

    Parameters
    ----------
    model : Sequential
        A built model.
    x : (n, *input_shape) array
    y : array
        The targets, in the form that `loss` expects.
    loss : callable
        ``loss(outputs, targets) -> value, doutputs``, such as :func:`framecnn.training.losses.softmax_cross_entropy`.
    optimizer : Optimizer
    rng : numpy.random.Generator, optional
        The generator for dropout; by default it is seeded by the number of the update.

    Returns
    -------
    float
        The loss before the update. If it is not finite, no parameter changes.

    Raises
    ------
    ShapeError
        If the model is not built, or `x` or `y` does not fit.

    Examples
    --------
    >>> from framecnn import DenseLayer, InputLayer, Sequential
    >>> model, optimizer = Sequential([InputLayer((2,)), DenseLayer(2)]).build(), Adam(0.1)
    >>> losses = [train_step(model, np.eye(2), [0, 1], softmax_cross_entropy, optimizer) for _ in range(9)]
    >>> losses[-1] < losses[0] / 2
    True
    """
    return _step(model, x, y, loss, optimizer, rng or np.random.default_rng(optimizer.iterations))[0]


def fit(
    model: TrainableModel,
    x: Any,
    y: Any,
    *,
    epochs: int = 10,
    batch_size: int = 32,
    loss: Loss = softmax_cross_entropy,
    optimizer: Optimizer | None = None,
    validation_data: tuple[Any, Any] | None = None,
    patience: int | None = None,
    augment: Augmentation | None = None,
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = print_progress,
) -> History:
    """Train a model and set the weights of its best epoch, also after an error or an interruption.

    Parameters
    ----------
    model : Sequential
        A built model.
    x : (n, *input_shape) array
        Or frames that are decoded when indexed, such as ``FrameFolder.frames``; the next batch is read while the
        current one is used.
    y : (n, ...) array
        The targets, in the form that `loss` expects.
    epochs : int, default 10
    batch_size : int, default 32
    loss : callable, default softmax_cross_entropy
        ``loss(outputs, targets) -> value, doutputs``.
    optimizer : Optimizer, default Adam()
        An optimizer that has not trained another model.
    validation_data : (x, y), optional
        The best epoch is the one with the lowest validation loss; without validation data it is the last.
    patience : int, optional
        Stop after this many epochs in a row without a lower validation loss.
    augment : Augmentation, optional
        Random changes of the frames, different in every epoch.
    seed : int, default 0
    checkpoint : path, optional
        A .safetensors file that is replaced atomically after each epoch.
    resume : bool, default False
        Resume from `checkpoint` if it exists. The result has the same bits as that of an uninterrupted run. `epochs`
        and `patience` may differ from before; `loss` and the frames must be the same.
    progress : callable or None, default print_progress
        Called with a :class:`framecnn.training.progress.Progress` after each update and each epoch.

    Returns
    -------
    History

    Raises
    ------
    ShapeError
        If the model is not built, or `x` or `y` does not fit.
    SettingError
        If a setting has an invalid value.
    FormatError
        If `checkpoint` is to be resumed, but is damaged or belongs to another model or other settings.
    FloatingPointError
        If a loss or a weight is not finite; `checkpoint` then holds the previous epoch.

    Examples
    --------
    >>> from framecnn import DenseLayer, InputLayer, Sequential
    >>> model = Sequential([InputLayer((2,)), DenseLayer(2)]).build()
    >>> history = fit(model, np.eye(2), [0, 1], epochs=9, optimizer=Adam(0.1), progress=None)
    >>> history.accuracy[-1], history.best_epoch
    (1.0, 9)
    """
    _check_settings(epochs, batch_size, patience, validation_data, seed, checkpoint, resume)
    optimizer = Adam() if optimizer is None else optimizer
    _check_parts(loss, optimizer, augment)
    train = _check_data("x and y", model, x, y)
    validation = None if validation_data is None else _check_data("validation_data", model, *validation_data)
    settings = {
        "optimizer": repr(optimizer),
        "batch_size": int(batch_size),
        "seed": int(seed),
        "augment": repr(augment),
        "n_samples": len(train[1]),
        "n_validation": len(validation[1]) if validation else 0,
    }
    best, history = model.parameters(), History()
    if resume and checkpoint is not None and Path(checkpoint).exists():
        best, history = checkpoints.read(checkpoint, model, optimizer, settings)
    watch = Watch(progress, len(train[1]), epochs, len(history))
    try:
        while len(history) < epochs and not history.has_stalled(patience):
            epoch, start, rate = len(history) + 1, time.perf_counter(), optimizer.rate
            rng, batches = epoch_batches(*train, batch_size, seed, epoch, augment)
            with closing(batches):
                figures = _train(model, batches, loss, optimizer, rng, epoch, watch)
            _check_weights(model, optimizer, epoch)
            if validation:
                with closing(ordered_batches(*validation, batch_size, np.arange(len(validation[1])))) as batches:
                    figures |= _validate(model, batches, loss, epoch)
            history.append(figures, rate, time.perf_counter() - start)
            if history.best_epoch == epoch:
                best = model.parameters()
            if checkpoint is not None:
                checkpoints.write(checkpoint, model, optimizer, best, history, settings)
            watch(epoch, len(train[1]), figures, is_over=True)
    finally:
        model.load_state_dict(best)
    return history


@QUIET
def _step(
    model: TrainableModel, x: Array, y: Any, loss: Loss, optimizer: Optimizer, rng: np.random.Generator
) -> tuple[float, Array]:
    """Update once if the loss is finite; return loss and outputs computed before the update."""
    with reused_memory(KEPT):
        outputs, backward = model.vjp(x, rng, wrt_input=False)
        value, doutputs = loss(outputs, y)
        if math.isfinite(value):
            specs = model.param_specs()
            _, changes = backward(doutputs)
            gradients = {name: change for name, change in changes.items() if specs[name].trainable}
            trained = optimizer.advance(model, gradients)
            model.update(trained | {name: change for name, change in changes.items() if not specs[name].trainable})
        del backward  # its maps are free for the next update
        return value, outputs


class _Means:
    """Running means of loss and accuracy over the frames that were added."""

    def __init__(self) -> None:
        self.frames, self._loss, self._right = 0, 0.0, 0
        self._labelled = True

    def add(self, value: float, outputs: Array, targets: Array) -> None:
        self.frames += len(targets)
        self._loss += value * len(targets)
        self._labelled &= (outputs.ndim, targets.ndim) == (2, 1)
        self._right += int(np.sum(outputs.argmax(axis=-1) == targets)) if self._labelled else 0

    def figures(self, prefix: str = "") -> Figures:
        figures = {f"{prefix}loss": self._loss / self.frames}
        return figures | {f"{prefix}accuracy": self._right / self.frames} if self._labelled else figures


def _train(
    model: TrainableModel,
    batches: Iterable[Batch],
    loss: Loss,
    optimizer: Optimizer,
    rng: np.random.Generator,
    epoch: int,
    watch: Watch,
) -> Figures:
    """Update once per batch; return loss and accuracy over the epoch."""
    means = _Means()
    for step, (x, y) in enumerate(batches, start=1):
        value, outputs = _step(model, x, y, loss, optimizer, rng)
        if not math.isfinite(value):
            raise _diverged("a finite loss", value, f"epoch {epoch}, step {step}")
        means.add(value, outputs, y)
        watch(epoch, means.frames, means.figures())
    return means.figures()


@QUIET
def _validate(model: TrainableModel, batches: Iterable[Batch], loss: Loss, epoch: int) -> Figures:
    """Return loss and accuracy of the validation frames."""
    means = _Means()
    for x, y in batches:
        outputs = model.predict(x, len(x))
        value, _ = loss(outputs, y)
        if not math.isfinite(value):
            raise _diverged("a finite validation loss", value, f"epoch {epoch}")
        means.add(value, outputs, y)
    return means.figures("val_")


def _check_settings(
    epochs: int, batch_size: int, patience: int | None, validation_data: Any, seed: int, checkpoint: Any, resume: bool
) -> None:
    check_count("fit", "epochs", epochs)
    check_count("fit", "batch_size", batch_size)
    if patience is not None:
        check_count("fit", "patience", patience)
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise SettingError(f"fit: expected seed as an integer of at least 0, got {seed!r}")
    if patience is not None and validation_data is None:
        raise SettingError("fit: expected validation_data with patience, got patience alone; give both")
    if resume and checkpoint is None:
        raise SettingError("fit: expected checkpoint=FILE to resume from, got None")


def _check_parts(loss: Any, optimizer: Any, augment: Any) -> None:
    if not callable(loss):
        raise SettingError(f"fit: expected loss as a function such as losses.mean_squared_error, got {loss!r}")
    if not isinstance(optimizer, Optimizer):
        raise SettingError(f"fit: expected optimizer as an Optimizer such as Adam(), got {optimizer!r}")
    if augment is not None and not isinstance(augment, Augmentation):
        raise SettingError(f"fit: expected augment as an Augmentation or None, got {augment!r}")


def _check_data(name: str, model: TrainableModel, x: Any, y: Any) -> tuple[Any, Array]:
    """Return frames, and targets as an array; raise ShapeError if they do not fit."""
    x = x if hasattr(x, "shape") else np.asarray(x)
    y = np.asarray(y)
    check_batch_shape("fit", x, model.input_shape)
    if len(x) != len(y) or len(y) == 0:
        raise ShapeError(f"fit: expected at least one frame and as many targets in {name}, got {len(x)} and {len(y)}")
    return x, y


def _check_weights(model: TrainableModel, optimizer: Optimizer, epoch: int) -> None:
    arrays = model.parameters() | optimizer.state_dict()
    broken = [name for name, value in arrays.items() if not np.isfinite(value).all()]
    if broken:
        raise _diverged("finite weights", f"NaN or infinity in {broken[0]}", f"epoch {epoch}")


def _diverged(what: str, received: Any, position: str) -> FloatingPointError:
    return FloatingPointError(
        f"fit: expected {what}, got {received} in {position}; lower the learning rate, or look for NaN in the frames "
        "(the model has the weights of its best epoch so far)"
    )
