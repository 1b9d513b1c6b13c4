"""Which layers run in one pass, in predictions and in training.

Passes apply to exact classes: a subclass may compute something else, so it runs alone.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

from framecnn import kernels
from framecnn.kernels import FUSED_ACTIVATIONS, are_pairs
from framecnn.layers import (
    ActivationLayer,
    Backward,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    ParallelLayer,
    PoolingLayer,
    ScalingLayer,
)
from framecnn.layers.chain import layer_names
from framecnn.networks.passes import Pass, Run, TrainingPass, Vjp, most_values, through, vjp_through
from framecnn.typing import Array, Shape

__all__ = ["prediction_passes", "training_passes"]

Rest = Sequence[Layer]


class Fused(NamedTuple):
    """The first `joined` layers of the rest of a chain as one pass; further fields as those of :class:`Pass`."""

    run: Run
    joined: int
    takes_residual: bool = False
    values: int = 0
    only_kernels: bool = False


class Trained(NamedTuple):
    """The first `joined` layers of the rest of a chain as one training pass; fields as those of TrainingPass."""

    vjp: Vjp
    joined: int
    only_kernels: bool


def prediction_passes(layers: Sequence[Layer], input_shape: Shape) -> tuple[Pass, ...]:
    """Return the passes of a prediction, each with as many layers as fit one pass.

    The output equals that of separate layers bit for bit, except after a batch normalisation that is folded into the
    kernel before it, as scaling is, which rounds differently.

    ======================================================  =====================================================
    layers                                                  one pass
    ======================================================  =====================================================
    convolution, [batch normalisation or scaling],          writes at most a strip of the map before pooling
    [activation], [any pooling]
    1 x 1 and depthwise convolution, each with [batch       never writes the map between them, if it is large
    normalisation or scaling], [activation]
    dense, [batch normalisation or scaling], [activation]   activates the sums while they are in registers
    batch normalisation or scaling, [activation]            reads and writes the map once
    two branches that are added, [activation]               the last convolution of a branch adds the other branch
    other branches, [activation of a sum or product]        reads each output once
    filter bank, adaptive average pooling                   never writes the map of responses
    dropout, an input without a scale                       no pass: they change no prediction
    ======================================================  =====================================================

    Activations are those of :data:`framecnn.kernels.FUSED_ACTIVATIONS`. The layers of branches are joined as those of
    a network are.

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
        fused = PREDICTION_PASSES.get(type(rest[0]), _alone)(rest, shape)
        output, work, parameters = shape, 0, 0
        for layer in rest[: fused.joined]:
            work += layer.multiply_adds(output)
            parameters += sum(math.prod(spec.shape) for spec in layer.param_specs(output).values())
            output = layer.infer_shape(output)
        values = max(fused.values, math.prod(shape) + math.prod(output))
        sizes = work, values, parameters
        passes.append(Pass(fused.run, shape, output, *sizes, fused.takes_residual, fused.only_kernels))
        rest, shape = rest[fused.joined :], output
    return tuple(passes)


