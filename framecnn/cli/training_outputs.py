"""What a training writes: the model, the report, the manifest, the predictions and the figures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framecnn.cli.cluster_options import IN_THIS_PROCESS, Cluster
from framecnn.cli.environment import describe_origin, missing_extra, versions
from framecnn.cli.folder_options import FolderOptions, describe_source
from framecnn.cli.outputs import OutputSet, report_mark
from framecnn.data import DEFAULT_SIZE, FrameFolder, FrameSubset
from framecnn.data.manifest import MANIFEST_MARK
from framecnn.data.prediction_table import PREDICTIONS_MARK, write_predictions
from framecnn.errors import MissingExtraError
from framecnn.evaluation import Assessment
from framecnn.report import write_report
from framecnn.report.contents import describe_choice, report_data, split_table

__all__ = [
    "DEFAULT_FEATURES",
    "FEATURES",
    "Job",
    "Run",
    "missing_for_report",
    "training_outputs",
    "write_everything",
]

FEATURES, DEFAULT_FEATURES = ("auto", "learned", "pretrained", "both"), "auto"
"""Features that a classifier can compute, and those of the default classifier."""

RANDOM_SPLIT = (
    "The frames were split at random, not by group: near-duplicates of training frames are among the other frames, so "
    "the accuracies are too high."
)


CONTENTS = {
    "model": "the model",
    "report": "the report; open it in a browser",
    "predictions": "the predictions for all frames, with suspected wrong labels",
    "manifest": "the manifest: all files, used or skipped",
    "json": "all figures",
}


@dataclass(frozen=True)
class Job:
    """What to train on and where to write.

    Parameters
    ----------
    source : FolderOptions
        The frames, and how their labels, groups and parts are found.
    outputs : OutputSet
        The files to write, as :func:`training_outputs` returns them.
    size : (int, int), default (240, 360)
        Height and width in pixels to which frames are resized.
    seed : int, default 0
    by : {"group", "random"}, default "group"
        How the frames are split.
    features : {"auto", "learned", "pretrained", "both"}, default "auto"
        What is computed of a frame, as for FrameClassifier.
    class_weight : {None, "balanced"}
        How much each class counts, as for FrameClassifier.
    false_alarms : float, default 5
        The percentage of frames like those of training that are to be out-of-distribution.
    max_bad : float, default 5
        The largest percentage of files that may be unusable.
    picture_megabytes : float, default 4
        How much of the report pictures may take; others are links to their files.
    max_memory : int, optional
        How much memory the process may hold while it fits and measures, as for :func:`framecnn.working_memory`.
    cache_dir : Path, optional
        The folder that keeps features, as for the same function.
    cluster : Cluster
        Where the work is done; by default in this process.
    title, caution : str, default ""
        The headline of the report, and a warning to print there first.
    """

    source: FolderOptions
    outputs: OutputSet
    size: tuple[int, int] = DEFAULT_SIZE
    seed: int = 0
    by: str = "group"
    features: str = DEFAULT_FEATURES
    class_weight: str | None = None
    false_alarms: float = 5.0
    max_bad: float = 5.0
    picture_megabytes: float = 4.0
    max_memory: int | None = None
    cache_dir: Path | None = None
    cluster: Cluster = IN_THIS_PROCESS
    title: str = ""
    caution: str = ""

    @property
    def model(self) -> Path:
        """Where the model is written."""
        return self.outputs.files[0]


def training_outputs(
    model: Path,
    inputs: Sequence[Path | None],
    json: Path | None = None,
    report: Path | None = None,
    predictions: Path | None = None,
) -> OutputSet:
    """Return the files that a training writes: ``model``, ``report``, ``manifest``, ``predictions`` and ``json``.

    Parameters
    ----------
    model : Path
        Where the model is written.
    inputs : sequence of Path or None
        The files and folders that are read.
    json : Path, optional
        Where all figures are written.
    report, predictions : Path, optional
        Where these are written. By default beside the model; the names follow that of the model, so that two models in
        a folder share no file.

    Returns
    -------
    OutputSet
    """

    def beside(name: str) -> Path:
        return model.parent / (name if model.stem == "model" else f"{model.stem}.{name}")

    return OutputSet(
        "train",
        json,
        inputs,
        model=(model, b'"framecnn"'),
        report=(report or beside("report.html"), report_mark("training")),
        manifest=(beside("manifest.csv"), MANIFEST_MARK),
        predictions=(predictions or beside("predictions.csv"), PREDICTIONS_MARK),
    )


def missing_for_report() -> MissingExtraError | None:
    """Return the error of the package that a report needs and that is not installed."""
    return missing_extra("framecnn report", "report", "jinja2")


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

    The model is renamed last, so a new model never lies beside old files. If the report cannot be written, that of an
    earlier model is removed.
    """
    assessment, paths = run.assessment, run.job.outputs.paths
    report: dict[str, Callable[[Path], object]] = {"report": lambda path: _write_report(run, path)}
    stale: list[Path] = []
    if missing_for_report() and (old := paths["report"]) is not None:
        report, stale = {}, [old]
    run.job.outputs.write(
        _figures(run),
        stale,
        manifest=run.folder.write_manifest,
        predictions=lambda path: write_predictions(path, assessment.main.classes, assessment.prediction_rows()),
        **report,
        model=run.classifier.save,
    )
    return {path: what for name, what in CONTENTS.items() if (path := paths[name]) is not None and path not in stale}


def _figures(run: Run) -> dict[str, Any]:
    job, folder = run.job, run.folder
    return {
        "folder": folder.root.name,
        "seed": job.seed,
        "features": _features(job.features, run.classifier.chosen_),
        "class_weight": job.class_weight,
        "false_alarms": job.false_alarms,
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


def _features(wanted: str, chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return which features were wanted and used, and what was tried of them, by kind."""
    tried = {
        kind: {"accuracy": accuracy, "seconds": round(chosen["features_seconds"][kind], 3)}
        for kind, accuracy in chosen["features_accuracies"].items()
    }
    return {"wanted": wanted, "used": chosen["features"], "tried": tried}


def _write_report(run: Run, path: Path) -> None:
    data = report_data(
        run.assessment,
        run.classifier,
        title=run.job.title,
        meaning=run.folder.group_note,
        skipped=run.folder.skipped,
        predictions=run.job.outputs.name_of("predictions"),
        found=run.folder.found,
        origin=describe_origin(run.job.model),
        versions=versions(),
        timings=run.seconds,
        warnings=run.warnings,
    )
    write_report(path, data, round(1e6 * run.job.picture_megabytes))
