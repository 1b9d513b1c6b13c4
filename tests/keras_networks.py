"""Keras networks with random weights and statistics, for tests."""

import numpy as np

from framecnn.interop.keras import load_keras

keras = load_keras("the tests")


def randomised(net, seed=0):
    """Draw all weights that Keras begins with the same number; return the network."""
    rng = np.random.default_rng(seed)
    for layer in net._flatten_layers(include_self=False):
        weights = [_drawn(variable, rng) for variable in layer.weights]
        if weights and not isinstance(layer, keras.Model):
            layer.set_weights(weights)
    return net


def _drawn(variable, rng):
    if variable.name in ("gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, variable.shape)
    if variable.name in ("beta", "bias", "moving_mean"):
        return rng.normal(0, 0.2, variable.shape)
    return variable.numpy()


def calibrated(net, x):
    """Set the moving statistics of batch normalisation to those of a batch, so that values neither grow nor fade."""
    norms = [layer for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    net(x, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum
    return net
