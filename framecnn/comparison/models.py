"""Who is compared. Each learns from the training frames alone and makes its own choices on them."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecnn.data.augment import Augmentation
from framecnn.data.loader import LazyFrames
from framecnn.data.split import assign_parts
from framecnn.estimators import FrameClassifier
from framecnn.estimators.trained_features import AUGMENTATION
from framecnn.interop.keras import copy_from_keras, load_keras, to_keras
from framecnn.interop.keras_training import fit_keras, keras_device
from framecnn.networks.reference import reference_network
from framecnn.networks.sequential import Sequential
from framecnn.networks.warmup import warm_up
from framecnn.serialization import save
from framecnn.training.history import History
from framecnn.training.loop import fit
from framecnn.training.optimizers import Adam
from framecnn.training.schedules import CosineDecay, LearningRate, rate_at
from framecnn.typing import Array, Shape

__all__ = ["CONTESTANTS", "Contestant", "compile_kernels"]

VALIDATION = 0.2  # share of the training groups that networks judge their epochs and settings by
LEARNING_RATES = (0.0003, 0.001, 0.003)
TRIAL_EPOCHS, EPOCHS, PATIENCE, BATCH = 4, 25, 10, 32

Labelled = tuple[Array, Array]


class Contestant(ABC):
    """A way to learn classes of frames.

    Parameters
    ----------
    n_classes : int
    seed : int

    Attributes
    ----------
    title : str
        Its name in tables.
    about : str
        What it is, in a sentence.
    at_network_size : bool
        Whether it sees frames at the size of the networks, else at that of the k-means system.
    device : str
        What computes.
    """

    title: ClassVar[str]
    about: ClassVar[str]
    at_network_size: ClassVar[bool]
    device = "CPU"

    def __init__(self, n_classes: int, seed: int):
        self.n_classes, self.seed = n_classes, seed

    @abstractmethod
    def fit(self, frames: LazyFrames, targets: Array, groups: Array) -> dict[str, Any]:
        """Learn; give what was chosen on the way, ready for JSON."""

    @abstractmethod
    def predict_proba(self, frames: Any) -> Array:
        """Return the probability of every class, (n, n_classes)."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write what prediction needs into one file; give its path."""


class KMeansSystem(Contestant):
    """framecnn's default classifier."""

    title = "k-means system"
    about = "filters learned without labels, the discriminant projection and the k-means head: framecnn's default"
    at_network_size = False
    settings: ClassVar[Mapping[str, Any]] = {}

    def fit(self, frames: LazyFrames, targets: Array, groups: Array) -> dict[str, Any]:
        self._model = FrameClassifier(random_state=self.seed, **self.settings).fit(frames, targets, groups)
        chosen = self._model.chosen_
        return {"grid": "x".join(map(str, chosen["grid"])), "alpha": chosen["alpha"]}

    def predict_proba(self, frames: Any) -> Array:
        probabilities = np.zeros((len(frames), self.n_classes))
        probabilities[:, self._model.classes_] = self._model.predict_proba(frames)
        return probabilities

    def save(self, folder: Path) -> Path:
        path = folder / "model.safetensors"
        self._model.save(path)
        return path


class PlainHead(KMeansSystem):
    """The head of the original system."""

    title = "plain k-means head"
    about = "the original head: k-means on the learned features, whose clusters are named after their members"
    settings: ClassVar[Mapping[str, Any]] = {"projection": None}


@dataclass(frozen=True)
class Trial:
    """A training, and what came of it."""

    learning_rate: float
    augmentation: Augmentation | None
    history: History

    @property
    def val_loss(self) -> float:
        """The lowest one; infinite where training diverged."""
        return min((value for value in self.history.val_loss if value is not None), default=math.inf)

    @property
    def merit(self) -> tuple[float, float]:
        """Validation accuracy at the best epoch, and among equals the lower loss."""
        best = self.history.best_epoch
        return (self.history.val_accuracy[best - 1] or 0.0) if best else -1.0, -self.val_loss

    def to_dict(self) -> dict[str, Any]:
        """Return its figures, ready for JSON."""
        best = self.history.best_epoch
        return {
            "learning_rate": self.learning_rate,
            "augmented": self.augmentation is not None,
            "epochs": len(self.history),
            "best_epoch": best,
            "val_loss": self.history.val_loss[best - 1] if best else None,
            "val_accuracy": self.history.val_accuracy[best - 1] if best else None,
            "seconds": sum(value or 0 for value in self.history.seconds),
        }


