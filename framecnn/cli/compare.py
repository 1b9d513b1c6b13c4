"""``framecnn compare``: compare the k-means system with trained networks on the same folds and frames."""

import json as json_text
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from framecnn.cli import console
from framecnn.cli.doctor import cpu_name
from framecnn.cli.options import Figures, Folder, Groups, MaxBad, Seed, Size, frame_size
from framecnn.cli.outputs import JSON_MARK, REPORT_MARK, check_outputs, check_replaced, versions, write_json
from framecnn.cli.workflow import Stages, scan_folder
from framecnn.comparison import MODELS, Comparison, compile_kernels
from framecnn.data import DEFAULT_SIZE
from framecnn.errors import DataError, MissingExtraError
from framecnn.estimators.trained_features import NETWORK_SIZE
from framecnn.report import ComparisonData, ShownFrame, write_comparison
from framecnn.storage.output_lock import lock_outputs
from framecnn.storage.output_set import settle, write_together
from framecnn.thread_count import get_num_threads

__all__ = ["compare"]

EXTRAS = ("keras", "tensorflow", "tensorflow-cpu")


def compare(
    folder: Folder,
    groups: Groups = None,
    folds: Annotated[int, typer.Option("--folds", min=2, metavar="K", help="Hold each of K parts out once.")] = 4,
    size: Size = None,
    network_size: Annotated[
        tuple | None,
        typer.Option(
            parser=frame_size,
            metavar="HEIGHTxWIDTH",
            help="The size of the frames for the networks.",
            show_default="x".join(map(str, NETWORK_SIZE)),
        ),
    ] = None,
    seed: Seed = 0,
    json: Figures = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Where to write the report.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the results in the file of --json.")] = False,
    max_bad: MaxBad = 5.0,
) -> None:
    """Compare the accuracy, time and memory of the k-means system, its plain head, a trained network and the same
    network in Keras. All are trained on the same frames; each fold is held out once."""
    if resume and json is None:
        raise typer.BadParameter("expected --json FILE to resume from, got --resume alone")
    json, report = check_outputs([json, report], [folder, groups])
    outputs = [path for path in (json, report) if path is not None]
    with lock_outputs(outputs):
        if outputs:
            settle(outputs[0], outputs)
        check_replaced({json: JSON_MARK, report: REPORT_MARK})
        frames = scan_folder(Stages(), folder, groups, size or DEFAULT_SIZE, max_bad)
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
        if outputs:
            _write(comparison, json, report, outputs[0])
        if not comparison.outcomes:
            raise DataError("compare: expected at least one model to finish every fold, got none; see the warnings")


def _run(comparison: Comparison, json: Path | None) -> None:
    """Run what is pending; save each outcome for a later run, the last one together with the report."""
    total = len(MODELS) * len(comparison.folds)
    n_saved = total - len(comparison.pending)
    try:
        while comparison.pending:
            with console.progress("comparing") as progress:
                complete = comparison.run_next(progress)
            if json is not None and comparison.pending:
                write_json(json, _figures(comparison))
                n_saved = total - len(comparison.pending)
            if complete is not None:
                _print_fold(comparison, complete)
    except BaseException:
        if json is not None and n_saved:
            console.say(f"{json}: {n_saved} of {total} results; --resume continues from them")
        raise


def _write(comparison: Comparison, json: Path | None, report: Path | None, main: Path) -> None:
    """Write figures and report, both or none."""
    with write_together(main) as stage:
        if json is not None:
            write_json(stage(json), _figures(comparison))
        if report is not None:
            try:
                write_comparison(stage(report), _report(comparison))
            except MissingExtraError as error:
                console.warn(f"no report was written ({error})")
                report = None
    if json is not None:
        console.say(f"{json}: all figures")
    if report is not None:
        console.say(f"{report}: the report; open it in a browser")


def _figures(comparison: Comparison) -> dict[str, Any]:
    return comparison.to_dict() | {"machine": _machine(), "versions": versions(*EXTRAS)}


