"""``framecnn train``: train a model on a folder of frames, and report its accuracy."""

from pathlib import Path
from typing import Annotated

import typer

from framecnn.cli.cluster_options import AllowMixed, Cluster, Scheduler, Workers
from framecnn.cli.folder_options import SplitOptions, reads_folder
from framecnn.cli.options import (
    LIMITS,
    OUTPUT,
    Figures,
    MaxBad,
    PictureMegabytes,
    PredictionsFile,
    Seed,
    Size,
    memory_size,
    one_of,
    outside,
    percentage,
)
from framecnn.cli.training_outputs import DEFAULT_FEATURES, FEATURES, Job, training_outputs
from framecnn.cli.workflow import train_folder
from framecnn.data import DEFAULT_SIZE

__all__ = ["train"]


@reads_folder
def train(
    source: SplitOptions,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the model.", rich_help_panel=OUTPUT)
    ] = Path("model.safetensors"),
    size: Size = None,
    seed: Seed = 0,
    split: Annotated[
        str,
        typer.Option(
            metavar="group|random",
            help="Divide the frames by whole groups or one by one: 70 % training, 20 % validation, 10 % test. Parts "
            "that are given stay.",
        ),
    ] = "group",
    json: Figures = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where to write the report.",
            show_default="report.html or NAME.report.html",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    predictions: PredictionsFile = None,
    picture_megabytes: PictureMegabytes = 4.0,
    class_weight: Annotated[
        str | None,
        typer.Option(
            **one_of("balanced"),
            help="balanced makes all classes count the same, however many frames they have.",
            show_default="each frame counts the same",
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            **one_of(*FEATURES),
            help="What is computed of a frame: by filters learned from your frames, by a network pretrained on "
            "ImageNet (extra pretrained), or by both. auto takes what is best on held-out groups; without the extra "
            "it is learned.",
        ),
    ] = DEFAULT_FEATURES,
    false_alarms: Annotated[
        float,
        typer.Option(
            parser=percentage,
            metavar="PERCENT",
            help="How many frames like those of training are to be out-of-distribution.",
        ),
    ] = 5.0,
    max_bad: MaxBad = 5.0,
    max_memory: Annotated[
        int | None,
        typer.Option(
            parser=memory_size,
            metavar="SIZE",
            help="How much memory to take at most, such as 4GiB; features beyond it go to files. No result depends on "
            "it.",
            show_default="three quarters of the machine's",
            rich_help_panel=LIMITS,
        ),
    ] = None,
    cache_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Keep the features of frames here, for a training that is interrupted, or repeated after some frames "
            "have changed. Delete the folder to free its space.",
            show_default="features are not kept",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    allow_mixed: AllowMixed = False,
) -> None:
    """Train a classifier on a folder of frames; write the model, a report about it, the predictions for all frames, and
    a manifest of all files.

    report.html, predictions.csv and manifest.csv are written beside model.safetensors; beside another model, such as
    orion.safetensors, their names are orion.report.html, orion.predictions.csv and orion.manifest.csv.
    """
    if split not in ("group", "random"):
        raise typer.BadParameter(f"expected group or random, got {split!r}", param_hint="'--split'")
    train_folder(
        Job(
            source=source,
            outputs=training_outputs(out, source.inputs, json, report, predictions),
            size=size or DEFAULT_SIZE,
            seed=seed,
            by=split,
            features=features,
            class_weight=class_weight,
            false_alarms=false_alarms,
            max_bad=max_bad,
            picture_megabytes=picture_megabytes,
            max_memory=max_memory,
            cache_dir=outside(cache_dir, source.inputs),
            cluster=Cluster(workers, scheduler, allow_mixed),
        )
    )
