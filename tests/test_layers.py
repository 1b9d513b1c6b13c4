"""Every check on every case of every layer."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from agreement import CASES, OURS, built, expected, frames, is_exact, rounding, same_bits, winograd_side

from framecnn import get_num_threads, set_num_threads
from framecnn.layers import Layer

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def threads():
    """Set the number of threads; afterwards it is as before."""
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


@pytest.mark.parametrize("kind", OURS)
def test_every_layer_shows_examples_of_itself(kind):
    assert kind.cases
    assert kind.__doc__


@every_case
def test_a_layer_survives_the_way_to_json_and_back(case):
    layer = built(case)
    again = Layer.from_config(json.loads(json.dumps(layer.config)))
    assert again == layer
    assert hash(again) == hash(layer)
    assert repr(again) == repr(layer)


@every_case
@both_dtypes
def test_the_output_has_the_promised_shape_and_dtype(case, dtype):
    layer = built(case, dtype)
    y = layer(frames(layer, 3))
    assert y.shape == (3, *layer.infer_shape(layer.input_shape)) == (3, *layer.output_shape)
    assert y.dtype == dtype
    assert y.flags.c_contiguous


@every_case
@both_dtypes
def test_whole_numbers_give_exactly_the_defined_result(case, dtype):
    layer = built(case, dtype, whole=True)
    x = frames(layer, 2, whole=True)
    if is_exact(layer):
        np.testing.assert_array_equal(layer(x), expected(layer, x))
    else:
        assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@every_case
@both_dtypes
def test_floats_are_within_the_bound_of_the_defined_result(case, dtype):
    layer = built(case, dtype)
    x = frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@every_case
@both_dtypes
def test_a_frame_gives_the_same_bits_alone_and_in_any_batch(case, dtype):
    layer = built(case, dtype)
    x = frames(layer, 11)
    y = layer(x)
    assert all(same_bits(layer(x[i : i + 1])[0], y[i]) for i in range(len(x)))
    assert same_bits(layer(x[2:9]), y[2:9])
    assert same_bits(layer(x[::-1]), y[::-1].copy())


@every_case
def test_a_batch_of_no_frames_gives_no_results(case):
    layer = built(case)
    assert layer(frames(layer, 0)).shape == (0, *layer.output_shape)


@every_case
def test_the_input_is_not_touched_and_may_be_read_only(case):
    layer = built(case)
    x = frames(layer, 2)
    before = x.copy()
    y = layer(x)
    assert same_bits(x, before)
    x.flags.writeable = False
    assert same_bits(layer(x), y)


@every_case
def test_the_layout_and_the_kind_of_numbers_of_the_input_do_not_matter(case):
    layer = built(case)
    x = frames(layer, 4, whole=True)
    y = layer(x)
    every_other = np.repeat(x, 2, axis=0)[::2]
    assert same_bits(layer(every_other), y)
    assert same_bits(layer(np.asfortranarray(x)), y)
    assert same_bits(layer(x.astype(np.uint8)), y)
    assert same_bits(layer(x.astype(np.float64)), y)
    assert same_bits(layer(x.tolist()), y)


@every_case
def test_nan_shows_wherever_a_window_sees_it_and_nowhere_else(case):
    layer = built(case)
    clean = frames(layer, 1)
    y = layer(clean)
    for place in (0, clean.size // 2, clean.size - 1):
        x = clean.copy()
        x.flat[place] = np.nan
        seen = np.isnan(expected(layer, x))
        reached = np.isnan(layer(x))
        if side := winograd_side(layer):
            assert reached[seen].all()
            assert reached[..., 0].sum() <= 4 * side**2  # it fills the tiles that it is part of
        else:
            np.testing.assert_array_equal(reached, seen)
        assert same_bits(layer(x)[~reached], y[~reached])


@every_case
def test_eight_python_threads_may_use_one_layer_at_once(case):
    layer = built(case)
    batches = [frames(layer, 3) + number for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(layer, batches))
    assert all(same_bits(y, layer(x)) for x, y in zip(batches, results, strict=True))


@every_case
def test_one_thread_and_two_give_the_same_bits(case, threads):
    layer = built(case)
    x = np.concatenate([frames(layer, 11)] * 40)  # enough work for several chunks
    threads(1)
    alone = layer(x)
    threads(2)
    assert same_bits(layer(x), alone)


@every_case
def test_a_seed_gives_the_same_parameters_again_and_another_seed_others(case):
    kind, example = case
    first, again, other = (kind(**example.settings).build(example.input_shape, seed) for seed in (3, 3, 4))
    assert all(same_bits(first.params[name], again.params[name]) for name in first.params)
    specs = first.param_specs(example.input_shape)
    drawn = [name for name, spec in specs.items() if spec.initializer not in ("zeros", "ones")]
    assert not any(same_bits(first.params[name], other.params[name]) for name in drawn)


@every_case
@both_dtypes
def test_parameters_are_what_the_layer_says_they_are(case, dtype):
    layer = built(case, dtype)
    specs = layer.param_specs(layer.input_shape)
    assert {name: value.shape for name, value in layer.params.items()} == {n: spec.shape for n, spec in specs.items()}
    assert all(value.dtype == dtype and value.flags.c_contiguous for value in layer.params.values())
    assert layer.n_params == sum(value.size for value in layer.params.values())


@every_case
def test_a_layer_can_be_copied_and_pickled_with_its_parameters(case):
    layer = built(case)
    x = frames(layer, 2)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert twin == layer
        assert same_bits(twin(x), layer(x))


@every_case
def test_multiply_adds_are_the_products_that_the_definition_adds_up(case):
    layer = built(case)
    weights = layer.params.get("kernel")
    if weights is None:
        assert layer.multiply_adds(layer.input_shape) == 0
    else:
        places = np.prod(layer.output_shape[:-1], dtype=int)
        assert layer.multiply_adds(layer.input_shape) == places * weights.size
