"""Parts of messages and reports."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

__all__ = ["counted", "did_you_mean", "listed", "percent", "shortened"]


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number, with thousands separated, and its noun in singular or plural.

    Examples
    --------
    >>> counted(1136, "frame"), counted(1, "group"), counted(2, "class", "classes")
    ('1,136 frames', '1 group', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def percent(share: float | None, digits: int = 1, missing: str = "-") -> str:
    """Return a share in percent; `missing` for None and NaN.

    Examples
    --------
    >>> percent(0.941), percent(0.5, digits=0), percent(None), percent(float("nan"))
    ('94.1 %', '50 %', '-', '-')
    """
    return missing if share is None or share != share else f"{100 * share:.{digits}f} %"


def shortened(message: object, length: int = 400) -> str:
    """Return a message in one line of at most `length` characters.

    Examples
    --------
    >>> shortened("expected\\n  three arrays", length=16)
    'expected thre...'
    """
    line = " ".join(str(message).split())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a message that suggests the most similar of some names; "" if none is similar.

    Examples
    --------
    >>> did_you_mean("sintle", ["orion", "Sintel"]), did_you_mean("sky", ["orion"])
    ("; did you mean 'Sintel'?", '')
    """
    by_key = {other.strip().casefold(): other for other in names}
    found = get_close_matches(name.strip().casefold(), by_key, 1)
    return f"; did you mean {by_key[found[0]]!r}?" if found else ""


def listed(names: Sequence[Any], limit: int = 20) -> str:
    """Return the first `limit` names, separated by commas, and the number of the others.

    Examples
    --------
    >>> listed(["orion", "sintel", "nosferatu"], limit=2)
    'orion, sintel and 1 more'
    """
    rest = len(names) - limit
    return ", ".join(map(str, names[:limit])) + (f" and {rest:,} more" if rest > 0 else "")
