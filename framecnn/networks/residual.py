"""A small residual network, for training from random weights."""

from collections.abc import Iterator, Sequence

from framecnn.arguments import check_count
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    ParallelLayer,
    PoolingLayer,
)
from framecnn.networks.sequential import Sequential
from framecnn.typing import Shape

__all__ = ["residual_network"]


def residual_network(
    input_shape: Shape,
    n_classes: int,
    *,
    filters: Sequence[int] = (16, 32, 64),
    blocks: int = 1,
    scale: float = 1.0,
) -> Sequential:
    """Return a residual network: a convolution, stages of residual blocks, the mean over the frame, a dense layer.

    A block is two convolutions of 3 x 3, added to its input. The first block of every stage but the first halves
    height and width. Where the shape changes, a convolution of 1 x 1 stands in for the input. Every convolution is
    followed by batch normalisation, and every sum by ReLU.

    Parameters
    ----------
    input_shape : (int, int, int)
        ``(h, w, c)``
    n_classes : int
        Number of output values, which are logits.
    filters : sequence of int, default (16, 32, 64)
        Filters of the convolutions of each stage.
    blocks : int, default 1
        Blocks in each stage.
    scale : float, default 1.0
        The factor of pixel values: 1/255 for frames of uint8.

    Returns
    -------
    Sequential
        The network, not yet built.

    Raises
    ------
    SettingError
        If a setting is not allowed.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; the default settings are those of Banbury et
    al., "MLPerf Tiny Benchmark", 2021, where shortcuts are not normalised.

    Examples
    --------
    >>> residual_network((32, 32, 3), 10).summary().n_params
    78714
    """
    check_count("residual_network", "blocks", blocks)
    first, *_ = filters
    layers: list[Layer] = [InputLayer(input_shape, scale=scale), *_convolution(first), ActivationLayer("relu")]
    channels = first
    for stage, n_filters in enumerate(filters):
        for block in range(blocks):
            strides = 2 if stage and not block else 1
            main = (*_convolution(n_filters, strides=strides), ActivationLayer("relu"), *_convolution(n_filters))
            changes = strides > 1 or channels != n_filters
            shortcut = tuple(_convolution(n_filters, kernel_size=1, strides=strides)) if changes else ()
            layers += [ParallelLayer((main, shortcut)), ActivationLayer("relu")]
            channels = n_filters
    layers += [PoolingLayer(1, mode="adaptive_average"), FlatteningLayer(), DenseLayer(n_classes)]
    return Sequential(layers)


def _convolution(filters: int, kernel_size: int = 3, strides: int = 1) -> Iterator[Layer]:
    """Yield a convolution without a bias and its batch normalisation."""
    yield ConvLayer(filters, kernel_size=kernel_size, strides=strides, padding="same", use_bias=False)
    yield BatchNormLayer(momentum=0.9)
