"""What ``train`` and ``demo`` do: scan, split, fit, evaluate; model, manifest, page and figures written."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.atomic import atomic_write
from framecnn.cli import console
from framecnn.data import FrameFolder, FrameLost, FrameSubset
from framecnn.errors import DataError, MissingExtraError
from framecnn.evaluation import EvaluationResult, counted, evaluate
from framecnn.typing import Array

__all__ = ["Plan", "Stages", "Watched", "describe_choice", "scan_folder", "train_folder", "write_json"]

PARTS = ("training", "validation", "test")
SHOWN_FRAMES = 6  # of each cluster on the page


@dataclass(frozen=True)
class Plan:
    """What to train on and where to write."""

    folder: Path
    out: Path
    report: Path
    json: Path | None = None
    groups: Path | None = None
    size: tuple[int, int] = (240, 360)
    seed: int = 0
    by: str = "group"
    max_bad: float = 5.0
    caution: str = ""


@dataclass
class Stages:
    """Seconds that each stage took, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str, title: str) -> Iterator[Any]:
        start = time.perf_counter()
        with console.progress(title) as tell:
            yield tell
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Watched:
    """Frames that report how many of them were read."""

    def __init__(self, frames: Any, tell: console.Tell, total: int):
        self._frames, self._tell, self._total, self._done = frames, tell, total, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frames, name)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: Any) -> Any:
        taken = self._frames[key]
        self._done += len(taken)
        self._tell(min(self._done, self._total), self._total)
        return taken


def _check_outputs(plan: Plan) -> None:
    """Refuse before work starts what could not be written afterwards; a DataError says which file and why."""
    for path in (plan.out, plan.report, plan.json):
        if path is None:
            continue
        folder = path.resolve().parent
        if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
            raise DataError(f"{path}: expected a file in a folder that exists and can be written; choose another place")
        if plan.folder.is_dir() and folder.is_relative_to(plan.folder.resolve()):
            raise DataError(f"{path}: expected a place outside the frames' folder, which framecnn never changes")


def scan_folder(
    stages: Stages, folder: Path, groups: Path | None, size: tuple[int, int], max_bad: float
) -> FrameFolder:
    """Scan a folder and say what was found; a DataError where too much of it cannot be used."""
    with stages("scan", f"scanning {folder.name}") as tell:
        frames = FrameFolder(folder, groups=groups, size=size, progress=tell)
    classes = ", ".join(frames.classes)
    console.say(f"{counted(len(frames), 'frame')} of {len(frames.classes)} classes: {classes}")
    console.say(f"groups: {frames.group_source}")
    reasons = {reason: sum(s.reason == reason for s in frames.skipped) for reason in {s.reason for s in frames.skipped}}
    listed = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
    console.say(
        f"skipped: {len(frames.skipped)} of {counted(frames.found, 'file')}" + (f" ({listed})" if listed else "")
    )
    for warning in frames.warnings:
        console.warn(warning)
    bad = 100 * len(frames.skipped) / frames.found
    if bad > max_bad:
        raise DataError(
            f"{folder.name}: expected at most {max_bad:g} % of the files to be unusable, got {bad:.1f} % ({listed}); "
            "mend or remove them (framecnn scan lists them), or raise --max-bad"
        )
    return frames


