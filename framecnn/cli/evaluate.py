"""``framecnn evaluate``: measure the accuracy of a model on frames that it was not trained on."""

from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.cli.folder_options import FolderOptions, reads_folder
from framecnn.cli.loading import load_classifier
from framecnn.cli.options import Figures, MaxBad, Model
from framecnn.cli.outputs import check_outputs, check_replaced, json_mark, write_json
from framecnn.cli.workflow import ReportingFrames, Stages, scan_folder, without_lost
from framecnn.data import FrameFolder, FrameLost
from framecnn.data.names import same_name
from framecnn.errors import DataError
from framecnn.evaluation import EvaluationResult
from framecnn.text import counted, did_you_mean, listed

__all__ = ["evaluate"]


@reads_folder
def evaluate(model: Model, source: FolderOptions, json: Figures = None, max_bad: MaxBad = 5.0) -> None:
    """Measure the accuracy of a model on a folder of frames, with a 95 % interval, and list its mistakes.

    Use frames that the model was not trained on: on the frames of its training, the accuracy is too high.
    """
    (json,) = check_outputs([json], [*source.inputs, model])
    check_replaced({json: json_mark("evaluate")})
    classifier = load_classifier(model)
    stages = Stages()
    frames = scan_folder(stages, source, classifier.features_.frame_shape_[:2], max_bad, min_classes=1)
    known = [str(label) for label in classifier.classes_]
    meant = {name: same_name(name, known) for name in frames.classes}
    unknown = [name for name, label in meant.items() if label is None]
    if len(unknown) == len(frames.classes):
        raise DataError(
            f"{frames.root.name}: expected folders of the model's classes ({listed(known)}), "
            f"got {listed(unknown)}{did_you_mean(unknown[0], known)}; name the folders as in training"
        )
    if unknown:
        n = sum(frames.classes[target] in unknown for target in frames.targets)
        hint = did_you_mean(unknown[0], known)
        console.warn(f"skipped {counted(n, 'frame')} of classes that the model does not know: {listed(unknown)}{hint}")
    for name, label in meant.items():
        if label not in (None, name):
            console.warn(f"class {name!r} is taken as the model's class {label!r}")
    if frames.given_parts:
        console.say(f"evaluated: {counted(len(frames.unseen), 'frame')} of the parts that were not trained on")
    if absent := [name for name in known if name not in meant.values()]:
        console.warn(f"no frames of {listed(absent)}: the accuracy does not cover these classes")
    while True:
        try:
            result = _measure(stages, classifier, known, frames, meant)
            break
        except FrameLost as lost:
            frames = without_lost(frames, lost, max_bad)
    console.say()
    console.say(f"accuracy {result.describe()}")
    console.say()
    console.table(_by_class(result), head=("class", "frames", "recall", "mistaken for"))
    if json is not None:
        write_json(json, "evaluate", result.to_dict())
        console.say()
        console.say(f"wrote {json}")


def _measure(
    stages: Stages, classifier: Any, known: list[str], frames: FrameFolder, meant: dict[str, str | None]
) -> EvaluationResult:
    from framecnn.evaluation import evaluate as measure

    names = np.array([meant[name] or "" for name in frames.classes])[frames.targets]
    rows = np.intersect1d(np.flatnonzero(np.isin(names, known)), frames.unseen)
    targets = np.array([known.index(name) for name in names[rows]])
    part = frames.select(rows)
    with stages("evaluate", "evaluating") as update:
        reporting = ReportingFrames(part.frames, update, len(rows))
        return measure(classifier, reporting, targets, part.groups, known, frames.root.name)


def _by_class(result: EvaluationResult) -> list[tuple[str, int, str, str]]:
    """Return the name, number of frames, recall and mistakes of every class."""
    rows = []
    for truth, (name, counts, recall) in enumerate(zip(result.classes, result.confusion, result.recall, strict=True)):
        wrong = [label for label in np.argsort(-counts, kind="stable") if counts[label] and label != truth]
        mistaken = [f"{result.classes[label]} {counts[label]:,}" for label in wrong]
        share = "-" if np.isnan(recall) else f"{100 * recall:.1f} %"
        rows.append((name, int(counts.sum()), share, listed(mistaken, 5)))
    return rows
