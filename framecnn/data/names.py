"""Names of folders and paths of files that every system can hold."""

import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath

__all__ = ["name_key", "portable_path", "portable_problem", "same_name"]

RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"
}
"""Names of devices on Windows, in any case and with any extension."""

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
MAX_BYTES = 200  # most systems allow 255, and the name of a frame also holds its time


def portable_problem(name: str) -> str | None:
    """Return why a folder cannot have this name on all of Linux, macOS and Windows; None if it can.

    Parameters
    ----------
    name : str

    Returns
    -------
    str or None

    Examples
    --------
    >>> portable_problem("night"), portable_problem("con.old")
    (None, 'Windows reserves the name con for a device')
    """
    device = name.split(".")[0].rstrip(" ").casefold()
    if not name or name.startswith("."):
        return "it is hidden or empty"
    if found := FORBIDDEN.search(name):
        return f"{found[0]!r} is not allowed in names on every system"
    if name[-1] in ". ":
        return "Windows removes dots and spaces at the end"
    if device in RESERVED:
        return f"Windows reserves the name {device} for a device"
    if len(name.encode(errors="surrogateescape")) > MAX_BYTES:
        return f"it is longer than {MAX_BYTES} bytes"
    return None


def portable_path(path: str) -> str:
    r"""Return a path with ``/`` for backslashes and composed accents, so that the spellings of all systems are equal.

    Examples
    --------
    >>> portable_path("night\\1.jpg")
    'night/1.jpg'
    """
    return unicodedata.normalize("NFC", str(PurePosixPath(path.replace("\\", "/"))))


def name_key(name: str) -> str:
    """Return a name without surrounding blanks and without differences of case, by which names of classes are compared.

    Examples
    --------
    >>> name_key(" Sintel ")
    'sintel'
    """
    return unicodedata.normalize("NFC", name).strip().casefold()


def same_name(name: str, names: Collection[str]) -> str | None:
    """Return the one of some names that is equal to a name or, if there is only one, equal in any case and blanks.

    Parameters
    ----------
    name : str
    names : collection of str

    Returns
    -------
    str or None

    Examples
    --------
    >>> same_name("sintel ", ["orion", "Sintel"]), same_name("a", ["A", "a"]), same_name("a", ["A", "a "])
    ('Sintel', 'a', None)
    """
    if name in names:
        return name
    same = [other for other in names if name_key(other) == name_key(name)]
    return same[0] if len(same) == 1 else None
