"""``framecnn predict``: predict the class of pictures."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from framecnn.cli import console
from framecnn.cli.loading import load_classifier
from framecnn.cli.options import Model
from framecnn.data import SkippedFrame, decode
from framecnn.data.listing import skip_by_name
from framecnn.data.tables import format_table, spreadsheet_cell
from framecnn.errors import DataError
from framecnn.text import counted

__all__ = ["predict"]

BATCH = 32
SMALL = (8, 8)  # pixels; enough to find out whether a file can be read
DRAWING = "framecnn-predict-show-"  # beginning of the name of the temporary folder that holds the last drawing
VIEWER_SECONDS = 3  # within which a viewer that cannot be started has failed
COLUMNS = ("path", "label", "probability", "out_of_distribution", "skipped")


def predict(
    model: Model,
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Pictures, or folders of them.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with the probability of every class.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    random_from: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Take a random picture from a folder.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Draw the random picture and its probabilities, and open the drawing.")
    ] = False,
) -> None:
    """Predict the class of pictures. Files that cannot be read are listed and skipped.

    Probabilities compare the classes of the model with each other, so they sum to 100 % for any picture. One that is
    far from all training frames is marked as out-of-distribution: it may belong to none of the classes.
    """
    if as_json and as_csv:
        raise typer.BadParameter("expected --json or --csv, got both")
    if paths and random_from is not None:
        raise typer.BadParameter("expected PATH or --random-from FOLDER, got both")
    if not paths and random_from is None:
        raise typer.BadParameter(
            f"expected MODEL and PATH, or MODEL and --random-from FOLDER, got only {str(model)!r}, taken as MODEL"
        )
    if show and random_from is None:
        raise typer.BadParameter("expected --random-from FOLDER with --show, got --show alone")
    classifier = load_classifier(model)
    files = list(_files(paths or ())) if random_from is None else [_random_picture(random_from)]
    with console.progress("predicting") as update:
        rows = list(_predictions(classifier, files, update))
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    elif as_csv:
        typer.echo(_csv(rows), nl=False)
    else:
        _print(rows)
    if not any("label" in row for row in rows):
        raise DataError(_none_readable(len(rows)))
    if random_from is not None and not (as_json or as_csv):
        _print_probabilities(rows[0])
    if show:
        _show(rows[0])


def _random_picture(folder: Path) -> Path:
    """Return a readable picture below a folder, drawn at random."""
    if not folder.is_dir():
        raise DataError(f"predict: expected a folder to draw from, got {str(folder)!r}; check the path")
    files = list(_files([folder]))
    for number in np.random.default_rng().permutation(len(files)):
        with suppress(SkippedFrame):
            decode(files[number], SMALL)
            return files[number]
    raise DataError(_none_readable(len(files)))


def _none_readable(n_files: int) -> str:
    found = f"got {counted(n_files, 'file')} that cannot be read" if n_files else "got folders without a file"
    return f"predict: expected at least one picture, {found}; check the paths"


def _print_probabilities(row: Mapping[str, Any]) -> None:
    best_first = sorted(row["probabilities"].items(), key=lambda item: -item[1])
    console.say()
    console.table([(name, f"{100 * share:.1f} %") for name, share in best_first], head=("class", "probability"))


def _show(row: Mapping[str, Any]) -> None:
    """Draw the picture and its probabilities into a temporary file, and open that in the system's viewer.

    The drawings of earlier calls are removed.
    """
    from framecnn.report import draw_prediction

    for earlier in Path(tempfile.gettempdir()).glob(f"{DRAWING}*/prediction.png"):
        with suppress(OSError):  # it belongs to another user, or is open
            earlier.unlink()
            earlier.parent.rmdir()
    path = Path(tempfile.mkdtemp(prefix=DRAWING), "prediction.png")
    far = ", out-of-distribution" if row["out_of_distribution"] else ""
    title = f"{row['label']}, {100 * row['probability']:.1f} %{far}: {os.path.basename(row['path'])}"
    draw_prediction(row["path"], console.clean(title), row["probabilities"]).save(path)
    typer.echo(f"drew {path}", err=True)
    if not _open(str(path)):
        console.warn("no program to show it was found; open the file yourself")


def _open(path: str) -> bool:
    """Return whether a file could be opened in the system's viewer."""
    if sys.platform == "win32":
        os.startfile(path)
        return True
    opener = "open" if sys.platform == "darwin" else "xdg-open"
    try:
        viewer = subprocess.Popen([opener, path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return viewer.wait(VIEWER_SECONDS) == 0
    except subprocess.TimeoutExpired:
        return True  # it ends with the viewer
    except OSError:
        return False


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the given files and those below the given folders, sorted, without tables of groups and system files."""
    for path in paths:
        if path.is_dir():
            for folder, folders, names in os.walk(path, onerror=_warn_of_folder):
                folders[:] = sorted(name for name in folders if not skip_by_name(name))
                yield from (Path(folder, name) for name in sorted(names) if not skip_by_name(name, is_file=True))
        elif os.path.lexists(path):
            yield path
        else:
            raise DataError(
                f"predict: expected a picture or a folder, but {str(path)!r} does not exist; check the path"
            )


def _warn_of_folder(error: OSError) -> None:
    console.warn(f"skipped the folder {error.filename}: {error.strerror}")


def _predictions(classifier: Any, files: Sequence[Path], update: console.Update) -> Iterator[dict[str, Any]]:
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
            update(done, len(files))


def _pixels(path: Path, size: tuple[int, int]) -> Any:
    try:
        return decode(path, size).pixels
    except SkippedFrame as skipped:
        return f"{skipped.reason}: {skipped.detail}" if skipped.detail else skipped.reason


def _label(classifier: Any, batch: Sequence[tuple[Path, Any]]) -> Iterator[dict[str, Any]]:
    frames = [pixels for _, pixels in batch if not isinstance(pixels, str)]
    if frames:
        features = classifier.features_.transform(np.stack(frames))
        rows = iter(zip(classifier.head_.predict_proba(features), classifier.head_.reject(features), strict=True))
    names = [str(label) for label in classifier.classes_]
    for path, pixels in batch:
        if isinstance(pixels, str):
            yield {"path": str(path), "skipped": pixels}
            continue
        probabilities, is_rejected = next(rows)
        best = int(probabilities.argmax())
        yield {
            "path": str(path),
            "label": names[best],
            "probability": round(float(probabilities[best]), 6),
            "out_of_distribution": bool(is_rejected),
            "probabilities": {name: round(float(p), 6) for name, p in zip(names, probabilities, strict=True)},
        }


def _csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return a CSV table in UTF-8 without formulas; on a terminal also without control characters."""
    text = console.clean if sys.stdout.isatty() else str
    cells = ([spreadsheet_cell(text(row.get(column, ""))) for column in COLUMNS] for row in rows)
    return format_table([COLUMNS, *cells])


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    marks = {True: "out-of-distribution: far from the training frames", False: ""}
    labelled = [
        (row["path"], row["label"], f"{100 * row['probability']:.1f} %", marks[row["out_of_distribution"]])
        for row in rows
        if "label" in row
    ]
    if labelled:
        console.table(labelled, head=("picture", "label", "probability", ""))
    for row in rows:
        if "skipped" in row:
            console.warn(f"skipped {row['path']}: {row['skipped']}")
