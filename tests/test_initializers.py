"""Initial weights have the distributions of their papers and depend on the given generator only."""

import re

import numpy as np
import pytest

from framecnn import SettingError
from framecnn.layers.initializers import NAMES, draw
from framecnn.testing.draws import same_bits

WINDOW = (5, 3, 40, 60)  # fan-in 600, fan-out 900


def drawn(name, shape=WINDOW, seed=0, dtype=np.float64):
    return draw(name, shape, np.random.default_rng(seed), dtype)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_seed_decides_the_weights(name, dtype):
    weights = drawn(name, dtype=dtype)
    assert weights.shape == WINDOW
    assert weights.dtype == dtype
    assert same_bits(weights, drawn(name, dtype=dtype))
    if name not in ("zeros", "ones"):
        assert not same_bits(weights, drawn(name, seed=1, dtype=dtype))


def test_zeros_are_zero_and_ones_are_one():
    assert (drawn("zeros") == 0).all()
    assert (drawn("ones") == 1).all()


@pytest.mark.parametrize(
    ("name", "shape", "limit"),
    [
        ("glorot_uniform", WINDOW, (6 / (600 + 900)) ** 0.5),
        ("he_uniform", WINDOW, (6 / 600) ** 0.5),
        ("glorot_uniform", (300, 20), (6 / 320) ** 0.5),
        ("he_uniform", (300, 20), (6 / 300) ** 0.5),
    ],
)
def test_uniform_weights_fill_the_papers_interval(name, shape, limit):
    weights = drawn(name, shape)
    assert np.abs(weights).max() <= limit
    assert np.abs(weights).max() > 0.99 * limit  # of 6000 draws and more all miss the last hundredth: 1e-26
    assert abs(weights.mean()) < 6 * limit / np.sqrt(3 * weights.size)


@pytest.mark.parametrize(("shape", "fan_in"), [(WINDOW, 600), ((300, 20), 300)])
def test_normal_weights_have_the_papers_deviation(shape, fan_in):
    weights = drawn("he_normal", shape)
    expected = (2 / fan_in) ** 0.5
    assert abs(weights.std() - expected) < 6 * expected / np.sqrt(2 * weights.size)
    assert abs(weights.mean()) < 6 * expected / np.sqrt(weights.size)


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(
        SettingError, match=re.escape(f"initializer: expected one of {', '.join(NAMES)}, got 'orthogonal'")
    ):
        drawn("orthogonal")
