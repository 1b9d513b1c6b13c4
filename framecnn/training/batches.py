"""The batches of training, whose order and augmentation depend only on the seed and the number of the epoch."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from framecnn.data.augment import Augmentation
from framecnn.data.loader import map_ahead
from framecnn.typing import Array

__all__ = ["Batch", "epoch_batches", "ordered_batches"]

Batch = tuple[Array, Array]
"""Frames and their targets."""


def epoch_batches(
    x: Any, y: Array, batch_size: int, seed: int, epoch: int, augment: Augmentation | None
) -> tuple[np.random.Generator, Generator[Batch]]:
    """Return the random generator of an epoch, and the epoch's batches: every frame once, in random order.

    Parameters
    ----------
    x : (n, h, w, c) array, or frames that are decoded when indexed
    y : (n, ...) array
    batch_size : int
        The last batch may be smaller.
    seed, epoch : int
    augment : Augmentation or None
        Changes the frames of a batch.

    Returns
    -------
    rng : numpy.random.Generator
        The generator, after it drew the order; draw what else the epoch needs, such as dropout, from it.
    batches : generator of (frames, targets)
        The next batch is read while the current one is used. Close the generator if you do not exhaust it.

    Examples
    --------
    >>> _, batches = epoch_batches(np.arange(5), np.arange(5), 2, seed=0, epoch=1, augment=None)
    >>> [targets.tolist() for _, targets in batches]
    [[4, 3], [2, 0], [1]]
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    order = rng.permutation(len(y))
    if augment is None:
        return rng, ordered_batches(x, y, batch_size, order)
    return rng, ordered_batches(
        x, y, batch_size, order, lambda frames, rows: augment(frames, rows, seed=seed, epoch=epoch)
    )


def ordered_batches(
    x: Any, y: Array, batch_size: int, order: Array, change: Callable[[Array, Array], Array] | None = None
) -> Generator[Batch]:
    """Yield batches of frames, changed by ``change(frames, rows)`` if given, and targets of the rows in `order`."""

    def read(rows: Array) -> Batch:
        frames = x[rows]
        return (change(frames, rows) if change else frames), y[rows]

    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return map_ahead(read, parts, 1, 1)
