"""Predictions: parts of a batch, memory and threads for the passes of a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import groupby
from typing import Any, Self

import numpy as np

from framecnn.kernels.buffers import reused_memory
from framecnn.kernels.program import Programs
from framecnn.kernels.threads import ordered_map
from framecnn.layers import Layer
from framecnn.networks.fusion import prediction_passes
from framecnn.networks.passes import Pass, through
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array, Shape

__all__ = ["PART_BYTES", "PredictionPlan"]

PART_BYTES = 16 * 1024 * 1024  # of activations that fit the last-level cache
PART_WORK = 250_000_000  # multiply-adds above which one thread runs a part through all passes
Segment = Callable[[Array], Array]


@dataclass(frozen=True)
class PredictionPlan:
    """The passes of a prediction.

    Passes that output maps run on parts of a batch; later passes, on rows of features, run on all of it at once. If
    there are at least `part_work` multiply-adds per thread, every thread runs whole parts through all passes that
    output maps, so that activations stay in its cache and threads do not wait for each other between passes. Otherwise
    the threads share every pass. The result is the same bit for bit.

    Examples
    --------
    >>> from framecnn import ConvLayer, PoolingLayer
    >>> plan = PredictionPlan.of([ConvLayer(4, kernel_size=3), PoolingLayer(2)], (8, 8, 3))
    >>> len(plan.on_frames), len(plan.on_rows), plan.activation_bytes(batch_size=1, itemsize=4)
    (1, 0, 912)
    """

    on_frames: tuple[Pass, ...]
    on_rows: tuple[Pass, ...]
    part_work: int = PART_WORK

    @classmethod
    def of(cls, layers: Sequence[Layer], input_shape: Shape) -> Self:
        """Return the plan for layers and the shape of one frame."""
        passes = prediction_passes(layers, input_shape)
        n_on_frames = next((index for index, step in enumerate(passes) if len(step.output_shape) < 3), len(passes))
        return cls(passes[:n_on_frames], passes[n_on_frames:])

    def run(self, x: Array, dtype: np.dtype[Any]) -> Array:
        """Return the output (n, ...) of a batch (n, ...) of any real dtype, computed in `dtype`."""
        part, at_once = self._parts(len(x), dtype.itemsize)
        if len(x) <= part:
            return _through(self._all_segments, np.ascontiguousarray(x, dtype))

        def on_frames(start: int) -> Array:
            return _through(self._segments, np.ascontiguousarray(x[start : start + part], dtype))

        starts = range(0, len(x), part)
        parts = ordered_map(on_frames, starts) if at_once > 1 else [on_frames(start) for start in starts]
        return through(self.on_rows, np.concatenate(parts))

    @cached_property
    def _segments(self) -> tuple[Segment, ...]:
        return _segments_of(self.on_frames)

    @cached_property
    def _all_segments(self) -> tuple[Segment, ...]:
        return _segments_of((*self.on_frames, *self.on_rows))

    def activation_bytes(self, batch_size: int, itemsize: int) -> int:
        """Return the peak bytes of activations for a batch of `batch_size` frames, without x itself."""
        part, at_once = self._parts(batch_size, itemsize)
        on_frames = min(part * at_once, batch_size) * max((step.values for step in self.on_frames), default=0)
        on_rows = batch_size * max((step.values for step in self.on_rows), default=0)
        return itemsize * (on_frames + on_rows)

    def _parts(self, n: int, itemsize: int) -> tuple[int, int]:
        """Return the frames per part of a batch of n frames, and the number of parts computed at a time."""
        if len(self.on_frames) < 2:
            return max(n, 1), 1
        largest = max(step.values for step in self.on_frames)
        fitting = max(1, PART_BYTES // (largest * itemsize))
        work, threads = n * sum(step.multiply_adds for step in self.on_frames), get_num_threads()
        rounds = min(work // self.part_work, n) // threads
        if threads > 1 and rounds:
            # parameters are read for every part: as many frames as it takes until their maps outweigh them
            wanted = sum(step.parameters for step in self.on_frames) // sum(step.values for step in self.on_frames)
            rounds = min(rounds, max(n // (threads * max(wanted, 1)), 1))
            return min(-(-n // (rounds * threads)), fitting), threads
        return fitting, 1


def _segments_of(passes: Sequence[Pass]) -> tuple[Segment, ...]:
    """Return passes, those that follow each other and only run kernels as one computation."""
    segments: list[Segment] = []
    for only_kernels, group in groupby(passes, lambda step: step.only_kernels):
        steps = tuple(group)
        recorded = only_kernels and len(steps) > 1
        segments += [Programs(partial(through, steps))] if recorded else [step.run for step in steps]
    return tuple(segments)


def _through(segments: Sequence[Segment], batch: Array) -> Array:
    """Return the output of segments, one after the other; that of the last leaves the plan."""
    with reused_memory():
        for segment in segments[:-1]:
            batch = segment(batch)
    for segment in segments[-1:]:
        batch = segment(batch)
    return batch
