"""The errors framecnn raises. Each message says who, what was expected, what came, and what to do."""

__all__ = ["DataError", "FormatError", "MachineError", "MissingExtraError", "SettingError", "ShapeError"]


class ShapeError(ValueError):
    """A shape, or a layer's configuration, does not fit."""


class FormatError(ValueError):
    """A file is not what its format promises."""


class DataError(ValueError):
    """A folder or movie cannot be used as it is."""


class MachineError(OSError):
    """The machine, not a file, is at fault: no memory is left, too many files are open, a disk does not answer."""


class SettingError(ValueError):
    """An environment variable of framecnn has a value that it cannot have."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed.

    Parameters
    ----------
    who : str
        The feature that needs it.
    package : str
        The package that is missing.
    extra : str
        The extra of framecnn that brings it.

    Examples
    --------
    >>> str(MissingExtraError("framecnn frames", "av", "video"))
    "framecnn frames: the package av is not installed; run: pip install 'framecnn[video]'"
    """

    def __init__(self, who: str, package: str, extra: str):
        super().__init__(f"{who}: the package {package} is not installed; run: pip install 'framecnn[{extra}]'")
