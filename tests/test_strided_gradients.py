"""Input gradients of convolutions with strides are exact on integers at every size, kernel, stride and border."""

from itertools import product

import numpy as np
import pytest

from framecnn import ConvLayer, ShapeError
from framecnn.kernels import reference
from framecnn.layers.conv import layer_window

STRIDES = [(2, 2), (3, 1), (1, 2), (4, 3)]
KERNELS = [(1, 1), (2, 3), (3, 3), (5, 2)]
PADDINGS = ["same", "valid", ((0, 3), (2, 1))]


@pytest.mark.parametrize("strides", STRIDES, ids=lambda pair: f"{pair[0]}x{pair[1]}")
def test_a_gradient_with_strides_is_exact_on_integers(strides):
    rng, compared = np.random.default_rng(0), 0
    for height, width, kernel, padding, groups in product(range(1, 11), (1, 6, 7), KERNELS, PADDINGS, (1, 2)):
        layer = ConvLayer(4, kernel_size=kernel, strides=strides, padding=padding, groups=groups)
        try:
            layer.build((height, width, 6 if groups == 2 else 3), dtype=np.float32)
        except ShapeError:
            continue
        layer.params["kernel"] = rng.integers(-9, 10, layer.params["kernel"].shape)
        x = rng.integers(-9, 10, (2, *layer.input_shape)).astype(np.float32)
        y, backward = layer.vjp(x)
        dy = rng.integers(-9, 10, y.shape).astype(np.float32)
        window = layer_window(layer, (height, width), layer.kernel_size)
        settings = strides, window.border, (1, 1), groups
        wanted, _, _ = reference.conv2d_backward(x, layer.params["kernel"], dy, *settings)
        np.testing.assert_array_equal(backward(dy)[0], wanted, err_msg=f"{layer} {layer.input_shape}")
        compared += 1
    assert compared > 300


def test_a_gradient_with_strides_and_dilation_is_exact_on_integers():
    rng = np.random.default_rng(0)
    for height in range(5, 16):
        layer = ConvLayer(4, kernel_size=3, strides=(2, 3), dilation_rate=2, padding="same").build((height, 9, 3))
        layer.params["kernel"] = rng.integers(-9, 10, layer.params["kernel"].shape)
        x = rng.integers(-9, 10, (2, height, 9, 3)).astype(np.float32)
        y, backward = layer.vjp(x)
        dy = rng.integers(-9, 10, y.shape).astype(np.float32)
        border = layer_window(layer, (height, 9), (3, 3)).border
        wanted, _, _ = reference.conv2d_backward(x, layer.params["kernel"], dy, (2, 3), border, (2, 2), 1)
        np.testing.assert_array_equal(backward(dy)[0], wanted)
