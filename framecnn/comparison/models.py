"""The compared models. Each is fitted, and its settings are chosen, on the training frames alone."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from framecnn.data.augment import Augmentation
from framecnn.data.loader import LazyFrames
from framecnn.data.split import assign_parts
from framecnn.errors import DataError
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

__all__ = ["MODELS", "ComparedModel", "compile_kernels"]

VALIDATION = 0.2  # share of the training groups on which networks choose their settings and epochs
LEARNING_RATES = (0.0003, 0.001, 0.003)
TRIAL_EPOCHS, EPOCHS, PATIENCE, BATCH = 4, 25, 10, 32

Labelled = tuple[Array, Array]


class ComparedModel(ABC):
    """A classifier of frames that is compared with others.

    Parameters
    ----------
    n_classes : int
    seed : int

    Attributes
    ----------
    title : str
        Its name in tables.
    about : str
        A description of it in one sentence.
    at_network_size : bool
        Whether its frames have the size for the networks instead of the size for the k-means system.
    device : str
        The device that computes.
    """

    title: ClassVar[str]
    about: ClassVar[str]
    at_network_size: ClassVar[bool]
    device = "CPU"

    def __init__(self, n_classes: int, seed: int):
        self.n_classes, self.seed = n_classes, seed

    @abstractmethod
    def fit(self, frames: LazyFrames, targets: Array, groups: Array) -> dict[str, Any]:
        """Fit the model and return the settings that were chosen, ready for JSON."""

    @abstractmethod
    def predict_proba(self, frames: Any) -> Array:
        """Return the probabilities of the classes, shape (n, n_classes)."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write what prediction needs into one file and return its path."""


class KMeansSystem(ComparedModel):
    """The classifier of framecnn with learned features."""

    title = "k-means system"
    about = "framecnn's classifier: filters learned without labels, a discriminant projection and the k-means head"
    at_network_size = False
    settings: ClassVar[Mapping[str, Any]] = {"features": "learned"}

    def fit(self, frames: LazyFrames, targets: Array, groups: Array) -> dict[str, Any]:
        self._model = FrameClassifier(random_state=self.seed, **self.settings).fit(frames, targets, groups)
        chosen = self._model.chosen_
        grid = None if chosen["grid"] is None else "x".join(map(str, chosen["grid"]))
        return {"grid": grid, "alpha": chosen["alpha"]}

    def predict_proba(self, frames: Any) -> Array:
        probabilities = np.zeros((len(frames), self.n_classes))
        probabilities[:, self._model.classes_] = self._model.predict_proba(frames)
        return probabilities

    def save(self, folder: Path) -> Path:
        path = folder / "model.safetensors"
        self._model.save(path)
        return path


class PlainHead(KMeansSystem):
    """The same features without projection, and the plain k-means head."""

    title = "plain k-means head"
    about = "k-means on the learned features, without a projection; each cluster has the class of most of its frames"
    settings: ClassVar[Mapping[str, Any]] = {"features": "learned", "projection": None}


class PretrainedSystem(KMeansSystem):
    """The classifier with pretrained features."""

    title = "k-means system on pretrained features"
    about = "the k-means system with features of EfficientNet-Lite0, a network trained on ImageNet"
    settings: ClassVar[Mapping[str, Any]] = {"features": "pretrained"}


class JoinedSystem(KMeansSystem):
    """The classifier with learned and pretrained features."""

    title = "k-means system on both features"
    about = "the k-means system with learned and pretrained features side by side"
    settings: ClassVar[Mapping[str, Any]] = {"features": "both"}


@dataclass(frozen=True)
class Trial:
    """A training run with its settings and its history."""

    learning_rate: float
    augmentation: Augmentation | None
    history: History

    @property
    def val_loss(self) -> float:
        """The lowest validation loss; infinite if training diverged."""
        return min((value for value in self.history.val_loss if value is not None), default=math.inf)

    @property
    def score(self) -> tuple[float, float]:
        """The validation accuracy at the best epoch, then the negative loss; larger is better."""
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


