"""``framecnn evaluate``: how good a model is on a folder of frames it has not seen."""

from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.cli.loading import load_classifier
from framecnn.cli.options import Figures, Folder, Groups, MaxBad, Model
from framecnn.cli.outputs import check_outputs, write_json
from framecnn.cli.workflow import Stages, Watched, listed, scan_folder, without_lost
from framecnn.data import FrameFolder, FrameLost, FrameSubset
from framecnn.errors import DataError
from framecnn.evaluation import EvaluationResult

__all__ = ["evaluate"]


def evaluate(model: Model, folder: Folder, groups: Groups = None, json: Figures = None, max_bad: MaxBad = 5.0) -> None:
    """Say how many frames of a folder a model labels as their folders do, with an interval, and what it mistakes."""
    check_outputs([json], folder)
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
        console.warn(f"frames of classes that the model does not know are left out: {n:,} ({listed(unknown)})")
    if absent := [name for name in known if name not in frames.classes]:
        console.warn(f"the model knows classes of which there are no frames: {listed(absent)}")
    while True:
        try:
            result = _measure(stages, classifier, known, frames)
            break
        except FrameLost as lost:
            frames = without_lost(frames, lost, max_bad)
    console.say()
    console.say(f"accuracy {result.describe()}")
    console.say()
    console.table(_by_class(result), head=("class", "frames", "found", "taken for"))
    if json is not None:
        write_json(json, result.to_dict())
        console.say()
        console.say(f"wrote {json}")


def _measure(stages: Stages, classifier: Any, known: list[str], frames: FrameFolder) -> EvaluationResult:
    from framecnn.evaluation import evaluate as measure

    names = np.array(frames.classes)[frames.targets]
    rows = np.flatnonzero(np.isin(names, known))
    targets = np.array([known.index(name) for name in names[rows]])
    part = FrameSubset(frames, rows, "", ())
    with stages("evaluate", "evaluating") as tell:
        return measure(classifier, Watched(part.frames, tell, len(rows)), targets, part.groups, known, frames.root.name)


def _by_class(result: EvaluationResult) -> list[tuple[str, int, str, str]]:
    """Return name, frames, share found, and mistakes of every class."""
    rows = []
    for truth, (name, counts, recall) in enumerate(zip(result.classes, result.confusion, result.recall, strict=True)):
        wrong = [said for said in np.argsort(-counts, kind="stable") if counts[said] and said != truth]
        mistaken = [f"{result.classes[said]} {counts[said]:,}" for said in wrong]
        found = "-" if np.isnan(recall) else f"{100 * recall:.1f} %"
        rows.append((name, int(counts.sum()), found, listed(mistaken, 5)))
    return rows
