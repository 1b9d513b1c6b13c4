"""The inference plan: which layers run in one pass. Same bits as layer by layer, less memory."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from framecnn.kernels import ACTIVATIONS
from framecnn.layers import ActivationLayer, ConvLayer, DenseLayer, FilterBankLayer, Layer, PoolingLayer
from framecnn.typing import Array

__all__ = ["plan"]

Step = Callable[[Array], Array]


def plan(layers: Sequence[Layer]) -> list[Step]:
    """Give the passes of a built network, longest match first.

    ============================================================  ===========================================
    layers                                                        one pass
    ============================================================  ===========================================
    convolution, [relu or leaky_relu], [any pooling]              never writes the map that is pooled
    dense, relu or leaky_relu                                     the activation while the sum is in registers
    filter bank, adaptive average pooling                         never writes the map of responses
    ============================================================  ===========================================

    Parameters
    ----------
    layers : sequence of built layers

    Returns
    -------
    list of callables
        Each takes and gives a batch.

    Examples
    --------
    >>> bank = FilterBankLayer(4, kernel_size=3).build((9, 9, 3))
    >>> pooling = PoolingLayer(2, mode="adaptive_average").build(bank.output_shape)
    >>> len(plan([bank, pooling]))
    1
    """
    steps: list[Step] = []
    rest = list(layers)
    while rest:
        match rest:
            case [ConvLayer() as conv, ActivationLayer() as act, PoolingLayer() as pooling, *rest] if _joins(act):
                steps.append(partial(conv.forward_fused, **_activation(act), **_pooling(pooling)))
            case [ConvLayer() | DenseLayer() as layer, ActivationLayer() as act, *rest] if _joins(act):
                steps.append(partial(layer.forward_fused, **_activation(act)))
            case [ConvLayer() as conv, PoolingLayer() as pooling, *rest]:
                steps.append(partial(conv.forward_fused, **_pooling(pooling)))
            case [FilterBankLayer() as bank, PoolingLayer(mode="adaptive_average") as pooling, *rest]:
                steps.append(partial(bank.forward_average, grid=pooling.pool_size))
            case [layer, *rest]:
                steps.append(layer.forward)
    return steps


def _joins(activation: ActivationLayer) -> bool:
    """Say whether an activation is one that registers can take."""
    return activation.function in ACTIVATIONS


def _activation(layer: ActivationLayer) -> dict[str, Any]:
    return {"activation": layer.function, "slope": layer.negative_slope}


def _pooling(layer: PoolingLayer) -> dict[str, Any]:
    return {"windows": layer.windows(layer.input_shape[:2]), "mode": layer.reduction}
