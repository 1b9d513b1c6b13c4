"""The inference plan: which layers run in one pass. Same bits as layer by layer, less memory."""

from collections.abc import Callable, Sequence
from functools import partial

from framecnn.layers import FilterBankLayer, Layer, PoolingLayer
from framecnn.typing import Array

__all__ = ["plan"]

Step = Callable[[Array], Array]


def plan(layers: Sequence[Layer]) -> list[Step]:
    """Give the passes of a built network, longest match first.

    A filter bank followed by adaptive average pooling is one pass, which never writes the map of responses.

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
            case [FilterBankLayer() as bank, PoolingLayer(mode="adaptive_average") as pooling, *rest]:
                steps.append(partial(bank.forward_average, grid=pooling.pool_size))
            case [layer, *rest]:
                steps.append(layer.forward)
    return steps
