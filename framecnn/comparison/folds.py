"""The folds of a comparison: every contestant on each of them, as data that a later run goes on from."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from framecnn.comparison.child import Outcome, run_apart
from framecnn.comparison.models import CONTESTANTS
from framecnn.data import FrameFolder, FrameSubset
from framecnn.errors import DataError
from framecnn.estimators.trained_features import NETWORK_SIZE
from framecnn.evaluation import EvaluationResult
from framecnn.networks.reference import reference_network

__all__ = ["Comparison"]

MEASURES = ("train_seconds", "frames_per_second", "peak_megabytes", "model_bytes")


class Comparison:
    """The contestants on the folds of a folder: each fold is left out once, all learn from the same other frames.

    Parameters
    ----------
    folder : FrameFolder
        Its size is that of the frames which the k-means system sees.
    folds : int, default 4
    network_size : (int, int), default (96, 144)
        Height and width of the frames that networks see.
    seed : int, default 0
        Of the folds, the contestants and the frames that are shown.

    Attributes
    ----------
    settings : dict
        What makes the comparison: frames, classes, folds, sizes, seed.
    folds : list of dict
        What was done, fold by fold, ready for JSON: ``fold`` (from 1), ``n_train``, ``n_test``, ``shown`` (the path
        of a random test frame), ``outcomes`` by contestant.

    Raises
    ------
    ValueError, DataError
        If there cannot be so many folds.
    ShapeError
        If frames of the networks' size are too small for them.
    """

    def __init__(
        self, folder: FrameFolder, folds: int = 4, network_size: tuple[int, int] = NETWORK_SIZE, seed: int = 0
    ):
        reference_network((*network_size, 3), len(folder.classes)).summary()
        self.folder, self.network_size, self.seed = folder, network_size, seed
        self.parts = folder.folds(folds, seed)
        self.folds: list[dict[str, Any]] = []
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

    def resume(self, data: Any) -> None:
        """Take over the folds that an earlier run did.

        Parameters
        ----------
        data : dict
            What :meth:`to_dict` gave then.

        Raises
        ------
        DataError
            If these are figures of other frames or settings.
        """
        before = data.get("settings") if isinstance(data, Mapping) else None
        if before != self.settings:
            before = before if isinstance(before, Mapping) else {}
            other = [name for name, value in self.settings.items() if before.get(name) != value]
            raise DataError(
                f"compare: expected figures of the same frames and settings to go on from, got other "
                f"{', '.join(other)}; name another file, or leave out --resume to start again"
            )
        self.folds = list(data.get("folds", ()))

    @property
    def n_left(self) -> int:
        """How many folds are still to do."""
        return len(self.parts) - len(self.folds)

    def next_fold(self, tell: Callable[[int, int, str], object]) -> None:
        """Do the next fold: add to `folds` what every contestant did on it.

        Parameters
        ----------
        tell : callable
            Called as ``tell(done, total, title)`` before each contestant.
        """
        number = len(self.folds)
        train, test = self.parts[number]
        shown = int(np.random.default_rng([self.seed, number]).integers(len(test)))
        outcomes = {}
        for place, (name, contestant) in enumerate(CONTESTANTS.items()):
            tell(place, len(CONTESTANTS), f"fold {number + 1} of {len(self.parts)}: {contestant.title}")
            outcomes[name] = run_apart(self._job(name, train, test, shown))
        self.folds.append(
            {
                "fold": number + 1,
                "n_train": len(train),
                "n_test": len(test),
                "shown": test.paths[shown],
                "outcomes": outcomes,
            }
        )

    def _job(self, name: str, train: FrameSubset, test: FrameSubset, shown: int) -> dict[str, Any]:
        size = self.network_size if CONTESTANTS[name].at_network_size else self.folder.size
        return {
            "contestant": name,
            "n_classes": len(self.folder.classes),
            "seed": self.seed,
            "train": train.frames.config(size),
            "test": test.frames.config(size),
            "targets": train.targets.tolist(),
            "groups": train.groups.tolist(),
            "shown": shown,
        }

    @property
    def warnings(self) -> list[str]:
        """What to know about the frames, and what about one of the folds."""
        folder, folds = self.folder.warnings, enumerate(self.parts, start=1)
        own = [f"fold {number}: {text}" for number, (_, test) in folds for text in test.warnings if text not in folder]
        return [*folder, *own]

    @property
    def missing(self) -> dict[str, str]:
        """Why contestants did not take part in every fold that was done, by name."""
        found = ((name, outcome) for fold in self.folds for name, outcome in fold["outcomes"].items())
        return {name: outcome["missing"] for name, outcome in found if "missing" in outcome}

    @property
    def outcomes(self) -> dict[str, list[Outcome]]:
        """What the others did, fold by fold."""
        present = [name for name in CONTESTANTS if name not in self.missing]
        return {name: [fold["outcomes"][name] for fold in self.folds] for name in present if self.folds}

    @property
    def results(self) -> dict[str, EvaluationResult]:
        """Their answers to the test frames of all folds that were done, together."""
        tests = [test for _, test in self.parts[: len(self.folds)]]
        return {
            name: EvaluationResult(
                part=CONTESTANTS[name].title,
                classes=self.folder.classes,
                targets=np.concatenate([test.targets for test in tests]),
                predictions=np.concatenate([outcome["predictions"] for outcome in outcomes]),
                confidences=np.concatenate([outcome["confidences"] for outcome in outcomes]),
                groups=np.concatenate([test.groups for test in tests]),
            )
            for name, outcomes in self.outcomes.items()
        }

    @property
    def paths(self) -> list[str]:
        """The files of the frames that `results` are about."""
        tests = [test for _, test in self.parts[: len(self.folds)]]
        return [str(self.folder.root / path) for test in tests for path in test.paths]

    def figures(self) -> dict[str, dict[str, Any]]:
        """Return the figures of every contestant that took part.

        Returns
        -------
        dict
            By name: ``title``, ``accuracies`` (a fold each), ``mean`` (of the folds), ``interval`` (95 %, of all test
            frames together, by group), ``confusion``, the means of ``train_seconds``,
            ``frames_per_second``, ``peak_megabytes`` and ``model_bytes``, ``kept_run_seconds`` (of the training that
            gave the model, where others were tried; else None), and ``device``.
        """
        found = {}
        results = self.results
        for name, outcomes in self.outcomes.items():
            right, start, accuracies = results[name].correct, 0, []
            for outcome in outcomes:
                n_test = len(outcome["predictions"])
                accuracies.append(float(right[start : start + n_test].mean()))
                start += n_test
            found[name] = {
                "title": CONTESTANTS[name].title,
                "accuracies": accuracies,
                "mean": float(np.mean(accuracies)),
                "interval": list(results[name].interval),
                "confusion": results[name].confusion.tolist(),
                **{measure: float(np.mean([outcome[measure] for outcome in outcomes])) for measure in MEASURES},
                "kept_run_seconds": _mean([outcome["chosen"].get("seconds") for outcome in outcomes]),
                "device": ", ".join(dict.fromkeys(outcome["device"] for outcome in outcomes)),
            }
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {
            "settings": self.settings,
            "contestants": self.figures(),
            "missing": self.missing,
            "folds": self.folds,
        }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
