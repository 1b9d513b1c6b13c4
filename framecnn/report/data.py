"""What the report of a training shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from framecnn.data.reasons import Skip
from framecnn.evaluation import EvaluationResult, OutOfFoldEstimate, Suspect
from framecnn.typing import Array

__all__ = ["Evidence", "Prototype", "ReportData"]


@dataclass(frozen=True)
class Evidence:
    """What speaks for the predicted class of a frame rather than for another class, and which training frames are near.

    Parameters
    ----------
    label, against : str
        The predicted class and the class that it is compared with.
    map : array, shape (h, w)
        The contribution of each pixel of the frame, as stretched for the model: positive for `label`.
    nearest : tuple of (str, str)
        File and class of the most similar training frames, the nearest first; ``""`` for a file that was not found.
    by_kind : mapping of str to float
        The sum of the contributions of each kind of features; several are shown.
    """

    label: str
    against: str
    map: Array
    nearest: tuple[tuple[str, str], ...] = ()
    by_kind: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Prototype:
    """The training frames nearest to the centre of one cluster.

    Parameters
    ----------
    label : str
        The class of the cluster.
    cluster : int
        The number of the cluster.
    n_members : int
        How many training frames belong to it.
    paths : tuple of str
        The files of the frames, the nearest first.
    """

    label: str
    cluster: int
    n_members: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class ReportData:
    """What the report of a training shows.

    Parameters
    ----------
    title : str
        The headline, such as the name of the folder.
    results : sequence of EvaluationResult or OutOfFoldEstimate
        One for each part of the data, with the paths of its frames; the first is the main figure.
    verdict : str
        A sentence if the main figure is not better than always answering the largest class; it comes first.
    reasons : sequence of str
        Why that is probably so.
    next_steps : sequence of str
        What would most probably raise the main figure, or make it more certain.
    suspects : sequence of Suspect
        Frames whose label is probably wrong, the most suspicious first.
    predictions : str
        The name of the table of predictions that is written with the report; empty if none is.
    prototypes : sequence of Prototype
        The clusters of the head.
    filters : mapping of str to array (n, height, width, channels)
        The learned filters, by the name of their scale, such as ``"240x360"``.
    evidence : mapping of str to Evidence
        By the path of a frame; :func:`~framecnn.report.arrangement.shown_mistakes` are those that the report shows.
    class_filters : mapping of str to mapping of str to sequence of int
        By scale and class: numbers of the filters that speak most for the class, the first first; at a scale as many
        for each class.
    skipped : sequence of Skip
        The files that were not used; each has ``path``, ``reason`` and ``detail``.
    found : int
        Number of files found, used and skipped.
    split : str
        How the frames were divided into parts.
    meaning : str
        What an accuracy on the groups says.
    split_table : sequence of dict
        Rows with the keys ``part``, ``class``, ``frames``, ``groups``.
    settings : mapping of str to str
        The settings that were given.
    chosen : mapping of str to str
        The settings that were chosen on the training frames.
    networks : mapping of str to str
        The size of each network that computes features.
    origin : mapping of str to str
        Where the report comes from: date, command, model.
    versions : mapping of str to str
        The software.
    timings : mapping of str to float
        Seconds that each stage took.
    warnings : sequence of str
        What a reader must know before trusting the numbers.
    """

    title: str
    results: Sequence[EvaluationResult | OutOfFoldEstimate] = ()
    verdict: str = ""
    reasons: Sequence[str] = ()
    next_steps: Sequence[str] = ()
    suspects: Sequence[Suspect] = ()
    predictions: str = ""
    prototypes: Sequence[Prototype] = ()
    filters: Mapping[str, Array] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    class_filters: Mapping[str, Mapping[str, Sequence[int]]] = field(default_factory=dict)
    skipped: Sequence[Skip] = ()
    found: int = 0
    split: str = ""
    meaning: str = ""
    split_table: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    chosen: Mapping[str, str] = field(default_factory=dict)
    networks: Mapping[str, str] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
