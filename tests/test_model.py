"""A chain of layers: names, shapes, parameters, prediction in batches."""

import dataclasses
import pickle
import re
import tracemalloc

import numpy as np
import pytest
from agreement import expected

from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    PoolingLayer,
    Sequential,
    SettingError,
    ShapeError,
    num_threads,
)
from framecnn.networks.prediction import PART_BYTES, PredictionPlan
from framecnn.testing.draws import same_bits

SHAPE = (20, 24, 3)


def network():
    """Return a small network of many layer classes."""
    return Sequential(
        [
            InputLayer(SHAPE, scale=1 / 255),
            DownsamplingLayer(2),
            ConvLayer(6, kernel_size=3, padding="same"),
            ActivationLayer("relu"),
            PoolingLayer(2, mode="average"),
            FilterBankLayer(9, kernel_size=2, contrast=0.01),
            PoolingLayer((2, 3), mode="adaptive_average"),
            ConvLayer(4, kernel_size=1),
            ActivationLayer("tanh"),
            FlatteningLayer(),
            DenseLayer(5),
            ActivationLayer("softmax"),
        ]
    )


def some_frames(n):
    return np.random.default_rng(5).integers(0, 256, (n, *SHAPE), dtype=np.uint8)


def test_layers_are_named_by_class_and_number():
    assert network().names == (
        "input_1",
        "downsampling_1",
        "conv_1",
        "activation_1",
        "pooling_1",
        "filter_bank_1",
        "pooling_2",
        "conv_2",
        "activation_2",
        "flattening_1",
        "dense_1",
        "activation_3",
    )


def test_shapes_are_known_before_anything_is_built():
    model = network()
    assert model.input_shape == SHAPE
    assert model.output_shape == (5,)


def test_the_summary_counts_what_the_layers_hold_and_compute():
    model = network()
    rows = {row.name: row for row in model.summary().rows}
    assert rows["conv_1"].output_shape == (10, 12, 6)
    assert rows["conv_1"].n_params == 3 * 3 * 3 * 6 + 6
    assert rows["conv_1"].multiply_adds == 10 * 12 * 3 * 3 * 3 * 6
    assert rows["pooling_1"].n_params == rows["pooling_1"].multiply_adds == 0
    assert model.summary().n_params == sum(value.size for value in model.build().state_dict().values())
    assert model.summary().multiply_adds == sum(layer.multiply_adds(layer.input_shape) for layer in model.layers)


def test_the_printed_summary_is_a_table_with_a_line_a_layer():
    lines = str(network().summary()).splitlines()
    assert lines[0].split() == ["layer", "output", "parameters", "multiply-adds"]
    assert len(lines) == 12 + 5
    assert lines[4].split() == ["conv_1", "10", "x", "12", "x", "6", "168", "19,440"]
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-2].split()[0] == "total"
    assert lines[-1] == "activations of a prediction: 0.4 MiB"


def test_what_is_derived_from_parameters_is_neither_pickled_nor_stale():
    model = network().build()
    size = len(pickle.dumps(model))
    before = model.predict(some_frames(2))
    assert len(pickle.dumps(model)) < size + 10_000
    assert same_bits(pickle.loads(pickle.dumps(model)).predict(some_frames(2)), before)
    conv = model.layers[model.names.index("conv_1")]
    with pytest.raises(ShapeError, match=r"ConvLayer: expected all of the parameters .* got 'bias' deleted"):
        del conv.params["bias"]
    assert same_bits(model.predict(some_frames(2)), before)


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_parts_of_a_large_batch_are_bounded(threads):
    layers = [InputLayer((240, 360, 3)), DownsamplingLayer(8), ConvLayer(8, kernel_size=3)]
    with num_threads(threads):
        assert PredictionPlan.of(layers, (240, 360, 3)).activation_bytes(10_000, 4) <= threads * PART_BYTES


