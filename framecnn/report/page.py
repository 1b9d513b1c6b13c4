"""Write the page: what is told, and how numbers and names are written down."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framecnn.errors import MissingExtraError, ShapeError
from framecnn.evaluation import EvaluationResult, counted
from framecnn.report.pictures import MAX_FILTERS, thumbnails
from framecnn.report.view import build_view
from framecnn.storage.atomic import atomic_write
from framecnn.typing import Array

if TYPE_CHECKING:
    from jinja2 import Environment

    from framecnn.data.folder import Skip

__all__ = ["Prototype", "ReportData", "environment", "in_seconds", "write_report"]

PICTURE_BUDGET = 3_600_000  # characters; with text and filters a page stays under 5 MB
CONTROL_CODES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

REASONS = {
    "changed": "changed while framecnn was running",
    "decoder-error": "could not be decoded",
    "empty": "the file is empty",
    "hidden": "a hidden file or folder",
    "not-a-file": "not a regular file",
    "not-an-image": "not an image",
    "not-in-class": "beside the class folders",
    "not-in-csv": "not in the table of groups",
    "outside-root": "a link that leads out of the folder",
    "system": "a NAS or an operating system keeps it for itself",
    "too-large": "too many pixels",
    "too-small": "too few pixels",
    "truncated": "the file is cut off",
    "unreadable": "may not be read",
    "unsupported-depth": "an unsupported kind of pixel",
    "vanished": "vanished while framecnn was running",
}


@dataclass(frozen=True)
class Prototype:
    """The frames nearest to the centre of one cluster: what the model takes as typical.

    Parameters
    ----------
    label : str
        The class the cluster stands for.
    cluster : int
        The number of the cluster.
    n_members : int
        How many training frames belong to it.
    paths : tuple of str
        Frame files, the nearest first.
    """

    label: str
    cluster: int
    n_members: int
    paths: tuple[str, ...]


@dataclass(frozen=True)
class ReportData:
    """Everything the page tells.

    Parameters
    ----------
    title : str
        The headline, such as the name of the folder.
    results : sequence of EvaluationResult
        One for each part of the data; the page leads with the part named ``"test"``.
    paths : mapping of str to sequence of str
        From the name of a part to the file of each of its frames, in the order of the rows of its result.
    prototypes : sequence of Prototype
        The clusters of the head.
    filters : mapping of str to array (n, height, width, channels)
        The learned filters, by the name of their scale, such as ``"240x360"``.
    skipped : sequence of Skip
        The files that were not used; each has ``path``, ``reason`` and ``detail``.
    found : int
        Number of files found, used and skipped.
    split : str
        How the parts were made, in words.
    split_table : sequence of dict
        Rows with the keys ``part``, ``class``, ``frames``, ``groups``.
    chosen : mapping of str to str
        What was chosen on the training data.
    versions : mapping of str to str
        The software.
    timings : mapping of str to float
        Seconds that each stage took.
    warnings : sequence of str
        What a reader must know before trusting the numbers.
    """

    title: str
    results: Sequence[EvaluationResult] = ()
    paths: Mapping[str, Sequence[str]] = field(default_factory=dict)
    prototypes: Sequence[Prototype] = ()
    filters: Mapping[str, Array] = field(default_factory=dict)
    skipped: Sequence["Skip"] = ()
    found: int = 0
    split: str = ""
    split_table: Sequence[Mapping[str, Any]] = ()
    chosen: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    timings: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def write_report(path: str | os.PathLike[str], data: ReportData) -> None:
    """Write the page as one HTML file that needs no other file, no network and no script.

    Thumbnails are made from the frame files now; a file that is gone leaves a placeholder. The page of a thousand
    frames stays under 5 MB, since each place shows its first frames and says how many more there are.

    Parameters
    ----------
    path : path
        The file to create or replace.
    data : ReportData
        What the page tells.

    Raises
    ------
    MissingExtraError
        When jinja2 is not installed.
    ShapeError
        When a part of the results does not have one path for every frame.

    Examples
    --------
    >>> import tempfile
    >>> page = Path(tempfile.mkdtemp()) / "report.html"
    >>> write_report(page, ReportData(title="Day <or> night"))
    >>> "Day &lt;or&gt; night" in page.read_text(encoding="utf-8")
    True
    """
    templates = environment()
    for result in data.results:
        n_paths = len(data.paths.get(result.part, ()))
        if n_paths != result.n_frames:
            raise ShapeError(
                f"write_report: expected one path for each of the {result.n_frames} frames of the part "
                f"{result.part!r}, got {n_paths}"
            )
    view = build_view(data)
    pictures = thumbnails(view.wanted, PICTURE_BUDGET)
    numbers = {name: number for number, name in enumerate(pictures)}
    page = templates.get_template("report.html.j2").render(
        data=data,
        view=view,
        pictures=pictures,
        numbers=numbers,
        reasons=REASONS,
        max_filters=MAX_FILTERS,
        timings=[(stage, in_seconds(seconds)) for stage, seconds in data.timings.items()],
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def environment() -> "Environment":
    """Return what renders the templates of this folder; a MissingExtraError where jinja2 is not installed."""
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("framecnn report", "jinja2", "report") from error
    from markupsafe import Markup, escape

    def breakable(name: object) -> Markup:
        """Let a long name break where a person would break it."""
        return Markup(re.sub(r"([_/-]+)", r"\1<wbr>", str(escape(_printable(name)))))

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "basename": os.path.basename,
        "breakable": breakable,
        "counted": counted,
        "percent": _percent,
    }
    return environment


def _printable(value: object) -> object:
    """Spell out what no reader can see and no UTF-8 file can hold: control codes and broken characters."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return CONTROL_CODES.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), value)


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %" if share == share else "–"


def in_seconds(value: float) -> str:
    """Write how long something took.

    Examples
    --------
    >>> in_seconds(1.25), in_seconds(90)
    ('1.2 s', '1 min 30 s')
    """
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s"
