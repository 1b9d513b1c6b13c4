"""Which layers run in one pass, and how many frames at a time: for predictions and for training."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from framecnn.kernels import ACTIVATIONS, is_square
from framecnn.kernels.threads import ordered_map
from framecnn.layers import (
    ActivationLayer,
    Backward,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FilterBankLayer,
    InputLayer,
    Layer,
    PoolingLayer,
)
from framecnn.layers.params import SWAPPING
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array, Shape

__all__ = ["Pass", "Plan", "Snapshot", "TrainingPass", "plan", "snapshots", "training_plan"]

PART_BYTES = 16 * 1024 * 1024  # of activations: what is written stays in the last-level cache until it is read
PART_WORK = 250_000_000  # multiply-adds that are worth a thread's trip through all passes


class Snapshot:
    """The layers of a network with the parameters of one moment, and what runs them.

    Parameters
    ----------
    layers : tuple of Layer
        What :func:`snapshots` gave.
    """

    def __init__(self, layers: tuple[Layer, ...]):
        self.layers = layers

    @cached_property
    def plan(self) -> "Plan":
        """The passes of a prediction."""
        return plan(self.layers, self.layers[0].input_shape)

    @cached_property
    def training_plan(self) -> "tuple[TrainingPass, ...]":
        """The passes of a training step."""
        return training_plan(self.layers, self.layers[0].input_shape)


def snapshots(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Return snapshots of all layers at one moment; the same ones until a parameter is set."""
    with SWAPPING:
        return tuple(layer.snapshot() for layer in layers)


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
        """Return the output (n, ...) of a batch (n, ...) of any real dtype, computed in `dtype`."""

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
        """Return the bytes of activations that are alive at a time, in a batch of so many frames, without x itself."""
        part, at_once = self._parts(batch_size, itemsize)
        on_frames = min(part * at_once, batch_size) * max((step.values for step in self.on_frames), default=0)
        on_rows = batch_size * max((step.values for step in self.on_rows), default=0)
        return itemsize * (on_frames + on_rows)

    def _parts(self, n: int, itemsize: int) -> tuple[int, int]:
        """Return how many of n frames make a part, and how many parts are under way at a time."""
        if len(self.on_frames) < 2:
            return max(n, 1), 1
        largest = max(step.values for step in self.on_frames)
        fitting = max(1, PART_BYTES // (largest * itemsize))
        work, threads = n * sum(step.multiply_adds for step in self.on_frames), get_num_threads()
        rounds = min(work // PART_WORK, n) // threads
        if threads > 1 and rounds:
            return min(-(-n // (rounds * threads)), fitting), threads
        return fitting, 1


def plan(layers: Sequence[Layer], input_shape: Shape) -> Plan:
    """Return the passes of a prediction, longest match first. Same bits as layer by layer, save where a batch
    normalisation is folded into the kernel before it, which rounds otherwise.

    ======================================================  =================================================
    layers                                                  one pass
    ======================================================  =================================================
    convolution, [batch normalisation],                     writes no more than a strip of the map that is pooled
    [relu or leaky_relu], [any pooling]
    dense, [batch normalisation], [relu or leaky_relu]      activates the sums while in registers
    filter bank, adaptive average pooling                   never writes the map of responses
    dropout, an input without a scale                       gone
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
    rest, shape = [layer for layer in layers if not _does_nothing(layer)], input_shape
    while rest:
        run, joined = _longest_pass(rest, shape)
        output, work = shape, 0
        for layer in rest[:joined]:
            work += layer.multiply_adds(output)
            output = layer.infer_shape(output)
        passes.append(Pass(run, shape, output, work))
        rest, shape = rest[joined:], output
    whole = next((number for number, step in enumerate(passes) if len(step.output_shape) < 3), len(passes))
    return Plan(tuple(passes[:whole]), tuple(passes[whole:]))


def _longest_pass(rest: list[Layer], shape: Shape) -> tuple[Callable[[Array], Array], int]:
    """Return what runs the first layers at once, and how many they are."""
    match rest:
        case [FilterBankLayer() as bank, PoolingLayer(mode="adaptive_average") as cells, *_]:
            return partial(bank.forward_average, grid=cells.pool_size), 2
        case [ConvLayer() | DenseLayer() as summing, *_]:
            joined, after = 1, dict[str, Any]()
            if isinstance(norm := _at(rest, joined), BatchNormLayer):
                joined, after = joined + 1, {"norm": norm}
            if isinstance(act := _at(rest, joined), ActivationLayer) and act.function in ACTIVATIONS:
                joined, after = joined + 1, after | _activation(act)
            if isinstance(pooling := _at(rest, joined), PoolingLayer):
                joined, after = joined + 1, after | _pooling(pooling, summing.infer_shape(shape))
            return partial(summing.forward_fused, **after), joined
    return rest[0].forward, 1


class TrainingPass(NamedTuple):
    """One or several layers, the first of which may have parameters, that are trained at once."""

    number: int
    vjp: Callable[..., tuple[Array, Backward]]


def training_plan(layers: Sequence[Layer], input_shape: Shape) -> tuple[TrainingPass, ...]:
    """Return the passes of a training step: convolution, relu and a maximum over 2 x 2 pixels are one. Same bits as
    layer by layer.

    Parameters
    ----------
    layers : sequence of layers
    input_shape : tuple of int
        Shape of one frame.

    Returns
    -------
    tuple of TrainingPass
        ``number`` is that of the first layer, ``vjp`` takes x and rng as a layer's does.

    Examples
    --------
    >>> layers = [ConvLayer(4, kernel_size=3), ActivationLayer("relu"), PoolingLayer(2), DropoutLayer(0.5)]
    >>> [step.number for step in training_plan(layers, (8, 8, 3))]
    [0, 3]
    """
    passes: list[TrainingPass] = []
    number, shape = 0, input_shape
    while number < len(layers):
        first, joined, after = layers[number], 1, dict[str, Any]()
        output = first.infer_shape(shape)
        if isinstance(first, ConvLayer):
            if isinstance(act := _at(layers, number + joined), ActivationLayer) and act.function == "relu":
                joined, after = joined + 1, _activation(act)
            if isinstance(pooling := _at(layers, number + joined), PoolingLayer) and _is_square_maximum(
                pooling, output
            ):
                joined, after = joined + 1, after | _pooling(pooling, output)
        passes.append(
            TrainingPass(number, partial(first.vjp_fused, **after) if isinstance(first, ConvLayer) else first.vjp)
        )
        for layer in layers[number : number + joined]:
            shape = layer.infer_shape(shape)
        number += joined
    return tuple(passes)


def _does_nothing(layer: Layer) -> bool:
    """Return whether a prediction is the same without it."""
    return isinstance(layer, DropoutLayer) or (isinstance(layer, InputLayer) and layer.scale == 1)


def _at(layers: Sequence[Layer], number: int) -> Layer | None:
    return layers[number] if number < len(layers) else None


def _is_square_maximum(layer: PoolingLayer, frame: Shape) -> bool:
    windows = layer.windows((frame[0], frame[1]))
    return layer.reduction == "max" and is_square(windows[0], frame[0]) and is_square(windows[1], frame[1])


def _activation(layer: ActivationLayer) -> dict[str, Any]:
    return {"activation": layer.function, "slope": layer.negative_slope}


def _pooling(layer: PoolingLayer, map_shape: Shape) -> dict[str, Any]:
    return {"windows": layer.windows((map_shape[0], map_shape[1])), "mode": layer.reduction}
