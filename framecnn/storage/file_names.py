"""Comparison of file names that some systems treat as equal."""

import unicodedata

__all__ = ["same_name_key"]


def same_name_key(name: str) -> str:
    """Return a key that is equal for names which macOS or Windows treat as equal: case and composition are ignored.

    Examples
    --------
    >>> same_name_key("Night") == same_name_key("NIGHT")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
