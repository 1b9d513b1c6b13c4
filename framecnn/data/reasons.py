"""The reasons for which a file is not used."""

from collections.abc import Mapping
from typing import Literal

__all__ = ["REASONS", "Reason"]

Reason = Literal[
    "changed",
    "decoder-error",
    "empty",
    "hidden",
    "not-a-file",
    "not-an-image",
    "not-in-class",
    "not-in-csv",
    "outside-root",
    "system",
    "too-large",
    "too-small",
    "truncated",
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
    "not-a-file": "not a regular file",
    "not-an-image": "not an image",
    "not-in-class": "beside the class folders",
    "not-in-csv": "not in the table of groups",
    "outside-root": "a link that leads out of the folder",
    "system": "kept by a NAS or an operating system for itself",
    "too-large": "too many pixels",
    "too-small": "too few pixels",
    "truncated": "the file is cut off",
    "unreadable": "no permission to read it",
    "unsupported-depth": "an unsupported kind of pixel",
    "vanished": "vanished while framecnn was running",
}
"""The description of each reason."""
