"""Small networks to maps, also in the place of the pretrained one, whose weights need not be installed."""

from contextlib import contextmanager

import pytest

from framecnn import ActivationLayer, ConvLayer, InputLayer, Sequential
from framecnn.estimators import feature_choice, pretrained_features


def network_to_maps(size=(25, 31), strides=5, filters=8):
    """Return a network from frames to maps without negative values, of 5 x 6 positions by default."""
    layers = [ConvLayer(filters, kernel_size=5, strides=strides), ActivationLayer("relu")]
    return Sequential([InputLayer((*size, 3), scale=0.01), *layers]).build(seed=0)


@contextmanager
def small_pretrained():
    """Take a small network to 7 x 7 positions for the pretrained one, inside a with block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrained_features, "efficientnet_lite0", lambda size: network_to_maps(size, strides=36))
        patch.setattr(feature_choice, "has_pretrained_weights", lambda: True)
        yield
