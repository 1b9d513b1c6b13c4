"""``framecnn evaluate``: measure the accuracy of a model on frames that it was not trained on."""

from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.cli.loading import load_classifier
from framecnn.cli.options import Figures, Folder, Groups, MaxBad, Model
from framecnn.cli.outputs import check_outputs, check_replaced, json_mark, write_json
from framecnn.cli.workflow import ReportingFrames, Stages, scan_folder, without_lost
from framecnn.data import FrameFolder, FrameLost
from framecnn.errors import DataError
from framecnn.evaluation import EvaluationResult
from framecnn.text import counted, listed

__all__ = ["evaluate"]


def evaluate(model: Model, folder: Folder, groups: Groups = None, json: Figures = None, max_bad: MaxBad = 5.0) -> None:
    """Measure the accuracy of a model on a folder of frames, with a 95 % interval, and list its mistakes.

    Use frames that the model was not trained on: on the frames of its training, the accuracy is too high.
    """
    (json,) = check_outputs([json], [folder, groups, model])
    check_replaced({json: json_mark("evaluate")})
    classifier = load_classifier(model)
    stages = Stages()
    frames = scan_folder(stages, folder, groups, classifier.features_.frame_shape_[:2], max_bad, min_classes=1)
    known = [str(label) for label in classifier.classes_]
    unknown = [name for name in frames.classes if name not in known]
    if len(unknown) == len(frames.classes):
        raise DataError(
            f"{frames.root.name}: expected folders of the model's classes ({listed(known)}), "
            f"got {listed(unknown)}; name the folders as in training"
        )
    if unknown:
        n = sum(frames.classes[target] in unknown for target in frames.targets)
        console.warn(f"skipped {counted(n, 'frame')} of classes that the model does not know: {listed(unknown)}")
    if absent := [name for name in known if name not in frames.classes]:
        console.warn(f"no frames of {listed(absent)}: the accuracy does not cover these classes")
    while True:
        try:
            result = _measure(stages, classifier, known, frames)
            break
        except FrameLost as lost:
            frames = without_lost(frames, lost, max_bad)
    console.say()
    console.say(f"accuracy {result.describe()}")
    console.say()
    console.table(_by_class(result), head=("class", "frames", "recall", "mistaken for"))
    write_json(json, "evaluate", result.to_dict())
    if json is not None:
        console.say()
        console.say(f"wrote {json}")


def _measure(stages: Stages, classifier: Any, known: list[str], frames: FrameFolder) -> EvaluationResult:
    from framecnn.evaluation import evaluate as measure

    names = np.array(frames.classes)[frames.targets]
    rows = np.flatnonzero(np.isin(names, known))
    targets = np.array([known.index(name) for name in names[rows]])
    part = frames.select(rows)
    with stages("evaluate", "evaluating") as update:
        reporting = ReportingFrames(part.frames, update, len(rows))
        return measure(classifier, reporting, targets, part.groups, known, frames.root.name, part.files)


def _by_class(result: EvaluationResult) -> list[tuple[str, int, str, str]]:
    """Return the name, number of frames, recall and mistakes of every class."""
    rows = []
    for truth, (name, counts, recall) in enumerate(zip(result.classes, result.confusion, result.recall, strict=True)):
        wrong = [label for label in np.argsort(-counts, kind="stable") if counts[label] and label != truth]
        mistaken = [f"{result.classes[label]} {counts[label]:,}" for label in wrong]
        share = "-" if np.isnan(recall) else f"{100 * recall:.1f} %"
        rows.append((name, int(counts.sum()), share, listed(mistaken, 5)))
    return rows