class Network(ComparedModel):
    """The reference network, trained by framecnn.

    A part of the training groups is held out for validation. `fit` first chooses the learning rate with the lowest
    validation loss, each in a few epochs over which the rate decays to zero. At that constant rate it trains the
    network without and with augmentation, each until the validation loss has not fallen for some epochs, and chooses
    the one with the higher validation accuracy. The final training is on all training frames, with these settings and
    a rate that decays to zero.

    Parameters
    ----------
    n_classes : int
    seed : int
    epochs : int, default 25
        The largest number of epochs with and without augmentation, and the number of the final training.
    trial_epochs : int, default 4
        The number of epochs in which each learning rate is tried.
    learning_rates : sequence of float, default (0.0003, 0.001, 0.003)
        The learning rates to choose from.
    """

    title = "trained network"
    about = (
        "four convolutions and two dense layers, trained by framecnn; the learning rate and the use of augmentation "
        "(flips, shifts, zooms, brightness) are chosen on a part of the training frames; the final training is on all "
        "training frames, with a learning rate that decays to zero"
    )
    at_network_size = True

    def __init__(
        self,
        n_classes: int,
        seed: int,
        epochs: int = EPOCHS,
        trial_epochs: int = TRIAL_EPOCHS,
        learning_rates: Sequence[float] = LEARNING_RATES,
    ):
        super().__init__(n_classes, seed)
        self.epochs, self.trial_epochs, self.learning_rates = epochs, trial_epochs, learning_rates

    def fit(self, frames: LazyFrames, targets: Array, groups: Array) -> dict[str, Any]:
        pixels = frames[:]
        held_out = assign_parts(targets, groups, (1 - VALIDATION, VALIDATION, 0), self.seed) == 1
        if not held_out.any():
            raise DataError("expected a class of at least two groups, to hold one out for validation, got none")
        parts = (pixels[~held_out], targets[~held_out]), (pixels[held_out], targets[held_out])
        rates = [_decay(rate, len(parts[0][0]), self.trial_epochs) for rate in self.learning_rates]
        trials = [self._try(*parts, rate, None, self.trial_epochs) for rate in rates]
        rate = min(trials, key=lambda trial: trial.val_loss).learning_rate
        runs = [self._try(*parts, rate, augmentation, self.epochs) for augmentation in (None, AUGMENTATION)]
        best = max(runs, key=lambda trial: trial.score)
        model = self._network(pixels.shape[1:], None).build(self.seed)
        settings = {"epochs": self.epochs, "augment": best.augmentation}
        history = self._train(model, (pixels, targets), _decay(rate, len(pixels), self.epochs), settings)
        self._use(self._network(pixels.shape[1:], "softmax").load_state_dict(model.state_dict()))
        return {
            "validation_frames": int(held_out.sum()),
            **best.to_dict(),
            "seconds": sum(value or 0.0 for value in history.seconds),
            "tried": [trial.to_dict() for trial in trials + runs],
        }

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


def _decay(rate: float, n_frames: int, epochs: int) -> CosineDecay:
    return CosineDecay(rate, epochs * math.ceil(n_frames / BATCH))


class KerasNetwork(Network):
    """The same network with the same initial weights, trained by Keras."""

    title = "same network in Keras"
    about = "the same network with the same initial weights, trained by Keras by the same method"

    def __init__(self, n_classes: int, seed: int, **settings: Any):
        super().__init__(n_classes, seed, **settings)
        self._keras = load_keras("framecnn compare")
        self.device = keras_device()

    def _train(self, model: Sequential, part: Labelled, rate: LearningRate, settings: Mapping[str, Any]) -> History:
        self._keras.backend.clear_session()  # frees the memory of earlier trainings
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


MODELS: Mapping[str, type[ComparedModel]] = {
    "kmeans_system": KMeansSystem,
    "plain_head": PlainHead,
    "pretrained": PretrainedSystem,
    "both": JoinedSystem,
    "network": Network,
    "keras_network": KerasNetwork,
}
"""The compared models by the name that they have in JSON."""


def compile_kernels(network_size: tuple[int, int]) -> None:
    """Compile all kernels that the models use, so that their training time does not include it."""
    warm_up()
    model = reference_network((*network_size, 3), 2, output=None, scale=1 / 255).build()
    frames, targets = np.zeros((2, *model.input_shape), np.uint8), np.array([0, 1])
    fit(model, frames, targets, epochs=1, progress=None)
