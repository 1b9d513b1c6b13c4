"""The steps of ``train`` and ``demo``: scan, split, fit, evaluate, write; ``evaluate`` and ``scan`` share some."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.cli.figures import SHOWN_CLASSES, print_assessment
from framecnn.cli.folder_options import FolderOptions
from framecnn.cli.training_outputs import Job, Run, missing_for_report, write_everything
from framecnn.data import FrameFolder, FrameLost, FrameSubset
from framecnn.data.groups import NEAR_DUPLICATES
from framecnn.data.shards import Shards
from framecnn.data.source import CLASS_FOLDERS
from framecnn.data.split import PARTS
from framecnn.data.stored_shards import size_of_cache
from framecnn.errors import DataError
from framecnn.evaluation import Assessment, assess
from framecnn.memory import working_memory
from framecnn.report.contents import describe_choice
from framecnn.text import counted, listed

__all__ = ["ReportingFrames", "Stages", "scan_folder", "train_folder", "warn_of_split", "without_lost"]

NO_FRAMES = ("hidden", "no-label", "not-a-picture", "not-in-class", "not-in-csv", "system", "unknown-class")
"""The reasons of files that need not be usable."""
NO_GROUPS = (
    "no groups given: only near-duplicates are kept together; if pictures come in series, give these with --groups CSV"
)


@dataclass
class Stages:
    """The duration of each stage in seconds, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str, title: str) -> Iterator[Any]:
        start = time.perf_counter()
        with console.progress(title) as update:
            yield update
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class ReportingFrames:
    """Frames that report progress when they are read."""

    def __init__(self, frames: Any, update: console.Update, total: int):
        self._frames, self._update, self._total, self._done = frames, update, total, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frames, name)

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, key: Any) -> Any:
        found = self._frames[key]
        self.taken(len(found))
        return found

    def taken(self, n: int) -> None:
        """Report that n frames were read, here or by a worker of a cluster."""
        self._done += n
        self._update(min(self._done, self._total), self._total)


def scan_folder(
    stages: Stages,
    source: FolderOptions,
    size: tuple[int, int],
    max_bad: float,
    min_classes: int = 2,
    meaning: str = "",
) -> FrameFolder:
    """Scan a folder and print what was found; raise DataError if more than `max_bad` percent of it is unusable.

    Without `meaning`, what an accuracy says is what it says on held-out groups of the folder.
    """
    with stages("scan", f"scanning {os.path.basename(os.path.realpath(source.folder))}") as update:
        frames = source.open(size, update, min_classes)
    reasons = _counts(skip.reason for skip in frames.skipped)
    n_groups = len(np.unique(frames.groups))
    n_classes = counted(len(frames.classes), "class", "classes")
    rows = [("frames", f"{len(frames):,} of {n_classes}: {listed(frames.classes)}")]
    if frames.label_source != CLASS_FOLDERS:
        rows.append(("labels", f"from {frames.label_source}"))
    if frames.parts is not None:
        counts = ", ".join(f"{(frames.parts == part).sum():,} {part}" for part in frames.given_parts)
        rows.append(("parts", f"{counts} (from {frames.part_source})"))
    rows += [
        ("groups", f"{n_groups:,} ({NO_GROUPS if frames.group_source == NEAR_DUPLICATES else frames.group_source})"),
        ("meaning", meaning or frames.group_note),
        ("skipped", f"{len(frames.skipped):,} of {counted(frames.found, 'file')}{reasons and f' ({reasons})'}"),
    ]
    console.table(rows)
    for warning in frames.scan_warnings:
        console.warn(warning)
    _check_bad(frames, max_bad)
    return frames


def warn_of_split(frames: FrameFolder, part: FrameSubset) -> list[str]:
    """Print the warnings that `scan_folder` has not printed; return all warnings about a folder and its split."""
    warnings = list(dict.fromkeys([*frames.warnings, *part.warnings]))
    for warning in warnings:
        if warning not in frames.scan_warnings:
            console.warn(warning)
    return warnings


def _counts(reasons: Iterable[str]) -> str:
    """Return the number of each reason, as text."""
    return ", ".join(f"{number:,} {reason}" for reason, number in sorted(Counter(reasons).items()))


def _check_bad(frames: FrameFolder, max_bad: float) -> None:
    bad = [skip.reason for skip in frames.skipped if skip.reason not in NO_FRAMES]
    percent = 100 * len(bad) / (len(bad) + len(frames))
    if percent > max_bad:
        raise DataError(
            f"{frames.root.name}: expected at most {max_bad:g} % of the files to be unusable, got {percent:.1f} % "
            f"({_counts(bad)}); repair or remove them (framecnn scan lists them), or raise --max-bad"
        )


