"""``framecnn predict``: a label and a probability for every picture."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from framecnn.cli import console
from framecnn.cli.models import load_classifier
from framecnn.cli.options import Model
from framecnn.data import SkippedFrame, decode
from framecnn.data.folder import spreadsheet_cell
from framecnn.data.groups import GROUPS_FILE
from framecnn.errors import DataError

__all__ = ["predict"]

BATCH = 32
COLUMNS = ("path", "label", "probability", "unlike_training", "skipped")


def predict(
    model: Model,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Pictures, or folders of them.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the probability of every class.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
) -> None:
    """Label pictures. One far from the training frames is marked; one that cannot be read is named and skipped."""
    if as_json and as_csv:
        raise typer.BadParameter("expected --json or --csv, got both")
    classifier = load_classifier(model)
    files = list(_files(paths))
    with console.progress("predicting") as tell:
        rows = list(_predictions(classifier, files, tell))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif as_csv:
        typer.echo(_csv(rows), nl=False)
    else:
        _say(rows)
    if not any("label" in row for row in rows):
        raise DataError(f"predict: expected a picture that can be read, got none of {len(rows)} files; check the paths")


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files named, and those below the folders named, by name; hidden files and tables are no pictures."""
    for path in paths:
        if path.is_dir():
            for folder, folders, names in os.walk(path, onerror=_warn_of_folder):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                yield from (Path(folder, name) for name in sorted(names) if name[0] != "." and name != GROUPS_FILE)
        elif os.path.lexists(path):
            yield path
        else:
            raise DataError(f"predict: expected a picture or a folder, but {str(path)!r} is not there; check the path")


def _warn_of_folder(error: OSError) -> None:
    console.warn(f"skipped the folder {error.filename}: {error.strerror}")


def _predictions(classifier: Any, files: Sequence[Path], tell: console.Tell) -> Iterator[dict[str, Any]]:
    from framecnn.data.loader import map_ahead
    from framecnn.thread_count import get_num_threads

    size = tuple(classifier.features_.frame_shape_[:2])
    decoded = map_ahead(lambda path: _pixels(path, size), files, get_num_threads(), BATCH)
    batch: list[tuple[Path, Any]] = []
    for done, (path, pixels) in enumerate(zip(files, decoded, strict=True), start=1):
        batch.append((path, pixels))
        if len(batch) == BATCH or done == len(files):
            yield from _label(classifier, batch)
            batch = []
            tell(done, len(files))


def _pixels(path: Path, size: tuple[int, int]) -> Any:
    try:
        return decode(path, size).pixels
    except SkippedFrame as skipped:
        return f"{skipped.reason}: {skipped.detail}" if skipped.detail else skipped.reason


def _label(classifier: Any, batch: Sequence[tuple[Path, Any]]) -> Iterator[dict[str, Any]]:
    frames = [pixels for _, pixels in batch if not isinstance(pixels, str)]
    if frames:
        features = classifier.features_.transform(np.stack(frames))
        answers = iter(zip(classifier.head_.predict_proba(features), classifier.head_.reject(features), strict=True))
    names = [str(label) for label in classifier.classes_]
    for path, pixels in batch:
        if isinstance(pixels, str):
            yield {"path": str(path), "skipped": pixels}
            continue
        probabilities, unlike = next(answers)
        best = int(probabilities.argmax())
        yield {
            "path": str(path),
            "label": names[best],
            "probability": round(float(probabilities[best]), 6),
            "unlike_training": bool(unlike),
            "probabilities": {name: round(float(p), 6) for name, p in zip(names, probabilities, strict=True)},
        }


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Give a table in UTF-8: names as they are for a file or a program, harmless for a terminal or a spreadsheet."""
    written = console.clean if sys.stdout.isatty() else str
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([spreadsheet_cell(written(row.get(column, ""))) for column in COLUMNS] for row in rows)
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def _say(rows: Sequence[Mapping[str, Any]]) -> None:
    marks = {True: "far from the training frames", False: ""}
    labelled = [
        (row["path"], row["label"], f"{100 * row['probability']:.1f} %", marks[row["unlike_training"]])
        for row in rows
        if "label" in row
    ]
    if labelled:
        console.table(labelled, head=("picture", "label", "probability", ""))
    for row in rows:
        if "skipped" in row:
            console.warn(f"skipped {row['path']}: {row['skipped']}")
