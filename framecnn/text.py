"""Parts of messages and reports."""

__all__ = ["counted", "shortened"]


def counted(number: int, noun: str) -> str:
    """Return a number, with thousands separated, and its noun in singular or plural.

    Examples
    --------
    >>> counted(1136, "frame"), counted(1, "group")
    ('1,136 frames', '1 group')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shortened(message: object, length: int = 400) -> str:
    """Return a message in one line of at most `length` characters.

    Examples
    --------
    >>> shortened("expected\\n  three arrays", length=16)
    'expected thre...'
    """
    line = " ".join(str(message).split())
    return line if len(line) <= length else f"{line[: length - 3]}..."
