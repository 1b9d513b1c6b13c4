"""Executors that run tasks as a cluster might: in another order, or several times."""

import hashlib
from collections.abc import Iterator

import numpy as np
from textures import textures

from framecnn import save
from framecnn.execution import Executor, in_tree


class Elsewhere(Executor):
    """Runs the tasks of a cluster in this process, the last one first, each of them `times` times."""

    is_remote, n_tasks = True, 3

    def __init__(self, times=1):
        self.times, self.folders, self.n_done = times, [], 0

    def portions(self, items, size=1):
        return [items[start : start + size] for start in range(0, len(items), size)]

    def map(self, function, shared, tasks):
        todo = [[list(value) if isinstance(value, Iterator) else value for value in task] for task in tasks]
        found = [self._done(function, shared, task) for task in reversed(todo)]
        return iter(found[::-1])

    def total(self, function, shared, tasks, merge):
        return in_tree(self.map(function, shared, tasks), lambda total, part: merge(total, part, False))

    def check_folder(self, folder):
        self.folders.append(folder)

    def _done(self, function, shared, task):
        for _ in range(self.times):
            found = function(shared, *task)
            found = list(found) if isinstance(found, Iterator) else found
            self.n_done += 1
        return found


def three_shards(n_groups=210):
    """Return textures of 8 x 12 pixels, 1,260 or another number of them, their labels, and groups of 42 frames."""
    frames, labels, groups = textures(n_groups, shape=(8, 12, 3))
    numbers = [int(group.split()[1]) % (n_groups // 21) for group in groups]
    return frames, labels, np.char.add(labels, np.array(numbers, str))


def sha256_of_model(classifier, folder):
    """Return the SHA-256 of the file of a model."""
    save(classifier, folder / "model.safetensors")
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