def without_lost(frames: FrameFolder, lost: FrameLost, max_bad: float) -> FrameFolder:
    """Return the folder without the frames that were lost during the run, and warn of them."""
    gone = {path for path, _ in frames.samples if not (frames.root / path).exists()}
    paths = sorted(gone.union(lost.paths))
    number = counted(len(paths), "frame")
    console.warn(f"{number} vanished or changed during the run (first: {paths[0]!r}); starting again without them")
    rest = frames.without(paths)
    _check_bad(rest, max_bad)
    return rest


def train_folder(job: Job) -> Assessment:
    """Train on a folder, print the accuracy of the model, and write the outputs of the job."""
    from framecnn.networks.efficientnet import check_pretrained_weights

    if job.features in ("pretrained", "both"):
        check_pretrained_weights(f"framecnn train --features {job.features}")
    with job.outputs.held(), working_memory(job.max_memory, job.cache_dir), job.cluster.used():
        if missing := missing_for_report():
            report = job.outputs.paths["report"]
            old = f"; {report}, the report of an earlier model, will be removed" if report and report.exists() else ""
            console.warn(f"no report will be written ({missing}){old}")
        return _train_folder(job)


def _train_folder(job: Job) -> Assessment:
    from framecnn.kernels.jit import n_compiled

    stages = Stages()
    folder = scan_folder(stages, job.source, job.size, job.max_bad)
    if not n_compiled():
        console.say("first run on this machine: compiling the kernels takes a few seconds, once")
    while True:
        try:
            parts = folder.split(seed=job.seed, by=job.by)
            _print_split(parts)
            warn_of_split(folder, parts[0])
            classifier, features = _fit(stages, parts[0], job)
            is_given = "test" in folder.given_parts
            assessment = _assess(stages, classifier, features, parts, job, is_given)
            del features
            break
        except FrameLost as lost:
            folder = without_lost(folder, lost, job.max_bad)
    print_assessment(assessment)
    console.say()
    console.say("chosen on the training frames:")
    console.table([(f"  {name}", value) for name, value in describe_choice(classifier).items()])
    with stages("write", "writing"):
        run = Run(job, folder, parts, classifier, assessment, stages.seconds)
        written = write_everything(run)
    console.say()
    if job.cache_dir is not None:
        console.say(f"features are kept in {job.cache_dir}: {size_of_cache(job.cache_dir) / 1e6:,.1f} MB")
    console.say("duration: " + ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.seconds.items()))
    console.say()
    console.table([("" if number else "wrote", path, what) for number, (path, what) in enumerate(written.items())])
    return assessment


def _fit(stages: Stages, train: FrameSubset, job: Job) -> tuple[Any, Shards]:
    """Return the fitted classifier, and the features of the training frames."""
    from framecnn.estimators import FrameClassifier, FrameFeatures

    n = len(train)
    learns = job.features != "pretrained"
    n_source = learns * min(n, FrameFeatures.max_source_frames)  # read first, to learn filters from them
    classifier = FrameClassifier(
        features=job.features,
        class_weight=job.class_weight,
        false_alarm_rate=job.false_alarms / 100,
        random_state=job.seed,
    )
    with stages("fit", "learning filters" if learns else "computing features") as update:

        def report(done: float, total: float | None = None, title: str | None = None) -> None:
            if done == total:
                update(0, None, "choosing settings and fitting the classifier")
            elif done > n_source:
                update(done - n_source, n, "computing features")

        reporting = ReportingFrames(train.frames, report, n + n_source)
        features = classifier.fit_features(reporting, train.labels, train.groups, train.paths)
    return classifier, features


def _assess(
    stages: Stages, classifier: Any, learned: Shards, parts: Sequence[FrameSubset], job: Job, has_given_parts: bool
) -> Assessment:
    """Return what is measured of the classifier; `learned` are the features of the training frames."""
    named, features = dict(zip(PARTS, parts, strict=True)), {PARTS[0]: learned}
    for name, part in named.items():
        if name not in features and len(part):
            with stages("evaluate", f"evaluating {name} frames") as update:
                features[name] = classifier.features_.transform_in_shards(
                    ReportingFrames(part.frames, update, len(part))
                )
    with stages("evaluate", "measuring the accuracy"):
        by_group = job.by == "group"
        return assess(classifier, named, features, seed=job.seed, has_given_parts=has_given_parts, by_group=by_group)


def _print_split(parts: Sequence[FrameSubset]) -> None:
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
