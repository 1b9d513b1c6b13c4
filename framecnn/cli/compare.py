"""``framecnn compare``: compare the k-means system with trained networks on the same folds and frames."""

import json as json_text
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from framecnn.cli import console
from framecnn.cli.environment import cpu_name, missing_extra, versions
from framecnn.cli.folder_options import FolderOptions, reads_folder
from framecnn.cli.options import OUTPUT, Figures, MaxBad, PredictionsFile, Seed, Size, frame_size
from framecnn.cli.outputs import OutputSet, report_mark, write_json
from framecnn.cli.workflow import Stages, scan_folder
from framecnn.comparison import MODELS, Comparison, comparison_data, compile_kernels
from framecnn.comparison.folds import MIN_NETWORK_SIDE
from framecnn.data import DEFAULT_SIZE
from framecnn.data.prediction_table import PREDICTIONS_MARK, write_predictions
from framecnn.errors import DataError, MissingExtraError
from framecnn.estimators.trained_features import NETWORK_SIZE
from framecnn.networks.efficientnet import check_pretrained_weights
from framecnn.report import write_comparison
from framecnn.text import percent
from framecnn.thread_count import get_num_threads

__all__ = ["compare"]

EXTRAS = ("keras", "tensorflow", "tensorflow-cpu")
CONTENTS = {
    "json": "all figures",
    "report": "the report; open it in a browser",
    "predictions": "the predictions of every model for all test frames",
}


def network_frame_size(text: str) -> tuple[int, int]:
    """Return the size of the frames for the networks; raise BadParameter if it is too small for them."""
    return frame_size(text, smallest=MIN_NETWORK_SIDE)


@reads_folder
def compare(
    source: FolderOptions,
    folds: Annotated[
        int, typer.Option("--folds", min=2, metavar="K", help="The number of folds; each is held out once.")
    ] = 4,
    size: Size = None,
    network_size: Annotated[
        tuple | None,
        typer.Option(
            parser=network_frame_size,
            metavar="HEIGHTxWIDTH",
            help="The size of the frames for the networks.",
            show_default="x".join(map(str, NETWORK_SIZE)),
        ),
    ] = None,
    seed: Seed = 0,
    json: Figures = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Where to write the report.", rich_help_panel=OUTPUT)
    ] = None,
    predictions: PredictionsFile = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the results in the file of --json.")] = False,
    max_bad: MaxBad = 5.0,
) -> None:
    """Compare the accuracy, time and memory of framecnn's classifier (the k-means system), the plain k-means head, the
    k-means system with pretrained features and with both, a network trained by framecnn, and the same network in Keras.
    All are trained on the same frames; each fold is held
    out once."""
    if resume and json is None:
        raise typer.BadParameter("expected --json FILE to resume from, got --resume alone")
    outputs = OutputSet(
        "compare",
        json,
        source.inputs,
        report=(report, report_mark("comparison")),
        predictions=(predictions, PREDICTIONS_MARK),
    )
    json = outputs.paths["json"]
    if report is not None and (missing := missing_extra("framecnn compare --report", "report", "jinja2")):
        raise missing
    try:
        check_pretrained_weights(f"{MODELS['pretrained'].title} and {MODELS['both'].title}")
    except MissingExtraError as error:
        console.warn(f"the comparison leaves out two models ({error})")
    if missing := missing_extra(MODELS["keras_network"].title, "keras", "keras", "tensorflow"):
        console.warn(f"the comparison leaves out one model ({missing})")
    with outputs.held():
        if resume and json is not None and not json.exists():
            console.warn(f"{json} does not exist: starting from the beginning")
        frames = scan_folder(Stages(), source, size or DEFAULT_SIZE, max_bad)
        comparison = Comparison(frames, folds, network_size or NETWORK_SIZE, seed)
        if resume and json is not None and json.exists():
            comparison.resume(_read(json))
        for warning in comparison.warnings:
            if warning not in frames.scan_warnings:  # scan_folder has printed these
                console.warn(warning)
        with console.progress("compiling the kernels"):
            compile_kernels(comparison.network_size)
        _run(comparison, json)
        _print_figures(comparison)
        _write(comparison, outputs)
        if not comparison.outcomes:
            raise DataError("compare: expected at least one model to finish every fold, got none; see the warnings")


def _run(comparison: Comparison, json: Path | None) -> None:
    """Run the pending models; save the figures after each but the last, which are written with the report."""
    total = len(MODELS) * len(comparison.folds)
    n_saved = total - len(comparison.pending)
    try:
        while comparison.pending:
            with console.progress("comparing") as progress:
                complete = comparison.run_next(progress)
            if json is not None and comparison.pending:
                write_json(json, "compare", _figures(comparison))
                n_saved = total - len(comparison.pending)
            if complete is not None:
                _print_fold(comparison, complete)
    except BaseException:
        if json is not None and n_saved:
            console.say(f"{json}: {n_saved} of {total} results; --resume continues from them")
        raise


def _write(comparison: Comparison, outputs: OutputSet) -> None:
    outputs.write(
        _figures(comparison),
        predictions=lambda path: write_predictions(path, comparison.folder.classes, comparison.prediction_rows()),
        report=lambda path: write_comparison(
            path, comparison_data(comparison, _machine_in_words(), versions(*EXTRAS), outputs.name_of("predictions"))
        ),
    )
    for name, what in CONTENTS.items():
        if (path := outputs.paths[name]) is not None:
            console.say(f"{path}: {what}")


def _figures(comparison: Comparison) -> dict[str, Any]:
    return comparison.to_dict() | {"machine": _machine(), "versions": versions(*EXTRAS)}


def _read(path: Path) -> Any:
    try:
        return json_text.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected figures of framecnn compare, got broken JSON; name another file") from error


def _machine() -> dict[str, Any]:
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": get_num_threads()}


def _machine_in_words() -> str:
    return "{cpu}, {threads} threads on {cores} cores".format(**_machine())


def _print_fold(comparison: Comparison, number: int) -> None:
    accuracies = comparison.accuracies(number).items()
    shown = [f"{MODELS[name].title} {percent(accuracy)}" for name, accuracy in accuracies]
    console.say(f"fold {number + 1} of {len(comparison.parts)}: {', '.join(shown) or 'no model finished'}")


def _print_figures(comparison: Comparison) -> None:
    rows = [
        (
            figures["title"],
            "{:.1f} % ({:.1f} to {:.1f})".format(
                *(100 * share for share in (figures["accuracy"], *figures["interval"]))
            ),
            f"{figures['train_seconds']:.1f} s",
            f"{figures['frames_per_second']:,.0f}",
            f"{figures['peak_megabytes']:,.0f} MB",
            f"{figures['model_bytes'] / 1e6:.1f} MB",
            figures["device"],
        )
        for figures in comparison.figures().values()
    ]
    console.say()
    console.table(rows, head=("", "accuracy (95 % interval)", "training", "frames/s", "memory", "model", "device"))
    for text in comparison.absences:
        console.warn(text)
    console.say()
