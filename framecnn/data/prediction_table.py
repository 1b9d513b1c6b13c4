"""The table of predictions: a CSV file with the probabilities of every frame."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from framecnn.data.tables import format_table, spreadsheet_cell
from framecnn.storage.atomic import atomic_write
from framecnn.typing import Array

__all__ = ["PREDICTIONS_MARK", "PREDICTION_COLUMNS", "PredictionRow", "write_predictions"]

AT_ONCE = 1000  # rows

PREDICTION_COLUMNS = (
    *("path", "part", "fold", "group", "label", "prediction", "out_of_distribution", "nearest_training_path"),
    *("suspected_label", "suspect_rank"),
)
"""The columns of every table of predictions; those of the probabilities follow."""

PREDICTIONS_MARK = ",".join(PREDICTION_COLUMNS).encode()
"""The bytes at the beginning of every table of predictions."""


@dataclass(frozen=True)
class PredictionRow:
    """What a model says about one frame.

    Parameters
    ----------
    path : str
        The frame.
    probabilities : array of float, shape (n_classes,)
        The probability of each class.
    out_of_distribution : bool, optional
        Whether the frame is out-of-distribution: its outlier score is above the threshold of the model.
    nearest_training_path : str, default ""
        The training frame that is most similar.
    part : str, default ""
        ``"training"``, ``"validation"``, ``"test"``, or what else the frame belongs to.
    fold : str, default ""
        Which model the probabilities are from: ``"held-out"`` for one that was fitted without the frame's group;
        ``"out-of-fold"`` for the mean over several such models; the number of a fold; ``"none"`` for the model itself,
        which was fitted on the frame; empty for the model itself, which was not.
    group, label : str, default ""
        The frame's group and true class, where they are known.
    suspected_label : str, default ""
        The class that the frame seems to belong to, if its label is probably wrong.
    suspect_rank : int, optional
        1 for the frame whose label is the most suspicious, then 2, and so on.
    """

    path: str
    probabilities: Array
    out_of_distribution: bool | None = None
    nearest_training_path: str = ""
    part: str = ""
    fold: str = ""
    group: str = ""
    label: str = ""
    suspected_label: str = ""
    suspect_rank: int | None = None


def write_predictions(path: Path, classes: Sequence[str], rows: Iterable[PredictionRow]) -> None:
    """Write a table of predictions in UTF-8, with one row per frame in the given order; few rows are held at a time.

    The columns are ``path``, ``part``, ``fold``, ``group``, ``label``, ``prediction`` (the most probable class),
    ``out_of_distribution`` (``yes``, ``no``, or empty if that is not known), ``nearest_training_path``,
    ``suspected_label``, ``suspect_rank``, and ``probability:CLASS`` for each class. A cell that a spreadsheet would run
    as a formula gets a leading apostrophe.

    Parameters
    ----------
    path : Path
        The file to create or replace.
    classes : sequence of str
        The names of the classes.
    rows : iterable of PredictionRow
        The frames.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "predictions.csv")
    >>> write_predictions(path, ["day", "night"], [PredictionRow("day/1.jpg", [0.9, 0.1], label="day")])
    >>> header, row = path.read_text().splitlines()
    >>> header[-62:]
    'suspected_label,suspect_rank,probability:day,probability:night'
    >>> row
    'day/1.jpg,,,,day,day,,,,,0.9,0.1'
    """
    cells = (_cells(classes, row) for row in rows)
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        file.write(format_table([(*PREDICTION_COLUMNS, *(f"probability:{name}" for name in classes))]))
        while some := list(islice(cells, AT_ONCE)):
            file.write(format_table(some))


def _cells(classes: Sequence[str], row: PredictionRow) -> list[str]:
    prediction = classes[int(np.argmax(row.probabilities))]
    texts = [row.path, row.part, row.fold, row.group, row.label, prediction]
    texts.append("" if row.out_of_distribution is None else "yes" if row.out_of_distribution else "no")
    texts += [row.nearest_training_path, row.suspected_label]
    texts.append("" if row.suspect_rank is None else str(row.suspect_rank))
    return [*map(spreadsheet_cell, texts), *(f"{value:.9g}" for value in row.probabilities)]
