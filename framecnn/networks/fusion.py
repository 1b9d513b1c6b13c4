"""Which layers run in one pass, and how many frames at a time, in predictions and in training.

Passes belong to exact classes: a subclass may compute something else, so it runs alone.
"""

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

Rest = Sequence[Layer]
Run = Callable[[Array], Array]
Vjp = Callable[..., tuple[Array, Backward]]

PART_BYTES = 16 * 1024 * 1024  # of activations: what is written stays in the last-level cache until it is read
PART_WORK = 250_000_000  # multiply-adds for which it pays that a thread takes a part through all passes


class Snapshot:
    """The layers of a network with the parameters of one moment, and the passes that run them.

    Parameters
    ----------
    layers : tuple of Layer
        Those that :func:`snapshots` returned.
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

    run: Run
    input_shape: Shape
    output_shape: Shape
    multiply_adds: int

    @property
    def values(self) -> int:
        """The values of a frame that are in memory while the pass runs."""
        return math.prod(self.input_shape) + math.prod(self.output_shape)


@dataclass(frozen=True)
class Plan:
    """The passes of a network. Those over frames run on parts of a batch, those over rows on the whole batch.

    If a part has at least `part_work` multiply-adds for each thread, every thread takes its own parts through all
    passes over frames, so that activations stay in its cache and no thread waits for another between passes.
    Otherwise the threads share every pass. The result is the same bit for bit.
    """

    on_frames: tuple[Pass, ...]
    on_rows: tuple[Pass, ...]
    part_work: int = PART_WORK

    def run(self, x: Array, dtype: np.dtype[Any]) -> Array:
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
        """Return the bytes of activations in memory at a time for a batch of `batch_size` frames, without x itself."""
        part, at_once = self._parts(batch_size, itemsize)
        on_frames = min(part * at_once, batch_size) * max((step.values for step in self.on_frames), default=0)
        on_rows = batch_size * max((step.values for step in self.on_rows), default=0)
        return itemsize * (on_frames + on_rows)

    def _parts(self, n: int, itemsize: int) -> tuple[int, int]:
        """Return how many of n frames make a part, and how many parts are computed at a time."""
        if len(self.on_frames) < 2:
            return max(n, 1), 1
        largest = max(step.values for step in self.on_frames)
        fitting = max(1, PART_BYTES // (largest * itemsize))
        work, threads = n * sum(step.multiply_adds for step in self.on_frames), get_num_threads()
        rounds = min(work // self.part_work, n) // threads
        if threads > 1 and rounds:
            return min(-(-n // (rounds * threads)), fitting), threads
        return fitting, 1


def plan(layers: Sequence[Layer], input_shape: Shape) -> Plan:
    """Return the passes of a prediction, longest match first.

    The output is that of the layers one by one, bit for bit, except after a batch normalisation that is folded into
    the kernel before it, which rounds differently.

    ======================================================  =====================================================
    layers                                                  one pass
    ======================================================  =====================================================
    convolution, [batch normalisation],                     writes no more than a strip of the map that is pooled
    [relu or leaky_relu], [any pooling]
    dense, [batch normalisation], [relu or leaky_relu]      activates the sums while they are in registers
    filter bank, adaptive average pooling                   never writes the map of responses
    dropout, an input without a scale                       nothing: they change no prediction
    ======================================================  =====================================================

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
    rest, shape = [layer for layer in layers if not _is_identity(layer)], input_shape
    while rest:
        run, joined = PREDICTION_PASSES.get(type(rest[0]), _alone)(rest, shape)
        output, work = shape, 0
        for layer in rest[:joined]:
            work += layer.multiply_adds(output)
            output = layer.infer_shape(output)
        passes.append(Pass(run, shape, output, work))
        rest, shape = rest[joined:], output
    n_on_frames = next((number for number, step in enumerate(passes) if len(step.output_shape) < 3), len(passes))
    return Plan(tuple(passes[:n_on_frames]), tuple(passes[n_on_frames:]))


class TrainingPass(NamedTuple):
    """One or several layers that are trained at once; only the first may have parameters.

    ``number`` is that of the first layer. ``vjp`` takes x and rng as :meth:`framecnn.layers.Layer.vjp` does, and
    ``wrt_input`` too if `skips_dx`.
    """

    number: int
    vjp: Vjp
    skips_dx: bool


