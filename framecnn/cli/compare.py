"""``framecnn compare``: the k-means system beside trained networks, on the same folds and frames."""

import json as json_text
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from framecnn.cli import console
from framecnn.cli.doctor import cpu_name
from framecnn.cli.options import Figures, Folder, Groups, MaxBad, Seed, Size, frame_size
from framecnn.cli.outputs import PAGE_MARK, check_outputs, check_replaced, versions, write_json
from framecnn.cli.workflow import Stages, scan_folder
from framecnn.comparison import CONTESTANTS, Comparison, compile_kernels
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
    folds: Annotated[int, typer.Option("--folds", min=2, metavar="K", help="Leave each of K parts out once.")] = 4,
    size: Size = None,
    network_size: Annotated[
        tuple | None,
        typer.Option(
            parser=frame_size,
            metavar="HEIGHTxWIDTH",
            help="What frames are resized to for the networks.",
            show_default="x".join(map(str, NETWORK_SIZE)),
        ),
    ] = None,
    seed: Seed = 0,
    json: Figures = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Where to write the page.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folds in the file of --json.")] = False,
    max_bad: MaxBad = 5.0,
) -> None:
    """Compare the k-means system, its plain head, a trained network and the same network in Keras: accuracy, seconds,
    memory. All learn from the same frames; each fold is left out once."""
    if resume and json is None:
        raise typer.BadParameter("expected --json FILE to go on from, got --resume alone")
    outputs = [path for path in (json, report) if path is not None]
    check_outputs(outputs, folder)
    with lock_outputs(outputs):
        if outputs:
            settle(outputs[0], outputs)
        check_replaced({json: b'"settings"', report: PAGE_MARK})
        frames = scan_folder(Stages(), folder, groups, size or DEFAULT_SIZE, max_bad)
        comparison = Comparison(frames, folds, network_size or NETWORK_SIZE, seed)
        if resume and json is not None and json.exists():
            comparison.resume(_read(json))
        for warning in comparison.warnings:
            if warning not in frames.scan_warnings:  # these have been said
                console.warn(warning)
        with console.progress("compiling the kernels"):
            compile_kernels(comparison.network_size)
        _run_folds(comparison, json)
        _say_figures(comparison)
        if outputs:
            _write(comparison, json, report, outputs[0])


def _run_folds(comparison: Comparison, json: Path | None) -> None:
    """Do the folds that are left, each kept for a later run; the last one is kept together with the page."""
    n_kept = len(comparison.folds)
    try:
        while comparison.n_left:
            with console.progress("comparing") as tell:
                comparison.next_fold(tell)
            if json is not None and comparison.n_left:
                write_json(json, _told(comparison))
                n_kept = len(comparison.folds)
            _say_fold(comparison)
    except KeyboardInterrupt:
        if json is not None and n_kept:
            console.say(f"{json}: {n_kept} of {len(comparison.parts)} folds; --resume goes on from them")
        raise


def _write(comparison: Comparison, json: Path | None, report: Path | None, main: Path) -> None:
    """Write figures and page, both or none."""
    with write_together(main) as stage:
        if json is not None:
            write_json(stage(json), _told(comparison))
        if report is not None:
            try:
                write_comparison(stage(report), _page(comparison))
            except MissingExtraError as error:
                console.warn(f"no page was written ({error})")
                report = None
    if json is not None:
        console.say(f"{json}: all figures")
    if report is not None:
        console.say(f"{report}: the page; open it in a browser")


def _told(comparison: Comparison) -> dict[str, Any]:
    return comparison.to_dict() | {"machine": _machine(), "versions": versions(*EXTRAS)}


def _read(path: Path) -> Any:
    try:
        return json_text.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: expected figures of framecnn compare, got no JSON; name another file") from error


def _machine() -> dict[str, Any]:
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "threads": get_num_threads()}


def _say_fold(comparison: Comparison) -> None:
    accuracies = [
        f"{figures['title']} {100 * figures['accuracies'][-1]:.1f} %" for figures in comparison.figures().values()
    ]
    console.say(f"fold {len(comparison.folds)} of {len(comparison.parts)}: {', '.join(accuracies)}")


def _say_figures(comparison: Comparison) -> None:
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
    console.table(rows, head=("", "mean accuracy (95 %)", "to train", "frames/s", "memory", "model", "on"))
    for name, reason in comparison.missing.items():
        console.warn(f"{CONTESTANTS[name].title} did not take part: {reason}")
    console.say()


def _page(comparison: Comparison) -> ComparisonData:
    figures, settings, outcomes = comparison.figures(), comparison.settings, comparison.outcomes
    missing = [f"The {CONTESTANTS[name].title} did not take part: {why}" for name, why in comparison.missing.items()]
    machine = _machine()
    return ComparisonData(
        title=f"{settings['folder']}: k-means and back-propagation",
        classes=settings["classes"],
        about={contestant.title: contestant.about for contestant in CONTESTANTS.values()},
        figures={own["title"]: own for own in figures.values()},
        results=list(comparison.results.values()),
        paths=comparison.paths,
        shown=list(_shown(comparison)),
        choices=[
            (f"{CONTESTANTS[name].title}, fold {number}", _in_words(outcome["chosen"]))
            for name, own in outcomes.items()
            for number, outcome in enumerate(own, start=1)
        ],
        facts={
            "frames": f"{settings['frames']:,} of {len(settings['classes'])} classes",
            "folds": f"{settings['folds']} by group ({settings['groups']}), stratified by class",
            "frame size": "x".join(map(str, settings["size"])),
            "frame size of the networks": "x".join(map(str, settings["network_size"])),
            "seed": str(settings["seed"]),
            "machine": f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores",
        },
        versions=versions(*EXTRAS),
        warnings=[*missing, *comparison.warnings],
    )


def _shown(comparison: Comparison) -> Iterator[ShownFrame]:
    for fold, (_, test) in zip(comparison.folds, comparison.parts, strict=True):
        said = {CONTESTANTS[name].title: fold["outcomes"][name]["shown"] for name in comparison.outcomes}
        truth = test.classes[dict(test.samples)[fold["shown"]]]
        yield ShownFrame(str(comparison.folder.root / fold["shown"]), truth, fold["fold"], said)


def _in_words(chosen: Mapping[str, Any]) -> str:
    """Write down what was chosen; of a network, how well it did."""
    if "learning_rate" not in chosen:
        return ", ".join(f"{name} {value}" for name, value in chosen.items() if value is not None)
    augmented = "augmented" if chosen["augmented"] else "not augmented"
    accuracy, epoch = chosen["val_accuracy"], chosen["best_epoch"]
    judged = "" if accuracy is None else f", {100 * accuracy:.1f} % of the validation frames after epoch {epoch}"
    return f"learning rate {chosen['learning_rate']:g}, {augmented}{judged}"
