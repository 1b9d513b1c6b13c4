"""Which names of files are one name on some systems."""

import unicodedata

__all__ = ["same_name_key"]


def same_name_key(name: str) -> str:
    """Return a key that is equal for names which macOS or Windows take for one: case and composition do not count.

    Examples
    --------
    >>> same_name_key("Night") == same_name_key("NIGHT")
    True
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
