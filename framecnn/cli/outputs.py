"""What a training run leaves behind: the model, the list of files, the page and the figures."""

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.cli import console
from framecnn.data import DEFAULT_SIZE, FrameFolder, FrameSubset
from framecnn.errors import DataError, MissingExtraError
from framecnn.evaluation import EvaluationResult
from framecnn.storage.atomic import atomic_write
from framecnn.storage.output_set import write_together
from framecnn.typing import Array

__all__ = [
    "PAGE_MARK",
    "PARTS",
    "Job",
    "Run",
    "check_outputs",
    "check_replaced",
    "describe_choice",
    "versions",
    "write_everything",
    "write_json",
]

PARTS = ("training", "validation", "test")
PAGE_MARK = b"framecnn</title>"


@dataclass(frozen=True)
class Job:
    """What to train on and where to write."""

    folder: Path
    out: Path
    report: Path
    json: Path | None = None
    groups: Path | None = None
    size: tuple[int, int] = DEFAULT_SIZE
    seed: int = 0
    by: str = "group"
    max_bad: float = 5.0
    title: str = ""
    caution: str = ""

    @property
    def manifest(self) -> Path:
        """Where every file of the folder is listed: beside the model."""
        return self.out.parent / "manifest.csv"

    @property
    def outputs(self) -> list[Path | None]:
        """What is written."""
        return [self.out, self.report, self.json, self.manifest]

    @property
    def marks(self) -> dict[Path | None, bytes]:
        """What the beginnings of files show that an earlier run wrote."""
        return {self.out: b'"framecnn"', self.report: PAGE_MARK, self.manifest: b"path,label,group,status,"}


@dataclass(frozen=True)
class Run:
    """What came of a job: training, validation and test frames, and what the classifier made of them."""

    job: Job
    folder: FrameFolder
    parts: Sequence[FrameSubset]
    classifier: Any
    distances: Array
    """Of the training frames to the clusters, (n, n_clusters)."""
    results: Sequence[EvaluationResult]
    seconds: Mapping[str, float]

    @property
    def warnings(self) -> list[str]:
        """What one must know before trusting the figures, the gravest first, each once."""
        own = [self.job.caution] if self.job.caution else []
        own += [self.parts[0].split_note] if self.job.by == "random" else []
        return list(dict.fromkeys([*own, *self.folder.warnings, *self.parts[0].warnings]))


def check_outputs(paths: Sequence[Path | None], folder: Path | None = None) -> None:
    """Refuse before work starts what could not be written after it.

    Parameters
    ----------
    paths : sequence of Path or None
        The files to write.
    folder : Path, optional
        The frames, beside which nothing is written.

    Raises
    ------
    DataError
        If two are the same file, one is a folder or a device or cannot be replaced, its folder is missing, cannot be
        written to, or is that of the frames.
    """
    asked = [(path, Path(os.path.realpath(path))) for path in paths if path is not None]
    times = Counter(resolved for _, resolved in asked)
    for path, resolved in asked:
        parent = resolved.parent
        if times[resolved] > 1:
            raise DataError(f"{path}: expected another file for each thing to write, got this one twice; rename one")
        if resolved.exists() and not resolved.is_file():
            raise DataError(f"{path}: expected a file to write, got a folder or a device; name a file")
        if not parent.is_dir():
            raise DataError(f"{path}: expected a folder to write to, but {str(parent)!r} is none; make it first")
        if folder is not None and parent.is_relative_to(os.path.realpath(folder)):
            raise DataError(
                f"{path}: expected a place outside the frames' folder, which is only read; choose another place"
            )
        if not os.access(parent, os.W_OK):
            raise DataError(f"{path}: expected a folder to write to, but {str(parent)!r} is read-only; choose another")
        if resolved.exists():
            _check_replaceable(path)


def _check_replaceable(path: Path) -> None:
    """Refuse a file that cannot be opened for writing: a protected one, or on Windows one open in another program."""
    try:
        open(path, "r+b").close()
    except OSError as error:
        raise DataError(
            f"{path}: expected a file that can be replaced, but it cannot be opened for writing ({error.strerror}); "
            "close it in other programs, or choose another place"
        ) from None


def check_replaced(marks: Mapping[Path | None, bytes]) -> None:
    """Refuse to write over files that no earlier run wrote, as their marks tell; a DataError names the first."""
    for path, mark in marks.items():
        if path is not None and path.is_file() and (beginning := _beginning(path)) and mark not in beginning:
            raise DataError(
                f"{path}: expected no file or one that framecnn wrote, got another; move it or choose another place"
            )