def training_passes(layers: Sequence[Layer], input_shape: Shape) -> tuple[TrainingPass, ...]:
    """Return the passes of a training step.

    Convolution, relu and 2 x 2 max pooling are one pass; so are batch normalisation and relu, and the sum of branches
    and relu. Outputs and gradients equal those of separate layers bit for bit.

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
        kind = type(rest[0])
        trained = TRAINING_PASSES.get(kind, _trained_alone)(rest, shape)
        passes.append(TrainingPass(len(layers) - len(rest), trained.vjp, kind is ConvLayer, trained.only_kernels))
        for layer in rest[: trained.joined]:
            shape = layer.infer_shape(shape)
        rest = rest[trained.joined :]
    return tuple(passes)


def _is_identity(layer: Layer) -> bool:
    """Return whether predictions are the same without the layer."""
    return type(layer) is DropoutLayer or (type(layer) is InputLayer and layer.scale == 1)


def _alone(rest: Rest, shape: Shape) -> Fused:
    return Fused(rest[0].forward, 1, only_kernels=type(rest[0]) in KERNEL_LAYERS)


def _sums(rest: Rest, shape: Shape) -> Fused:
    """Return the pass of a convolution or dense layer and the layers fused to it."""
    summing: Any = rest[0]
    joined, after = 1, dict[str, Any]()
    if type(norm := _at(rest, joined)) in SCALING_LAYERS:
        joined, after = joined + 1, {"norm": norm}
    takes_residual = type(summing) is ConvLayer and summing.groups == 1
    if act := _fused_activation(rest, joined):
        joined, after, takes_residual = joined + 1, after | _activation(act), False
    only_kernels = True
    if type(pooling := _at(rest, joined)) is PoolingLayer:
        output = summing.infer_shape(shape)
        joined, after, takes_residual = joined + 1, after | _pooling(pooling, output), False
        only_kernels = kernels.fits_strip(output[:2], output[2])
    return Fused(partial(summing.forward_fused, **after), joined, takes_residual, only_kernels=only_kernels)


def _convolutions(rest: Rest, shape: Shape) -> Fused:
    """Return the pass of a convolution and the layers fused to it, or of a 1 x 1 convolution and a depthwise one."""
    expansion: Any = rest[0]
    joined, norm, act = _scaled_and_activated(rest, 1)
    depthwise: Any = _at(rest, joined)
    if type(depthwise) is not ConvLayer or not depthwise.expands(expansion, shape):
        return _sums(rest, shape)
    between = (act.function, act.negative_slope) if act else ("linear", 0.0)
    joined, second_norm, act = _scaled_and_activated(rest, joined + 1)
    after = _activation(act) if act else {}
    run = partial(depthwise.forward_expanded, expansion=expansion, norms=(norm, second_norm), between=between, **after)
    return Fused(run, joined, only_kernels=True)


def _scaled_and_activated(rest: Rest, index: int) -> tuple[int, Any, ActivationLayer | None]:
    """Return the first index behind a batch normalisation or scaling and an activation, and these, or None."""
    norm = _at(rest, index) if type(_at(rest, index)) in SCALING_LAYERS else None
    act = _fused_activation(rest, index + (norm is not None))
    return index + (norm is not None) + (act is not None), norm, act


def _scaled(rest: Rest, shape: Shape) -> Fused:
    """Return the pass of a batch normalisation or scaling and the activation after it."""
    layer: Any = rest[0]
    act = _fused_activation(rest, 1)
    after = _activation(act) if act else {}
    return Fused(lambda x: kernels.scale(x, *layer.scale_and_shift(), **after), 2 if act else 1, only_kernels=True)


def _responses(rest: Rest, shape: Shape) -> Fused:
    """Return the pass of a filter bank and the adaptive average after it."""
    bank: Any = rest[0]
    if type(cells := _at(rest, 1)) is PoolingLayer and cells.mode == "adaptive_average":
        return Fused(partial(bank.forward_average, grid=cells.pool_size), 2)
    return Fused(bank.forward, 1)


def _branches(rest: Rest, shape: Shape) -> Fused:
    """Return the pass of branches and the activation after them.

    Of two branches that are added, the last convolution of one adds the output of the other, which runs before it.
    """
    parallel: Any = rest[0]
    planned = [prediction_passes(branch, shape) for branch in parallel.branches]
    ends = [index for index, passes in enumerate(planned) if passes and passes[-1].takes_residual]
    act = _fused_activation(rest, 1) if parallel.merge != "concatenate" and len(planned) == 2 else None
    after, joined = (_activation(act), 2) if act else ({}, 1)

    def built() -> list[tuple[Pass, ...]]:
        branches = parallel.built_branches()
        passes: list[tuple[Pass, ...]] = parallel.params.derived(
            "passes", lambda: [prediction_passes(branch, shape) for branch in branches]
        )
        return passes

    def merged(x: Array) -> Array:
        outputs = [through(passes, x) for passes in built()]
        if parallel.merge == "concatenate":
            return kernels.concatenate(outputs)
        *first, last = outputs
        return kernels.merge(
            reduce(partial(kernels.merge, operation=parallel.merge), first), last, parallel.merge, **after
        )

    def added(x: Array) -> Array:
        passes = built()
        residual = through(passes[1 - ends[0]], x)
        *before, last = passes[ends[0]]
        return last.run(through(before, x), residual=residual, **after)

    only_kernels = all(step.only_kernels for passes in planned for step in passes)
    if parallel.merge == "add" and len(planned) == 2 and ends:
        values = most_values([planned[1 - ends[0]], planned[ends[0]]], shape, None)
        return Fused(added, joined, values=values, only_kernels=only_kernels)
    values = most_values(planned, shape, parallel.infer_shape(shape))
    return Fused(merged, joined, values=values, only_kernels=only_kernels)


def _trained_alone(rest: Rest, shape: Shape) -> Trained:
    return Trained(rest[0].vjp, 1, only_kernels=type(rest[0]) in (*KERNEL_LAYERS, DenseLayer))


def _trained_convolution(rest: Rest, shape: Shape) -> Trained:
    """Return the training pass of a convolution, relu and 2 x 2 max pooling."""
    convolution: Any = rest[0]
    joined, after, output = 1, dict[str, Any](), convolution.infer_shape(shape)
    if relu := _relu(rest, 1):
        joined, after = joined + 1, _activation(relu)
    if type(pooling := _at(rest, joined)) is PoolingLayer and _is_2x2_maximum(pooling, output):
        joined, after = joined + 1, after | _pooling(pooling, output)

    def vjp(x: Array, rng: Any = None, wrt_input: bool = True) -> tuple[Array, Backward]:
        result: tuple[Array, Backward] = convolution.vjp_fused(x, wrt_input, **after)
        return result

    return Trained(vjp, joined, only_kernels=convolution.groups == 1 and convolution.algorithm != "depthwise")


def _trained_norm(rest: Rest, shape: Shape) -> Trained:
    """Return the training pass of a batch normalisation and relu."""
    norm: Any = rest[0]
    relu = _relu(rest, 1)
    if not relu:
        return Trained(norm.vjp, 1, only_kernels=True)

    def vjp(x: Array, rng: Any = None) -> tuple[Array, Backward]:
        if rng is not None and len(x):
            result: tuple[Array, Backward] = norm.vjp_fused(x, "relu")
            return result
        z, backward_norm = norm.vjp(x, rng)
        y, backward_relu = relu.vjp(z)
        return y, lambda dy: backward_norm(backward_relu(dy)[0])

    return Trained(vjp, 2, only_kernels=True)


def _trained_branches(rest: Rest, shape: Shape) -> Trained:
    """Return the training pass of branches and, if they are added, relu."""
    parallel: Any = rest[0]
    has_relu = parallel.merge == "add" and _relu(rest, 1) is not None
    planned = [step for branch in parallel.branches for step in training_passes(branch, shape)]

    def vjp(x: Array, rng: Any = None) -> tuple[Array, Backward]:
        branches: list[Any] = parallel.params.derived(
            "training passes",
            lambda: [(training_passes(branch, shape), layer_names(branch)) for branch in parallel.built_branches()],
        )
        results = [vjp_through(passes, names, x, rng) for passes, names in branches]
        result: tuple[Array, Backward] = parallel.vjp_merged(results, has_relu)
        return result

    only_kernels = parallel.merge == "add" and all(step.only_kernels for step in planned)
    return Trained(vjp, 2 if has_relu else 1, only_kernels)


KERNEL_LAYERS = (ActivationLayer, FlatteningLayer, PoolingLayer)
"""Layers whose forward and backward passes only run kernels."""
SCALING_LAYERS = (BatchNormLayer, ScalingLayer)
PREDICTION_PASSES: dict[type[Layer], Callable[[Rest, Shape], Fused]] = {
    ConvLayer: _convolutions,
    DenseLayer: _sums,
    FilterBankLayer: _responses,
    BatchNormLayer: _scaled,
    ScalingLayer: _scaled,
    ParallelLayer: _branches,
}
TRAINING_PASSES: dict[type[Layer], Callable[[Rest, Shape], Trained]] = {
    BatchNormLayer: _trained_norm,
    ConvLayer: _trained_convolution,
    ParallelLayer: _trained_branches,
}


def _at(layers: Sequence[Layer], index: int) -> Layer | None:
    return layers[index] if index < len(layers) else None


def _fused_activation(layers: Sequence[Layer], index: int) -> ActivationLayer | None:
    """Return the layer at an index if it is an activation that other passes can apply."""
    layer = _at(layers, index)
    return layer if type(layer) is ActivationLayer and layer.function in FUSED_ACTIVATIONS else None


def _relu(layers: Sequence[Layer], index: int) -> ActivationLayer | None:
    """Return the layer at an index if it is relu."""
    layer = _at(layers, index)
    return layer if type(layer) is ActivationLayer and layer.function == "relu" else None


def _is_2x2_maximum(layer: PoolingLayer, frame: Shape) -> bool:
    windows = layer.windows((frame[0], frame[1]))
    return layer.reduction == "max" and are_pairs(windows[0], frame[0]) and are_pairs(windows[1], frame[1])


def _activation(layer: ActivationLayer) -> dict[str, Any]:
    return {"activation": layer.function, "negative_slope": layer.negative_slope}


def _pooling(layer: PoolingLayer, map_shape: Shape) -> dict[str, Any]:
    return {"windows": layer.windows((map_shape[0], map_shape[1])), "mode": layer.reduction}
