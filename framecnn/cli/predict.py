"""``framecnn predict``: predict the class of pictures and movies."""

import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from framecnn.cli import console
from framecnn.cli.cluster_options import AllowMixed, Cluster, Scheduler, Workers
from framecnn.cli.frames import seconds
from framecnn.cli.loading import load_classifier
from framecnn.cli.options import OUTPUT, Figures, Model, png_file
from framecnn.cli.outputs import DRAWING_MARK, OutputSet, check_outputs, check_replaced
from framecnn.cli.predictions import Predictions, predict_all, predict_pictures, table_row
from framecnn.data import SkippedFrame, decode
from framecnn.data.listing import skip_by_name
from framecnn.data.movie_files import MOVIE_SUFFIXES
from framecnn.data.movie_frames import SHORTEST
from framecnn.data.prediction_table import PREDICTIONS_MARK, PredictionRow, write_predictions
from framecnn.data.reasons import REASONS
from framecnn.data.tables import format_table, spreadsheet_cell
from framecnn.errors import DataError
from framecnn.text import counted, percent

__all__ = ["predict"]

LISTED = 10_000  # pictures that are listed; predictions of more are written to their table while they are made
SMALL = (8, 8)  # pixels; enough to find out whether a file can be read
COLUMNS = ("path", "time_s", "label", "probability", "outlier_score", "out_of_distribution", "skipped")
FAR = "out-of-distribution: far from the training frames"
NONE = "none of these (out-of-distribution)"


