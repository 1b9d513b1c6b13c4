"""The errors of framecnn.

Each message names the function or class, what was expected, what was given and, if not obvious, what to do.
"""

import errno

__all__ = ["DataError", "FormatError", "MachineError", "MissingExtraError", "SettingError", "ShapeError", "remedy"]

_CONNECTION = "check the connection to the disk"
_PERMISSION = "change the permissions so that you may read and write there, or choose another folder"
_SPACE = "free space there, or write to another disk"
_REMEDIES = {
    "ENOMEM": "free memory, raise its limit (ulimit -v), or use fewer threads (FRAMECNN_NUM_THREADS=1)",
    "EMFILE": "raise the limit of open files (ulimit -n)",
    "ENFILE": "close other programs: the system cannot open more files",
    "ETIMEDOUT": _CONNECTION,
    "ENOTCONN": _CONNECTION,
    "EHOSTDOWN": _CONNECTION,
    "ENOSPC": _SPACE,
    "EDQUOT": _SPACE,
    "EFBIG": "raise the limit of file sizes (ulimit -f), or write to a file system without one",
    "EACCES": _PERMISSION,
    "EPERM": _PERMISSION,
    "EROFS": _PERMISSION,
}


class ShapeError(ValueError):
    """An array, or the shape of a frame, does not fit the layer or function that receives it."""


class FormatError(ValueError):
    """A file does not follow its format, or a model cannot be written in a format."""


class DataError(ValueError):
    """A folder or movie cannot be used as it is."""


class MachineError(OSError):
    """The machine has failed, not a file: no memory is left, too many files are open, or a disk does not respond."""


class SettingError(ValueError):
    """An argument, or an environment variable of framecnn, has a value that is not allowed."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed.

    Parameters
    ----------
    who : str
        The feature that needs it.
    package : str
        The missing package.
    extra : str
        The extra of framecnn that installs it.

    Examples
    --------
    >>> str(MissingExtraError("framecnn frames", "av", "video"))
    "framecnn frames: the package av is not installed; run: pip install 'framecnn[video]'"
    """

    def __init__(self, who: str, package: str, extra: str):
        super().__init__(f"{who}: the package {package} is not installed; run: pip install 'framecnn[{extra}]'")


def remedy(error: OSError) -> str | None:
    """Return what a user can do about a system error, or None if that is unknown.

    Examples
    --------
    >>> remedy(OSError(errno.ENOSPC, "No space left on device"))
    'free space there, or write to another disk'
    """
    name = errno.errorcode.get(error.errno or 0, "")
    return _REMEDIES.get(name)
