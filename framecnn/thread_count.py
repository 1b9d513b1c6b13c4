"""How many threads kernels and decoders use: one number for all of them."""

import os

from framecnn.errors import SettingError

__all__ = ["get_num_threads", "set_num_threads"]


def _from_environment() -> int:
    asked = os.environ.get("FRAMECNN_NUM_THREADS")
    if asked is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not asked.isdecimal() or int(asked) < 1:
        raise SettingError(f"FRAMECNN_NUM_THREADS: expected a positive whole number, got {asked!r}; unset it")
    return int(asked)


_num_threads = _from_environment()


def get_num_threads() -> int:
    """Return the number of threads that kernels and decoders use.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    return _num_threads


def set_num_threads(n: int) -> None:
    """Set the number of threads that kernels and decoders use; ``FRAMECNN_NUM_THREADS`` sets it from outside.

    Parameters
    ----------
    n : int
        One or more. Results have the same bits for any number.

    Raises
    ------
    ValueError
        If `n` is no positive whole number.
    """
    global _num_threads
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"set_num_threads: expected a positive whole number, got {n!r}")
    _num_threads = n
