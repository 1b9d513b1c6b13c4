"""What reports show of a model's reasons: contributions and near training frames of mistakes, filters of classes."""

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.data import decode
from framecnn.errors import SettingError
from framecnn.evaluation import EvaluationResult
from framecnn.typing import Array

__all__ = ["describe_origin", "explain_mistakes", "explain_pictures", "filters_of_classes", "scale_name"]

TYPICAL_FRAMES = 6
MOST_FRAMES = 120
"""The largest number of frames that are read to find the filters of classes."""


def describe_origin(model: Path) -> dict[str, str]:
    """Return date, command and model, as a report shows them."""
    program = Path(sys.argv[0]).name.replace("__main__.py", "framecnn")
    command = shlex.join([program, *sys.argv[1:]])
    return {"Date": f"{datetime.now():%Y-%m-%d %H:%M}", "Model": model.name, "Command": command}


def explain_mistakes(
    classifier: Any, result: EvaluationResult, frames: Any, training: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """Return the :class:`~framecnn.report.Evidence` of the mistakes that a report shows, by path.

    Parameters
    ----------
    classifier : FrameClassifier
    result : EvaluationResult
    frames : (n, h, w, c) array
        The frames of the result; only those of shown mistakes are read.
    training : sequence of (str, str)
        Path and class of each training frame.
    """
    from framecnn.estimators.explanation import explain
    from framecnn.report import Evidence
    from framecnn.report.layout import shown_mistakes

    rows = np.fromiter(shown_mistakes(result), int)
    found = {}
    names = list(map(str, classifier.classes_.tolist()))
    for row in rows.tolist():
        frame = np.asarray(frames[np.array([row])])[0]
        truth = classifier.classes_[names.index(result.classes[result.targets[row]])]
        try:
            shown = explain(classifier, frame, truth)
        except SettingError:  # features without places, or a class without a cluster
            return {}
        near, _ = classifier.nearest(frame[None], min(3, len(training)))
        nearest = tuple(training[other] for other in near[0].tolist())
        found[result.paths[row]] = Evidence(str(shown.label), str(shown.against), shown.map, nearest)
    return found


def explain_pictures(classifier: Any, paths: Sequence[str], model: Path) -> dict[str, Any]:
    """Return the :class:`~framecnn.report.Evidence` of pictures against their second most probable class, by path.

    Training frames are looked for by their names in the model, from the working directory and from its own folder.

    Raises
    ------
    SettingError
        If the features of the model have no places.
    """
    from framecnn.estimators.explanation import explain
    from framecnn.report import Evidence

    size, names, found = tuple(classifier.features_.frame_shape_[:2]), classifier.training_names_, {}
    for path in paths:
        frame = decode(path, size).pixels
        shown = explain(classifier, frame)
        rows = [] if names is None else classifier.predict_details(frame[None]).nearest[0].tolist()
        near = [str(names[row]) for row in rows]
        files = [name if Path(name).exists() else str(model.parent / name) for name in near]
        nearest = tuple(zip(files, (Path(name).name for name in near), strict=True))
        found[path] = Evidence(str(shown.label), str(shown.against), shown.map, nearest)
    return found


def filters_of_classes(classifier: Any, distances: Array, frames: Any) -> dict[str, dict[str, list[int]]]:
    """Return the filters that speak most for each class on its typical training frames, by scale and class.

    Empty if the filters of the first bank have no weights of classes: with trained features, depth 2, or without a
    projection.

    Parameters
    ----------
    classifier : FrameClassifier
    distances : (n, n_clusters) array
        Of the training frames to the clusters.
    frames : (n, h, w, c) array
        The training frames; only typical ones are read.
    """
    from framecnn.estimators.explanation import filter_contributions
    from framecnn.report.layout import MATRIX_CLASSES, N_CLASS_FILTERS

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
    except SettingError:
        return {}
    return {
        scale_name(backbone): {
            str(head.classes_[code]): np.argsort(-found[code], kind="stable")[:N_CLASS_FILTERS].tolist()
            for code in np.unique(labels)
        }
        for backbone, found in zip(classifier.features_.backbones_, by_scale, strict=True)
    }


def scale_name(backbone: Any) -> str:
    """Return the size of the frames that the first filter bank of a backbone reads."""
    bank = next(layer for layer in backbone.layers if "kernel" in layer.params)
    return "{}x{}".format(*bank.input_shape)
