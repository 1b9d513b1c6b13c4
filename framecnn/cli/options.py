"""Arguments and options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Figures", "Folder", "Groups", "MaxBad", "Model"]

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
