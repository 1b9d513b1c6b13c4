"""What reports show of a model's reasons: contributions and near training frames of mistakes, filters of classes."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from framecnn.data import FrameLost, decode
from framecnn.errors import MachineError, SettingError
from framecnn.estimators import explain, filter_contributions
from framecnn.estimators.details import N_NEAREST
from framecnn.evaluation import Assessment, OutOfFoldEstimate
from framecnn.evaluation.assessment import TRAINING
from framecnn.report.arrangement import MATRIX_CLASSES, N_CLASS_FILTERS, shown_mistakes
from framecnn.report.data import Evidence
from framecnn.report.feature_notes import networks_with_filters, scale_name
from framecnn.typing import Array

__all__ = ["explain_mistakes", "explain_pictures", "filters_of_classes"]

UNREADABLE = (FrameLost, MachineError)
"""Errors of frames that a report does without: it is written after the training, which must not be lost."""
TYPICAL_FRAMES = 6
MOST_FRAMES = 120
"""The largest number of frames that are read to find the filters of classes."""


def explain_mistakes(classifier: Any, assessment: Assessment) -> dict[str, Evidence]:
    """Return what speaks for the mistakes that a report shows, by the path of the frame.

    The maps are those of the classifier itself. Out-of-fold mistakes were made by heads that were fitted without the
    frame's group; near training frames of its own group are left out for all frames.

    Parameters
    ----------
    classifier : FrameClassifier
    assessment : Assessment
        The shown mistakes are those of its main figure; only their frames are read.

    Returns
    -------
    dict of str to Evidence
        Empty if the features have no places, as those of a network that ends in rows; without frames that can no longer
        be read, or whose true class has no cluster.
    """
    main = assessment.main
    result = main.mean if isinstance(main, OutOfFoldEstimate) else main
    places = {path: (part, row) for part in assessment.parts.values() for row, path in enumerate(part.files)}
    shown, pixels = [], []
    for row in shown_mistakes(result):
        part, own = places[result.paths[row]]
        with suppress(*UNREADABLE):  # the report has a placeholder for it
            pixels.append(np.asarray(part.frames[np.array([own])]))
            shown.append((row, part, own))
    if not shown:
        return {}
    frames = np.concatenate(pixels)
    features = classifier.features_.transform(frames)
    answers = classifier.head_.predict(features)
    labels = dict(zip(result.classes, classifier.classes_.tolist(), strict=True))
    names = {label: name for name, label in labels.items()}
    found = {}
    for (row, part, own), frame, vector, answer in zip(shown, frames, features, answers.tolist(), strict=True):
        truth, predicted = (labels[result.classes[codes[row]]] for codes in (result.targets, result.predictions))
        is_right = answer == truth  # the classifier itself may classify an out-of-fold mistake correctly
        try:
            explanation = explain(classifier, frame, predicted if is_right else truth)
        except SettingError:  # features without places; or a class without a cluster
            continue
        sides = names[explanation.label], names[explanation.against]
        label, against = reversed(sides) if is_right else sides
        sign = -1 if is_right else 1
        by_kind = {kind: sign * value for kind, value in explanation.by_kind.items()}
        nearest = _nearest(classifier.head_, vector, assessment, str(part.groups[own]))
        found[result.paths[row]] = Evidence(label, against, sign * explanation.map, nearest, by_kind)
    return found


def explain_pictures(classifier: Any, paths: Sequence[str], folders: Sequence[Path]) -> dict[str, Evidence]:
    """Return what speaks for the labels of pictures rather than for the second most probable class, by path.

    Training frames are looked for by their names in the model, which may come from anyone: a name never leads out of
    the folders.

    Parameters
    ----------
    classifier : FrameClassifier
    paths : sequence of str
    folders : sequence of Path
        Where training frames are looked for, in this order.

    Returns
    -------
    dict of str to Evidence
        The near training frames have their names in the place of their classes, which the model does not know.

    Raises
    ------
    SettingError
        If the features of the model have no places.
    SkippedFrame
        If a picture cannot be read.
    """
    size, names, found = tuple(classifier.features_.frame_shape_[:2]), classifier.training_names_, {}
    for path in paths:
        frame = decode(path, size).pixels
        shown = explain(classifier, frame)
        rows = [] if names is None else classifier.predict_details(frame[None]).nearest[0].tolist()
        nearest = tuple((_file_of(str(names[row]), folders), str(names[row])) for row in rows)
        found[path] = Evidence(str(shown.label), str(shown.against), shown.map, nearest, shown.by_kind)
    return found


def _file_of(name: str, folders: Sequence[Path]) -> str:
    """Return the file with this name in the first folder that has it; "" if none has, or it would not be inside."""
    if not _is_below(PurePath(name)):
        return ""
    return next((str(folder / name) for folder in folders if (folder / name).is_file()), "")


def _is_below(name: PurePath) -> bool:
    """Return whether a name leads below the folder that it is joined to: it has no root, no drive and no "..".

    On Windows, a name with the drive of another computer would be looked for there.
    """
    return not name.anchor and ".." not in name.parts


def _nearest(head: Any, vector: Array, assessment: Assessment, group: str) -> tuple[tuple[str, str], ...]:
    """Return file and class of the training frames of other groups that are most similar."""
    train = assessment.parts.get(TRAINING)
    if train is None:
        return ()
    k = min(len(head.outliers_.rows), N_NEAREST + int((train.groups == group).sum()))
    rows, _ = head.nearest(vector[None], k)
    others = [row for row in rows[0].tolist() if train.groups[row] != group][:N_NEAREST]
    return tuple((train.files[row], train.classes[train.targets[row]]) for row in others)


def filters_of_classes(
    classifier: Any, classes: Sequence[str], distances: Array, frames: Any
) -> dict[str, dict[str, list[int]]]:
    """Return the filters that speak most for each class on its typical training frames, by scale and class.

    Empty if the filters of the first bank have no weights of classes: without learned features, with depth 2, or
    without a projection.

    Parameters
    ----------
    classifier : FrameClassifier
    classes : sequence of str
        The names of its classes.
    distances : (n, n_clusters) array
        Of the training frames to the clusters.
    frames : (n, h, w, c) array
        The training frames; only typical ones are read.
    """
    head = classifier.head_
    if classifier.depth != 1:
        return {}
    clusters = np.flatnonzero(head.cluster_labels_ < MATRIX_CLASSES)
    n_frames = max(1, min(TYPICAL_FRAMES, MOST_FRAMES // len(clusters)))
    rows = np.argsort(distances[:, clusters], axis=0, kind="stable")[:n_frames].ravel()
    labels = np.tile(head.cluster_labels_[clusters], n_frames)[: len(rows)]
    order = np.argsort(rows, kind="stable")
    try:
        by_scale = filter_contributions(classifier, np.asarray(frames[rows[order]]), head.classes_[labels[order]])
    except (SettingError, *UNREADABLE):
        return {}
    return {
        scale_name(backbone): {
            classes[code]: np.argsort(-found[code], kind="stable")[:N_CLASS_FILTERS].tolist()
            for code in np.unique(labels)
        }
        for backbone, found in zip(networks_with_filters(classifier), by_scale, strict=True)
    }
