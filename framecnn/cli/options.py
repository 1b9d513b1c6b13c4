"""Arguments and options of several commands."""

import math
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from framecnn.cli.outputs import json_file
from framecnn.data import DEFAULT_SIZE
from framecnn.data.decode import MIN_SIDE, SUFFIXES
from framecnn.data.movie_files import MOVIE_SUFFIXES
from framecnn.errors import SettingError
from framecnn.memory import as_bytes

__all__ = [
    "LIMITS",
    "OUTPUT",
    "Figures",
    "MaxBad",
    "Model",
    "PictureMegabytes",
    "PredictionsFile",
    "Seed",
    "Size",
    "frame_folder",
    "frame_size",
    "memory_size",
    "one_of",
    "outside",
    "percentage",
    "png_file",
]


def frame_size(text: str, smallest: int = MIN_SIDE) -> tuple[int, int]:
    """Return a size in pixels.

    Parameters
    ----------
    text : str
        HEIGHTxWIDTH in pixels.
    smallest : int, optional
        The smallest side; that of a picture, `MIN_SIDE`, if it is not given.

    Returns
    -------
    (int, int)
        Height and width.

    Raises
    ------
    typer.BadParameter
        If the text is something else, or a side is not `smallest` to 4,096 pixels.

    Examples
    --------
    >>> frame_size("240x360")
    (240, 360)
    """
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", str(text).strip().lower())
    if not match or not all(smallest <= int(side) <= 4096 for side in match.groups()):
        raise typer.BadParameter(f"expected HEIGHTxWIDTH such as 240x360, each {smallest} to 4096 pixels, got {text!r}")
    return int(match[1]), int(match[2])


def memory_size(text: str) -> int:
    """Return a size in bytes; raise BadParameter for a text that is none."""
    try:
        return as_bytes(text)
    except SettingError as error:
        raise typer.BadParameter(str(error).partition(": ")[2]) from None


def outside(folder: Path | None, inputs: Sequence[Path | None]) -> Path | None:
    """Return a folder to write to; raise BadParameter if it lies in a folder of frames, which is only read."""
    for given in inputs:
        if folder and given and Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(given)):
            raise typer.BadParameter(
                f"expected a folder outside {str(given)!r}, which is only read, got {str(folder)!r}; choose another",
                param_hint="'--cache-dir'",
            )
    return folder


def frame_folder(text: str) -> Path:
    """Return the path of a folder; raise BadParameter if it is not one."""
    if os.path.isdir(text):
        return Path(text)
    if not os.path.lexists(text):
        found = "does not exist"
    elif text.lower().endswith(MOVIE_SUFFIXES):
        found = f"is a movie; cut it first: framecnn frames {shlex.quote(text)} --out FOLDER"
    elif text.lower().endswith(SUFFIXES):
        found = "is a picture; name the folder that has one folder of pictures per class, or use framecnn predict"
    else:
        found = "is not a folder"
    raise typer.BadParameter(f"expected a folder of frames, got {text!r}, which {found}")


def one_of(*values: str) -> dict[str, Any]:
    """Return the settings of an option that has one of these values."""

    def chosen(text: str) -> str:
        if text not in values:
            raise typer.BadParameter(f"expected {' or '.join(values)}, got {text!r}")
        return text

    return {"parser": chosen, "metavar": "|".join(values)}


def percentage(text: str) -> float:
    """Return a number above 0 and below 100; raise BadParameter if it is not one.

    Examples
    --------
    >>> percentage("2.5")
    2.5
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 100:
        raise typer.BadParameter(f"expected a number above 0 and below 100, got {str(text)!r}")
    return value


def png_file(text: str) -> Path:
    """Return the path of a PNG file; raise BadParameter if it has another extension."""
    if not text.lower().endswith(".png"):
        raise typer.BadParameter(f"expected a file called .png, got {text!r}")
    return Path(text)


OUTPUT, LIMITS = "Output", "Limits"
"""Titles in the help of a command, below which options are listed."""

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model that framecnn train wrote.")]
Figures = Annotated[
    Path | None,
    typer.Option(
        "--json",
        metavar="FILE",
        callback=json_file,
        help="Write all results as JSON; - is standard output.",
        rich_help_panel=OUTPUT,
    ),
]
PictureMegabytes = Annotated[
    float,
    typer.Option(
        min=0,
        metavar="MB",
        help="How much of the report pictures may take; others are links to their files.",
        rich_help_panel=LIMITS,
    ),
]
PredictionsFile = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        metavar="FILE",
        help="Where to write a CSV table with the probabilities of every frame.",
        rich_help_panel=OUTPUT,
        show_default=False,
    ),
]
MaxBad = Annotated[
    float,
    typer.Option(
        "--max-bad",
        min=0,
        max=100,
        metavar="PERCENT",
        help="Stop if a larger share of the files is unusable.",
        rich_help_panel=LIMITS,
    ),
]
Size = Annotated[
    tuple | None,
    typer.Option(
        "--size",
        parser=frame_size,
        metavar="HEIGHTxWIDTH",
        help="The size to which frames are resized: height, then width.",
        show_default="x".join(map(str, DEFAULT_SIZE)),
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        max=2**32 - 1,
        metavar="N",
        help="Seed of the random choices; the same seed gives the same result.",
    ),
]
