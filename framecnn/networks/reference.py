"""The convolutional reference network, with which FrameClassifier is compared."""

from collections.abc import Sequence

from framecnn.layers import ActivationLayer, ConvLayer, DenseLayer, FlatteningLayer, InputLayer, Layer, PoolingLayer
from framecnn.networks.sequential import Sequential
from framecnn.typing import Shape

__all__ = ["REFERENCE_FILTERS", "reference_network"]

REFERENCE_FILTERS = (32, 64, 128, 128)
REFERENCE_UNITS = 128


def reference_network(
    input_shape: Shape,
    n_classes: int,
    *,
    filters: Sequence[int] = REFERENCE_FILTERS,
    units: int = REFERENCE_UNITS,
    output: str | None = "softmax",
    scale: float = 1.0,
) -> Sequential:
    """Return the reference network: convolutions of 3 x 3, each with ReLU and 2 x 2 max-pooling, then two dense layers.

    Parameters
    ----------
    input_shape : (int, int, int)
        ``(h, w, c)``; every pooling halves height and width.
    n_classes : int
        Number of output values.
    filters : sequence of int, default (32, 64, 128, 128)
        Filters of each convolution.
    units : int, default 128
        Units of the first dense layer.
    output : "softmax" (default), "sigmoid", "relu" or None
        The last activation; None for losses of logits. Networks that differ only in it can load each other's
        ``state_dict``.
    scale : float, default 1.0
        The factor of pixel values: 1/255 for frames of uint8.

    Returns
    -------
    Sequential
        The network, not yet built.

    Raises
    ------
    ShapeError
        When it is built, if the frames are too small for the poolings.
    SettingError
        If a setting is not allowed.

    Examples
    --------
    >>> reference_network((240, 360, 3), 8).summary().multiply_adds
    1075385344
    """
    layers: list[Layer] = [InputLayer(input_shape, scale=scale)]
    for n_filters in filters:
        layers += [ConvLayer(n_filters, kernel_size=3, padding="same"), ActivationLayer("relu"), PoolingLayer(2)]
    layers += [FlatteningLayer(), DenseLayer(units), ActivationLayer("relu"), DenseLayer(n_classes)]
    return Sequential([*layers, ActivationLayer(output)] if output else layers)
