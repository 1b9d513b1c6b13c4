"""The fast kernels against their definitions in kernels/reference.py."""

import ctypes
import importlib
import mmap
from unittest import mock

import numba
import numpy as np
import pytest
from agreement import expected, is_exact, rounding
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError

from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    FilterBankLayer,
    ParallelLayer,
    PoolingLayer,
    ShapeError,
    num_threads,
)
from framecnn.geometry import Window
from framecnn.kernels import FUNCTIONS, PackedConv, PackedDense, activate, conv2d, dense, pool2d, winograd
from framecnn.kernels.codegen.microkernel import filter_block, multiply_block
from framecnn.kernels.codegen.pooling import pool_window
from framecnn.networks.prediction import PredictionPlan
from framecnn.testing import layers, shapes
from framecnn.testing.draws import draw_frames, draw_params, same_bits

thorough = settings(deadline=None, max_examples=150)
dtypes = st.sampled_from([np.float32, np.float64])


def built(layer, shape, dtype=np.float32, integers=False):
    """Return a built layer with drawn parameters, integers below 16 or floats."""
    return draw_params(layer.build(shape, dtype=dtype), integers)


@pytest.mark.parametrize("integers", [True, False], ids=["integers", "floats"])
@pytest.mark.parametrize("kind", [ConvLayer, PoolingLayer, DenseLayer, FilterBankLayer])
@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_kernel_agrees_with_its_definition(kind, integers, data):
    shape = None if kind is DenseLayer else data.draw(shapes(max_side=20))
    layer = data.draw(layers([kind], shape, integers=integers))
    x = draw_frames(layer, data.draw(st.sampled_from([2, 1, 11])), integers)
    bound = 0 if integers and is_exact(layer) else rounding(layer, x)
    assert (np.abs(layer(x) - expected(layer, x)) <= bound).all()


def test_a_convolution_over_rows_longer_than_the_buffer_is_exact():
    layer = built(ConvLayer(3, kernel_size=(5, 3), strides=(2, 1), padding="same"), (9, 20_000, 4), np.float32, True)
    x = draw_frames(layer, 1, integers=True)
    np.testing.assert_array_equal(layer(x), expected(layer, x))


@thorough
@given(
    st.sampled_from([("auto", 3), ("winograd2", 3), ("winograd4", 3), ("auto", 5), ("winograd2", 5)]),
    shapes(max_side=30, max_channels=40),
    st.sampled_from(["same", ((1, 2), (2, 1))]),
    st.integers(1, 40),
    dtypes,
)
def test_winograd_of_many_channels_is_within_its_bound(kind, shape, padding, filters, dtype):
    algorithm, size = kind
    assume(padding == "same" or min(shape[:2]) > 1)  # else no 5 x 5 kernel fits
    layer = built(ConvLayer(filters, kernel_size=size, padding=padding, algorithm=algorithm), shape, dtype)
    x = draw_frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@pytest.mark.parametrize("filters", [17, 1])  # many chunks of few rows, and few chunks of many rows
def test_a_convolution_of_many_rows_is_exact(filters):
    layer = ConvLayer(filters, kernel_size=3, padding="same", algorithm="direct")
    built(layer, (150, 160, 16), np.float32, True)
    x = draw_frames(layer, 3, integers=True)
    np.testing.assert_array_equal(layer(x), expected(layer, x))


@thorough
@given(st.data(), layers([FilterBankLayer]), st.sampled_from([1, 2, 9]))
def test_a_filter_bank_pooled_in_one_pass_gives_the_bits_of_the_two_layers(data, bank, n):
    cells = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
    pooling = PoolingLayer(cells, mode="adaptive_average").build(bank.output_shape, dtype=bank.dtype)
    x = draw_frames(bank, n)
    steps = PredictionPlan.of([bank, pooling], bank.input_shape).on_frames
    assert len(steps) == 1
    assert same_bits(steps[0].run(x), pooling(bank(x)))


