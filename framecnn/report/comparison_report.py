"""The report of a comparison: several models on the same frames, side by side, as an HTML file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from framecnn.evaluation import EvaluationResult
from framecnn.report.arrangement import Part, wanted_pictures
from framecnn.report.templates import write_html

__all__ = ["Choice", "ComparisonData", "ShownFrame", "write_comparison"]


@dataclass(frozen=True)
class ShownFrame:
    """A test frame that was drawn at random, and the probabilities that every model gives it.

    Parameters
    ----------
    path : str
        Its file.
    truth : str
        Its class.
    fold : int
        The fold in which it is a test frame.
    probabilities : mapping of str to sequence of float
        The probability of every class, by the title of the model.
    """

    path: str
    truth: str
    fold: int
    probabilities: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Choice:
    """What a model chose on the training frames of a fold.

    Parameters
    ----------
    model : str
        The title of the model.
    fold : int
    text : str
        The settings.
    """

    model: str
    fold: int
    text: str


@dataclass(frozen=True)
class ComparisonData:
    """What the report of a comparison shows.

    Parameters
    ----------
    title : str
        The headline, such as the name of the folder.
    classes : sequence of str
    about : mapping of str to str
        The description of each model, by its title, in the order of the tables.
    figures : mapping of str to mapping
        By title: ``accuracies``, ``accuracy``, ``train_seconds``, ``final_training_seconds`` (or None),
        ``frames_per_second``, ``peak_megabytes``, ``model_bytes``, ``device``.
    results : sequence of EvaluationResult
        The predictions for the test frames of all folds, with their paths; the part of each is the title of its model.
    shown : sequence of ShownFrame
    choices : sequence of Choice
    predictions : str
        The name of the table of predictions that is written with the report; empty if none is.
    facts : mapping of str to str
        Folds, sizes, seed, machine.
    versions : mapping of str to str
        The software.
    warnings : sequence of str
        What a reader must know first, such as which models are missing.
    """

    title: str
    classes: Sequence[str]
    about: Mapping[str, str]
    figures: Mapping[str, Mapping[str, Any]]
    results: Sequence[EvaluationResult]
    shown: Sequence[ShownFrame] = ()
    choices: Sequence[Choice] = ()
    predictions: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def write_comparison(path: str | os.PathLike[str], data: ComparisonData) -> None:
    """Write the report as one HTML file that needs no other file, no network and no script.

    Parameters
    ----------
    path : path
        The file to create or replace.
    data : ComparisonData
        What the report shows.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "compare.html")
    >>> write_comparison(path, ComparisonData("films", ["day", "night"], {}, {}, []))
    >>> "films" in open(path, encoding="utf-8").read()
    True
    """
    parts = [Part(f"part{number}", result) for number, result in enumerate(data.results)]
    wanted = dict.fromkeys([*(frame.path for frame in data.shown), *wanted_pictures(parts)])
    write_html(path, "comparison", list(wanted), data=data, parts=parts)