def _beginning(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(4096)


def write_everything(run: Run) -> dict[Path, str]:
    """Write what the job names, all of it or nothing; give the files, and what they are.

    The model takes its place last: whoever sees a new model has its page and its list of files too.
    """
    job = run.job
    with write_together(job.out) as stage:
        run.folder.write_manifest(stage(job.manifest))
        has_page = _write_page(run, stage(job.report))
        if job.json is not None:
            write_json(stage(job.json), _figures(run))
        run.classifier.save(stage(job.out))
    written: dict[Path | None, str] = {job.out: "the model"}
    if has_page:
        written[job.report] = "the page: open it in a browser"
    written |= {job.manifest: "every file, used or skipped", job.json: "all figures"}
    return {path: what for path, what in written.items() if path is not None}


def write_json(path: Path, data: Any) -> None:
    """Write JSON as a whole file."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="ascii")


def describe_choice(classifier: Any) -> dict[str, str]:
    """Return what was chosen on the training frames, in words; nothing where nothing was."""
    chosen = classifier.chosen_
    words = {}
    if classifier.features_.frame_shape_ is not None and chosen["grid"] is not None:
        words["pooling grid"] = _grid(chosen["grid"])
    if chosen["accuracies"]:
        tried = ", ".join(f"{_grid(grid)} {100 * accuracy:.1f} %" for grid, accuracy in chosen["accuracies"].items())
        words["accuracy over held-out groups, by grid"] = tried
    if chosen["alpha"] is not None:
        words["alpha"] = f"{chosen['alpha']:g}"
    return words


def _grid(grid: tuple[int, int]) -> str:
    return "whole frame" if tuple(grid) == (1, 1) else f"{grid[0]}x{grid[1]}"


def _split_table(parts: Sequence[FrameSubset]) -> list[dict[str, Any]]:
    return [
        {"part": name, "class": label, "frames": int(own.sum()), "groups": len(np.unique(part.groups[own]))}
        for name, part in zip(PARTS, parts, strict=True)
        for number, label in enumerate(part.classes)
        if (own := part.targets == number).any()
    ]


def versions(*extras: str) -> dict[str, str]:
    """Return the versions of Python, framecnn, what it needs, and those of `extras` that are installed."""
    found = {"Python": platform.python_version()}
    found |= {name: metadata.version(name) for name in ("framecnn", "numpy", "numba", "scikit-learn", "pillow")}
    for name in extras:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


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


def _write_page(run: Run, path: Path) -> bool:
    """Write the page; say so and give False where what it needs is not installed."""
    from framecnn.report import ReportData, write_report

    data = ReportData(
        title=run.job.title or run.folder.root.name,
        results=run.results,
        paths={name: _files(part) for name, part in zip(PARTS, run.parts, strict=True)},
        prototypes=_prototypes(run),
        filters=_filters(run.classifier),
        skipped=run.folder.skipped,
        found=run.folder.found,
        split=run.parts[0].split_note,
        split_table=_split_table(run.parts),
        chosen=describe_choice(run.classifier),
        versions=versions(),
        timings=run.seconds,
        warnings=run.warnings,
    )
    try:
        write_report(path, data)
    except MissingExtraError as error:
        console.warn(f"no page was written ({error})")
        return False
    return True


def _files(part: FrameSubset) -> list[str]:
    return [str(part.folder.root / path) for path in part.paths]


def _prototypes(run: Run) -> list[Any]:
    """Return for every cluster its training frames, nearest to the centre first, one a group as far as there are."""
    from framecnn.report import Prototype
    from framecnn.report.view import PROTOTYPE_FRAMES, one_of_each_group_first

    head, distances, train = run.classifier.head_, run.distances, run.parts[0]
    files, assigned = _files(train), distances.argmin(axis=1)
    found = []
    for cluster, label in enumerate(head.cluster_labels_):
        members = np.flatnonzero(assigned == cluster)
        nearest = members[np.argsort(distances[members, cluster], kind="stable")]
        shown = one_of_each_group_first(nearest, train.groups)[:PROTOTYPE_FRAMES]
        paths = tuple(files[row] for row in shown)
        found.append(Prototype(str(head.classes_[label]), cluster, len(members), paths))
    return found


def _filters(classifier: Any) -> dict[str, Any]:
    """Return the kernels of the first filter bank of every scale, (n, kh, kw, c), by the size that they look at."""
    found = {}
    for network in classifier.features_.backbones_:
        bank = next(layer for layer in network.layers if "kernel" in layer.params)
        height, width, _ = bank.input_shape
        found[f"{height}x{width}"] = np.moveaxis(bank.params["kernel"], -1, 0)
    return found
