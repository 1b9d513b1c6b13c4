"""The reference network: its layers, and outputs that differ only in the last activation."""

import numpy as np
import pytest

from framecnn import ActivationLayer, ShapeError
from framecnn.networks.reference import reference_network

SHAPE = (48, 64, 3)


def test_it_is_four_convolutions_and_two_dense_layers():
    model = reference_network((240, 360, 3), 8)
    kinds = [name.rsplit("_", 1)[0] for name in model.names]
    block = ["conv", "activation", "pooling"]
    assert kinds == ["input", *4 * block, "flattening", "dense", "activation", "dense", "activation"]
    assert [layer.filters for layer in model.layers if hasattr(layer, "filters")] == [32, 64, 128, 128]
    assert model.output_shape == (8,)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "relu"])
def test_an_output_is_that_function_of_the_logits(output):
    x = np.random.default_rng(0).integers(0, 256, (3, *SHAPE), np.uint8)
    logits = reference_network(SHAPE, 5, output=None, scale=1 / 255).build(0)
    ended = reference_network(SHAPE, 5, output=output, scale=1 / 255).load_state_dict(logits.state_dict())
    expected = ActivationLayer(output).build((5,))(logits.predict(x))
    np.testing.assert_allclose(ended.predict(x), expected, rtol=1e-5, atol=1e-7)


def test_frames_too_small_for_the_poolings_are_refused():
    with pytest.raises(ShapeError, match="PoolingLayer"):
        reference_network((8, 8, 3), 2).build()