def _read(path: Path) -> Any:
    try:
        return json_text.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected figures of framecnn compare, got no JSON; name another file") from error


def _machine() -> dict[str, Any]:
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": get_num_threads()}


def _print_fold(comparison: Comparison, number: int) -> None:
    accuracies = comparison.accuracies(number).items()
    shown = [f"{MODELS[name].title} {100 * accuracy:.1f} %" for name, accuracy in accuracies]
    console.say(f"fold {number + 1} of {len(comparison.parts)}: {', '.join(shown) or 'no model finished'}")


def _print_figures(comparison: Comparison) -> None:
    rows = [
        (
            figures["title"],
            f"{100 * figures['mean']:.1f} % ({100 * figures['interval'][0]:.1f} to {100 * figures['interval'][1]:.1f})",
            f"{figures['train_seconds']:.1f} s",
            f"{figures['frames_per_second']:,.0f}",
            f"{figures['peak_megabytes']:,.0f} MB",
            f"{figures['model_bytes'] / 1e6:.1f} MB",
            figures["device"],
        )
        for figures in comparison.figures().values()
    ]
    console.say()
    console.table(rows, head=("", "mean accuracy (95 %)", "training", "frames/s", "memory", "model", "device"))
    for text in _absent(comparison):
        console.warn(text)
    console.say()


def _absent(comparison: Comparison) -> list[str]:
    """Return why models have no figures, a line each."""
    missing = [f"{MODELS[name].title} was not run: {why}" for name, why in comparison.missing.items()]
    return missing + [f"{MODELS[name].title} failed in {why}" for name, why in comparison.failed.items()]


def _report(comparison: Comparison) -> ComparisonData:
    figures, settings = comparison.figures(), comparison.settings
    machine = _machine()
    return ComparisonData(
        title=f"{settings['folder']}: k-means and back-propagation",
        classes=settings["classes"],
        about={model.title: model.about for model in MODELS.values()},
        figures={own["title"]: own for own in figures.values()},
        results=list(comparison.results.values()),
        paths=comparison.paths,
        shown=list(_shown(comparison)),
        choices=[
            (f"{MODELS[name].title}, fold {number}", _in_words(outcome["chosen"]))
            for name, own in comparison.outcomes.items()
            for number, outcome in enumerate(own, start=1)
        ],
        facts={
            "frames": f"{settings['frames']:,} of {len(settings['classes'])} classes",
            "folds": f"{settings['folds']} by group ({settings['groups']}), stratified by class",
            "frame size": "x".join(map(str, settings["size"])),
            "frame size for the networks": "x".join(map(str, settings["network_size"])),
            "seed": str(settings["seed"]),
            "machine": f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores",
        },
        versions=versions(*EXTRAS),
        warnings=[*_absent(comparison), *comparison.warnings],
    )


def _shown(comparison: Comparison) -> Iterator[ShownFrame]:
    for fold, (_, test) in zip(comparison.folds, comparison.parts, strict=True):
        probabilities = {MODELS[name].title: fold["outcomes"][name]["shown"] for name in comparison.outcomes}
        truth = test.classes[dict(test.samples)[fold["shown"]]]
        yield ShownFrame(str(comparison.folder.root / fold["shown"]), truth, fold["fold"], probabilities)


def _in_words(chosen: Mapping[str, Any]) -> str:
    """Return the settings that were chosen; for a network, also its validation accuracy."""
    if "learning_rate" not in chosen:
        return ", ".join(f"{name} {value}" for name, value in chosen.items() if value is not None)
    augmented = "augmented" if chosen["augmented"] else "not augmented"
    accuracy, epoch = chosen["val_accuracy"], chosen["best_epoch"]
    result = "" if accuracy is None else f", validation accuracy {100 * accuracy:.1f} % after epoch {epoch}"
    return f"learning rate {chosen['learning_rate']:g}, {augmented}{result}"
