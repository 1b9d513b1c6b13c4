"""The number of threads that kernels and decoders use, one setting for the whole process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from framecnn.arguments import check_count
from framecnn.errors import SettingError

__all__ = ["get_num_threads", "num_threads", "set_num_threads"]


def _from_environment() -> int | None:
    asked = os.environ.get("FRAMECNN_NUM_THREADS")
    if asked is not None and (not asked.isdecimal() or int(asked) < 1):
        raise SettingError(f"FRAMECNN_NUM_THREADS: expected a positive integer, got {asked!r}; unset it")
    return None if asked is None else int(asked)


_num_threads = _from_environment()


def get_num_threads() -> int:
    """Return the number of threads that kernels and decoders use.

    It is the number of the last :func:`set_num_threads`, else of the environment variable ``FRAMECNN_NUM_THREADS``,
    else the number of CPUs that this process may use, container quotas included.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    global _num_threads
    if _num_threads is None:
        import joblib  # imported late, since it takes ten times as long to import as framecnn

        _num_threads = int(joblib.cpu_count())
    return _num_threads


def set_num_threads(n: int) -> None:
    """Set the number of threads that kernels and decoders use; ``FRAMECNN_NUM_THREADS`` sets the default.

    Parameters
    ----------
    n : int
        One or more. Results have the same bits for any number.

    Raises
    ------
    SettingError
        If `n` is not a positive integer.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(2)
    >>> get_num_threads()
    2
    >>> set_num_threads(before)
    """
    global _num_threads
    _num_threads = check_count("set_num_threads", "n", n)


@contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of threads inside a ``with`` block and restore the earlier number at its end.

    The number belongs to the whole process: it also changes for other Python threads while the block runs.

    Parameters
    ----------
    n : int
        One or more. Results have the same bits for any number.

    Raises
    ------
    SettingError
        If `n` is not a positive integer.

    Examples
    --------
    >>> with num_threads(1):
    ...     get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)
