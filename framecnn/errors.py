"""The errors of framecnn. Each message says who raises it, what was expected, what was given and what to do."""

__all__ = ["DataError", "FormatError", "MachineError", "MissingExtraError", "SettingError", "ShapeError"]


class ShapeError(ValueError):
    """An array, or the shape of a frame, does not fit the layer or function that is given it."""


class FormatError(ValueError):
    """A file does not follow its format, or a model cannot be written in a format."""


class DataError(ValueError):
    """A folder or movie cannot be used as it is."""


class MachineError(OSError):
    """The machine has failed, not a file: no memory is left, too many files are open, a disk does not answer."""


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