class Network(Contestant):
    """The reference network, trained by framecnn.

    A part of the training groups is kept for validation. The learning rate is the one with the lowest validation loss
    in a few epochs, in which it falls to zero. At that rate the network is trained without and with augmentation, each
    time until the validation loss has not fallen for some epochs. The way with the higher validation accuracy is then
    gone with all training frames, while the rate falls to zero.
    """

    title = "trained network"
    about = (
        "four convolutions and two dense layers, trained by framecnn; the learning rate, and whether frames are "
        "augmented (flips, shifts, zooms, light), are chosen on a part of the training frames, then all of them teach "
        "while the learning rate falls to zero"
    )
    at_network_size = True

    def fit(self, frames: LazyFrames, targets: Array, groups: Array) -> dict[str, Any]:
        pixels = frames[:]
        judging = assign_parts(targets, groups, (1 - VALIDATION, VALIDATION, 0), self.seed) == 1
        parts = (pixels[~judging], targets[~judging]), (pixels[judging], targets[judging])
        n = len(parts[0][0])
        trials = [self._try(*parts, _falling(rate, n, TRIAL_EPOCHS), None, TRIAL_EPOCHS) for rate in LEARNING_RATES]
        rate = min(trials, key=lambda trial: trial.val_loss).learning_rate
        runs = [self._try(*parts, rate, augmentation, EPOCHS) for augmentation in (None, AUGMENTATION)]
        best = max(runs, key=lambda trial: trial.merit)
        model = self._network(pixels.shape[1:], None).build(self.seed)
        settings = {"epochs": EPOCHS, "augment": best.augmentation}
        history = self._train(model, (pixels, targets), _falling(rate, len(pixels), EPOCHS), settings)
        self._use(self._network(pixels.shape[1:], "softmax").load_state_dict(model.state_dict()))
        kept = {
            "validation_frames": int(judging.sum()),
            **best.to_dict(),
            "seconds": sum(value or 0.0 for value in history.seconds),
        }
        return {**kept, "tried": [trial.to_dict() for trial in trials + runs]}

    def _try(
        self, part: Labelled, validation: Labelled, rate: LearningRate, augment: Augmentation | None, epochs: int
    ) -> Trial:
        model = self._network(part[0].shape[1:], None).build(self.seed)
        settings = {"epochs": epochs, "patience": PATIENCE, "augment": augment, "validation_data": validation}
        try:
            history = self._train(model, part, rate, settings)
        except FloatingPointError:
            history = History()
        return Trial(rate_at(rate, 0), augment, history)

    def _network(self, shape: Shape, output: str | None) -> Sequential:
        return reference_network(shape, self.n_classes, output=output, scale=1 / 255)

    def _train(self, model: Sequential, part: Labelled, rate: LearningRate, settings: Mapping[str, Any]) -> History:
        return fit(model, *part, optimizer=Adam(rate), batch_size=BATCH, seed=self.seed, progress=None, **settings)

    def _use(self, model: Sequential) -> None:
        self._model = model

    def predict_proba(self, frames: Any) -> Array:
        return self._model.predict(frames, BATCH)

    def save(self, folder: Path) -> Path:
        path = folder / "model.safetensors"
        save(self._model, path)
        return path


def _falling(rate: float, n_frames: int, epochs: int) -> CosineDecay:
    return CosineDecay(rate, epochs * math.ceil(n_frames / BATCH))


class KerasNetwork(Network):
    """The same network, trained by Keras from the same weights."""

    title = "same network in Keras"
    about = "the same network from the same first weights, trained by Keras in the same way"

    def __init__(self, n_classes: int, seed: int):
        super().__init__(n_classes, seed)
        self._keras = load_keras("framecnn compare")
        self.device = keras_device()

    def _train(self, model: Sequential, part: Labelled, rate: LearningRate, settings: Mapping[str, Any]) -> History:
        self._keras.backend.clear_session()  # what earlier trainings left in memory
        net = to_keras(model)
        history = fit_keras(net, *part, learning_rate=rate, batch_size=BATCH, seed=self.seed, **settings)
        copy_from_keras(net, model)
        return history

    def _use(self, model: Sequential) -> None:
        self._net = to_keras(model)

    def predict_proba(self, frames: Any) -> Array:
        starts = range(0, len(frames), BATCH)
        return np.concatenate([self._net.predict_on_batch(frames[start : start + BATCH]) for start in starts])

    def save(self, folder: Path) -> Path:
        path = folder / "model.keras"
        self._net.save(path)
        return path


CONTESTANTS: Mapping[str, type[Contestant]] = {
    "kmeans_system": KMeansSystem,
    "plain_head": PlainHead,
    "network": Network,
    "keras_network": KerasNetwork,
}
"""All of them, by the name they have in figures."""


def compile_kernels(network_size: tuple[int, int]) -> None:
    """Compile what contestants would else compile once for this machine, while their training is timed."""
    warm_up()
    model = reference_network((*network_size, 3), 2, output=None, scale=1 / 255).build()
    frames, targets = np.zeros((2, *model.input_shape), np.uint8), np.array([0, 1])
    fit(model, frames, targets, epochs=1, progress=None)
