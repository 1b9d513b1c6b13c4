"""All that is measured of a fitted classifier on the parts of a folder, for reports, JSON and tables."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from framecnn.data import FrameSubset
from framecnn.data.near_duplicates import LABEL_CONFLICT
from framecnn.data.prediction_table import PredictionRow
from framecnn.data.shards import Shards, StackedShards, as_shards
from framecnn.data.split import PARTS
from framecnn.evaluation.label_errors import find_label_errors
from framecnn.evaluation.matching import check_training_part, class_names, targets_of
from framecnn.evaluation.next_steps import next_steps
from framecnn.evaluation.out_of_fold import OutOfFoldEstimate, estimate_out_of_fold
from framecnn.evaluation.result import EvaluationResult
from framecnn.evaluation.verdict import likely_reasons
from framecnn.typing import Array

__all__ = ["TRAINING", "Assessment", "PartDetails", "Suspect", "assess"]

TRAINING = PARTS[0]
"""The name of the part on which the classifier was fitted."""
SMALL_FRAMES, SMALL_GROUPS = 100, 10  # a test part below these is not the main figure
BATCH = 256
IN_SAMPLE = "none"  # the fold of probabilities by a model that was fitted on the frame


@dataclass(frozen=True)
class Suspect:
    """A frame whose label is probably wrong.

    Parameters
    ----------
    part : str
        The part of the data that the frame belongs to.
    path : str
        The frame, relative to its folder.
    file : str
        The frame's file.
    group, label : str
        Its group, and the label that is in doubt.
    suggestion : str
        The class that the frame seems to belong to.
    label_probability, suggestion_probability : float
        Out-of-sample probabilities of both.
    """

    part: str
    path: str
    file: str
    group: str
    label: str
    suggestion: str
    label_probability: float
    suggestion_probability: float


@dataclass(frozen=True)
class PartDetails:
    """What is known of the frames of a part beside the result.

    Parameters
    ----------
    distances : array, shape (n, n_clusters)
        The distance of each frame to each cluster.
    nearest : array of int, shape (n,)
        The row of the training frame that is most similar; of training frames: the most similar of another group.
    out_of_distribution : array of bool, shape (n,), or None
        Which frames are out-of-distribution; None for training frames.
    """

    distances: Array
    nearest: Array
    out_of_distribution: Array | None = None


@dataclass(frozen=True, eq=False)
class Assessment:
    """All that is measured of a fitted classifier; :func:`assess` makes one.

    Parameters
    ----------
    parts : mapping of str to FrameSubset
        The frames, by the name of the part.
    results : mapping of str to EvaluationResult
        The result of each part. That of ``"training"`` is of the frames on which the classifier was fitted.
    details : mapping of str to PartDetails
        What is known of the frames of each part beside the result.
    training_names : sequence of str
        The names of the training frames, which ``PartDetails.nearest`` indexes; empty if the model has none.
    held_out : EvaluationResult, optional
        The result of the training frames by heads that were fitted without their group; it is without the frames of a
        group that cannot be held out, as the only one of a class.
    estimate : OutOfFoldEstimate, optional
        The out-of-fold estimate, where the test part is small.
    has_given_parts : bool, default False
        Whether the user divided the frames; then the test part is the main figure in any case.
    """

    parts: Mapping[str, FrameSubset]
    results: Mapping[str, EvaluationResult]
    details: Mapping[str, PartDetails]
    training_names: Sequence[str] = ()
    held_out: EvaluationResult | None = None
    estimate: OutOfFoldEstimate | None = None
    has_given_parts: bool = False

    @property
    def main(self) -> EvaluationResult | OutOfFoldEstimate:
        """The main figure.

        The out-of-fold estimate, where there is one and the parts were drawn; else the last part with frames, which is
        the test part after a training.
        """
        if self.estimate is not None and not self.has_given_parts:
            return self.estimate
        filled = [result for name, result in self.results.items() if result.n_frames and name != TRAINING]
        return filled[-1] if filled else self.held_out or next(iter(self.results.values()))

    @property
    def figures(self) -> list[EvaluationResult | OutOfFoldEstimate]:
        """All figures, the main one first."""
        beside = [self.estimate, *list(self.results.values())[::-1]]
        return [self.main, *(figure for figure in beside if figure is not None and figure is not self.main)]

    @property
    def verdict(self) -> str:
        """A sentence if the main figure is not better than always answering the largest class; otherwise ``""``."""
        return self.main.verdict

    @cached_property
    def reasons(self) -> list[str]:
        """Why the main figure is probably not better than that; empty if it is."""
        if not self.verdict:
            return []
        others = (self.estimate or self.held_out) if self.has_given_parts else None
        return likely_reasons(self.main, self.results.get(TRAINING), others)

    @property
    def next_steps(self) -> list[str]:
        """What would most probably raise the main figure, or make it more certain; empty if there is a verdict."""
        if self.verdict or not self.main.n_frames:
            return []
        warnings = (text for part in self.parts.values() for text in part.warnings)
        return next_steps(self.main, len(self.suspects), any(text.startswith(LABEL_CONFLICT) for text in warnings))

    @property
    def uncovered(self) -> list[str]:
        """The classes without a frame in the main figure; empty if it has no frames at all."""
        supports = np.bincount(_result_of(self.main).targets, minlength=len(self.main.classes))
        return [
            name for name, support in zip(self.main.classes, supports, strict=True) if supports.any() and not support
        ]

    @cached_property
    def suspects(self) -> list[Suspect]:
        """The frames whose label is probably wrong, the most suspicious first.

        They are found by :func:`~framecnn.evaluation.label_errors.find_label_errors` on probabilities of models that
        were fitted without the frame's group: the out-of-fold estimate where it covers the frame, else the held-out
        probabilities of training frames, else, of frames that are no training frames, the model itself. There are none
        if the main figure is not better than always answering the largest class: such probabilities say nothing about
        labels.
        """
        frames = [(name, row) for name, part in self.parts.items() for row in range(len(part))]
        if self.verdict or not frames:
            return []
        targets = np.concatenate([result.targets for result in self.results.values()])
        known = [self._out_of_sample(name) for name in self.parts]
        probabilities = np.concatenate([np.where(folds[:, None] == IN_SAMPLE, np.nan, own) for own, folds in known])
        found = find_label_errors(targets, probabilities)
        classes = self.main.classes
        suspects = []
        for row, suggestion in zip(found.rows.tolist(), found.suggestions.tolist(), strict=True):
            name, own = frames[row]
            part, label = self.parts[name], targets[row]
            shares = probabilities[row]
            suspects.append(
                Suspect(
                    name,
                    part.paths[own],
                    part.files[own],
                    str(part.groups[own]),
                    classes[label],
                    classes[suggestion],
                    float(shares[label]),
                    float(shares[suggestion]),
                )
            )
        return suspects

    def prediction_rows(self) -> Iterator[PredictionRow]:
        """Yield the rows of the table of predictions, part by part.

        The probabilities are those by which suspected labels are found and by which the main figure counts mistakes;
        ``fold`` says which they are: ``out-of-fold`` if the out-of-fold estimate covers the frame (the mean over its
        repeats), ``held-out`` for other training frames. For a training frame whose group cannot be held out they are
        those of the model itself, and ``fold`` is ``none``; for other frames they are, too, and it is empty.
        """
        ranks = {(suspect.part, suspect.path): number for number, suspect in enumerate(self.suspects, start=1)}
        suggestions = {(suspect.part, suspect.path): suspect.suggestion for suspect in self.suspects}
        for name, part in self.parts.items():
            result, details = self.results[name], self.details[name]
            probabilities, folds = self._out_of_sample(name)
            is_far = details.out_of_distribution
            for row, path in enumerate(part.paths):
                yield PredictionRow(
                    path=path,
                    probabilities=probabilities[row],
                    out_of_distribution=None if is_far is None else bool(is_far[row]),
                    nearest_training_path=self._name(details.nearest[row]),
                    part=name,
                    fold=str(folds[row]),
                    group=str(part.groups[row]),
                    label=result.classes[result.targets[row]],
                    suspected_label=suggestions.get((name, path), ""),
                    suspect_rank=ranks.get((name, path)),
                )

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as Python's own types, ready for JSON.

        Returns
        -------
        dict
            ``main`` (the part of the main figure), ``verdict`` (None if it is better than always answering the largest
            class), ``reasons``, ``results`` (by part, as :meth:`EvaluationResult.to_dict`; ``"out-of-fold"`` is the
            estimate, ``"held-out"`` the training frames by heads fitted without their group) and ``suspects``.
        """
        results = {
            figure.part: figure.to_dict() for figure in [*self.results.values(), self.held_out, self.estimate] if figure
        }
        return {
            "main": self.main.part,
            "verdict": self.verdict or None,
            "reasons": self.reasons,
            "results": results,
            "suspects": [{key: value for key, value in asdict(own).items() if key != "file"} for own in self.suspects],
        }

    def _out_of_sample(self, name: str) -> tuple[Array, Array]:
        """Return the probabilities of the frames of a part, (n, n_classes), by models fitted without their groups.

        Also what :class:`PredictionRow` calls ``fold``, (n,) of str; ``none`` where there is no such model.
        """
        result = self.results[name]
        probabilities = result.probabilities.copy()
        folds = np.full(result.n_frames, IN_SAMPLE if name == TRAINING else "", "<U11")
        place = {path: row for row, path in enumerate(result.paths)}
        for figure in (self.held_out, self.estimate):  # the estimate replaces the others
            if figure is not None:
                other = _result_of(figure)
                covered = np.array([place.get(path, -1) for path in other.paths], np.int64)
                rows = covered[covered >= 0]
                probabilities[rows], folds[rows] = other.probabilities[covered >= 0], other.part
        return probabilities, folds

    def _name(self, row: int) -> str:
        return self.training_names[row] if 0 <= row < len(self.training_names) else ""