def test_a_constant_shift_of_a_frame_does_not_change_the_responses_of_a_filter_bank():
    layer = built(FilterBankLayer(20, kernel_size=4), (12, 12, 3), np.float32, False)
    x = np.random.default_rng(0).integers(0, 128, (2, 12, 12, 3))
    shifted = layer(x + 100)
    assert (np.abs(shifted - layer(x)) <= rounding(layer, x) + rounding(layer, x + 100)).all()
    assert (shifted > 0).any()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_layout_of_an_array_does_not_matter_to_activations(function):
    x = np.random.default_rng(0).normal(size=(6, 5)).T
    assert not x.flags.c_contiguous
    assert same_bits(activate(x, function, 0.3), activate(np.ascontiguousarray(x), function, 0.3))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_activations_of_the_largest_and_smallest_numbers_are_finite(function):
    x = np.array([[-3e38, -1e4, -0.0, 0.0, 1e-45, 1e4, 3e38]], np.float32)
    layer = ActivationLayer(function).build((7,))
    y = layer(x)
    assert np.isfinite(y).all()
    assert (np.abs(y - expected(layer, x)) <= rounding(layer, x)).all()


def test_infinity_wins_a_maximum_and_minus_infinity_is_a_value_like_others():
    x = np.array([-np.inf, -np.inf, 2, np.inf], np.float32).reshape(1, 1, 4, 1)
    y = PoolingLayer((1, 2)).build((1, 4, 1))(x)
    np.testing.assert_array_equal(y.ravel(), [-np.inf, np.inf])


activations = st.builds(ActivationLayer, st.just("relu")) | st.builds(
    ActivationLayer, st.just("leaky_relu"), negative_slope=st.just(-0.5)
)


@settings(deadline=None, max_examples=400)
@given(st.data(), shapes(max_side=20), st.none() | activations, st.sampled_from([0, 1, 3]), st.booleans())
def test_layers_fused_into_one_pass_give_the_bits_of_the_layers(data, shape, activation, n, thin):
    chain = [data.draw(layers([ConvLayer], shape))]
    if activation:
        chain.append(activation.build(chain[-1].output_shape, dtype=chain[0].dtype))
    if data.draw(st.booleans(), "pooling"):
        chain.append(data.draw(layers([PoolingLayer], chain[-1].output_shape, dtype=chain[0].dtype)))
    x = draw_frames(chain[0], n)
    strips = importlib.import_module("framecnn.kernels.conv2d")  # the attribute of the package is the function
    with mock.patch.multiple(strips, STRIP_VALUES=1 if thin else 2**17, STRIP_OVERLAPS=0 if thin else 8):
        (step,) = PredictionPlan.of(chain, shape).on_frames
        y = step.run(x)
    for layer in chain:
        x = layer(x)
    assert same_bits(y, x)


def test_frames_of_many_tiles_are_within_the_bound_of_winograd():
    layer = built(ConvLayer(17, kernel_size=3, algorithm="winograd4"), (90, 91, 5), np.float32, False)
    x = draw_frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize(
    ("algorithm", "size", "shape", "filters", "groups"),
    [
        ("winograd4", 3, (13, 18, 5), 33, 1),
        ("winograd2", 3, (7, 7, 40), 17, 1),
        ("winograd2", 5, (5, 6, 3), 70, 1),
        ("winograd4", 3, (9, 11, 48), 72, 3),
        ("winograd4", 3, (1, 1, 1), 1, 1),
    ],
)
def test_large_weights_are_read_once_for_many_tiles_and_give_the_same_bits(
    algorithm, size, shape, filters, groups, rounds, monkeypatch
):
    settings = {"kernel_size": size, "padding": "same", "groups": groups, "algorithm": algorithm}
    chains = [
        [built(ConvLayer(filters, **settings), shape)],
        [built(ConvLayer(filters, **settings), shape), ActivationLayer("relu").build((*shape[:2], filters))],
        [built(ConvLayer(filters, **settings), shape), PoolingLayer(2, padding="same").build((*shape[:2], filters))],
        [ParallelLayer([[ConvLayer(shape[2], **settings)], []]).build(shape, seed=0)],
    ]
    for chain in chains[: 4 if shape[2] % groups == 0 else 3]:
        (step,) = PredictionPlan.of(chain, shape).on_frames
        for n in range(7):
            x = draw_frames(chain[0], n)
            by_block = step.run(x)
            taps = (int(algorithm[-1]) + size - 1) ** 2
            with monkeypatch.context() as patched:
                patched.setattr(winograd, "LARGE_WEIGHTS", 0)
                patched.setattr(winograd, "STAGE_VALUES", (10**9 if rounds == 1 else taps * (filters + shape[2]) * 9))
                for threads in (1, 2, 3):
                    with num_threads(threads):
                        assert same_bits(step.run(x), by_block), (n, threads)


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="only POSIX protects pages")
def test_nothing_is_read_beyond_a_block_that_is_not_pooled():
    block, page = filter_block(np.float32), mmap.PAGESIZE
    pages = mmap.mmap(-1, 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + page), page, 0) == 0  # reading there ends Python
    last = np.frombuffer(pages, np.float32, block, page - 4 * block)
    last[:] = np.arange(block)
    y = np.zeros(block, np.float32)
    move = numba.njit(lambda y, x, steps: pool_window(y, None, y[:0], 0, block, x, 0, steps, steps, 0, 0, 1.0))
    move(y, last, 1000)
    np.testing.assert_array_equal(y, last)


