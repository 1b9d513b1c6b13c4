"""The arrangement of frames, matrices and lists in a report."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from types import MappingProxyType
from typing import Any

import numpy as np

from framecnn.data.reasons import Skip
from framecnn.evaluation import EvaluationResult, OutOfFoldEstimate
from framecnn.report.data import Evidence, Prototype, ReportData
from framecnn.report.pictures import Picture, filter_tiles, grey_first
from framecnn.typing import Array, Shape

__all__ = [
    "CELL_FRAMES",
    "MATRIX_CLASSES",
    "N_CLASS_FILTERS",
    "PROTOTYPE_FRAMES",
    "Arrangement",
    "Part",
    "arrange",
    "one_of_each_group_first",
    "shown_mistakes",
    "wanted_pictures",
]

CELL_FRAMES = 24
"""The largest number of frames of a cell of a matrix that are shown as pictures."""
MISTAKES = 24
SUSPECTS = 24
N_CLASS_FILTERS = 10
"""The number of filters that are shown for a class, at every scale."""
PROTOTYPE_FRAMES = 6
"""The number of frames that are shown of each cluster."""
SKIPS_LISTED = 20
MATRIX_CLASSES = 100
"""The largest number of classes in a matrix."""


@dataclass(frozen=True)
class Frame:
    """A frame in a list; `more` counts further frames of its group with the same mistake."""

    path: str
    truth: str
    predicted: str
    confidence: float
    more: int = 0

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return os.path.basename(self.path)


@dataclass(frozen=True)
class Panel:
    """The frames behind one cell of a confusion matrix, those that are shown as pictures first."""

    anchor: str
    truth: str
    predicted: str
    n_frames: int
    n_groups: int
    frames: list[Frame]


@dataclass(frozen=True)
class MatrixRow:
    """One row of a confusion matrix: the predictions for the frames of one class."""

    name: str
    n_frames: int
    recall: float
    cells: list[Panel | None]


class Part:
    """The confusion matrix and the lists of one evaluated part of the data."""

    def __init__(self, anchor: str, figure: EvaluationResult | OutOfFoldEstimate):
        self.anchor = anchor
        self.figure = figure
        self.result = figure.mean if isinstance(figure, OutOfFoldEstimate) else figure

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The figures, with None for those that do not exist."""
        return self.figure.numbers

    @cached_property
    def columns(self) -> list[int]:
        """The classes in the matrix: all, or the 100 with the most mistakes."""
        confusion = self.result.confusion
        mistakes = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
        return sorted(np.argsort(-mistakes, kind="stable")[:MATRIX_CLASSES].tolist())

    @cached_property
    def rows(self) -> list[MatrixRow]:
        """The rows of the matrix."""
        result = self.result
        return [
            MatrixRow(
                result.classes[truth],
                int(result.confusion[truth].sum()),
                float(result.recall[truth]),
                [
                    self._panel(truth, predicted) if result.confusion[truth, predicted] else None
                    for predicted in self.columns
                ],
            )
            for truth in self.columns
        ]

    @cached_property
    def panels(self) -> list[Panel]:
        """The cells of the matrix that have frames."""
        return [panel for row in self.rows for panel in row.cells if panel]

    @cached_property
    def mistakes(self) -> list[Frame]:
        """The most confident mistake of each group, the most confident first."""
        return [self._frame(row, more) for row, more in shown_mistakes(self.result).items()]

    @cached_property
    def other_mistakes(self) -> list[Frame]:
        """The mistakes of classes that are not in the matrix."""
        result, columns = self.result, set(self.columns)
        return [
            self._frame(row)
            for row in result.mistakes().tolist()
            if not {int(result.targets[row]), int(result.predictions[row])} <= columns
        ]

    @property
    def confusions(self) -> list[Panel]:
        """The three largest cells off the diagonal."""
        wrong = (panel for panel in self.panels if panel.truth != panel.predicted)
        return sorted(wrong, key=lambda panel: -panel.n_frames)[:3]

    @property
    def n_correct(self) -> int:
        """The number of frames that are classified correctly."""
        return int(self.result.correct.sum())

    @property
    def n_absent(self) -> int:
        """The number of classes without a frame in this part."""
        return int(np.count_nonzero(self.result.confusion.sum(axis=1) == 0))

    def _panel(self, truth: int, predicted: int) -> Panel:
        result = self.result
        rows = np.flatnonzero((result.targets == truth) & (result.predictions == predicted))
        surest_first = -result.confidences[rows] if truth != predicted else result.confidences[rows]
        rows = rows[np.argsort(surest_first, kind="stable")]
        rows = one_of_each_group_first(rows, result.groups)
        return Panel(
            anchor=f"{self.anchor}-{truth}-{predicted}",
            truth=result.classes[truth],
            predicted=result.classes[predicted],
            n_frames=rows.size,
            n_groups=len(set(result.groups[rows])),
            frames=[self._frame(row) for row in rows.tolist()],
        )

    def _frame(self, row: int, more: int = 0) -> Frame:
        result = self.result
        return Frame(
            path=result.paths[row],
            truth=result.classes[result.targets[row]],
            predicted=result.classes[result.predictions[row]],
            confidence=float(result.confidences[row]),
            more=more,
        )


@dataclass(frozen=True)
class ClassFilters:
    """The filters that speak for each class, at every scale: in picture `n`, row `m` belongs to class `m`."""

    classes: list[str]
    scales: list[tuple[str, Picture]]