def train_folder(plan: Plan) -> list[EvaluationResult]:
    """Train on a folder, say how good the model is, and write everything that a plan names."""
    from framecnn.kernels.jit import is_compiled

    _check_outputs(plan)
    stages = Stages()
    folder = scan_folder(stages, plan.folder, plan.groups, plan.size, plan.max_bad)
    if not is_compiled():
        console.say("first run on this machine: compiling the kernels takes some seconds, once")
    while True:
        try:
            parts = folder.split(0.7, 0.2, 0.1, seed=plan.seed, by=plan.by)
            console.say()
            console.say(f"split {parts[0].split_note}")
            for warning in dict.fromkeys(w for w in parts[0].warnings if w not in folder.warnings):
                console.warn(warning)
            classifier, distances = _fit(stages, parts[0], plan.seed)
            results = _evaluate(stages, classifier, distances, parts)
            break
        except FrameLost as lost:
            console.warn(f"{counted(len(lost.paths), 'frame')} {lost.reason} during the run; going on without")
            folder = folder.without(lost.paths)
    chosen = describe_choice(classifier)
    _say_results(results, chosen)
    with stages("write", "writing"):
        classifier.save(plan.out)
        folder.write_manifest(plan.out.with_name("manifest.csv"))
        _write_report(plan, folder, parts, classifier, distances, results, chosen, stages.seconds)
    console.say()
    console.say("time: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.seconds.items()))
    if plan.json is not None:
        write_json(plan.json, _figures(plan, folder, parts, results, chosen, stages.seconds))
    written = [plan.out, plan.report if plan.report.is_file() else None, plan.out.with_name("manifest.csv"), plan.json]
    console.say("wrote " + ", ".join(str(path) for path in written if path is not None))
    return results


def _fit(stages: Stages, train: FrameSubset, seed: int) -> tuple[Any, Array]:
    """Give the classifier, and the distances of the training frames to its clusters."""
    from framecnn.estimators import FrameClassifier

    n = len(train)
    classifier = FrameClassifier(random_state=seed)
    labels = np.array(train.classes)[train.targets]
    with stages("fit", "learning filters and features") as tell:
        distances = classifier.fit_transform(Watched(train.frames, tell, n + min(n, 400)), labels, train.groups)
    return classifier, distances


def _evaluate(
    stages: Stages, classifier: Any, distances: Array, parts: Sequence[FrameSubset]
) -> list[EvaluationResult]:
    """Give the result of every part; that of the training frames from the distances which fitting gave."""
    train, probabilities = parts[0], classifier.head_.probabilities(distances)
    best, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    results = [EvaluationResult(PARTS[0], train.classes, train.targets, best, sure, train.groups)]
    for name, part in zip(PARTS[1:], parts[1:], strict=True):
        with stages("evaluate", f"evaluating {name} frames") as tell:
            frames = Watched(part.frames, tell, len(part))
            results.append(evaluate(classifier, frames, part.targets, part.groups, part.classes, name))
    return results


def describe_choice(classifier: Any) -> dict[str, str]:
    """Give what was chosen on the training frames, in words."""
    chosen = classifier.chosen_
    words = {"pooling grid": _grid(chosen["grid"])}
    if chosen["accuracies"]:
        listed = ", ".join(f"{_grid(grid)} {100 * accuracy:.1f} %" for grid, accuracy in chosen["accuracies"].items())
        words["accuracy over left-out groups, by grid"] = listed
    words["shrinkage"] = f"{chosen['shrinkage']:g}"
    return words


def _grid(grid: tuple[int, int]) -> str:
    return "whole frame" if tuple(grid) == (1, 1) else f"{grid[0]}x{grid[1]}"


def _say_results(results: list[EvaluationResult], chosen: Mapping[str, str]) -> None:
    console.say()
    console.table([(f"{result.part} accuracy", result.describe()) for result in results])
    console.say("chosen on the training frames: " + "; ".join(f"{name} {value}" for name, value in chosen.items()))


def _split_table(parts: tuple[FrameSubset, ...]) -> list[dict[str, Any]]:
    return [
        {"part": name, "class": label, "frames": int(own.sum()), "groups": len(np.unique(part.groups[own]))}
        for name, part in zip(PARTS, parts, strict=True)
        for number, label in enumerate(part.classes)
        if (own := part.targets == number).any()
    ]


def _versions() -> dict[str, str]:
    import platform

    packages = ("framecnn", "numpy", "numba", "scikit-learn", "pillow")
    return {"Python": platform.python_version()} | {name: metadata.version(name) for name in packages}


def _figures(plan: Plan, folder: FrameFolder, parts: Any, results: Any, chosen: Any, seconds: Any) -> dict[str, Any]:
    return {
        "folder": plan.folder.name,
        "seed": plan.seed,
        "size": list(plan.size),
        "found": folder.found,
        "used": len(folder),
        "skipped": [vars(skip) for skip in folder.skipped],
        "groups": folder.group_source,
        "split": parts[0].split_note,
        "split_table": _split_table(parts),
        "chosen": chosen,
        "results": {result.part: result.to_dict() for result in results},
        "warnings": [*folder.warnings, *parts[0].warnings],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "versions": _versions(),
    }


def write_json(path: Path, data: Any) -> None:
    """Write JSON as a whole file."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2, ensure_ascii=True) + "\n")


def _write_report(
    plan: Plan,
    folder: FrameFolder,
    parts: Any,
    classifier: Any,
    distances: Array,
    results: Any,
    chosen: Any,
    seconds: Any,
) -> None:
    from framecnn.report import ReportData, write_report

    warnings = [*([plan.caution] if plan.caution else []), *folder.warnings, *parts[0].warnings]
    if plan.by == "random":
        warnings.insert(0, parts[0].split_note)
    data = ReportData(
        title=plan.folder.resolve().name,
        results=results,
        paths={name: _files(part) for name, part in zip(PARTS, parts, strict=True)},
        prototypes=_prototypes(classifier, distances, parts[0]),
        filters=_filters(classifier),
        skipped=folder.skipped,
        found=folder.found,
        split=parts[0].split_note,
        split_table=_split_table(parts),
        chosen=chosen,
        versions=_versions(),
        timings=seconds,
        warnings=list(dict.fromkeys(warnings)),
    )
    try:
        write_report(plan.report, data)
    except MissingExtraError as error:
        console.warn(f"no page was written: {error}")


def _files(part: FrameSubset) -> list[str]:
    return [str(part.folder.root / path) for path in part.paths]


def _prototypes(classifier: Any, distances: Array, train: FrameSubset) -> list[Any]:
    """Give for every cluster its training frames, nearest to the centre first, one a group as far as there are."""
    from framecnn.report import Prototype

    head, files = classifier.head_, _files(train)
    assigned = distances.argmin(axis=1)
    found = []
    for cluster, label in enumerate(head.cluster_labels_):
        members = np.flatnonzero(assigned == cluster)
        nearest = members[np.argsort(distances[members, cluster], kind="stable")]
        _, first = np.unique(train.groups[nearest], return_index=True)
        leading = np.sort(first)
        order = np.concatenate([leading, np.setdiff1d(np.arange(len(nearest)), leading)])
        paths = tuple(files[row] for row in nearest[order[:SHOWN_FRAMES]])
        found.append(Prototype(str(head.classes_[label]), cluster, len(members), paths))
    return found


def _filters(classifier: Any) -> dict[str, Any]:
    """Give the kernels of the first filter bank of every scale, (n, kh, kw, c), by the size that they look at."""
    found = {}
    for network in classifier.features_.networks_:
        bank = next(layer for layer in network.layers if "kernel" in layer.params)
        height, width, _ = bank.input_shape
        found[f"{height}x{width}"] = np.moveaxis(bank.params["kernel"], -1, 0)
    return found
