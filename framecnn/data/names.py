"""Names of files and folders that every system can hold."""

import re

__all__ = ["portable_problem"]

RESERVED = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"
}
"""Names of devices on Windows, whatever their case and their extension."""

FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f\x7f]')
LONGEST = 200  # bytes: most systems hold 255, and a frame's name adds the time


def portable_problem(name: str) -> str | None:
    """Say why a name cannot be that of a folder on Linux, macOS and Windows alike; None where it can.

    Parameters
    ----------
    name : str

    Returns
    -------
    str or None

    Examples
    --------
    >>> portable_problem("night"), portable_problem("con.old")
    (None, 'Windows keeps the name con for a device')
    """
    device = name.split(".")[0].rstrip(" ").casefold()
    if not name or name.startswith("."):
        return "it is hidden or empty"
    if found := FORBIDDEN.search(name):
        return f"no folder's name may hold {found[0]!r} on every system"
    if name[-1] in ". ":
        return "Windows drops dots and blanks at the end"
    if device in RESERVED:
        return f"Windows keeps the name {device} for a device"
    if len(name.encode(errors="surrogateescape")) > LONGEST:
        return f"it is longer than {LONGEST} bytes"
    return None