@dataclass(frozen=True)
class Arrangement:
    """The contents of a training report in the order in which the template shows them."""

    lead: Part | None
    parts: list[Part]
    suspects: list[Frame]
    prototypes: list[tuple[str, list[Prototype]]]
    tiles: list[tuple[str, Shape, Picture]]
    class_filters: ClassFilters | None
    skips: list[tuple[str, int, list[Skip]]]
    split_parts: list[str]
    split_rows: list[tuple[str, list[Mapping[str, Any] | None]]]
    wanted: list[str]


def arrange(data: ReportData) -> Arrangement:
    """Return the data of a training report, arranged for its template.

    Parameters
    ----------
    data : ReportData
        What the report shows.

    Returns
    -------
    Arrangement
        Matrices, lists, and the files whose thumbnails are wanted, the most important first.
    """
    parts = [Part(f"part{number}", result) for number, result in enumerate(data.results) if result.n_frames]
    prototypes = _by_label(data.prototypes)
    suspects = [
        Frame(own.file, own.label, own.suggestion, own.suggestion_probability) for own in data.suspects[:SUSPECTS]
    ]
    lead = parts[0] if parts else None
    split_parts = list(dict.fromkeys(row["part"] for row in data.split_table))
    split_cells = {(row["class"], row["part"]): row for row in data.split_table}
    split_classes = dict.fromkeys(row["class"] for row in data.split_table)
    return Arrangement(
        lead=lead,
        parts=parts,
        suspects=suspects,
        prototypes=prototypes,
        tiles=[(name, bank.shape, filter_tiles(grey_first(bank))) for name, bank in data.filters.items() if len(bank)],
        class_filters=_class_filters(data),
        skips=_by_reason(data.skipped),
        split_parts=split_parts,
        split_rows=[(name, [split_cells.get((name, part)) for part in split_parts]) for name in split_classes],
        wanted=list(dict.fromkeys(wanted_pictures(parts, prototypes, data.evidence, suspects))),
    )


def shown_mistakes(result: EvaluationResult) -> dict[int, int]:
    """Return the rows of the mistakes that a report shows, and how many more like it the group of each has.

    Parameters
    ----------
    result : EvaluationResult

    Returns
    -------
    dict of int to int
        Of each group the most confident one of a kind, the most confident first; at most 24.

    Examples
    --------
    >>> probabilities = np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    >>> shown_mistakes(EvaluationResult("test", ("day", "night"), [0, 0, 1], probabilities, ["a", "a", "b"]))
    {0: 1}
    """
    first: dict[tuple[str, int, int], int] = {}
    times: Counter[tuple[str, int, int]] = Counter()
    for row in result.mistakes().tolist():
        same = result.groups[row], result.targets[row], result.predictions[row]
        first.setdefault(same, row)
        times[same] += 1
    return {row: times[same] - 1 for same, row in list(first.items())[:MISTAKES]}


def one_of_each_group_first(rows: Array, groups: Array) -> Array:
    """Return rows reordered: one frame of every group before the second of any, otherwise in the order given.

    Parameters
    ----------
    rows : array of int, shape (n,)
        Frames, the most informative first.
    groups : array of str
        The group of every frame that `rows` indexes.

    Returns
    -------
    array of int, shape (n,)

    Examples
    --------
    >>> one_of_each_group_first(np.array([0, 1, 2, 3]), np.array(["a", "a", "b", "b"])).tolist()
    [0, 2, 1, 3]
    """
    seen: Counter[str] = Counter()
    ranks = []
    for group in groups[rows]:
        ranks.append(seen[group])
        seen[group] += 1
    return rows[np.argsort(ranks, kind="stable")]


def wanted_pictures(
    parts: list[Part],
    prototypes: Sequence[tuple[str, list[Prototype]]] = (),
    evidence: Mapping[str, Evidence] = MappingProxyType({}),
    suspects: Sequence[Frame] = (),
) -> Iterator[str]:
    """Yield the files of mistakes, suspects and training frames near mistakes, then those of other lists in turn."""
    if parts:
        yield from (frame.path for frame in parts[0].mistakes)
    yield from (frame.path for frame in suspects)
    yield from (path for shown in evidence.values() for path, _ in shown.nearest)
    lists = [list(prototype.paths[:PROTOTYPE_FRAMES]) for _, some in prototypes for prototype in some]
    lists += [[frame.path for frame in panel.frames[:CELL_FRAMES]] for part in parts for panel in part.panels]
    for rank in zip_longest(*lists):
        yield from (path for path in rank if path is not None)


def _class_filters(data: ReportData) -> ClassFilters | None:
    """Return the filters that speak for each class, drawn in one picture per scale."""
    scales = [(scale, of_class) for scale, of_class in data.class_filters.items() if of_class]
    if not scales:
        return None
    pictures = [
        (scale, filter_tiles(data.filters[scale][np.concatenate(rows)], len(rows[0])))
        for scale, rows in ((scale, list(of_class.values())) for scale, of_class in scales)
    ]
    return ClassFilters(list(scales[0][1]), pictures)


def _by_label(prototypes: Iterable[Prototype]) -> list[tuple[str, list[Prototype]]]:
    found: dict[str, list[Prototype]] = {}
    for prototype in prototypes:
        found.setdefault(prototype.label, []).append(prototype)
    return list(found.items())


def _by_reason(skipped: Iterable[Skip]) -> list[tuple[str, int, list[Skip]]]:
    found: dict[str, list[Skip]] = {}
    for skip in skipped:
        found.setdefault(skip.reason, []).append(skip)
    most_frequent_first = sorted(found.items(), key=lambda item: -len(item[1]))
    return [(reason, len(skips), skips[:SKIPS_LISTED]) for reason, skips in most_frequent_first]
