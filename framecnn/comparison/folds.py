"""A comparison: every model on every fold of a folder, as data that can be saved and resumed."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from framecnn.comparison.model_process import Outcome, run_in_process
from framecnn.comparison.models import MODELS
from framecnn.data import FrameFolder, FrameSubset
from framecnn.data.prediction_table import PredictionRow
from framecnn.errors import DataError, ShapeError
from framecnn.estimators.trained_features import NETWORK_SIZE
from framecnn.evaluation import EvaluationResult
from framecnn.networks.reference import REFERENCE_FILTERS
from framecnn.typing import Array

__all__ = ["Comparison"]

MIN_NETWORK_SIDE = 2 ** len(REFERENCE_FILTERS)
"""The smallest side of the frames for the networks, in pixels: each convolution is followed by a halving."""
MEASURES = ("train_seconds", "frames_per_second", "peak_megabytes", "model_bytes")


class Comparison:
    """The models on the folds of a folder: each fold is held out once, all models are trained on the other frames.

    Parameters
    ----------
    folder : FrameFolder
        Its size is used for the k-means system.
    folds : int, default 4
    network_size : (int, int), default (96, 144)
        Height and width of the frames for the networks.
    seed : int, default 0
        Seed of the folds, the models and the frames that are shown.
    run : callable, optional
        Called as ``run(job)``; returns the outcome of a model on a fold.

    Attributes
    ----------
    settings : dict
        What defines the comparison: frames, classes, folds, sizes, seed.
    folds : list of dict
        One per fold: ``fold`` (from 1), ``n_train``, ``n_test``, ``shown`` (the path of a random test frame), and
        ``outcomes``, by the name of each model that has been run, with their probabilities as arrays.

    Raises
    ------
    ValueError, DataError
        If the folder cannot be divided into so many folds.
    ShapeError
        If the frames for the networks are too small for them.
    """

    def __init__(
        self,
        folder: FrameFolder,
        folds: int = 4,
        network_size: tuple[int, int] = NETWORK_SIZE,
        seed: int = 0,
        run: Callable[[Mapping[str, Any]], Outcome] = run_in_process,
    ):
        if min(network_size) < MIN_NETWORK_SIDE:
            raise ShapeError(
                f"Comparison: expected network_size of at least {MIN_NETWORK_SIDE}x{MIN_NETWORK_SIDE}, "
                f"got {network_size[0]}x{network_size[1]}"
            )
        self.folder, self.network_size, self.seed, self._run = folder, network_size, seed, run
        self.parts = folder.folds(folds, seed)
        self.folds = [self._fold(number, train, test) for number, (train, test) in enumerate(self.parts)]
        self._results: dict[str, EvaluationResult] | None = None
        rows = [folder.samples, folder.groups.tolist()]
        self.settings: dict[str, Any] = {
            "folder": folder.root.name,
            "frames": len(folder),
            "digest": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
            "groups": folder.group_source,
            "classes": folder.classes,
            "folds": folds,
            "size": list(folder.size),
            "network_size": list(network_size),
            "seed": seed,
        }

    def _fold(self, number: int, train: FrameSubset, test: FrameSubset) -> dict[str, Any]:
        shown = int(np.random.default_rng([self.seed, number]).integers(len(test)))
        counts = {"n_train": len(train), "n_test": len(test)}
        return {"fold": number + 1, **counts, "shown": test.paths[shown], "outcomes": {}}

    def resume(self, data: Any) -> None:
        """Take over the outcomes of an earlier run; models that failed or were missing are run again.

        Parameters
        ----------
        data : dict
            What :meth:`to_dict` returned in that run.

        Raises
        ------
        DataError
            If these are not figures of a comparison, or the frames or settings differ.
        """
        before = data.get("settings") if isinstance(data, Mapping) else None
        if not isinstance(before, Mapping) or "folds" not in data:
            raise DataError("compare: expected figures of framecnn compare to resume from, got others; name their file")
        if before != self.settings:
            other = [name for name, value in self.settings.items() if before.get(name) != value]
            raise DataError(
                "compare: expected figures of the same frames and settings to resume from, got different values of "
                f"{', '.join(other)}; name another file, or start again without --resume"
            )
        for fold, earlier in zip(self.folds, data["folds"], strict=True):
            outcomes = earlier["outcomes"]
            known = [name for name in MODELS if "probabilities" in outcomes.get(name, ())]
            fold["outcomes"] = {name: _with_array(outcomes[name]) for name in known}
        self._results = None

    @property
    def pending(self) -> list[tuple[int, str]]:
        """The index of the fold and the name of the model of each outcome that is still to come."""
        return [
            (number, name) for number, fold in enumerate(self.folds) for name in MODELS if name not in fold["outcomes"]
        ]

    def run_next(self, progress: Callable[[int, int, str], object]) -> int | None:
        """Run the next pending model and add its outcome to `folds`.

        Parameters
        ----------
        progress : callable
            Called as ``progress(done, total, title)`` before the model runs.

        Returns
        -------
        int or None
            The index of the fold if it is complete now, else None.
        """
        number, name = self.pending[0]
        outcomes = self.folds[number]["outcomes"]
        title = f"fold {number + 1} of {len(self.parts)}: {MODELS[name].title}"
        progress(len(outcomes), len(MODELS), title)
        outcomes[name], self._results = _with_array(self._run(self._job(name, number))), None
        self.folds[number]["outcomes"] = {own: outcomes[own] for own in MODELS if own in outcomes}
        return number if len(outcomes) == len(MODELS) else None

    def _job(self, name: str, number: int) -> dict[str, Any]:
        train, test = self.parts[number]
        size = self.network_size if MODELS[name].at_network_size else self.folder.size
        return {
            "model": name,
            "n_classes": len(self.folder.classes),
            "seed": self.seed,
            "train": train.frames.config(size),
            "test": test.frames.config(size),
            "targets": train.targets.tolist(),
            "groups": train.groups.tolist(),
        }

    @property
    def warnings(self) -> list[str]:
        """Warnings about the frames and the folds."""
        folder, folds = self.folder.warnings, enumerate(self.parts, start=1)
        own = [f"fold {number}: {text}" for number, (_, test) in folds for text in test.warnings if text not in folder]
        return [*folder, *own]

    @property
    def missing(self) -> dict[str, str]:
        """The reason why a model was not run, by the name of the model."""
        return {name: outcome["missing"] for _, name, outcome in self._outcomes() if "missing" in outcome}

    @property
    def failed(self) -> dict[str, str]:
        """The last fold in which a model failed, and the reason, by the name of the model."""
        found = ((number, name, outcome.get("failed")) for number, name, outcome in self._outcomes())
        return {name: f"fold {number}: {reason}" for number, name, reason in found if reason is not None}

    @property
    def absences(self) -> list[str]:
        """Why models have no figures, one line per model."""
        missing = [f"{MODELS[name].title} was not run: {why}" for name, why in self.missing.items()]
        return missing + [f"{MODELS[name].title} failed in {why}" for name, why in self.failed.items()]

    def _outcomes(self) -> list[tuple[int, str, Outcome]]:
        return [(fold["fold"], name, outcome) for fold in self.folds for name, outcome in fold["outcomes"].items()]

    @property
    def outcomes(self) -> dict[str, list[Outcome]]:
        """The outcomes of each model, one per complete fold; without models that failed or are missing."""
        absent = self.missing | self.failed
        folds = [self.folds[number] for number in self._complete]
        return {name: [fold["outcomes"][name] for fold in folds] for name in MODELS if folds and name not in absent}

    @property
    def _complete(self) -> list[int]:
        return [number for number, fold in enumerate(self.folds) if len(fold["outcomes"]) == len(MODELS)]

    @property
    def _tests(self) -> list[FrameSubset]:
        return [self.parts[number][1] for number in self._complete]

    @property
    def results(self) -> dict[str, EvaluationResult]:
        """The predictions of each model for the test frames of all complete folds together."""
        if self._results is None:
            tests = self._tests
            self._results = {
                name: EvaluationResult(
                    part=MODELS[name].title,
                    classes=self.folder.classes,
                    targets=np.concatenate([test.targets for test in tests]),
                    probabilities=np.concatenate([outcome["probabilities"] for outcome in outcomes]),
                    groups=np.concatenate([test.groups for test in tests]),
                    paths=[path for test in tests for path in test.files],
                )
                for name, outcomes in self.outcomes.items()
            }
        return self._results

    def accuracies(self, number: int) -> dict[str, float]:
        """Return the accuracy of each model on one fold, by its name; without models that failed there or are missing.

        Parameters
        ----------
        number : int
            The index of the fold.
        """
        targets = self.parts[number][1].targets
        return {
            name: _accuracy(outcome, targets)
            for name, outcome in self.folds[number]["outcomes"].items()
            if "probabilities" in outcome
        }

    def prediction_rows(self) -> Iterator[PredictionRow]:
        """Yield the rows of a table of predictions: the test frames of all complete folds, for each model in turn.

        The part of a row is the title of the model, its fold the number of the fold, from 1.
        """
        for result in self.results.values():
            numbered = [(number + 1, path) for number in self._complete for path in self.parts[number][1].paths]
            for row, (fold, path) in enumerate(numbered):
                yield PredictionRow(
                    path=path,
                    probabilities=result.probabilities[row],
                    part=result.part,
                    fold=str(fold),
                    group=str(result.groups[row]),
                    label=result.classes[result.targets[row]],
                )

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the figures of every model in `outcomes`.

        Returns
        -------
        dict
            By name: ``title``, ``accuracies`` (one per fold), ``accuracy`` (over the test frames of all folds) and its
            ``interval`` (95 % cluster bootstrap over their groups), ``confusion``, the means of ``train_seconds``,
            ``frames_per_second``, ``peak_megabytes`` and ``model_bytes``, ``final_training_seconds`` (of the last
            training of a network, without its trials; None for other models), and ``device``.
        """
        found = {}
        results = self.results
        for name, outcomes in self.outcomes.items():
            pairs = zip(outcomes, self._tests, strict=True)
            accuracies = [_accuracy(outcome, test.targets) for outcome, test in pairs]
            found[name] = {
                "title": MODELS[name].title,
                "accuracies": accuracies,
                "accuracy": results[name].accuracy,
                "interval": list(results[name].interval),
                "confusion": results[name].confusion.tolist(),
                **{measure: float(np.mean([outcome[measure] for outcome in outcomes])) for measure in MEASURES},
                "final_training_seconds": _mean([outcome["chosen"].get("seconds") for outcome in outcomes]),
                "device": ", ".join(dict.fromkeys(outcome["device"] for outcome in outcomes)),
            }
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "settings": self.settings,
            "models": self.figures(),
            "missing": self.missing,
            "failed": self.failed,
            "folds": [
                fold | {"outcomes": {name: _with_lists(own) for name, own in fold["outcomes"].items()}}
                for fold in self.folds
            ],
        }


def _with_array(outcome: Outcome) -> Outcome:
    """Return an outcome whose probabilities, if it has any, are an array."""
    if "probabilities" not in outcome:
        return outcome
    return outcome | {"probabilities": np.asarray(outcome["probabilities"], np.float64)}


def _with_lists(outcome: Outcome) -> Outcome:
    """Return an outcome that is ready for JSON."""
    if "probabilities" not in outcome:
        return outcome
    return outcome | {"probabilities": outcome["probabilities"].tolist()}


def _accuracy(outcome: Outcome, targets: Array) -> float:
    return float((np.argmax(outcome["probabilities"], axis=1) == targets).mean())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
