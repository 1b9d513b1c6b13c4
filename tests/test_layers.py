"""Every check of `framecnn.testing` on every case of every layer, and agreement with the definitions."""

import copy
import pickle

import numpy as np
import pytest
from agreement import CASES, OURS, built, expected, is_exact, rounding, winograd_side

from framecnn.layers import ParallelLayer
from framecnn.testing import parametrize_with_layer_checks
from framecnn.testing.draws import draw_frames, same_bits

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.parametrize("kind", OURS)
def test_every_layer_has_cases_and_documentation(kind):
    assert kind.cases
    assert kind.__doc__


@parametrize_with_layer_checks(OURS)
def test_a_layer_passes_the_checks_of_all_layers(check):
    check()


@every_case
@both_dtypes
def test_integers_give_exactly_the_defined_result(case, dtype):
    layer = built(case, dtype, integers=True)
    x = draw_frames(layer, 2, integers=True)
    if is_exact(layer):
        np.testing.assert_array_equal(layer(x), expected(layer, x))
    else:
        assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@every_case
@both_dtypes
def test_floats_are_within_the_bound_of_the_defined_result(case, dtype):
    layer = built(case, dtype)
    x = draw_frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@every_case
def test_nan_shows_where_a_window_covers_it_and_nowhere_else(case):
    layer = built(case)
    clean = draw_frames(layer, 1)
    y = layer(clean)
    for place in (0, clean.size // 2, clean.size - 1):
        x = clean.copy()
        x.flat[place] = np.nan
        seen = np.isnan(expected(layer, x))
        reached = np.isnan(layer(x))
        if side := winograd_side(layer):
            assert reached[seen].all()
            tiles = -(-(side + layer.kernel_size[0] - 1) // side)  # on an axis, all filled by one value
            assert reached[..., 0].sum() <= (tiles * side) ** 2
        else:
            np.testing.assert_array_equal(reached, seen)
        assert same_bits(layer(x)[~reached], y[~reached])


@every_case
def test_a_layer_can_be_copied_and_pickled_with_its_parameters(case):
    layer = built(case)
    x = draw_frames(layer, 2)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin == layer
        assert same_bits(twin(x), layer(x))


@every_case
def test_multiply_adds_are_the_products_of_the_definition(case):
    layer = built(case)
    assert layer.multiply_adds(layer.input_shape) == products(layer)


def products(layer):
    """Return the number of products by weights of a kernel, for one frame."""
    if isinstance(layer, ParallelLayer):
        return sum(products(inner) for branch in layer.built_branches() for inner in branch)
    places = np.prod(layer.output_shape[:-1], dtype=int)
    return places * layer.params["kernel"].size if "kernel" in layer.params else 0
