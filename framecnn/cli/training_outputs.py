"""What a training writes: the model, the report, the manifest and the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.cli.environment import versions
from framecnn.cli.explanations import describe_origin, explain_mistakes, filters_of_classes, scale_name
from framecnn.cli.outputs import check_outputs, json_mark, report_mark, write_json
from framecnn.data import DEFAULT_SIZE, FrameFolder, FrameSubset
from framecnn.data.manifest import MANIFEST_MARK
from framecnn.data.split import PARTS
from framecnn.errors import MissingExtraError
from framecnn.evaluation import EvaluationResult
from framecnn.storage.output_set import write_together
from framecnn.typing import Array

__all__ = ["Job", "Run", "describe_choice", "write_everything"]

RANDOM_SPLIT = (
    "The frames were split at random, not by group: near-duplicates of training frames are among the other frames, so "
    "the accuracies are too high."
)


@dataclass(frozen=True)
class Job:
    """What to train on and where to write.

    Parameters
    ----------
    folder : Path
        The frames.
    out, report, manifest : Path
        Where the model, the report and the manifest, which lists all files of the folder, are written.
    json : Path, optional
        Where all figures are written.
    groups : Path, optional
        The table of groups, if it is not the one in the folder.
    size : (int, int), default (240, 360)
        Height and width in pixels to which frames are resized.
    seed : int, default 0
    by : {"group", "random"}, default "group"
        How the frames are split.
    max_bad : float, default 5
        The largest percentage of files that may be unusable.
    title, caution : str, default ""
        The headline of the report, and a warning to print there first.
    """

    folder: Path
    out: Path
    report: Path
    manifest: Path
    json: Path | None = None
    groups: Path | None = None
    size: tuple[int, int] = DEFAULT_SIZE
    seed: int = 0
    by: str = "group"
    max_bad: float = 5.0
    title: str = ""
    caution: str = ""

    @property
    def outputs(self) -> list[Path | None]:
        """The files to write."""
        return [self.out, self.report, self.manifest, self.json]

    @property
    def marks(self) -> dict[Path | None, bytes]:
        """Bytes at the beginning of each output if an earlier run wrote it."""
        return {
            self.out: b'"framecnn"',
            self.report: report_mark("training"),
            self.manifest: MANIFEST_MARK,
            self.json: json_mark("train"),
        }

    def checked(self) -> "Job":
        """Return the job with the outputs that :func:`~framecnn.cli.outputs.check_outputs` accepts."""
        checked = check_outputs(self.outputs, [self.folder, self.groups])
        changes: dict[str, Any] = dict(zip(("out", "report", "manifest", "json"), checked, strict=True))
        return replace(self, **changes)


@dataclass(frozen=True)
class Run:
    """The outcome of a job: the training, validation and test frames, the classifier and its results."""

    job: Job
    folder: FrameFolder
    parts: Sequence[FrameSubset]
    classifier: Any
    distances: Array
    """The distances of the training frames to the clusters, shape (n, n_clusters)."""
    results: Sequence[EvaluationResult]
    seconds: Mapping[str, float]

    @property
    def warnings(self) -> list[str]:
        """What a reader must know before trusting the figures, the most serious first, each once."""
        own = [self.job.caution] if self.job.caution else []
        own += [RANDOM_SPLIT] if self.job.by == "random" else []
        return list(dict.fromkeys([*own, *self.folder.warnings, *self.parts[0].warnings]))


def write_everything(run: Run) -> dict[Path, str]:
    """Write all outputs of the job, or none; return the description of each file.

    The model is renamed last, so a new model never lies beside old files.
    """
    job, figures = run.job, _figures(run)
    with write_together(job.out) as stage:
        run.folder.write_manifest(stage(job.manifest))
        has_report = _write_report(run, stage(job.report))
        if job.json is not None:
            write_json(stage(job.json), "train", figures)
        run.classifier.save(stage(job.out))
    if job.json is None:
        write_json(None, "train", figures)
    written: dict[Path | None, str] = {job.out: "the model"}
    if has_report:
        written[job.report] = "the report; open it in a browser"
    written |= {job.manifest: "the manifest: all files, used or skipped", job.json: "all figures"}
    return {path: what for path, what in written.items() if path is not None}


def describe_choice(classifier: Any) -> dict[str, str]:
    """Return the settings that were chosen on the training frames, as text by name."""
    chosen = classifier.chosen_
    found = {}
    if classifier.features_.frame_shape_ is not None and chosen["grid"] is not None:
        found["pooling grid"] = _grid(chosen["grid"])
    for grid, accuracy in chosen["accuracies"].items():
        found[f"accuracy in cross-validation, {_grid(grid)}"] = f"{100 * accuracy:.1f} %"
    if chosen["alpha"] is not None:
        found["ridge penalty (alpha)"] = f"{chosen['alpha']:g}"
    return found


def _grid(grid: tuple[int, int]) -> str:
    return "whole frame" if tuple(grid) == (1, 1) else f"{grid[0]}x{grid[1]}"


def _split_table(parts: Sequence[FrameSubset]) -> list[dict[str, Any]]:
    return [
        {"part": name, "class": label, "frames": int(own.sum()), "groups": len(np.unique(part.groups[own]))}
        for name, part in zip(PARTS, parts, strict=True)
        for number, label in enumerate(part.classes)
        if (own := part.targets == number).any()
    ]


def _figures(run: Run) -> dict[str, Any]:
    job, folder = run.job, run.folder
    return {
        "folder": folder.root.name,
        "seed": job.seed,
        "size": list(job.size),
        "found": folder.found,
        "used": len(folder),
        "skipped": [vars(skip) for skip in folder.skipped],
        "groups": folder.group_source,
        "split": run.parts[0].split_note,
        "split_table": _split_table(run.parts),
        "chosen": describe_choice(run.classifier),
        "results": {result.part: result.to_dict() for result in run.results},
        "warnings": run.warnings,
        "seconds": {name: round(value, 3) for name, value in run.seconds.items()},
        "versions": versions(),
    }


def _write_report(run: Run, path: Path) -> bool:
    """Return whether the report could be written; warn if a package for it is not installed."""
    from framecnn.report import ReportData, write_report

    data = ReportData(
        title=run.job.title or run.folder.root.name,
        results=run.results,
        prototypes=_prototypes(run),
        filters=_filters(run.classifier),
        evidence=_evidence(run),
        class_filters=filters_of_classes(run.classifier, run.distances, run.parts[0].frames),
        skipped=run.folder.skipped,
        found=run.folder.found,
        split=run.parts[0].split_note,
        split_table=_split_table(run.parts),
        chosen=describe_choice(run.classifier),
        origin=describe_origin(run.job.out),
        versions=versions(),
        timings=run.seconds,
        warnings=run.warnings,
    )
    try:
        write_report(path, data)
    except MissingExtraError as error:
        console.warn(f"no report was written ({error})")
        return False
    return True


def _evidence(run: Run) -> dict[str, Any]:
    """Return what speaks for the shown mistakes of the part with which the report begins."""
    train = run.parts[0]
    training = [(path, train.classes[target]) for path, target in zip(train.files, train.targets, strict=True)]
    evaluated = [(result, part) for result, part in zip(run.results, run.parts, strict=True) if result.n_frames]
    by_name = {result.part: (result, part) for result, part in evaluated}
    result, part = next(by_name[name] for name in ("test", "validation", "training") if name in by_name)
    return explain_mistakes(run.classifier, result, part.frames, training)


def _prototypes(run: Run) -> list[Any]:
    """Return each cluster with its training frames, nearest first, one of each group before others."""
    from framecnn.report import Prototype
    from framecnn.report.layout import PROTOTYPE_FRAMES, one_of_each_group_first

    head, distances, train = run.classifier.head_, run.distances, run.parts[0]
    files, assigned = train.files, distances.argmin(axis=1)
    found = []
    for cluster, label in enumerate(head.cluster_labels_):
        members = np.flatnonzero(assigned == cluster)
        nearest = members[np.argsort(distances[members, cluster], kind="stable")]
        shown = one_of_each_group_first(nearest, train.groups)[:PROTOTYPE_FRAMES]
        paths = tuple(files[row] for row in shown)
        found.append(Prototype(str(head.classes_[label]), cluster, len(members), paths))
    return found


def _filters(classifier: Any) -> dict[str, Any]:
    """Return the kernels of the first filter bank of each scale, shape (n, kh, kw, c), by the size of its frames."""
    found = {}
    for network in classifier.features_.backbones_:
        bank = next(layer for layer in network.layers if "kernel" in layer.params)
        found[scale_name(network)] = np.moveaxis(bank.params["kernel"], -1, 0)
    return found
