"""``framecnn evaluate``: measure the accuracy of a model on frames that it was not trained on."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from framecnn.cli import console
from framecnn.cli.environment import describe_origin, missing_extra, versions
from framecnn.cli.figures import print_assessment
from framecnn.cli.folder_options import FolderOptions, reads_folder
from framecnn.cli.loading import load_classifier
from framecnn.cli.options import OUTPUT, Figures, MaxBad, Model, PictureMegabytes, PredictionsFile
from framecnn.cli.outputs import OutputSet, report_mark
from framecnn.cli.workflow import ReportingFrames, Stages, scan_folder, without_lost
from framecnn.data import FrameFolder, FrameLost
from framecnn.data.names import same_name
from framecnn.data.prediction_table import PREDICTIONS_MARK, write_predictions
from framecnn.data.split import PARTS
from framecnn.errors import DataError
from framecnn.evaluation import Assessment, assess
from framecnn.report import report_data, write_report
from framecnn.text import counted, did_you_mean, listed
from framecnn.typing import Array

__all__ = ["evaluate"]

MEANING = (
    "expect this accuracy on frames like these; if they are from films, places or series of the training frames, it "
    "will be lower on others"
)
CONTENTS = {
    "json": "all figures",
    "report": "the report; open it in a browser",
    "predictions": "the predictions for all frames, with suspected wrong labels",
}


@reads_folder
def evaluate(
    model: Model,
    source: FolderOptions,
    json: Figures = None,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE", help="Write an HTML report, as train does.", rich_help_panel=OUTPUT),
    ] = None,
    predictions: PredictionsFile = None,
    picture_megabytes: PictureMegabytes = 4.0,
    max_bad: MaxBad = 5.0,
) -> None:
    """Measure the accuracy of a model on a folder of frames, with a 95 % interval, and list its mistakes.

    Use frames that the model was not trained on: on the frames of its training, the accuracy is too high.
    """
    outputs = OutputSet(
        "evaluate",
        json,
        [*source.inputs, model],
        report=(report, report_mark("training")),
        predictions=(predictions, PREDICTIONS_MARK),
    )
    if report is not None and (missing := missing_extra("framecnn evaluate --report", "report", "jinja2")):
        raise missing
    with outputs.held():
        classifier = load_classifier(model)
        stages = Stages()
        size = classifier.features_.frame_shape_[:2]
        frames = scan_folder(stages, source, size, max_bad, min_classes=1, meaning=MEANING)
        while True:
            try:
                meant, about_classes = _check_classes(frames, [str(label) for label in classifier.classes_])
                assessment, trained_on = _measure(stages, classifier, frames, meant)
                break
            except FrameLost as lost:
                frames = without_lost(frames, lost, max_bad)
        for warning in trained_on:
            console.warn(warning)
        warnings = [*frames.scan_warnings, *about_classes, *trained_on]
        console.say()
        print_assessment(assessment)
        whole = assessment.to_dict()
        figures = assessment.main.to_dict() | {key: whole[key] for key in ("reasons", "suspects")}
        figures |= {"meaning": MEANING, "warnings": warnings}

        def report_to(path: Path) -> None:
            data = report_data(
                assessment,
                classifier,
                meaning=MEANING,
                skipped=frames.skipped,
                predictions=outputs.name_of("predictions"),
                found=frames.found,
                origin=describe_origin(model),
                versions=versions(),
                timings=stages.seconds,
                warnings=warnings,
            )
            write_report(path, data, round(1e6 * picture_megabytes))

        outputs.write(
            figures,
            predictions=lambda path: write_predictions(path, assessment.main.classes, assessment.prediction_rows()),
            report=report_to,
        )
        if outputs.files:
            console.say()
            written = [(path, CONTENTS[name]) for name, path in outputs.paths.items() if path is not None]
            console.table([("" if row else "wrote", *what) for row, what in enumerate(written)])


def _check_classes(frames: FrameFolder, known: list[str]) -> tuple[dict[str, str | None], list[str]]:
    """Return the class of the model that each class of the folder is, None if it is none; print and return warnings.

    Only the frames that are evaluated count. Raise DataError if no class of these is one of the model.
    """
    targets = frames.targets[frames.unseen]
    meant = {frames.classes[target]: same_name(frames.classes[target], known) for target in np.unique(targets)}
    unknown = [name for name, label in meant.items() if label is None]
    if len(unknown) == len(meant):
        raise DataError(
            f"{frames.root.name}: expected folders of the model's classes ({listed(known)}), "
            f"got {listed(unknown)}{did_you_mean(unknown[0], known)}; name the folders as in training"
        )
    warnings = []
    if unknown:
        n = sum(frames.classes[target] in unknown for target in targets)
        hint = did_you_mean(unknown[0], known)
        warnings.append(
            f"skipped {counted(n, 'frame')} of classes that the model does not know: {listed(unknown)}{hint}"
        )
    warnings += [
        f"class {name!r} is taken as the model's class {label!r}"
        for name, label in meant.items()
        if label not in (None, name)
    ]
    if absent := [name for name in known if name not in meant.values()]:
        warnings.append(f"no frames of {listed(absent)}: the accuracy does not cover these classes")
    if frames.unseen_part:
        console.say(f"evaluated: {counted(len(targets), 'frame')} of the {frames.unseen_part} part")
    for warning in warnings:
        console.warn(warning)
    return meant, warnings


def _measure(
    stages: Stages, classifier: Any, frames: FrameFolder, meant: dict[str, str | None]
) -> tuple[Assessment, list[str]]:
    """Return what is measured of the model, and a warning if it was trained on some of the frames."""
    rows = frames.unseen[[meant[frames.classes[target]] is not None for target in frames.targets[frames.unseen]]]
    part = frames.select(rows)
    part = replace(part, classes=[meant.get(name) or name for name in part.classes])
    with stages("evaluate", "evaluating") as update:
        features = classifier.features_.transform(ReportingFrames(part.frames, update, len(part)))
        name = _part_name(frames)
        found = assess(classifier, {name: part}, {name: features})
    return found, _trained_on(classifier, features)


def _trained_on(classifier: Any, features: Array) -> list[str]:
    """Return a warning if frames with these features were trained on: their outlier score is zero."""
    n = int((classifier.head_.outlier_scores(features) == 0).sum())
    if not n:
        return []
    names, kept = classifier.training_names_, classifier.head_.outliers_.rows
    least = "at least " if names is not None and len(names) > len(kept) else ""
    were = f"{least}{n:,} of {counted(len(features), 'frame')} {'was' if n == 1 else 'were'}"
    return [f"{were} trained on: the accuracy is too high; evaluate other frames"]


def _part_name(frames: FrameFolder) -> str:
    """Return the name of the folder; one that is the name of a part of a training is marked as a folder."""
    return f"folder {frames.root.name}" if frames.root.name in PARTS else frames.root.name
