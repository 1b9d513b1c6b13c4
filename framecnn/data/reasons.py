"""The files that are not used, and the reasons."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["REASONS", "Reason", "Skip"]

Reason = Literal[
    "changed",
    "decoder-error",
    "empty",
    "hidden",
    "missing-decoder",
    "no-label",
    "not-a-file",
    "not-a-picture",
    "not-an-image",
    "not-in-class",
    "not-in-csv",
    "outside-root",
    "system",
    "too-large",
    "too-small",
    "truncated",
    "unknown-class",
    "unreadable",
    "unsupported-depth",
    "vanished",
]
"""The code of a reason, as in manifests, JSON and exceptions."""

REASONS: Mapping[Reason, str] = {
    "changed": "changed while framecnn was running",
    "decoder-error": "could not be decoded",
    "empty": "the file is empty",
    "hidden": "a hidden file or folder",
    "missing-decoder": "a package that decodes it is not installed",
    "no-label": "neither a table nor its name gives its label",
    "not-a-file": "not a regular file",
    "not-a-picture": "not a picture, by its extension",
    "not-an-image": "not an image",
    "not-in-class": "beside the class folders",
    "not-in-csv": "not in the table of labels or groups",
    "outside-root": "a link that leads out of the folder",
    "system": "a system file of a NAS or an operating system",
    "too-large": "too many pixels or bytes",
    "too-small": "too few pixels",
    "truncated": "the file is cut off",
    "unknown-class": "of a class without training frames",
    "unreadable": "the system could not read it",
    "unsupported-depth": "an unsupported kind of pixel",
    "vanished": "vanished while framecnn was running",
}
"""The description of each reason."""


@dataclass(frozen=True)
class Skip:
    """A file that is not used, and the reason.

    Parameters
    ----------
    path : str
        Its path relative to the folder of frames, with ``/``. A hidden folder, or a link to a folder, counts as one
        file.
    reason : str
        The code of the reason; `REASONS` describes each.
    detail : str
        A description in one line.
    """

    path: str
    reason: Reason
    detail: str
