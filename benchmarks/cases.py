"""The networks and sizes that are measured and tested, in one table."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.known_networks import drawn, efficientnet_lite0, mobilenet_v2, resnet18
from framecnn import (
    ActivationLayer,
    ConvLayer,
    FilterBankLayer,
    InputLayer,
    Layer,
    PoolingLayer,
    Sequential,
)
from framecnn.networks.reference import reference_network

__all__ = ["BLOCKS", "FILTER_BANK", "KNOWN_NETWORKS", "NETWORKS", "Case", "KnownNetwork", "reference_layers"]


@dataclass(frozen=True)
class Case:
    """A network and the batch that it is fed.

    Parameters
    ----------
    name : str
    n : int
        Frames in the batch.
    frame : (int, int, int)
        Height, width, channels.
    layers : callable
        Returns the layers behind the InputLayer, new ones in each call.
    largest : float, default 1.0
        Values of the frames are drawn from 0 to this.
    """

    name: str
    n: int
    frame: tuple[int, int, int]
    layers: Callable[[], list[Layer]]
    largest: float = 1.0

    def model(self, seed=0, scale=1.0):
        """Return the built network; biases are drawn too, so that a lost bias is noticed."""
        model = self.network(scale).build(seed)
        rng = np.random.default_rng(seed)
        drawn = {
            name: rng.normal(0, 0.1, value.shape) if name.endswith("/bias") else value
            for name, value in model.state_dict().items()
        }
        return model.load_state_dict(drawn)

    def network(self, scale=1.0):
        """Return the layers without parameters; the frames are multiplied by `scale`."""
        return Sequential([InputLayer(self.frame, scale=scale), *self.layers()])

    def batch(self, seed=0):
        """Return drawn frames: float32 of shape (n, height, width, channels)."""
        return np.random.default_rng(seed).random((self.n, *self.frame), np.float32) * np.float32(self.largest)

    @property
    def flops(self):
        """Operations of one batch: two for each multiply-add of the direct algorithms."""
        return 2 * self.n * self.network().summary().multiply_adds


class KnownNetwork(Case):
    """A network with batch normalisation, of which every parameter is drawn."""

    def model(self, seed=0, scale=1.0):
        """Return the built network; its outputs differ from frame to frame."""
        model, rng = self.network(scale).build(seed), np.random.default_rng(seed)
        return model.load_state_dict({name: drawn(name, value, rng) for name, value in model.state_dict().items()})


def reference_layers():
    """Return the layers of the reference network for eight classes, up to its logits."""
    return list(reference_network((240, 360, 3), 8, output=None).layers[1:])


def block_layers(filters, kernel_size, **settings):
    """Return convolution with bias, ReLU and 2x2 max-pool, which run in one pass."""
    conv = ConvLayer(filters=filters, kernel_size=kernel_size, **{"padding": "same", **settings})
    return [conv, ActivationLayer("relu"), PoolingLayer(pool_size=2)]


def block(n, frame, filters, kernel_size, **settings):
    """Return the case of one block; `frame` is (height, width, channels)."""
    height, width, channels = frame
    extras = "".join(f", {name.removesuffix('_rate')} {value}" for name, value in settings.items())
    name = f"{n} x {height}x{width}x{channels}, {filters} of {kernel_size}x{kernel_size}{extras}"
    return Case(name, n, frame, lambda: block_layers(filters, kernel_size, **settings))


NETWORKS = (
    Case("16 x 240x360x3", 16, (240, 360, 3), reference_layers),
    Case("1 x 240x360x3", 1, (240, 360, 3), reference_layers),
    Case("64 x 32x32x3", 64, (32, 32, 3), reference_layers),
)

KNOWN_NETWORKS = tuple(
    KnownNetwork(f"{name}, {n} x 224x224x3", n, (224, 224, 3), layers)
    for name, layers in (
        ("ResNet-18", resnet18),
        ("MobileNetV2", mobilenet_v2),
        ("EfficientNet-Lite0", efficientnet_lite0),
    )
    for n in (1, 16)
)

BLOCKS = (
    block(8, (240, 360, 3), 32, 3),
    block(8, (120, 180, 32), 64, 3),
    block(8, (60, 90, 64), 128, 3),
    block(8, (30, 45, 128), 128, 3),
    block(32, (16, 16, 32), 64, 3),
    block(8, (240, 360, 3), 32, 5),
    block(8, (60, 90, 32), 64, 5),
    block(8, (240, 360, 3), 64, 7, strides=2, padding="valid"),
    block(8, (60, 90, 128), 128, 1),
    block(8, (60, 90, 64), 64, 3, dilation_rate=2),
)

FILTER_BANK = Case(
    "16 x 240x360x3, 400 of 6x6, strides 2, two thresholds, averaged over 3x4",
    16,
    (240, 360, 3),
    lambda: [
        FilterBankLayer(400, kernel_size=6, strides=2, thresholds=(0.25, 0.75)),
        PoolingLayer((3, 4), mode="adaptive_average"),
    ],
    largest=255.0,
)
