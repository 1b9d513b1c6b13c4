"""Grouped convolutions: within the bound at every width of a group, and no group sees the channels of another."""

import numpy as np
import pytest
from agreement import expected, is_exact, rounding, winograd_side
from gradient_bounds import defined, gradients_for, rounding_backward

from framecnn import ConvLayer, num_threads
from framecnn.kernels.winograd_packing import merge_groups
from framecnn.testing.draws import draw_frames, draw_params, same_bits

ALGORITHMS = ["auto", "direct", "winograd2", "winograd4"]


def grouped(width, groups, filters=None, shape=(9, 10), integers=False, **settings):
    """Return a built layer of `groups` groups of `width` channels and `filters` filters."""
    settings = {"kernel_size": 3, "padding": "same"} | settings
    layer = ConvLayer(groups * (filters or width), groups=groups, **settings).build((*shape, groups * width))
    return draw_params(layer, integers)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_width_of_a_group_is_within_the_bound(algorithm):
    for width in range(1, 50):
        groups = 2 + width % 5
        layer = grouped(width, groups, 1 + (3 * width) % 40, algorithm=algorithm)
        x = draw_frames(layer, 2)
        assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all(), (width, groups)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_gradients_of_every_width_of_a_group_are_within_the_bound(algorithm):
    for width in range(2, 41):
        layer = grouped(width, 2 + width % 3, integers=True, algorithm=algorithm, shape=(6, 7))
        x = draw_frames(layer, 2, integers=True)
        y, backward = layer.vjp(x)
        dy = gradients_for(y, integers=True)
        dx, gradients = backward(dy)
        wanted, wanted_gradients = defined(layer, x, dy)
        bound, _ = rounding_backward(layer, x, dy)
        assert (np.abs(dx - wanted) <= bound).all(), width
        for name, value in wanted_gradients.items():
            np.testing.assert_array_equal(gradients[name], value, f"{name} for {width}")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(("width", "groups"), [(4, 32), (8, 6), (24, 4), (48, 3)])
def test_the_channels_of_a_group_change_the_filters_of_that_group_only(width, groups, algorithm):
    layer = grouped(width, groups, algorithm=algorithm)
    x = draw_frames(layer, 1)
    y = layer(x)
    for group in (0, 1, groups - 1):
        own = slice(group * width, (group + 1) * width)
        changed = x.copy()
        changed[..., own] += 1
        differs = (layer(changed) != y).any(axis=(0, 1, 2))
        assert differs[own].all()
        assert differs.sum() == width


def test_bits_depend_neither_on_threads_nor_on_the_batch():
    layer = grouped(16, 16, shape=(30, 31))
    assert winograd_side(layer)
    x = draw_frames(layer, 4)
    with num_threads(1):
        y = layer(x)
    with num_threads(2):
        assert same_bits(layer(x), y)
    for n in range(1, 4):
        assert same_bits(layer(x[:n]), y[:n])


def test_merged_groups_have_zeros_between_them():
    kernel = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 1, 8)  # 4 groups of a channel and two filters
    merged = merge_groups(kernel, groups=4, merged=2)
    assert merged[0, 0].tolist() == [[1, 2, 0, 0, 5, 6, 0, 0], [0, 0, 3, 4, 0, 0, 7, 8]]


def test_narrow_groups_with_strides_are_direct():
    assert is_exact(grouped(4, 8, strides=2))


@pytest.mark.parametrize(("channels", "groups"), [(8, 4), (9, 3), (6, 1), (12, 2)])
def test_groups_of_several_channels_and_one_filter_have_the_defined_gradients(channels, groups):
    layer = draw_params(ConvLayer(groups, kernel_size=3, groups=groups).build((9, 9, channels)), integers=True)
    x = draw_frames(layer, 3, integers=True)
    y, backward = layer.vjp(x)
    dy = gradients_for(y, integers=True)
    dx, found = backward(dy)
    wanted_dx, wanted = defined(layer, x, dy)
    np.testing.assert_array_equal(dx, wanted_dx)
    for name, gradient in wanted.items():
        np.testing.assert_array_equal(found[name], gradient)
