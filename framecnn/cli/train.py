"""``framecnn train``: train a model on a folder of frames, and report its accuracy."""

from pathlib import Path
from typing import Annotated

import typer

from framecnn.cli.options import Figures, Folder, Groups, MaxBad, Seed, Size
from framecnn.cli.training_outputs import Job
from framecnn.cli.workflow import train_folder
from framecnn.data import DEFAULT_SIZE

__all__ = ["train"]


def train(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the model.")] = Path(
        "model.safetensors"
    ),
    groups: Groups = None,
    size: Size = None,
    seed: Seed = 0,
    split: Annotated[
        str, typer.Option(metavar="group|random", help="Split by whole groups, or frame by frame.")
    ] = "group",
    json: Figures = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write the report.", show_default="report.html beside the model"),
    ] = None,
    max_bad: MaxBad = 5.0,
) -> None:
    """Train a classifier on a folder of frames; write the model, a report about it, and the list of all files."""
    if split not in ("group", "random"):
        raise typer.BadParameter(f"expected --split group or random, got {split!r}")
    train_folder(
        Job(
            folder=folder,
            out=out,
            report=report or out.parent / "report.html",
            manifest=out.parent / "manifest.csv",
            json=json,
            groups=groups,
            size=size or DEFAULT_SIZE,
            seed=seed,
            by=split,
            max_bad=max_bad,
        )
    )
