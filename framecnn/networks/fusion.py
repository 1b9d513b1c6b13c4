"""Which layers run in one pass, in predictions and in training.

Passes apply to exact classes: a subclass may compute something else, so it runs alone.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from framecnn.kernels import FUSED_ACTIVATIONS, are_pairs
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
from framecnn.typing import Array, Shape

__all__ = ["Pass", "TrainingPass", "prediction_passes", "training_passes"]

Rest = Sequence[Layer]
Run = Callable[[Array], Array]
Vjp = Callable[..., tuple[Array, Backward]]


class Pass(NamedTuple):
    """One or several layers computed at once; shapes exclude the batch."""

    run: Run
    input_shape: Shape
    output_shape: Shape
    multiply_adds: int

    @property
    def values(self) -> int:
        """The number of values per frame in memory while the pass runs."""
        return math.prod(self.input_shape) + math.prod(self.output_shape)


def prediction_passes(layers: Sequence[Layer], input_shape: Shape) -> tuple[Pass, ...]:
    """Return the passes of a prediction, each with as many layers as fit one pass.

    The output equals that of separate layers bit for bit, except after a batch normalisation that is folded into the
    kernel before it, which rounds differently.

    ======================================================  =====================================================
    layers                                                  one pass
    ======================================================  =====================================================
    convolution, [batch normalisation],                     writes at most a strip of the map before pooling
    [relu or leaky_relu], [any pooling]
    dense, [batch normalisation], [relu or leaky_relu]      activates the sums while they are in registers
    filter bank, adaptive average pooling                   never writes the map of responses
    dropout, an input without a scale                       no pass: they change no prediction
    ======================================================  =====================================================

    Parameters
    ----------
    layers : sequence of layers
    input_shape : tuple of int
        Shape of one frame.

    Returns
    -------
    tuple of Pass

    Examples
    --------
    >>> layers = [FilterBankLayer(4, kernel_size=3), PoolingLayer(2, mode="adaptive_average")]
    >>> [step.output_shape for step in prediction_passes(layers, (9, 9, 3))]
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
    return tuple(passes)


class TrainingPass(NamedTuple):
    """One or several layers whose gradients are computed at once; only the first layer may have parameters.

    ``first`` is the index of the first layer. ``vjp`` takes x and rng as :meth:`framecnn.layers.Layer.vjp` does, and
    ``wrt_input`` too if `skips_dx`.
    """

    first: int
    vjp: Vjp
    skips_dx: bool


def training_passes(layers: Sequence[Layer], input_shape: Shape) -> tuple[TrainingPass, ...]:
    """Return the passes of a training step; convolution, relu and 2 x 2 max pooling are one pass.

    Outputs and gradients equal those of separate layers bit for bit.

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
    >>> [step.first for step in training_passes(layers, (8, 8, 3))]
    [0, 3]
    """
    passes: list[TrainingPass] = []
    rest, shape = list(layers), input_shape
    while rest:
        index, fused = len(layers) - len(rest), type(rest[0]) in TRAINING_PASSES
        vjp, joined = TRAINING_PASSES[type(rest[0])](rest, shape) if fused else (rest[0].vjp, 1)
        passes.append(TrainingPass(index, vjp, skips_dx=fused))
        for layer in rest[:joined]:
            shape = layer.infer_shape(shape)
        rest = rest[joined:]
    return tuple(passes)


def _is_identity(layer: Layer) -> bool:
    """Return whether predictions are the same without the layer."""
    return type(layer) is DropoutLayer or (type(layer) is InputLayer and layer.scale == 1)


def _alone(rest: Rest, shape: Shape) -> tuple[Run, int]:
    """Return the forward pass of the first layer, and 1."""
    return rest[0].forward, 1


def _sums(rest: Rest, shape: Shape) -> tuple[Run, int]:
    """Return the pass of a convolution or dense layer and the layers fused to it, and the number of these layers."""
    summing: Any = rest[0]
    joined, after = 1, dict[str, Any]()
    if type(norm := _at(rest, joined)) is BatchNormLayer:
        joined, after = joined + 1, {"norm": norm}
    if type(act := _at(rest, joined)) is ActivationLayer and act.function in FUSED_ACTIVATIONS:
        joined, after = joined + 1, after | _activation(act)
    if type(pooling := _at(rest, joined)) is PoolingLayer:
        joined, after = joined + 1, after | _pooling(pooling, summing.infer_shape(shape))
    return partial(summing.forward_fused, **after), joined


def _responses(rest: Rest, shape: Shape) -> tuple[Run, int]:
    """Return the pass of a filter bank and the adaptive average after it, and the number of these layers."""
    bank: Any = rest[0]
    if type(cells := _at(rest, 1)) is PoolingLayer and cells.mode == "adaptive_average":
        return partial(bank.forward_average, grid=cells.pool_size), 2
    return bank.forward, 1


def _trained_convolution(rest: Rest, shape: Shape) -> tuple[Vjp, int]:
    """Return the training pass of a convolution, relu and 2 x 2 max pooling, and the number of these layers."""
    convolution: Any = rest[0]
    joined, after, output = 1, dict[str, Any](), convolution.infer_shape(shape)
    if type(act := _at(rest, joined)) is ActivationLayer and act.function == "relu":
        joined, after = joined + 1, _activation(act)
    if type(pooling := _at(rest, joined)) is PoolingLayer and _is_2x2_maximum(pooling, output):
        joined, after = joined + 1, after | _pooling(pooling, output)

    def vjp(x: Array, rng: Any = None, wrt_input: bool = True) -> tuple[Array, Backward]:
        result: tuple[Array, Backward] = convolution.vjp_fused(x, wrt_input, **after)
        return result

    return vjp, joined


PREDICTION_PASSES: dict[type[Layer], Callable[[Rest, Shape], tuple[Run, int]]] = {
    ConvLayer: _sums,
    DenseLayer: _sums,
    FilterBankLayer: _responses,
}
TRAINING_PASSES: dict[type[Layer], Callable[[Rest, Shape], tuple[Vjp, int]]] = {ConvLayer: _trained_convolution}


def _at(layers: Sequence[Layer], index: int) -> Layer | None:
    return layers[index] if index < len(layers) else None


def _is_2x2_maximum(layer: PoolingLayer, frame: Shape) -> bool:
    windows = layer.windows((frame[0], frame[1]))
    return layer.reduction == "max" and are_pairs(windows[0], frame[0]) and are_pairs(windows[1], frame[1])


def _activation(layer: ActivationLayer) -> dict[str, Any]:
    return {"activation": layer.function, "negative_slope": layer.negative_slope}


def _pooling(layer: PoolingLayer, map_shape: Shape) -> dict[str, Any]:
    return {"windows": layer.windows((map_shape[0], map_shape[1])), "mode": layer.reduction}
