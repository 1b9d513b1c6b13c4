"""``framecnn train``: from a folder of frames to a model, honest accuracies and a page."""

import re
from pathlib import Path
from typing import Annotated

import typer

from framecnn.cli.options import Figures, Folder, Groups, MaxBad
from framecnn.cli.outputs import Job
from framecnn.cli.workflow import train_folder
from framecnn.data import DEFAULT_SIZE

__all__ = ["frame_size", "train"]


def frame_size(text: str) -> tuple[int, int]:
    """Read a size.

    Parameters
    ----------
    text : str
        HEIGHTxWIDTH in pixels.

    Returns
    -------
    (int, int)
        Height and width.

    Raises
    ------
    typer.BadParameter
        If it is no such text, or a side is under 8 or over 4,096 pixels.

    Examples
    --------
    >>> frame_size("240x360")
    (240, 360)
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(text).strip())
    if not match or not all(8 <= int(side) <= 4096 for side in match.groups()):
        raise typer.BadParameter(f"expected HEIGHTxWIDTH such as 240x360, each 8 to 4096 pixels, got {text!r}")
    return int(match[1]), int(match[2])


def train(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write the model.")] = Path(
        "model.safetensors"
    ),
    groups: Groups = None,
    size: Annotated[
        tuple | None,
        typer.Option(
            parser=frame_size,
            metavar="HEIGHTxWIDTH",
            help="What frames are resized to.",
            show_default="x".join(map(str, DEFAULT_SIZE)),
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="The same number gives the same model.")
    ] = 0,
    split: Annotated[
        str, typer.Option(metavar="group|random", help="Split whole groups, or frame by frame.")
    ] = "group",
    json: Figures = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write the page.", show_default="report.html beside the model"),
    ] = None,
    max_bad: MaxBad = 5.0,
) -> None:
    """Train a classifier on a folder of frames; write the model, a page that explains it, and what was skipped."""
    if split not in ("group", "random"):
        raise typer.BadParameter(f"expected --split group or random, got {split!r}")
    train_folder(
        Job(
            folder=folder,
            out=out,
            report=report or out.parent / "report.html",
            json=json,
            groups=groups,
            size=size or DEFAULT_SIZE,
            seed=seed,
            by=split,
            max_bad=max_bad,
        )
    )