def assess(
    classifier: Any,
    parts: Mapping[str, FrameSubset],
    features: Mapping[str, Shards | Array] | None = None,
    *,
    seed: int = 0,
    has_given_parts: bool = False,
    by_group: bool = True,
    classes: Sequence[str] | None = None,
) -> Assessment:
    """Measure a fitted classifier on the parts of a folder.

    Where the last part has fewer than 100 frames or 10 groups, and there are training frames, the out-of-fold estimate
    over all groups is made, too; with given parts over the groups of the training part. Features that are trained with
    labels know the labels of all training frames, so that no head fitted to them is without a group: there is neither
    the estimate nor the held-out result then.

    Parameters
    ----------
    classifier : FrameClassifier
        A fitted one.
    parts : mapping of str to FrameSubset
        The frames by the name of the part, the test part last. The part ``"training"``, if there is one, holds the
        frames on which the classifier was fitted, in the same order.
    features : mapping of str to Shards or array (n, n_features), optional
        The features of the frames of each part, if they are known: ``classifier.features_.transform`` returns them.
    seed : int, default 0
        Seed of the folds.
    has_given_parts : bool, default False
        Whether the user divided the frames.
    by_group : bool, default True
        Whether the parts are made of whole groups. If not, the folds of the estimate are not either.
    classes : sequence of str, optional
        The name of each class in the order of ``classifier.classes_``. By default integer labels are class numbers of
        the training part, and other labels, and all of them without a training part, are the names themselves.

    Returns
    -------
    Assessment

    Raises
    ------
    DataError
        If a part has a class that the classifier does not know, the names of its classes are not clear, or the training
        part is not that of the classifier.
    """
    train = parts.get(TRAINING)
    classes = class_names(classifier, train, classes)
    if train is not None:
        check_training_part(classifier, train)
    is_held_out = train is not None and not classifier.features_.uses_labels_
    known: dict[str, Any] = dict(features or {})
    results, details = {}, {}
    names = getattr(classifier, "training_names_", None)
    for name, part in parts.items():
        targets = targets_of(classes, part)
        if name not in known:
            known[name] = classifier.features_.transform(part.frames) if len(part) else np.zeros((0, 0))
        probabilities, details[name] = _measured(classifier.head_, known[name], part, name == TRAINING)
        results[name] = EvaluationResult(name, classes, targets, probabilities, part.groups, part.files)
    held_out = None
    shares = getattr(classifier, "held_out_probabilities_", None)  # a model from a file has none
    if is_held_out and shares is not None and len(rows := np.flatnonzero(~np.isnan(shares).any(axis=1))):
        own = results[TRAINING]
        paths = [own.paths[row] for row in rows.tolist()]
        held_out = EvaluationResult("held-out", classes, own.targets[rows], shares[rows], own.groups[rows], paths)
    estimate = None
    last = list(results.values())[-1]
    if is_held_out and (last.n_frames < SMALL_FRAMES or last.n_groups < SMALL_GROUPS):
        used = [name for name, part in parts.items() if len(part) and (name == TRAINING or not has_given_parts)]
        groups = np.concatenate([parts[name].groups for name in used])
        estimate = estimate_out_of_fold(
            classifier.head_,
            StackedShards([as_shards(known[name]) for name in used]),
            np.concatenate([results[name].targets for name in used]),
            groups if by_group else np.arange(len(groups)),
            classes,
            [path for name in used for path in results[name].paths],
            seed,
        )
    training_names = () if names is None else names.tolist()
    return Assessment(parts, results, details, training_names, held_out, estimate, has_given_parts)


