"""What ``train`` and ``demo`` do: scan, split, fit, evaluate, write; and what ``evaluate`` and ``scan`` share of it."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.cli.outputs import PARTS, Job, Run, check_outputs, check_replaced, describe_choice, write_everything
from framecnn.data import FrameFolder, FrameLost, FrameSubset
from framecnn.errors import DataError
from framecnn.evaluation import EvaluationResult, counted, evaluate
from framecnn.storage.output_lock import lock_outputs
from framecnn.storage.output_set import settle
from framecnn.typing import Array

__all__ = ["Stages", "Watched", "listed", "scan_folder", "train_folder", "without_lost"]

NOT_MEANT = ("hidden", "system", "not-in-class", "not-in-csv")  # reasons of files that nobody meant as frames
SHOWN_CLASSES = 20  # of the split on the screen


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
    """Frames that report how many of them were read before those that are read now."""

    def __init__(self, frames: Any, tell: console.Tell, total: int):
        self._frames, self._tell, self._total, self._done = frames, tell, total, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frames, name)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: Any) -> Any:
        self._tell(min(self._done, self._total), self._total)
        taken = self._frames[key]
        self._done += len(taken)
        return taken


def scan_folder(
    stages: Stages, folder: Path, groups: Path | None, size: tuple[int, int], max_bad: float, min_classes: int = 2
) -> FrameFolder:
    """Scan a folder and say what was found; a DataError where more than `max_bad` percent of it cannot be used."""
    with stages("scan", f"scanning {os.path.basename(os.path.realpath(folder))}") as tell:
        frames = FrameFolder(folder, groups=groups, size=size, progress=tell, min_classes=min_classes)
    reasons = _reasons(frames)
    n_groups = len(np.unique(frames.groups))
    console.table(
        [
            ("frames", f"{len(frames):,} of {len(frames.classes)} classes: {listed(frames.classes)}"),
            ("groups", f"{n_groups:,} ({frames.group_source})"),
            ("skipped", f"{len(frames.skipped):,} of {counted(frames.found, 'file')}{reasons and f' ({reasons})'}"),
        ]
    )
    for warning in frames.scan_warnings:
        console.warn(warning)
    _check_bad(frames, max_bad)
    return frames


def listed(names: Sequence[Any], limit: int = SHOWN_CLASSES) -> str:
    """Return names with commas between them, and how many more there are than `limit`."""
    rest = len(names) - limit
    return ", ".join(map(str, names[:limit])) + (f" and {rest:,} more" if rest > 0 else "")


def _reasons(frames: FrameFolder) -> str:
    counts = Counter(skip.reason for skip in frames.skipped)
    return ", ".join(f"{number:,} {reason}" for reason, number in sorted(counts.items()))


def _check_bad(frames: FrameFolder, max_bad: float) -> None:
    bad = sum(skip.reason not in NOT_MEANT for skip in frames.skipped)
    percent = 100 * bad / (bad + len(frames))
    if percent > max_bad:
        raise DataError(
            f"{frames.root.name}: expected at most {max_bad:g} % of the files to be unusable, got {percent:.1f} % "
            f"({_reasons(frames)}); mend or remove them (framecnn scan lists them), or raise --max-bad"
        )


def without_lost(frames: FrameFolder, lost: FrameLost, max_bad: float) -> FrameFolder:
    """Say which frames were lost while they were used, and give the folder without these and others that are gone."""
    gone = {path for path, _ in frames.samples if not (frames.root / path).exists()}
    paths = sorted(gone.union(lost.paths))
    number = counted(len(paths), "frame")
    console.warn(f"{number} vanished or changed during the run (first: {paths[0]!r}); starting again without")
    rest = frames.without(paths)
    _check_bad(rest, max_bad)
    return rest


def train_folder(job: Job) -> list[EvaluationResult]:
    """Train on a folder, say how good the model is, and write everything that a job names."""
    check_outputs(job.outputs, job.folder)
    with lock_outputs(job.outputs):
        settle(job.out, job.outputs)
        check_replaced(job.marks)
        return _train_folder(job)


def _train_folder(job: Job) -> list[EvaluationResult]:
    from framecnn.kernels.jit import n_compiled

    stages = Stages()
    folder = scan_folder(stages, job.folder, job.groups, job.size, job.max_bad)
    if not n_compiled():
        console.say("first run on this machine: compiling the kernels takes some seconds, once")
    while True:
        try:
            parts = folder.split(0.7, 0.2, 0.1, seed=job.seed, by=job.by)
            _say_split(parts)
            for warning in dict.fromkeys([*folder.warnings, *parts[0].warnings]):
                if warning not in folder.scan_warnings:
                    console.warn(warning)
            classifier, distances = _fit(stages, parts[0], job.seed)
            results = _evaluate(stages, classifier, distances, parts)
            break
        except FrameLost as lost:
            folder = without_lost(folder, lost, job.max_bad)
    _say_results(results, classifier)
    with stages("write", "writing"):
        run = Run(job, folder, parts, classifier, distances, results, stages.seconds)
        written = write_everything(run)
    console.say()
    console.say("took " + ", ".join(f"{seconds:.1f} s to {name}" for name, seconds in stages.seconds.items()))
    console.say()
    console.table([("" if number else "wrote", path, what) for number, (path, what) in enumerate(written.items())])
    return results


def _fit(stages: Stages, train: FrameSubset, seed: int) -> tuple[Any, Array]:
    """Return the classifier, and the distances of the training frames to its clusters."""
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
    """Return the result of every part; that of the training frames from the distances which fitting gave."""
    train, probabilities = parts[0], classifier.head_.probabilities(distances)
    best, sure = probabilities.argmax(axis=1), probabilities.max(axis=1)
    results = [EvaluationResult(PARTS[0], train.classes, train.targets, best, sure, train.groups)]
    for name, part in zip(PARTS[1:], parts[1:], strict=True):
        with stages("evaluate", f"evaluating {name} frames") as tell:
            frames = Watched(part.frames, tell, len(part))
            results.append(evaluate(classifier, frames, part.targets, part.groups, part.classes, name))
    return results


def _say_split(parts: Sequence[FrameSubset]) -> None:
    names = parts[0].classes
    counts = np.stack([np.bincount(part.targets, minlength=len(names)) for part in parts], axis=1)
    rows = list(zip(names[:SHOWN_CLASSES], counts.tolist(), strict=False))
    if len(names) > SHOWN_CLASSES:
        rest = len(names) - SHOWN_CLASSES
        rows.append((f"{rest:,} more", counts[SHOWN_CLASSES:].sum(axis=0).tolist()))
    rows.append(("all classes", counts.sum(axis=0).tolist()))
    console.say()
    console.say(f"split {parts[0].split_note}")
    console.say()
    console.table([(name, *numbers) for name, numbers in rows], head=("frames", *PARTS))
    console.say()


def _say_results(results: Sequence[EvaluationResult], classifier: Any) -> None:
    console.table([(f"{result.part} accuracy", result.describe()) for result in results])
    console.say()
    console.say("chosen on the training frames:")
    console.table([(f"  {name}", value) for name, value in describe_choice(classifier).items()])