def test_a_prediction_takes_the_memory_that_the_summary_states():
    layers = [
        ConvLayer(16, kernel_size=3),
        ActivationLayer("relu"),
        PoolingLayer(3, strides=2),
        ConvLayer(8, kernel_size=5),
    ]
    model = Sequential([InputLayer((96, 144, 3)), *layers, FlatteningLayer(), DenseLayer(5)]).build()
    x = np.zeros((96, 96, 144, 3), np.float32)
    model.predict(x)
    tracemalloc.start()
    model.predict(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    said = model.summary().activation_bytes
    assert 0.4 * said < peak < said + 2**20


def test_the_repr_of_a_model_builds_it_again():
    model = Sequential([InputLayer((4, 4, 1)), ConvLayer(2, kernel_size=3), FlatteningLayer()])
    assert repr(model) == (
        "Sequential([InputLayer(shape=(4, 4, 1)), ConvLayer(filters=2, kernel_size=(3, 3)), FlatteningLayer()])"
    )
    assert repr(model.summary()) == str(model.summary())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_model_predicts_what_its_layers_compute_one_by_one(dtype):
    model = network().build(seed=1, dtype=dtype)
    x = some_frames(3)
    y = x
    for layer in model.layers:
        y = layer(y)
    assert same_bits(model.predict(x), y)
    assert same_bits(model(x), y)
    assert y.dtype == dtype


def test_integers_through_convolution_and_maximum_are_exact():
    model = Sequential([InputLayer((6, 6, 2)), ConvLayer(3, kernel_size=3), PoolingLayer(2)]).build()
    _, convolution, pooling = model.layers
    convolution.params["kernel"] = np.arange(54).reshape(3, 3, 2, 3) - 27
    x = np.arange(144).reshape(2, 6, 6, 2) % 23
    np.testing.assert_array_equal(model.predict(x), expected(pooling, expected(convolution, x)))


def test_the_size_of_a_batch_does_not_change_a_bit():
    model = network().build()
    x = some_frames(70)
    y = model.predict(x)
    assert all(same_bits(model.predict(x, batch_size=size), y) for size in (1, 7, 64, 1000))
    assert same_bits(model.predict(x[13:14]), y[13:14])


def test_a_batch_of_no_frames_has_no_predictions():
    assert network().build().predict(some_frames(0)).shape == (0, 5)


def test_frames_are_read_batch_by_batch():
    asked = []

    class OnDisk:
        shape = (10, *SHAPE)

        def __len__(self):
            return 10

        def __getitem__(self, place):
            asked.append((place.start, place.stop))
            return some_frames(10)[place]

    model = network().build()
    assert same_bits(model.predict(OnDisk(), batch_size=4), model.predict(some_frames(10)))
    assert asked == [(0, 4), (4, 8), (8, 12)]


def test_a_seed_decides_all_parameters():
    first, again, other = (network().build(seed).state_dict() for seed in (1, np.random.default_rng(1), 2))
    assert all(same_bits(first[name], again[name]) for name in first)
    assert not any(same_bits(first[name], other[name]) for name in first if name.endswith("kernel"))
    assert not same_bits(first["conv_2/kernel"], first["conv_1/kernel"])


def test_the_state_lists_every_parameter_in_the_order_of_the_layers():
    state = network().build().state_dict()
    shapes = {
        "conv_1/kernel": (3, 3, 3, 6),
        "conv_1/bias": (6,),
        "filter_bank_1/kernel": (2, 2, 6, 9),
        "filter_bank_1/bias": (9,),
        "conv_2/kernel": (1, 1, 18, 4),
        "conv_2/bias": (4,),
        "dense_1/kernel": (24, 5),
        "dense_1/bias": (5,),
    }
    assert [(name, value.shape) for name, value in state.items()] == list(shapes.items())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_state_makes_an_unbuilt_model_the_same_model(dtype):
    model = network().build(seed=4, dtype=dtype)
    twin = network().load_state_dict(model.state_dict(), dtype)
    assert same_bits(twin.predict(some_frames(3)), model.predict(some_frames(3)))


def test_a_loaded_state_is_a_copy():
    model = network().build()
    twin = network().load_state_dict(model.state_dict())
    before = twin.predict(some_frames(2))
    state = model.state_dict()
    for each in (model, twin):
        each.load_state_dict(state)
        state["conv_1/kernel"][:] = 0
        each.state_dict()["conv_1/kernel"][:] = 0
        assert same_bits(each.predict(some_frames(2)), before)
        state = model.state_dict()


def test_a_parameter_that_is_set_changes_the_next_prediction():
    model = network().build()
    conv = model.layers[model.names.index("conv_1")]
    before = model.predict(some_frames(2))
    with pytest.raises(ValueError, match="read-only"):
        conv.params["kernel"][0] = 1
    conv.params["kernel"] = 2 * conv.params["kernel"]
    twin = network().load_state_dict(model.state_dict())
    assert not same_bits(model.predict(some_frames(2)), before)
    assert same_bits(model.predict(some_frames(2)), twin.predict(some_frames(2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("conv_2/bias"), "expected conv_2/bias as (4,), got nothing (1 of 8 differ)"),
        (lambda state: state.update(extra=np.zeros(3)), "expected extra as absent, got (3,) (1 of 8 differ)"),
        (lambda state: state.update({"dense_1/bias": np.zeros(6)}), "expected dense_1/bias as (5,), got (6,)"),
        (
            lambda state: state.update({"dense_1/bias": np.zeros(5, complex)}),
            "expected dense_1/bias as (5,), got complex",
        ),
        (lambda state: state.update({"dense_1/bias": np.full(5, "a")}), "expected dense_1/bias as (5,), got <U1"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(change, message):
    model = network().build(seed=1)
    y = model.predict(some_frames(2))
    state = network().build(seed=2).state_dict()
    change(state)
    with pytest.raises(ShapeError, match=re.escape(f"Sequential.load_state_dict: {message}")):
        model.load_state_dict(state)
    assert same_bits(model.predict(some_frames(2)), y)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "Sequential: expected an InputLayer first, got no layer; begin with InputLayer(shape)"),
        ([FlatteningLayer()], "Sequential: expected an InputLayer first, got FlatteningLayer; begin with"),
        ([InputLayer((4,)), "relu", ActivationLayer], "Sequential: expected layers, got str, type"),
        (
            [InputLayer((4,)), *[ActivationLayer("relu")] * 2],
            "Sequential: expected distinct layers, got one twice; create",
        ),
    ],
)
def test_anything_but_a_chain_of_layers_is_refused(layers, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        Sequential(layers)


def test_a_layer_that_does_not_fit_its_place_is_named_when_the_model_is_built():
    model = Sequential([InputLayer((4, 4, 1)), ConvLayer(2, kernel_size=3), ConvLayer(2, kernel_size=3)])
    for use in (model.build, model.summary, lambda: model.output_shape, lambda: model.load_state_dict({})):
        with pytest.raises(ShapeError, match="ConvLayer: expected frames of at least 3x3 with the border, got 2x2"):
            use()


@pytest.mark.parametrize(
    ("x", "batch_size", "message"),
    [
        (np.zeros((2, 20, 24)), 32, "Sequential.predict: expected x of shape (n, 20, 24, 3), got (2, 20, 24)"),
        (np.zeros(SHAPE), 32, "Sequential.predict: expected x of shape (n, 20, 24, 3), got (20, 24, 3)"),
        (np.zeros((1, *SHAPE), complex), 32, "Sequential.predict: expected real numbers, got dtype complex128"),
        (np.zeros((1, *SHAPE)), 0, "Sequential.predict: expected batch_size as a positive integer, got 0"),
        (np.zeros((1, *SHAPE)), 1.5, "Sequential.predict: expected batch_size as a positive integer, got 1.5"),
    ],
)
def test_frames_and_batch_sizes_that_do_not_fit_are_refused(x, batch_size, message):
    with pytest.raises(SettingError if "batch_size" in message else ShapeError, match=re.escape(message)):
        network().build().predict(x, batch_size)


def test_a_model_must_be_built_before_it_works():
    message = "Sequential: expected a built model, got layers without parameters; call build"
    for use in (lambda model: model.predict(some_frames(1)), lambda model: model.state_dict()):
        with pytest.raises(ShapeError, match=message):
            use(network())


def test_layers_that_were_built_for_another_chain_are_refused():
    shared = ConvLayer(2, kernel_size=3)
    model = Sequential([InputLayer((8, 8, 3)), shared]).build()
    other = Sequential([InputLayer((8, 8, 1)), shared]).build()
    assert other.predict(np.zeros((1, 8, 8, 1))).shape == (1, 6, 6, 2)
    message = (
        "Sequential: expected conv_1 built for (8, 8, 3) of float32, got it built for (8, 8, 1) of float32; "
        "build the model again"
    )
    with pytest.raises(ShapeError, match=re.escape(message)):
        model.predict(np.zeros((1, 8, 8, 3)))
    shared.build((8, 8, 3), dtype=np.float64)
    with pytest.raises(ShapeError, match=re.escape("of float32, got it built for (8, 8, 3) of float64")):
        model.predict(np.zeros((1, 8, 8, 3)))


def test_a_pickled_model_predicts_the_same():
    model = network().build()
    assert same_bits(pickle.loads(pickle.dumps(model)).predict(some_frames(2)), model.predict(some_frames(2)))


def test_the_number_of_threads_does_not_change_a_bit():
    model, x, results = network().build(), some_frames(40), []
    for number in (1, 2, 3):
        with num_threads(number):
            results.append(model.predict(x))
    assert all(same_bits(result, results[0]) for result in results)


def test_threads_take_more_frames_at_a_time_if_the_parameters_outweigh_their_maps():
    deep = [ConvLayer(256, kernel_size=3, padding="same") for _ in range(3)]
    flat = [ConvLayer(8, kernel_size=3, padding="same") for _ in range(3)]
    parts = {}
    with num_threads(2):
        for name, layers, side in (("deep", deep, 7), ("flat", flat, 40)):
            plan = dataclasses.replace(PredictionPlan.of(layers, (side, side, layers[0].filters)), part_work=1)
            parts[name] = [plan._parts(n, 4) for n in (2, 16, 30)]
    assert parts == {"deep": [(1, 2), (8, 2), (15, 2)], "flat": [(1, 2), (1, 2), (1, 2)]}


def test_threads_that_share_passes_and_threads_that_take_parts_give_the_same_bits():
    model = network().build()
    x = some_frames(13)
    expected_bits = model.predict(x)
    by_parts = dataclasses.replace(PredictionPlan.of(model.layers, SHAPE), part_work=1000)
    for threads in (1, 2, 5):
        with num_threads(threads):
            assert same_bits(by_parts.run(x, np.dtype(np.float32)), expected_bits)
            assert same_bits(by_parts.run(x[:4], np.dtype(np.float32)), expected_bits[:4])
