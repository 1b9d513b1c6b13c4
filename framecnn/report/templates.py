"""HTML files from templates: how numbers, names and reasons are written, and how files are written."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framecnn.data.decode import DEFAULT_SIZE
from framecnn.data.reasons import REASONS
from framecnn.errors import MissingExtraError
from framecnn.report.arrangement import CELL_FRAMES
from framecnn.report.feature_notes import contributions_by_kind
from framecnn.report.links import link_from
from framecnn.report.pictures import PICTURE_BUDGET, Picture, embed
from framecnn.storage.atomic import atomic_write
from framecnn.text import counted, percent

if TYPE_CHECKING:
    from jinja2 import Environment, Template

__all__ = ["in_seconds", "write_html"]

LISTED = 1000
"""The largest number of correctly classified frames that are listed for a cell of a matrix; all mistakes are."""
PAGE = 200
"""The number of frames on a page of a list."""
CONTROL_CODES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def write_html(
    path: str | os.PathLike[str], kind: str, paths: Sequence[str], picture_budget: int = PICTURE_BUDGET, **values: Any
) -> None:
    """Write a report as an HTML file.

    Parameters
    ----------
    path : path
        The file to create or replace.
    kind : {"training", "comparison"}
        Which template is used.
    paths : sequence of str
        The files of the frames that are shown, the most important first; each is stored once, however often it is
        shown.
    picture_budget : int, default 4,000,000
        How many characters the pictures of all frames together may take.
    values : any
        The variables of the template.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    template = _template(f"{kind}_report.html.j2")
    pictures, full = embed(paths, picture_budget)
    numbers = {name: number for number, name in enumerate(pictures)}
    sizes = Counter((shown.width, shown.height) for shown in pictures.values() if isinstance(shown, Picture))
    width, height = sizes.most_common(1)[0][0] if sizes else DEFAULT_SIZE[::-1]
    values |= {"kind": kind, "pictures": pictures, "full": full, "numbers": numbers, "reasons": REASONS}
    values |= {"cell_frames": CELL_FRAMES, "listed": LISTED, "page": PAGE}
    values |= {"link": link_from(Path(path).parent), "tile_ratio": f"{width} / {height}"}
    html = template.render(values)
    with atomic_write(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")


def _template(name: str) -> "Template":
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("framecnn report", "jinja2", "report") from error
    return _environment().get_template(name)


@cache
def _environment() -> "Environment":
    """Return what all reports have in common; it keeps the compiled templates."""
    import jinja2
    from markupsafe import Markup, escape

    def breakable(name: object) -> Markup:
        """Return a name as HTML in which a line may break after `_`, `/` and `-`."""
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
        "by_kind": contributions_by_kind,
        "counted": counted,
        "percent": partial(percent, missing="–"),
        "seconds": in_seconds,
        "short": lambda path: "/".join(Path(path).parts[-2:]),
    }
    return environment


def _printable(value: object) -> object:
    """Return text with escapes for control codes and lone surrogates, which UTF-8 cannot hold; else `value` itself."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return CONTROL_CODES.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), value)


def in_seconds(value: float) -> str:
    """Return a duration in seconds, or in minutes and seconds from a minute on.

    Examples
    --------
    >>> in_seconds(1.25), in_seconds(90)
    ('1.2 s', '1 min 30 s')
    """
    if value < 60:
        return f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds:02d} s"