@thorough
@given(layers([DenseLayer]), activations, st.integers(0, 15))
def test_a_dense_layer_and_its_activation_in_one_pass_give_the_bits_of_the_layers(summing, activation, n):
    activation = activation.build(summing.output_shape, dtype=summing.dtype)
    x = draw_frames(summing, n)
    (step,) = PredictionPlan.of([summing, activation], summing.input_shape).on_rows
    assert same_bits(step.run(x), activation(summing(x)))


def test_kernels_refuse_to_mix_dtypes():
    with pytest.raises(TypingError, match="expected contiguous arrays of one dtype"):
        dense(np.ones((2, 3), np.float32), PackedDense.of(np.ones((3, 2), np.float64)))


def test_kernels_refuse_runs_that_are_not_int64():
    x, runs = np.ones(filter_block(np.float32) * 8, np.float32), np.zeros(1, np.int32)
    multiply = numba.njit(lambda x, runs: multiply_block(x, 0, 1, x, 0, 1, runs, 1, x, 0, x, 0))
    with pytest.raises(TypingError, match="expected int64 runs, got array\\(int32"):
        multiply(x, runs)


@pytest.mark.parametrize(
    ("function", "slope", "windows", "mode"),
    [
        ("relu", 0.0, None, "none"),
        ("relu", 0.0, (2, 1), "max"),  # windows that overlap
        ("relu", 0.0, (2, 2), "average"),
        ("leaky_relu", -0.5, (2, 2), "max"),  # falls below zero, so the largest pixel is not the largest activation
    ],
)
def test_a_convolution_refuses_to_locate_maxima_that_it_does_not_pool_in_registers(function, slope, windows, mode):
    packed = PackedConv.of("direct", np.ones((1, 1, 1, 1), np.float32), None, groups=1)
    size, step = windows or (1, 1)
    starts = np.arange(0, 5 - size, step)
    pooled = None if windows is None else ((starts, starts + size, 1),) * 2
    argmax = np.empty((1, len(starts), len(starts), 1), np.uint8)
    message = f"conv2d: expected argmax only with 2 x 2 max pooling .*, got mode '{mode}' after {function}"
    with pytest.raises(ShapeError, match=message):
        conv2d(np.ones((1, 4, 4, 1), np.float32), packed, Window((4, 4), (1, 1)), function, slope, pooled, mode, argmax)


def test_kernels_take_arrays_of_any_layout():
    rng = np.random.default_rng(0)
    x, weights = rng.integers(0, 9, (6, 5)).astype(np.float32), rng.integers(0, 9, (4, 6)).astype(np.float32).T
    np.testing.assert_array_equal(dense(x.T[:, ::-1], PackedDense.of(weights)), x.T[:, ::-1] @ weights)
    window = (np.array([0, 2]), np.array([2, 4]), 1)
    x = np.asfortranarray(rng.normal(size=(2, 4, 4, 3)))
    np.testing.assert_array_equal(pool2d(x, window, window, "max"), x.reshape(2, 2, 2, 2, 2, 3).max(axis=(2, 4)))
