"""Frames whose rows are told to a file when they are read, by whatever process; and a task that says who runs it."""

import hashlib
import os
import time

import numpy as np

from framecnn import get_num_threads


class LoggedFrames:
    """A lazily loaded array that notes each row that is read in a file, which takes a worker some seconds."""

    def __init__(self, array, log, seconds=0.0):
        self._array, self._log, self._seconds = array, log, seconds
        self.shape, self.dtype = array.shape, array.dtype
        self._rows, self._is_part = np.arange(len(array)), False

    def __len__(self):
        return len(self._array)

    def __getitem__(self, rows):
        with open(self._log, "a") as file:
            file.write("".join(f"{os.getpid()} {row}\n" for row in self._rows[rows]))
        if self._is_part:
            time.sleep(self._seconds)
        return self._array[rows]

    def digest(self, rows):
        """Return a SHA-256 of some frames, which are not read for it."""
        return hashlib.sha256(np.ascontiguousarray(self._array[rows])).hexdigest()

    def part(self, rows):
        """Return some of the frames, as a worker gets them."""
        part = LoggedFrames(self._array[rows], self._log, self._seconds)
        part._rows, part._is_part = self._rows[rows], True
        return part


def describe(_, number):
    """Return the number of a task, its process and its threads."""
    return number, os.getpid(), get_num_threads()


def forever(_, log):
    """Tell a file that the task runs, until nobody needs it."""
    from framecnn.execution import check_cancelled

    while True:
        check_cancelled()
        with open(log, "a") as file:
            file.write("running\n")
        time.sleep(0.05)
