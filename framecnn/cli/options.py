"""Arguments and options that several commands have."""

import re
from pathlib import Path
from typing import Annotated

import typer

from framecnn.data import DEFAULT_SIZE

__all__ = ["Figures", "Folder", "Groups", "MaxBad", "Model", "Seed", "Size", "frame_size"]


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


Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model that framecnn train wrote.")]
Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with a folder of frames per class.")]
Groups = Annotated[
    Path | None,
    typer.Option("--groups", metavar="CSV", help="Which frames belong together.", show_default="its frames.csv"),
]
Figures = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures as JSON.")]
MaxBad = Annotated[
    float,
    typer.Option("--max-bad", min=0, max=100, metavar="PERCENT", help="Stop if more of the files cannot be used."),
]
Size = Annotated[
    tuple | None,
    typer.Option(
        "--size",
        parser=frame_size,
        metavar="HEIGHTxWIDTH",
        help="What frames are resized to.",
        show_default="x".join(map(str, DEFAULT_SIZE)),
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, metavar="N", help="The same number gives the same result.")
]