def predict(
    model: Model,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Pictures, movies, or folders of them.", show_default=False),
    ] = None,
    json: Figures = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of tables.", rich_help_panel=OUTPUT)] = False,
    predictions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a CSV table with the probability of every class.", rich_help_panel=OUTPUT
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(parser=seconds, metavar="TIME", help="Time between frames of a movie.", show_default="1s")
    ] = 1.0,
    by_frame: Annotated[bool, typer.Option("--by-frame", help="Print every frame of a movie, too.")] = False,
    random_from: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Take a random picture from a folder.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Draw the pictures and their probabilities, and open the drawing.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Like --show, with what speaks for the label, and similar training frames."),
    ] = False,
    drawing: Annotated[
        Path | None,
        typer.Option(
            parser=png_file,
            metavar="FILE",
            help="Write the drawing to this PNG file, and do not open it.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    training_folder: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder of frames that the model was trained on, where --explain looks for similar ones.",
            show_default="the folder of MODEL, and the working directory",
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """Predict the class of pictures and movies. Files that cannot be read are listed and skipped.

    Probabilities compare the classes of the model with each other, so they sum to 100 % for any picture. One that is
    far from all training frames is out-of-distribution: it may belong to none of the classes.

    A movie and its shots get the class of most of their frames, with the share of these frames.

    Of more than 10,000 pictures only the number of each label is printed if a table of predictions is written.

    The exit code is 1 if a PATH that was given could not be predicted but others were, and 2 if none could.
    """
    if as_csv and console.output_is_json():
        raise typer.BadParameter("expected --json - or --csv, got both")
    if not every >= SHORTEST:
        raise typer.BadParameter(f"expected at least {SHORTEST}s, got {every:g}s", param_hint="'--every'")
    if paths and random_from is not None:
        raise typer.BadParameter("expected PATH or --random-from FOLDER, got both")
    if not paths and random_from is None:
        raise typer.BadParameter(
            f"expected MODEL and PATH, or MODEL and --random-from FOLDER, got only {str(model)!r}, taken as MODEL"
        )
    if training_folder is not None and not explain:
        raise typer.BadParameter("expected --training-folder with --explain, got --training-folder alone")
    if training_folder is not None and not training_folder.is_dir():
        raise typer.BadParameter(f"expected a folder, got {str(training_folder)!r}", param_hint="'--training-folder'")
    cluster = Cluster(workers, scheduler, allow_mixed)
    inputs = [model, random_from, training_folder, *(paths or ())]
    outputs = OutputSet("predict", json, inputs, predictions=(predictions, PREDICTIONS_MARK))
    (drawing,) = check_outputs([drawing], inputs)
    check_replaced({drawing: DRAWING_MARK})
    with outputs.held():
        classifier = load_classifier(model)
        files = list(_files(paths or ())) if random_from is None else [_random_picture(random_from)]
        movies = [file for file in files if _is_movie(file)]
        pictures = [file for file in files if not _is_movie(file)]
        is_listed = len(pictures) <= LISTED or predictions is None or json is not None or bool(movies)
        is_listed |= bool(as_csv or show or explain or drawing or console.output_is_json())
        with cluster.used(), console.progress("predicting") as update:
            if is_listed:
                found = predict_all(classifier, pictures, movies, every, update)
            else:
                labels, skipped = _write_table(classifier, pictures, outputs, update)
        if not is_listed:
            return _print_counts(labels, skipped, outputs, paths or ())
        if as_csv:
            typer.echo(_csv(found), nl=False)
        else:
            _print(found, by_frame)
            _print_more(found, paths or [], random_from is not None)
        outputs.write(
            {
                "model": str(model),
                "totals": found.totals,
                "outlier_threshold": round(float(classifier.outlier_threshold_), 6),
                **vars(found),
            },
            predictions=lambda path: write_predictions(path, found.classes, found.table_rows()),
        )
    for path in outputs.files:
        console.note(f"wrote {path}")
    if len(files) == len(found.skipped) == 1:
        raise DataError(f"predict: {found.skipped[0]['path']}: {_in_words(found.skipped[0]['reason'])}")
    for row in found.skipped:
        console.warn(f"skipped {row['path']}: {_in_words(row['reason'])}")
    if not (found.pictures or found.movies):
        raise DataError(_none_readable(len(files)))
    if (show or explain or drawing) and found.pictures:
        from framecnn.cli.showing import MOST_SHOWN
        from framecnn.cli.showing import show as show_pictures
        from framecnn.report.explanations import explain_pictures

        drawn = [row["path"] for row in found.pictures[: MOST_SHOWN if explain else 0]]
        folders = [model.parent, Path()] if training_folder is None else [training_folder]
        evidence = explain_pictures(classifier, drawn, folders)
        show_pictures(found.pictures, evidence, drawing)
        if not all(file for own in evidence.values() for file, _ in own.nearest):
            console.note("some similar training frames were not found; name their folder: --training-folder FOLDER")
    elif show or explain or drawing:
        option = "--explain" if explain else "--show" if show else "--drawing"
        console.warn(f"{option} draws pictures, not movies; cut frames first: framecnn frames")
    _end([row["path"] for row in found.skipped], paths or ())


def _write_table(
    classifier: Any, pictures: Sequence[Path], outputs: OutputSet, update: console.Update
) -> tuple[Counter[str], dict[Path, str]]:
    """Write predictions while they are made; return how many have each label, and why files were skipped."""
    classes = [str(label) for label in classifier.classes_]
    skipped: dict[Path, str] = {}
    labels: Counter[str] = Counter()

    def rows() -> Iterator[PredictionRow]:
        for path, row in predict_pictures(classifier, pictures, update):
            if isinstance(row, str):
                skipped[path] = row
            else:
                labels[NONE if row["out_of_distribution"] else row["label"]] += 1
                yield table_row(classes, str(path), row)
        if not labels:
            raise DataError(_none_readable(len(pictures)))

    outputs.write({}, predictions=lambda path: write_predictions(path, classes, rows()))
    return labels, skipped


def _print_counts(labels: Counter[str], skipped: Mapping[Path, str], outputs: OutputSet, given: Sequence[Path]) -> None:
    """Print how many pictures have each label, the table that was written, and what was skipped."""
    counts = [(name, number, percent(number / labels.total())) for name, number in labels.most_common()]
    console.table(counts, head=("label", "pictures", "share"))
    console.say(counted(labels.total(), "picture"))
    for path in outputs.files:
        console.note(f"wrote {path}")
    for path, reason in skipped.items():
        console.warn(f"skipped {path}: {_in_words(reason)}")
    _end(list(map(str, skipped)), given)


def _end(skipped: Sequence[str], given: Sequence[Path]) -> None:
    """Exit with a code of its own if a path that was given was skipped."""
    if set(map(os.path.abspath, skipped)) & set(map(os.path.abspath, given)):
        raise typer.Exit(console.EXIT_INCOMPLETE)


def _in_words(reason: str) -> str:
    """Return why a file was skipped, without the code before it."""
    code, _, detail = reason.partition(": ")
    return detail if code in REASONS else reason


def _is_movie(path: Path) -> bool:
    return path.suffix.lower() in MOVIE_SUFFIXES


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
    return f"predict: expected at least one picture or movie, {found}; check the paths"


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the files at and below some paths, each once, sorted, without tables of groups and system files."""
    yield from {os.path.abspath(file): file for file in _all_files(paths)}.values()


def _all_files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            for folder, folders, names in os.walk(path, onerror=_warn_of_folder):
                folders[:] = sorted(name for name in folders if not skip_by_name(name))
                yield from (Path(folder, name) for name in sorted(names) if not skip_by_name(name, is_file=True))
        else:
            yield path


def _warn_of_folder(error: OSError) -> None:
    console.warn(f"skipped the folder {error.filename}: {error.strerror}")


def _csv(found: Predictions) -> bytes:
    """Return a CSV table in UTF-8 without formulas; on a terminal also without control characters.

    It has one row per picture, per frame of a movie, with its time in seconds, and per file that was skipped.
    """
    rows: list[Mapping[str, Any]] = [*found.pictures]
    rows += [
        {"path": movie["path"], "time_s": frame["time"], **frame} for movie in found.movies for frame in movie["frames"]
    ]
    rows += [{"path": skip["path"], "skipped": skip["reason"]} for skip in found.skipped]
    text = console.clean if sys.stdout.isatty() else str
    cells = ([spreadsheet_cell(text(row.get(column, ""))) for column in COLUMNS] for row in rows)
    return format_table([COLUMNS, *cells])


def _print(found: Predictions, by_frame: bool) -> None:
    if found.pictures:
        rows = [(row["path"], *_labelled(row)) for row in found.pictures]
        console.table(rows, ("picture", "label", "probability", ""))
    for number, movie in enumerate(found.movies):
        if number or found.pictures:
            console.say()
        _print_movie(movie, by_frame)


def _print_movie(movie: Mapping[str, Any], by_frame: bool) -> None:
    console.table([(movie["path"], *_voted(movie))], ("movie", "label", "share", "frames", ""))
    console.say()
    shots = enumerate(movie["shots"])
    console.table(
        [(f"  {number}", _clock(shot["start"]), _clock(shot["end"]), *_voted(shot)) for number, shot in shots],
        ("  shot", "from", "to", "label", "share", "frames", ""),
    )
    if by_frame:
        console.say()
        frames = [(f"  {_clock(row['time'])}", row["shot"], *_labelled(row)) for row in movie["frames"]]
        console.table(frames, ("  frame at", "shot", "label", "probability", ""))


def _voted(votes: Mapping[str, Any]) -> tuple[str, str, int, str]:
    share = votes["out_of_distribution"]
    far = f"{percent(share)} of the frames out-of-distribution" if share else ""
    return votes["label"] or "-", percent(votes["share"]), votes["n_frames"], far


def _labelled(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["label"], percent(row["probability"]), FAR if row["out_of_distribution"] else ""


def _clock(time: float) -> str:
    """Return a time as minutes and seconds."""
    minutes, rest = divmod(round(time, 1), 60)
    return f"{minutes:.0f}:{rest:04.1f}"


def _print_more(found: Predictions, paths: Sequence[Path], is_random: bool) -> None:
    """Print every probability of a random picture, or how many pictures of folders have each label."""
    if is_random and found.pictures:
        best_first = sorted(found.pictures[0]["probabilities"].items(), key=lambda item: -item[1])
        console.say()
        console.table([(name, percent(share)) for name, share in best_first], head=("class", "probability"))
    folders = [path for path in paths if path.is_dir()]
    if folders and found.pictures:
        labels = Counter(row["label"] for row in found.pictures if not row["out_of_distribution"]).most_common()
        far = sum(row["out_of_distribution"] for row in found.pictures)
        rows = [(name, number, percent(number / len(found.pictures))) for name, number in [*labels, (NONE, far)]]
        console.say()
        console.table(rows if far else rows[:-1], head=("label", "pictures", "share"))
        console.say(counted(len(found.pictures), "picture"))
    for folder in folders:
        if {entry.name for entry in folder.iterdir() if entry.is_dir()} >= set(found.classes):
            console.say(f"{folder} has a folder for each class: framecnn evaluate measures the accuracy on it")