def _result_of(figure: EvaluationResult | OutOfFoldEstimate) -> EvaluationResult:
    """Return a figure that has one prediction for each frame."""
    return figure.mean if isinstance(figure, OutOfFoldEstimate) else figure


def _measured(head: Any, features: Any, part: FrameSubset, is_training: bool) -> tuple[Array, PartDetails]:
    """Return the probabilities of the frames of a part, and what else is known of them."""
    n = len(part)
    if not n:
        empty = np.zeros((0, len(head.classes_)))
        return empty, PartDetails(np.zeros((0, len(head.cluster_labels_))), np.zeros(0, np.int64), np.zeros(0, bool))
    distances = head.transform(features)
    if is_training:
        return head.probabilities(distances), PartDetails(
            distances, _nearest_of_other_groups(head, features, part.groups)
        )
    found = head.predict_details(features)
    return found.probabilities, PartDetails(distances, found.nearest[:, 0], found.out_of_distribution)


def _nearest_of_other_groups(head: Any, features: Any, groups: Array) -> Array:
    """Return the row of the most similar training frame of another group for each training frame; -1 if none."""
    n = len(features)
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    found = np.full(n, -1)
    k = min(len(head.outliers_.rows), int(sizes.max()) + 1)
    for start in range(0, n, BATCH):
        rows = np.arange(start, min(start + BATCH, n))
        nearest, _ = head.nearest(features[rows], k)
        is_other = numbers[nearest] != numbers[rows][:, None]
        first = nearest[np.arange(len(rows)), is_other.argmax(axis=1)]
        found[rows] = np.where(is_other.any(axis=1), first, -1)
    return found
