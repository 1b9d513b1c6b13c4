"""Well-known networks for frames of 224x224x3, with drawn weights: ResNet-18, MobileNetV2 and EfficientNet-Lite0.

He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Sandler et al., "MobileNetV2: Inverted Residuals
and Linear Bottlenecks", CVPR 2018; Tan & Le, "EfficientNet", ICML 2019, in its Lite form without squeeze-and-excitation
and with relu6.
"""

import numpy as np

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    Layer,
    ParallelLayer,
    PoolingLayer,
)

__all__ = ["drawn", "efficientnet_lite0", "mobilenet_v2", "resnet18"]

CLASSES = 1000
FIRST, LAST = ((1, 3, 1, 16, 1), (6, 3, 2, 24, 2)), (6, 3, 1, 320, 1)
MOBILENET_V2 = (*FIRST, (6, 3, 2, 32, 3), (6, 3, 2, 64, 4), (6, 3, 1, 96, 3), (6, 3, 2, 160, 3), LAST)
EFFICIENTNET = (*FIRST, (6, 5, 2, 40, 2), (6, 3, 2, 80, 3), (6, 5, 1, 112, 3), (6, 5, 2, 192, 4), LAST)
"""Expansion of the channels, kernel size, strides of the first block, filters, number of blocks."""


def convolution(
    filters: int, size: int, strides: int = 1, groups: int = 1, activation: str | None = None
) -> list[Layer]:
    """Return a convolution with a border of half its kernel, batch normalisation and an activation."""
    border = (size // 2, size // 2)
    conv = ConvLayer(
        filters, kernel_size=size, strides=strides, padding=(border, border), groups=groups, use_bias=False
    )
    return [conv, BatchNormLayer(), *([ActivationLayer(activation)] if activation else [])]


def head() -> list[Layer]:
    """Return the mean over the frame and the logits."""
    return [PoolingLayer(1, mode="adaptive_average"), FlatteningLayer(), DenseLayer(CLASSES)]


def resnet18() -> list[Layer]:
    """Return the layers of ResNet-18."""
    border = ((1, 1), (1, 1))
    layers, channels = [*convolution(64, 7, 2, activation="relu"), PoolingLayer(3, strides=2, padding=border)], 64
    for filters, first in ((64, 1), (128, 2), (256, 2), (512, 2)):
        for strides in (first, 1):
            main = [*convolution(filters, 3, strides, activation="relu"), *convolution(filters, 3)]
            shortcut = [] if channels == filters else convolution(filters, 1, strides)
            layers += [ParallelLayer([main, shortcut]), ActivationLayer("relu")]
            channels = filters
    return [*layers, *head()]


def inverted_residuals(blocks: tuple[tuple[int, ...], ...]) -> list[Layer]:
    """Return a network of inverted residual blocks: expansion, depthwise convolution, projection."""
    layers, channels = convolution(32, 3, 2, activation="relu6"), 32
    for expansion, size, first, filters, count in blocks:
        for strides in (first, *(1,) * (count - 1)):
            wide = channels * expansion
            block = convolution(wide, 1, activation="relu6") if expansion > 1 else []
            block += convolution(wide, size, strides, groups=wide, activation="relu6") + convolution(filters, 1)
            layers += [ParallelLayer([block, []])] if strides == 1 and channels == filters else block
            channels = filters
    return [*layers, *convolution(1280, 1, activation="relu6"), *head()]


def mobilenet_v2() -> list[Layer]:
    """Return the layers of MobileNetV2."""
    return inverted_residuals(MOBILENET_V2)


def efficientnet_lite0() -> list[Layer]:
    """Return the layers of EfficientNet-Lite0."""
    return inverted_residuals(EFFICIENTNET)


def drawn(name: str, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a drawn value of a parameter; kernels and scales keep the size of values from layer to layer."""
    match name.rsplit("/", 1)[-1]:
        case "kernel":
            return rng.normal(0, np.sqrt(2 / np.prod(value.shape[:-1])), value.shape)
        case "gamma" | "moving_variance":
            return rng.uniform(0.5, 1.5, value.shape)
        case _:
            return rng.normal(0, 0.1, value.shape)
