"""HTML files from templates: how numbers, names and reasons are written, and how files are written."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framecnn.data.reasons import REASONS
from framecnn.errors import MissingExtraError
from framecnn.report.pictures import Missing, Picture
from framecnn.storage.atomic import atomic_write
from framecnn.text import counted

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["in_seconds", "write_html"]

CONTROL_CODES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def write_html(
    path: str | os.PathLike[str], template: str, pictures: Mapping[str, Picture | Missing], **values: Any
) -> None:
    """Write the HTML file that a template makes.

    Parameters
    ----------
    path : path
        The file to create or replace.
    template : str
        The name of a template in the folder of this module.
    pictures : mapping of str to Picture or Missing
        The thumbnail of each frame's file; each is stored once, however often it is shown.
    values : any
        The variables of the template.

    Raises
    ------
    MissingExtraError
        If jinja2 is not installed.
    """
    numbers = {name: number for number, name in enumerate(pictures)}
    html = _environment().get_template(template).render(pictures=pictures, numbers=numbers, reasons=REASONS, **values)
    with atomic_write(path) as temporary:
        temporary.write_text(html, encoding="utf-8", newline="\n")


def _environment() -> "Environment":
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("framecnn report", "jinja2", "report") from error
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
        "counted": counted,
        "percent": _percent,
        "seconds": in_seconds,
    }
    return environment


def _printable(value: object) -> object:
    """Return text with escapes for control codes and lone surrogates, which UTF-8 cannot hold; else `value` itself."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    return CONTROL_CODES.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), value)


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %" if share == share else "–"


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
