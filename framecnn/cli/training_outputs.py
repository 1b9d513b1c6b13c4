"""What a training writes: the model, the report, the manifest, the predictions and the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from framecnn.cli import console
from framecnn.cli.environment import describe_origin, versions
from framecnn.cli.folder_options import FolderOptions, describe_source
from framecnn.cli.outputs import check_outputs, json_mark, report_mark, write_json
from framecnn.data import DEFAULT_SIZE, FrameFolder, FrameSubset
from framecnn.data.manifest import MANIFEST_MARK
from framecnn.data.prediction_table import PREDICTIONS_MARK, write_predictions
from framecnn.errors import MissingExtraError
from framecnn.evaluation import Assessment
from framecnn.report import write_report
from framecnn.report.contents import describe_choice, report_data, split_table
from framecnn.storage.output_set import write_together

__all__ = ["Job", "Run", "write_everything"]

RANDOM_SPLIT = (
    "The frames were split at random, not by group: near-duplicates of training frames are among the other frames, so "
    "the accuracies are too high."
)


@dataclass(frozen=True)
class Job:
    """What to train on and where to write.

    Parameters
    ----------
    source : FolderOptions
        The frames, and how their labels, groups and parts are found.
    out, report, manifest, predictions : Path
        Where the model, the report, the manifest, which lists all files of the folder, and the table of predictions are
        written.
    json : Path, optional
        Where all figures are written.
    size : (int, int), default (240, 360)
        Height and width in pixels to which frames are resized.
    seed : int, default 0
    by : {"group", "random"}, default "group"
        How the frames are split.
    max_bad : float, default 5
        The largest percentage of files that may be unusable.
    picture_megabytes : float, default 4
        How much of the report pictures may take; others are links to their files.
    title, caution : str, default ""
        The headline of the report, and a warning to print there first.
    """

    source: FolderOptions
    out: Path
    report: Path
    manifest: Path
    predictions: Path
    json: Path | None = None
    size: tuple[int, int] = DEFAULT_SIZE
    seed: int = 0
    by: str = "group"
    max_bad: float = 5.0
    picture_megabytes: float = 4.0
    title: str = ""
    caution: str = ""

    @property
    def outputs(self) -> list[Path | None]:
        """The files to write."""
        return [self.out, self.report, self.manifest, self.predictions, self.json]

    @property
    def marks(self) -> dict[Path | None, bytes]:
        """Bytes at the beginning of each output if an earlier run wrote it."""
        return {
            self.out: b'"framecnn"',
            self.report: report_mark("training"),
            self.manifest: MANIFEST_MARK,
            self.predictions: PREDICTIONS_MARK,
            self.json: json_mark("train"),
        }

    def checked(self) -> "Job":
        """Return the job with the outputs that :func:`~framecnn.cli.outputs.check_outputs` accepts."""
        checked = check_outputs(self.outputs, self.source.inputs)
        changes: dict[str, Any] = dict(zip(("out", "report", "manifest", "predictions", "json"), checked, strict=True))
        return replace(self, **changes)


@dataclass(frozen=True)
class Run:
    """The outcome of a job: the training, validation and test frames, the classifier and what was measured of it."""

    job: Job
    folder: FrameFolder
    parts: Sequence[FrameSubset]
    classifier: Any
    assessment: Assessment
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
        write_predictions(stage(job.predictions), run.assessment.main.classes, run.assessment.prediction_rows())
        has_report = _write_report(run, stage(job.report))
        if job.json is not None:
            write_json(stage(job.json), "train", figures)
        run.classifier.save(stage(job.out))
    if job.json is None:
        write_json(None, "train", figures)
    written: dict[Path | None, str] = {job.out: "the model"}
    if has_report:
        written[job.report] = "the report; open it in a browser"
    written[job.predictions] = "the predictions for all frames, with suspected wrong labels"
    written |= {job.manifest: "the manifest: all files, used or skipped", job.json: "all figures"}
    return {path: what for path, what in written.items() if path is not None}


def _figures(run: Run) -> dict[str, Any]:
    job, folder = run.job, run.folder
    return {
        "folder": folder.root.name,
        "seed": job.seed,
        "size": list(job.size),
        "found": folder.found,
        "used": len(folder),
        "skipped": [vars(skip) for skip in folder.skipped],
        **describe_source(folder),
        "split": run.parts[0].split_note,
        "split_table": split_table(run.assessment.parts),
        "chosen": describe_choice(run.classifier),
        **run.assessment.to_dict(),
        "warnings": run.warnings,
        "seconds": {name: round(value, 3) for name, value in run.seconds.items()},
        "versions": versions(),
    }


def _write_report(run: Run, path: Path) -> bool:
    """Return whether the report could be written; warn if a package for it is not installed."""
    data = report_data(
        run.assessment,
        run.classifier,
        title=run.job.title,
        meaning=run.folder.group_note,
        skipped=run.folder.skipped,
        predictions=run.job.predictions.name,
        found=run.folder.found,
        origin=describe_origin(run.job.out),
        versions=versions(),
        timings=run.seconds,
        warnings=run.warnings,
    )
    try:
        write_report(path, data, round(1e6 * run.job.picture_megabytes))
    except MissingExtraError as error:
        console.warn(f"no report was written ({error})")
        return False
    return True
