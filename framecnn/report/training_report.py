"""The report of a training, as an HTML file."""

import os

from framecnn.errors import ShapeError
from framecnn.evaluation import OutOfFoldEstimate
from framecnn.report.arrangement import arrange
from framecnn.report.data import ReportData
from framecnn.report.pictures import MAX_FILTERS, PICTURE_BUDGET, map_picture
from framecnn.report.templates import in_seconds, write_html

__all__ = ["write_report"]


def write_report(path: str | os.PathLike[str], data: ReportData, picture_budget: int = PICTURE_BUDGET) -> None:
    """Write the report as one HTML file that needs no other file, no network and no script.

    Pictures are made from the frame files now; a file that is gone leaves a placeholder. Pictures that are not in the
    report, to keep it small, are links to their files, relative to the report.

    Parameters
    ----------
    path : path
        The file to create or replace.
    data : ReportData
        What the report shows.
    picture_budget : int, default 4,000,000
        How many characters the pictures of all frames together may take.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    ShapeError
        If a part of the results does not have the paths of its frames.

    Examples
    --------
    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "report.html")
    >>> write_report(path, ReportData(title="Day <or> night"))
    >>> "Day &lt;or&gt; night" in open(path, encoding="utf-8").read()
    True
    """
    for result in data.results:
        paths = result.mean.paths if isinstance(result, OutOfFoldEstimate) else result.paths
        if len(paths) != result.n_frames:
            raise ShapeError(
                f"write_report: expected the paths of the {result.n_frames} frames of the part {result.part!r}, got "
                "none; pass paths to EvaluationResult"
            )
    arranged = arrange(data)
    write_html(
        path,
        "training",
        arranged.wanted,
        picture_budget,
        data=data,
        arranged=arranged,
        max_filters=MAX_FILTERS,
        maps={path: map_picture(shown.map) for path, shown in data.evidence.items()},
        timings=[(stage, in_seconds(seconds)) for stage, seconds in data.timings.items()],
    )
