"""A simulated disk on which the k-th operation fails: an open for writing, write, flush, link, rename or removal."""

import builtins
import io
import os
from contextlib import contextmanager

import pytest

CALLS = ("fsync", "replace", "rename", "link", "unlink", "mkdir")


class _Written:
    """A file that counts its writes."""

    def __init__(self, file, count):
        self._file, self._count = file, count

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __iter__(self):
        return iter(self._file)

    def write(self, data):
        self._count(self._file.name)
        return self._file.write(data)


@contextmanager
def failing(k, last=None):
    """Make the `k`-th operation that changes the disk fail for lack of space, and those after it up to `last`.

    Yields a list with the number of operations.
    """
    n, last = [0], k if last is None else last

    def count(path, *_):
        n[0] += 1
        if k <= n[0] <= last:
            if isinstance(path, int):
                raise OSError(28, "No space left on device")
            raise OSError(28, "No space left on device", str(path))

    def counted(call):
        def counting(*arguments, **options):
            count(*arguments[:1])
            return call(*arguments, **options)

        return counting

    def opening(file, mode="r", *arguments, **options):
        if set(mode) & set("wxa+") and not isinstance(file, int):
            count(file)
            return _Written(real(file, mode, *arguments, **options), count)
        return real(file, mode, *arguments, **options)

    real = builtins.open
    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, counted(getattr(os, name)))
        patch.setattr(builtins, "open", opening)
        patch.setattr(io, "open", opening)
        yield n


def every_failure(work, reset, check, step=1):
    """Run `work` and `check(error)` for every `step`-th operation, which fails; return the number of operations."""
    for k in range(1, 10_000, step):
        reset()
        try:
            with failing(k) as n:
                work()
        except OSError as error:
            check(error)
        else:
            check(None)
            if n[0] < k:
                return n[0]
    raise AssertionError("the work never ends")
