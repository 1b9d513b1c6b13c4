"""The inference plan: which layers run in one pass, and how many frames at a time. Same bits as layer by layer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from framecnn.kernels import ACTIVATIONS
from framecnn.kernels.threads import ordered_map
from framecnn.layers import ActivationLayer, ConvLayer, DenseLayer, FilterBankLayer, Layer, PoolingLayer
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array, Shape

__all__ = ["Pass", "Plan", "plan"]

PART_BYTES = 16 * 1024 * 1024  # of activations: what is written stays in the last-level cache until it is read
PART_WORK = 250_000_000  # multiply-adds that are worth a thread's trip through all passes


class Pass(NamedTuple):
    """One or several layers that run at once; shapes exclude the batch."""

    run: Callable[[Array], Array]
    input_shape: Shape
    output_shape: Shape
    multiply_adds: int

    @property
    def values(self) -> int:
        """Values of a frame that are alive while the pass runs."""
        return math.prod(self.input_shape) + math.prod(self.output_shape)


@dataclass(frozen=True)
class Plan:
    """The passes of a network. Those over frames run on parts of a batch, those over rows on the whole batch.

    Where there are parts enough, every thread takes its own through all passes over frames, so that activations stay
    in its cache and no thread waits for another between passes; else the threads share every pass. The bits are the
    same.
    """

    on_frames: tuple[Pass, ...]
    on_rows: tuple[Pass, ...]

    def run(self, x: Array, dtype: np.dtype) -> Array:
        """Give the output (n, ...) of a batch (n, ...) of any real dtype, computed in `dtype`."""

        def through(frames: slice) -> Array:
            batch = np.ascontiguousarray(x[frames], dtype)
            for step in self.on_frames:
                batch = step.run(batch)
            return batch

        part, at_once = self._parts(len(x), dtype.itemsize)
        slices = [slice(start, start + part) for start in range(0, max(len(x), 1), part)]
        parts = ordered_map(through, slices) if at_once > 1 else [through(frames) for frames in slices]
        batch = parts[0] if len(parts) == 1 else np.concatenate(parts)
        for step in self.on_rows:
            batch = step.run(batch)
        return batch

    def activation_bytes(self, batch_size: int, itemsize: int) -> int:
        """Give the bytes of activations that are alive at a time, in a batch of so many frames, without x itself."""
        part, at_once = self._parts(batch_size, itemsize)
        on_frames = min(part * at_once, batch_size) * max((step.values for step in self.on_frames), default=0)
        on_rows = batch_size * max((step.values for step in self.on_rows), default=0)
        return itemsize * (on_frames + on_rows)

    def _parts(self, n: int, itemsize: int) -> tuple[int, int]:
        """Give how many of n frames make a part, and how many parts are under way at a time."""
        largest = max((step.values for step in self.on_frames), default=1)
        fitting = max(1, PART_BYTES // (largest * itemsize))
        work, threads = n * sum(step.multiply_adds for step in self.on_frames), get_num_threads()
        rounds = min(work // PART_WORK, n) // threads
        if threads > 1 and rounds:
            return min(-(-n // (rounds * threads)), fitting), threads
        return fitting, 1


def plan(layers: Sequence[Layer], input_shape: Shape) -> Plan:
    """Give the passes of a network, longest match first.

    ======================================================  =================================================
    layers                                                  one pass
    ======================================================  =================================================
    convolution, [relu or leaky_relu], [any pooling]        writes no more than a strip of the map that is pooled
    dense, relu or leaky_relu                               activates the sums while in registers
    filter bank, adaptive average pooling                   never writes the map of responses
    ======================================================  =================================================

    Parameters
    ----------
    layers : sequence of layers
    input_shape : tuple of int
        Shape of one frame.

    Returns
    -------
    Plan

    Examples
    --------
    >>> layers = [FilterBankLayer(4, kernel_size=3), PoolingLayer(2, mode="adaptive_average")]
    >>> [step.output_shape for step in plan(layers, (9, 9, 3)).on_frames]
    [(2, 2, 8)]
    """
    passes: list[Pass] = []
    rest, shape = list(layers), input_shape
    while rest:
        joined = 1
        run: Callable[[Array], Array] = rest[0].forward
        match rest:
            case [ConvLayer() as conv, ActivationLayer() as act, PoolingLayer() as pooling, *_] if _joins(act):
                map_shape = conv.infer_shape(shape)
                run, joined = partial(conv.forward_fused, **_activation(act), **_pooling(pooling, map_shape)), 3
            case [ConvLayer() | DenseLayer() as summing, ActivationLayer() as act, *_] if _joins(act):
                run, joined = partial(summing.forward_fused, **_activation(act)), 2
            case [ConvLayer() as conv, PoolingLayer() as pooling, *_]:
                run, joined = partial(conv.forward_fused, **_pooling(pooling, conv.infer_shape(shape))), 2
            case [FilterBankLayer() as bank, PoolingLayer(mode="adaptive_average") as pooling, *_]:
                run, joined = partial(bank.forward_average, grid=pooling.pool_size), 2
        output, work = shape, 0
        for layer in rest[:joined]:
            work += layer.multiply_adds(output)
            output = layer.infer_shape(output)
        passes.append(Pass(run, shape, output, work))
        rest, shape = rest[joined:], output
    whole = next((number for number, step in enumerate(passes) if len(step.output_shape) < 3), len(passes))
    return Plan(tuple(passes[:whole]), tuple(passes[whole:]))


def _joins(activation: ActivationLayer) -> bool:
    """Say whether an activation is one that registers can take."""
    return activation.function in ACTIVATIONS


def _activation(layer: ActivationLayer) -> dict[str, Any]:
    return {"activation": layer.function, "slope": layer.negative_slope}


def _pooling(layer: PoolingLayer, map_shape: Shape) -> dict[str, Any]:
    return {"windows": layer.windows((map_shape[0], map_shape[1])), "mode": layer.reduction}
