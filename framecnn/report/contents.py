"""The contents of the report of a classifier, from what was measured of it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from framecnn.data import FrameSubset
from framecnn.evaluation import Assessment, assess
from framecnn.evaluation.assessment import TRAINING
from framecnn.report.arrangement import PROTOTYPE_FRAMES, one_of_each_group_first
from framecnn.report.data import Prototype, ReportData
from framecnn.report.explanations import explain_mistakes, filters_of_classes
from framecnn.report.feature_notes import describe_features, describe_networks, networks_with_filters, scale_name
from framecnn.report.training_report import write_report
from framecnn.text import percent
from framecnn.typing import Array

__all__ = ["describe_choice", "report_data", "split_table", "write_training_report"]


def write_training_report(
    path: str | os.PathLike[str],
    classifier: Any,
    parts: Mapping[str, FrameSubset],
    *,
    title: str = "",
    has_given_parts: bool = False,
    classes: Sequence[str] | None = None,
) -> Assessment:
    """Measure a fitted classifier on the parts of a folder, write the report as an HTML file, return the figures.

    It is the report that ``framecnn train`` writes; ``framecnn.evaluation.assess`` says what is measured.

    Parameters
    ----------
    path : path
        The file to create or replace.
    classifier : FrameClassifier
        A fitted one.
    parts : mapping of str to FrameSubset
        The frames by the name of the part, the test part last; ``"training"`` holds those on which the classifier was
        fitted, in the same order, with their ``groups``.
    title : str, optional
        The headline; by default the name of the folder.
    has_given_parts : bool, default False
        Whether you divided the frames, so that the test part is the main figure in any case.
    classes : sequence of str, optional
        The name of each class in the order of ``classifier.classes_``; by default as ``assess`` finds them.

    Returns
    -------
    Assessment

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    DataError
        If a part has a class that the classifier does not know, or the training part is not that of the classifier.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from framecnn import FrameClassifier, FrameFolder
    >>> root = Path(tempfile.mkdtemp())
    >>> rng = np.random.default_rng(0)
    >>> for name, shape in [("across", (24, 1)), ("down", (1, 32))]:
    ...     (root / "frames" / name).mkdir(parents=True)
    ...     for i in range(12):
    ...         stripes = np.broadcast_to(rng.integers(0, 256, shape, np.uint8), (24, 32))
    ...         Image.fromarray(stripes).save(root / "frames" / name / f"{i}.png")
    >>> train, validation, test = FrameFolder(root / "frames", size=(24, 32)).split(seed=0)
    >>> classifier = FrameClassifier(n_filters=8, random_state=0).fit(train.frames, train.targets, train.groups)
    >>> parts = {"training": train, "validation": validation, "test": test}
    >>> found = write_training_report(root / "report.html", classifier, parts)
    >>> found.main.part, found.main.accuracy
    ('out-of-fold', 1.0)
    """
    assessment = assess(classifier, parts, has_given_parts=has_given_parts, classes=classes)
    write_report(path, report_data(assessment, classifier, title=title))
    return assessment


def report_data(assessment: Assessment, classifier: Any, *, title: str = "", **contents: Any) -> ReportData:
    """Return what the report of a classifier shows.

    Parameters
    ----------
    assessment : Assessment
        What was measured.
    classifier : FrameClassifier
        The classifier, for its clusters, filters and choices.
    title : str, optional
        The headline; by default the name of the folder.
    **contents
        Further fields of ReportData: ``meaning``, ``skipped``, ``found``, ``predictions``, ``versions``, ``timings``,
        ``warnings``.

    Returns
    -------
    ReportData
    """
    first = next(iter(assessment.parts.values()))
    notes = dict.fromkeys(text for part in assessment.parts.values() for text in part.warnings)
    settings: dict[str, Any] = {"found": sum(map(len, assessment.parts.values())), "warnings": list(notes)} | contents
    return ReportData(
        title=title or first.root.name,
        results=assessment.figures,
        verdict=assessment.verdict,
        reasons=assessment.reasons,
        next_steps=assessment.next_steps,
        suspects=assessment.suspects,
        prototypes=_prototypes(assessment, classifier),
        filters=_filters(classifier),
        evidence=explain_mistakes(classifier, assessment),
        class_filters=_class_filters(assessment, classifier),
        split=first.split_note,
        split_table=split_table(assessment.parts),
        settings=_settings(classifier),
        chosen=describe_choice(classifier),
        networks=describe_networks(classifier),
        **settings,
    )


def split_table(parts: Mapping[str, FrameSubset]) -> list[dict[str, Any]]:
    """Return the numbers of frames and groups of each class in each part: ``part``, ``class``, ``frames``, ``groups``.

    Parameters
    ----------
    parts : mapping of str to FrameSubset

    Returns
    -------
    list of dict
    """
    return [
        {"part": name, "class": label, "frames": int(own.sum()), "groups": len(np.unique(part.groups[own]))}
        for name, part in parts.items()
        for number, label in enumerate(part.classes)
        if (own := part.targets == number).any()
    ]


def describe_choice(classifier: Any) -> dict[str, str]:
    """Return the settings that were chosen on the training frames, as text by name.

    Parameters
    ----------
    classifier : FrameClassifier

    Returns
    -------
    dict
    """
    chosen = classifier.chosen_
    found = {}
    if classifier.features_.frame_shape_ is not None:
        found["kind of features"] = describe_features(classifier)
        if chosen["grid"] is not None:
            why = " (the simplest within the error of the best)" if chosen["accuracies"] else ""
            found["pooling grid"] = _grid(chosen["grid"]) + why
    for grid, accuracy in chosen["accuracies"].items():
        found[f"accuracy in cross-validation, {_grid(grid)}"] = percent(accuracy)
    if chosen["alpha"] is not None:
        found["ridge penalty (alpha)"] = f"{chosen['alpha']:g}"
    return found


def _settings(classifier: Any) -> dict[str, str]:
    """Return the settings that were given for the training, as text by name."""
    given = {"features": classifier.features} if isinstance(classifier.features, str) else {}
    return given | {
        "class weights": classifier.class_weight or "each frame counts the same",
        "false alarms (out-of-distribution)": f"{100 * classifier.false_alarm_rate:g} %",
    }


def _grid(grid: tuple[int, int]) -> str:
    return "whole frame" if tuple(grid) == (1, 1) else f"{grid[0]}x{grid[1]}"


def _prototypes(assessment: Assessment, classifier: Any) -> list[Prototype]:
    """Return each cluster with its frames, nearest first, one of each group before others.

    They are the training frames; without these, the frames of all parts.
    """
    head = classifier.head_
    names = [TRAINING] if TRAINING in assessment.parts else list(assessment.parts)
    distances = np.concatenate([assessment.details[name].distances for name in names])
    groups = np.concatenate([assessment.parts[name].groups for name in names])
    files = [path for name in names for path in assessment.parts[name].files]
    assigned = distances.argmin(axis=1)
    found = []
    for cluster, label in enumerate(head.cluster_labels_):
        members = np.flatnonzero(assigned == cluster)
        nearest = members[np.argsort(distances[members, cluster], kind="stable")]
        shown = one_of_each_group_first(nearest, groups)[:PROTOTYPE_FRAMES]
        paths = tuple(files[row] for row in shown)
        found.append(Prototype(assessment.main.classes[label], cluster, len(members), paths))
    return found


def _class_filters(assessment: Assessment, classifier: Any) -> dict[str, dict[str, list[int]]]:
    """Return the filters that speak most for each class on typical training frames; empty without these."""
    if TRAINING not in assessment.parts:
        return {}
    train = assessment.parts[TRAINING]
    classes = assessment.main.classes
    return filters_of_classes(classifier, classes, assessment.details[TRAINING].distances, train.frames)


def _filters(classifier: Any) -> dict[str, Array]:
    """Return the kernels of the first filter bank of each scale, shape (n, kh, kw, c), by the size of its frames."""
    found = {}
    for network in networks_with_filters(classifier):
        bank = next(layer for layer in network.layers if "kernel" in layer.params)
        found[scale_name(network)] = np.moveaxis(bank.params["kernel"], -1, 0)
    return found
