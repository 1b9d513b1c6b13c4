"""Links from a report to the files that it shows."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import quote

__all__ = ["link_from"]


def link_from(folder: str | os.PathLike[str]) -> Callable[[str], str]:
    """Return a function from a file's path to its address, relative to a folder.

    On Windows, a file on another drive has an absolute address.

    Parameters
    ----------
    folder : path
        The folder of the report.

    Returns
    -------
    callable

    Examples
    --------
    >>> link_from("results")("films/day & night/50 %.jpg")
    '../films/day%20%26%20night/50%20%25.jpg'
    """
    start = os.path.realpath(folder)

    @cache
    def folder_link(parent: str) -> str:
        real = os.path.realpath(parent)
        try:
            return quote(Path(os.path.relpath(real, start)).as_posix().encode("utf-8", "surrogateescape"))
        except ValueError:
            return Path(real).as_uri()

    def link(path: str) -> str:
        parent, name = os.path.split(path)
        return f"{folder_link(parent)}/{quote(name.encode('utf-8', 'surrogateescape'))}"

    return link
