"""The page of a comparison: several classifiers on the same frames, side by side."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from framecnn.evaluation import EvaluationResult
from framecnn.report.page import PICTURE_BUDGET, REASONS, environment, in_seconds
from framecnn.report.pictures import thumbnails
from framecnn.report.view import Part, wanted_pictures
from framecnn.storage.atomic import atomic_write

__all__ = ["ComparisonData", "ShownFrame", "write_comparison"]


@dataclass(frozen=True)
class ShownFrame:
    """A test frame that was drawn at random, and what everybody says of it.

    Parameters
    ----------
    path : str
        Its file.
    truth : str
        Its class.
    fold : int
        The fold that left it out.
    probabilities : mapping of str to sequence of float
        Of every class, by contestant.
    """

    path: str
    truth: str
    fold: int
    probabilities: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class ComparisonData:
    """Everything the page tells.

    Parameters
    ----------
    title : str
        The headline, such as the name of the folder.
    classes : sequence of str
    about : mapping of str to str
        What each contestant is, by its title, in the order of the tables.
    figures : mapping of str to mapping
        By title: ``accuracies``, ``mean``, ``train_seconds``, ``kept_run_seconds`` (or None),
        ``frames_per_second``, ``peak_megabytes``, ``model_bytes``, ``device``.
    results : sequence of EvaluationResult
        Answers to the test frames of all folds; each is named after its contestant.
    paths : sequence of str
        The file of every frame of a result.
    shown : sequence of ShownFrame
    choices : sequence of (str, str)
        What was chosen on training frames, and by whom.
    facts : mapping of str to str
        Folds, sizes, seed, machine.
    versions : mapping of str to str
        The software.
    warnings : sequence of str
        What a reader must know first, such as who is missing.
    """

    title: str
    classes: Sequence[str]
    about: Mapping[str, str]
    figures: Mapping[str, Mapping[str, Any]]
    results: Sequence[EvaluationResult]
    paths: Sequence[str]
    shown: Sequence[ShownFrame] = ()
    choices: Sequence[tuple[str, str]] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def write_comparison(path: str | os.PathLike[str], data: ComparisonData) -> None:
    """Write the page as one HTML file that needs no other file, no network and no script.

    Parameters
    ----------
    path : path
        The file to create or replace.
    data : ComparisonData
        What the page tells.

    Raises
    ------
    MissingExtraError
        When jinja2 is not installed.

    Examples
    --------
    >>> import tempfile
    >>> page = os.path.join(tempfile.mkdtemp(), "compare.html")
    >>> write_comparison(page, ComparisonData("films", ["day", "night"], {}, {}, [], []))
    >>> "films" in open(page, encoding="utf-8").read()
    True
    """
    template = environment().get_template("comparison.html.j2")
    parts = [Part(f"part{number}", result, data.paths) for number, result in enumerate(data.results)]
    first = [frame.path for frame in data.shown]
    pictures = thumbnails(list(dict.fromkeys([*first, *wanted_pictures(parts)])), PICTURE_BUDGET)
    page = template.render(
        data=data,
        parts=parts,
        pictures=pictures,
        numbers={name: number for number, name in enumerate(pictures)},
        reasons=REASONS,
        seconds=in_seconds,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
