"""``framecnn frames``: cut movies into a folder of frames."""

import re
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from framecnn.cli import console
from framecnn.cli.options import Figures
from framecnn.cli.outputs import check_outputs, check_replaced, json_mark, write_json
from framecnn.data.decode import SUFFIXES
from framecnn.errors import DataError
from framecnn.text import counted

__all__ = ["frames", "seconds"]


def seconds(text: str) -> float:
    """Return a duration in seconds.

    Parameters
    ----------
    text : str
        A number with ``ms``, ``s``, ``m``, ``h`` or no unit, which means seconds.

    Returns
    -------
    float
        Seconds.

    Raises
    ------
    typer.BadParameter
        If the text is something else.

    Examples
    --------
    >>> seconds("1.5m"), seconds("200ms"), seconds("2")
    (90.0, 0.2, 2.0)
    """
    match = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*(ms|s|m|h|)", str(text).strip())
    if not match:
        raise typer.BadParameter(f"expected a duration such as 1s, 0.2s, 500ms or 2m, got {text!r}")
    return float(match[1]) * {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600}[match[2]]


def frames(
    movies: Annotated[list[Path], typer.Argument(metavar="MOVIE", help="Movie files, and folders of movies.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="Folder of frames; made if needed.")],
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Class of these movies.", show_default="its class folder, or its name"),
    ] = None,
    every: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="Time between frames.", show_default="1s")
    ] = None,
    per_shot: Annotated[
        int | None, typer.Option(metavar="N", help="Cut N frames of each shot instead of one per TIME.")
    ] = None,
    block: Annotated[
        float,
        typer.Option(
            parser=seconds,
            metavar="TIME",
            help="Longer shots are divided into groups of at most this length.",
            show_default="10s",
        ),
    ] = 10.0,
    crop_letterbox: Annotated[bool, typer.Option("--crop-letterbox", help="Crop black bars.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the frames that FOLDER holds of these movies.")
    ] = False,
    json: Figures = None,
) -> None:
    """Cut movies into a folder of frames per class.

    Writes FOLDER/LABEL/MOVIE_SECONDS.jpg, and FOLDER/frames.csv with the movie and the group of each frame: its shot
    (the frames between two cuts), or a block of it if the shot is long. Training and test frames never share a group.
    Black frames and near-duplicates are skipped. To add movies of another class, run the command again with the same
    FOLDER. An interrupted run resumes when it is started again. Of a
    folder of movies only those are cut that FOLDER does not hold.

    Of a folder of movies all are cut, also in folders of it. If all lie in such folders, those are the classes:
    movies/comedy/a.mp4 gets the label comedy and the name comedy_a. Movies that cannot be read are left out and listed.

    The exit code is 1 if some movies of a folder could not be cut but others were, and 2 if none could.
    """
    if every is not None and per_shot is not None:
        raise typer.BadParameter("expected --every or --per-shot, got both")
    for path in movies:
        if path.suffix.lower() in SUFFIXES and path.suffix.lower() != ".gif":
            raise DataError(
                f"frames: expected movies, got the picture {str(path)!r}; pictures need no cutting: sort "
                "them into one folder per class, then framecnn train FOLDER"
            )
    (json,) = check_outputs([json], movies)
    check_replaced({json: json_mark("frames")})
    from framecnn.data.cutting import cutting
    from framecnn.data.movie_files import find_movies

    found = find_movies(movies, out, label)
    for line in found.describe():
        console.say(line)
    with ExitStack() as run:  # until it ends, the run counts as unfinished and can be resumed
        with console.progress("cutting frames") as update:
            reports = run.enter_context(
                cutting(
                    found,
                    out,
                    every=1.0 if every is None else every,
                    per_shot=per_shot,
                    block=block,
                    crop_letterbox=crop_letterbox,
                    replace=replace,
                    progress=update,
                )
            )
        for report in reports:
            (console.say if report.problem is None else console.warn)(report.describe())
        total = sum(report.n_frames for report in reports if not report.is_kept)
        console.say(f"{counted(total, 'frame')} written to {out}")
        write_json(json, "frames", {"folder": str(out), "frames": total, "movies": [asdict(each) for each in reports]})
    n_broken = sum(report.problem is not None for report in reports)
    remedy = "copy them again, or take them out of their folder, and repeat the command: it cuts only what is missing"
    if n_broken == len(reports):
        raise DataError(f"frames: none of the movies could be cut; {remedy}")
    if n_broken:
        console.warn(f"{n_broken} of {len(reports)} movies could not be cut; {remedy}")
        raise typer.Exit(console.EXIT_INCOMPLETE)
