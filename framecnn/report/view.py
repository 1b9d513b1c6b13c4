"""Decide which frames stand where on the page."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from framecnn.evaluation import EvaluationResult
from framecnn.report.pictures import Picture, filter_tiles
from framecnn.typing import Array, Shape

if TYPE_CHECKING:
    from framecnn.data.folder import Skip
    from framecnn.report.page import Prototype, ReportData

__all__ = ["PROTOTYPE_FRAMES", "Part", "View", "build_view", "one_of_each_group_first", "wanted_pictures"]

CELL_FRAMES = 24
MISTAKES = 24
PROTOTYPE_FRAMES = 6  # of each cluster
SKIPS_LISTED = 20
MATRIX_CLASSES = 100


@dataclass(frozen=True)
class Frame:
    """One frame at one place of the page; `more` counts further frames of its group with the same mistake."""

    path: str
    truth: str
    said: str
    confidence: float
    group: str
    more: int = 0

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return os.path.basename(self.path)


@dataclass(frozen=True)
class Panel:
    """The frames behind one cell of a confusion matrix."""

    anchor: str
    truth: str
    said: str
    n_frames: int
    n_groups: int
    frames: list[Frame]


@dataclass(frozen=True)
class Row:
    """One line of a confusion matrix: what became of the frames of one class."""

    name: str
    n_frames: int
    recall: float
    cells: list[Panel | None]


class Part:
    """One evaluated part of the data, as its matrix and lists show it."""

    def __init__(self, anchor: str, result: EvaluationResult, paths: Sequence[str]):
        self.anchor = anchor
        self.result = result
        self._paths = paths

    @cached_property
    def columns(self) -> list[int]:
        """The classes of the matrix: all, or those with the most mistakes where there are too many."""
        confusion = self.result.confusion
        mistakes = confusion.sum(axis=0) + confusion.sum(axis=1) - 2 * confusion.diagonal()
        return sorted(np.argsort(-mistakes, kind="stable")[:MATRIX_CLASSES].tolist())

    @cached_property
    def rows(self) -> list[Row]:
        """The lines of the matrix."""
        result = self.result
        return [
            Row(
                result.classes[truth],
                int(result.confusion[truth].sum()),
                float(result.recall[truth]),
                [self._panel(truth, said) if result.confusion[truth, said] else None for said in self.columns],
            )
            for truth in self.columns
        ]

    @property
    def panels(self) -> list[Panel]:
        """The cells of the matrix that have frames."""
        return [panel for row in self.rows for panel in row.cells if panel]

    @cached_property
    def mistakes(self) -> list[Frame]:
        """The most confident mistake of each group, the most confident first."""
        result = self.result
        first: dict[tuple[str, int, int], int] = {}
        times: Counter[tuple[str, int, int]] = Counter()
        for row in result.mistakes().tolist():
            same = result.groups[row], result.targets[row], result.predictions[row]
            first.setdefault(same, row)
            times[same] += 1
        return [self._frame(row, times[same] - 1) for same, row in list(first.items())[:MISTAKES]]

    @property
    def confusions(self) -> list[Panel]:
        """The three largest cells off the diagonal."""
        wrong = (panel for panel in self.panels if panel.truth != panel.said)
        return sorted(wrong, key=lambda panel: -panel.n_frames)[:3]

    @property
    def n_right(self) -> int:
        """Number of frames named correctly."""
        return int(self.result.correct.sum())

    @property
    def n_absent(self) -> int:
        """Number of classes without a frame in this part."""
        return int(np.count_nonzero(self.result.confusion.sum(axis=1) == 0))

    @property
    def baseline(self) -> tuple[str, float]:
        """The commonest class and its share: what always giving this answer would score."""
        counts = self.result.confusion.sum(axis=1)
        commonest = int(counts.argmax())
        return self.result.classes[commonest], float(counts[commonest] / counts.sum())

    def _panel(self, truth: int, said: int) -> Panel:
        result = self.result
        rows = np.flatnonzero((result.targets == truth) & (result.predictions == said))
        surest_first = -result.confidences[rows] if truth != said else result.confidences[rows]
        rows = rows[np.argsort(surest_first, kind="stable")]
        rows = one_of_each_group_first(rows, result.groups)
        return Panel(
            anchor=f"{self.anchor}-{truth}-{said}",
            truth=result.classes[truth],
            said=result.classes[said],
            n_frames=rows.size,
            n_groups=len(set(result.groups[rows])),
            frames=[self._frame(row) for row in rows[:CELL_FRAMES]],
        )

    def _frame(self, row: int, more: int = 0) -> Frame:
        result = self.result
        return Frame(
            path=str(self._paths[row]),
            truth=result.classes[result.targets[row]],
            said=result.classes[result.predictions[row]],
            confidence=float(result.confidences[row]),
            group=str(result.groups[row]),
            more=more,
        )


@dataclass(frozen=True)
class View:
    """What the template shows, beside the data as given."""

    lead: Part | None
    parts: list[Part]
    prototypes: list[tuple[str, list["Prototype"]]]
    tiles: list[tuple[str, Shape, Picture]]
    skips: list[tuple[str, int, list["Skip"]]]
    split_parts: list[str]
    split_rows: list[tuple[str, list[Mapping[str, Any] | None]]]
    wanted: list[str]


def build_view(data: "ReportData") -> View:
    """Arrange the data for the page.

    Parameters
    ----------
    data : ReportData
        What the page tells.

    Returns
    -------
    View
        Matrices, lists and the order in which pictures are wanted.
    """
    parts = [
        Part(f"part{number}", result, data.paths[result.part])
        for number, result in enumerate(sorted(data.results, key=_held_out_first))
        if result.n_frames
    ]
    prototypes = _by_label(data.prototypes)
    lead = parts[0] if parts else None
    split_parts = list(dict.fromkeys(row["part"] for row in data.split_table))
    split_cells = {(row["class"], row["part"]): row for row in data.split_table}
    split_classes = dict.fromkeys(row["class"] for row in data.split_table)
    return View(
        lead=lead,
        parts=parts,
        prototypes=prototypes,
        tiles=[(name, bank.shape, filter_tiles(bank)) for name, bank in data.filters.items() if len(bank)],
        skips=_by_reason(data.skipped),
        split_parts=split_parts,
        split_rows=[(name, [split_cells.get((name, part)) for part in split_parts]) for name in split_classes],
        wanted=list(dict.fromkeys(wanted_pictures(parts, prototypes))),
    )


def one_of_each_group_first(rows: Array, groups: Array) -> Array:
    """Put one frame of every group before the second of any, each in the order it had.

    Parameters
    ----------
    rows : array of int, shape (n,)
        Frames, the most telling first.
    groups : array of str
        The group of every frame that `rows` can name.

    Returns
    -------
    array of int, shape (n,)

    Examples
    --------
    >>> one_of_each_group_first(np.array([0, 1, 2, 3]), np.array(["a", "a", "b", "b"])).tolist()
    [0, 2, 1, 3]
    """
    seen: Counter[str] = Counter()
    turns = []
    for group in groups[rows]:
        turns.append(seen[group])
        seen[group] += 1
    return rows[np.argsort(turns, kind="stable")]


def wanted_pictures(parts: list[Part], prototypes: Sequence[tuple[str, list["Prototype"]]] = ()) -> Iterator[str]:
    """Yield mistakes first, then the first picture of every other place, then the second, and so on."""
    if parts:
        yield from (frame.path for frame in parts[0].mistakes)
    places = [list(prototype.paths[:PROTOTYPE_FRAMES]) for _, some in prototypes for prototype in some]
    places += [[frame.path for frame in panel.frames] for part in parts for panel in part.panels]
    for rank in zip_longest(*places):
        yield from (path for path in rank if path is not None)


def _held_out_first(result: EvaluationResult) -> int:
    return {"test": 0, "validation": 1, "training": 3}.get(result.part, 2)


def _by_label(prototypes: Iterable["Prototype"]) -> list[tuple[str, list["Prototype"]]]:
    found: dict[str, list[Prototype]] = {}
    for prototype in prototypes:
        found.setdefault(prototype.label, []).append(prototype)
    return list(found.items())


def _by_reason(skipped: Iterable["Skip"]) -> list[tuple[str, int, list["Skip"]]]:
    found: dict[str, list[Skip]] = {}
    for skip in skipped:
        found.setdefault(skip.reason, []).append(skip)
    commonest_first = sorted(found.items(), key=lambda item: -len(item[1]))
    return [(reason, len(skips), skips[:SKIPS_LISTED]) for reason, skips in commonest_first]