def training_plan(layers: Sequence[Layer], input_shape: Shape) -> tuple[TrainingPass, ...]:
    """Return the passes of a training step. Convolution, relu and a maximum over 2 x 2 pixels are one pass.

    Outputs and gradients are those of the layers one by one, bit for bit.

    Parameters
    ----------
    layers : sequence of layers
    input_shape : tuple of int
        Shape of one frame.

    Returns
    -------
    tuple of TrainingPass

    Examples
    --------
    >>> layers = [ConvLayer(4, kernel_size=3), ActivationLayer("relu"), PoolingLayer(2), DropoutLayer(0.5)]
    >>> [step.number for step in training_plan(layers, (8, 8, 3))]
    [0, 3]
    """
    passes: list[TrainingPass] = []
    rest, shape = list(layers), input_shape
    while rest:
        number, fused = len(layers) - len(rest), type(rest[0]) in TRAINING_PASSES
        vjp, joined = TRAINING_PASSES[type(rest[0])](rest, shape) if fused else (rest[0].vjp, 1)
        passes.append(TrainingPass(number, vjp, skips_dx=fused))
        for layer in rest[:joined]:
            shape = layer.infer_shape(shape)
        rest = rest[joined:]
    return tuple(passes)


def _is_identity(layer: Layer) -> bool:
    """Return whether a prediction is the same without the layer."""
    return type(layer) is DropoutLayer or (type(layer) is InputLayer and layer.scale == 1)


def _alone(rest: Rest, shape: Shape) -> tuple[Run, int]:
    """Return the forward pass of the first layer."""
    return rest[0].forward, 1


def _sums(rest: Rest, shape: Shape) -> tuple[Run, int]:
    """Return the pass of a convolution or a dense layer and the layers that follow it, and how many they are."""
    summing: Any = rest[0]
    joined, after = 1, dict[str, Any]()
    if type(norm := _at(rest, joined)) is BatchNormLayer:
        joined, after = joined + 1, {"norm": norm}
    if type(act := _at(rest, joined)) is ActivationLayer and act.function in ACTIVATIONS:
        joined, after = joined + 1, after | _activation(act)
    if type(pooling := _at(rest, joined)) is PoolingLayer:
        joined, after = joined + 1, after | _pooling(pooling, summing.infer_shape(shape))
    return partial(summing.forward_fused, **after), joined


def _responses(rest: Rest, shape: Shape) -> tuple[Run, int]:
    """Return the pass of a filter bank and the adaptive average after it, and how many layers they are."""
    bank: Any = rest[0]
    if type(cells := _at(rest, 1)) is PoolingLayer and cells.mode == "adaptive_average":
        return partial(bank.forward_average, grid=cells.pool_size), 2
    return bank.forward, 1


def _trained_convolution(rest: Rest, shape: Shape) -> tuple[Vjp, int]:
    """Return the training pass of a convolution, relu and a maximum over 2 x 2 pixels, and how many layers they are."""
    convolution: Any = rest[0]
    joined, after, output = 1, dict[str, Any](), convolution.infer_shape(shape)
    if type(act := _at(rest, joined)) is ActivationLayer and act.function == "relu":
        joined, after = joined + 1, _activation(act)
    if type(pooling := _at(rest, joined)) is PoolingLayer and _is_square_maximum(pooling, output):
        joined, after = joined + 1, after | _pooling(pooling, output)
    return partial(convolution.vjp_fused, **after), joined


PREDICTION_PASSES: dict[type[Layer], Callable[[Rest, Shape], tuple[Run, int]]] = {
    ConvLayer: _sums,
    DenseLayer: _sums,
    FilterBankLayer: _responses,
}
TRAINING_PASSES: dict[type[Layer], Callable[[Rest, Shape], tuple[Vjp, int]]] = {ConvLayer: _trained_convolution}


def _at(layers: Sequence[Layer], number: int) -> Layer | None:
    return layers[number] if number < len(layers) else None


def _is_square_maximum(layer: PoolingLayer, frame: Shape) -> bool:
    windows = layer.windows((frame[0], frame[1]))
    return layer.reduction == "max" and is_square(windows[0], frame[0]) and is_square(windows[1], frame[1])


def _activation(layer: ActivationLayer) -> dict[str, Any]:
    return {"activation": layer.function, "slope": layer.negative_slope}


def _pooling(layer: PoolingLayer, map_shape: Shape) -> dict[str, Any]:
    return {"windows": layer.windows((map_shape[0], map_shape[1])), "mode": layer.reduction}
