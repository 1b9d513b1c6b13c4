"""The fast kernels against their definitions in kernels/reference.py."""

import copy
import ctypes
import mmap
import os
import subprocess
import sys
from unittest import mock

import numba
import numpy as np
import pytest
from agreement import expected, frames, rounding, same_bits
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numba.core.errors import TypingError

from framecnn import ActivationLayer, ConvLayer, DenseLayer, FilterBankLayer, PoolingLayer, ShapeError
from framecnn.kernels import PackedDense, activate, convolution, dense, pool2d, reference
from framecnn.kernels.microkernel import filter_block
from framecnn.kernels.tiles import pool_window
from framecnn.plan import plan

thorough = settings(deadline=None, max_examples=150)
few = st.integers(1, 3)
pairs = st.tuples(few, few)
sides = st.integers(0, 3)
paddings = st.sampled_from(["valid", "same"]) | st.tuples(st.tuples(sides, sides), st.tuples(sides, sides))
shapes = st.tuples(st.integers(1, 12), st.integers(1, 30), st.integers(1, 4))
dtypes = st.sampled_from([np.float32, np.float64])


def build(layer, shape, dtype, whole):
    """Build a layer with drawn parameters, whole numbers below 16 or floats; frames it does not fit are not tested."""
    try:
        layer.build(shape, dtype=dtype)
    except ShapeError:
        assume(False)
    rng = np.random.default_rng(3)
    for name, value in layer.params.items():
        layer.params[name] = rng.integers(-15, 16, value.shape) if whole else rng.normal(size=value.shape)
    return layer


@thorough
@given(st.data(), shapes, pairs, pairs, pairs, paddings, few, st.integers(1, 18), st.booleans(), dtypes, st.booleans())
def test_convolution_is_what_the_definition_says(
    data, shape, window, strides, dilation, padding, groups, own, bias, dtype, whole
):
    shape = (*shape[:2], groups * data.draw(st.integers(1, 4)))
    layer = ConvLayer(
        groups * own,
        kernel_size=window,
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        groups=groups,
        use_bias=bias,
        algorithm="direct",
    )
    build(layer, shape, dtype, whole)
    x = frames(layer, 2, whole)
    error = np.abs(layer(x) - expected(layer, x))
    assert (error <= (0 if whole else rounding(layer, x))).all()


def test_a_convolution_over_rows_longer_than_the_buffer_is_exact():
    layer = build(ConvLayer(3, kernel_size=(5, 3), strides=(2, 1), padding="same"), (9, 20_000, 4), np.float32, True)
    x = frames(layer, 1, whole=True)
    np.testing.assert_array_equal(layer(x), expected(layer, x))


@thorough
@given(
    st.sampled_from(["auto", "winograd2", "winograd4"]),
    st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 40)),
    paddings,
    st.integers(1, 40),
    dtypes,
)
def test_winograd_is_within_its_bound(algorithm, shape, padding, filters, dtype):
    layer = build(ConvLayer(filters, kernel_size=3, padding=padding, algorithm=algorithm), shape, dtype, False)
    x = frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@pytest.mark.parametrize("filters", [17, 1])  # a chunk for every few rows, and few chunks of many rows
def test_a_convolution_of_many_rows_is_exact(filters):
    layer = ConvLayer(filters, kernel_size=3, padding="same", algorithm="direct")
    build(layer, (150, 160, 16), np.float32, True)
    x = frames(layer, 3, whole=True)
    np.testing.assert_array_equal(layer(x), expected(layer, x))


@thorough
@given(shapes, pairs, pairs, pairs, paddings, st.sampled_from(["max", "average"]), dtypes)
def test_pooling_is_what_the_definition_says(shape, window, strides, dilation, padding, mode, dtype):
    layer = PoolingLayer(window, strides=strides, padding=padding, dilation_rate=dilation, mode=mode)
    build(layer, shape, dtype, False)
    x = frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@thorough
@given(shapes, st.tuples(st.integers(1, 7), st.integers(1, 7)), st.sampled_from(["max", "average"]), dtypes)
def test_adaptive_pooling_is_what_the_definition_says(shape, cells, mode, dtype):
    layer = build(PoolingLayer(cells, mode=f"adaptive_{mode}"), shape, dtype, False)
    x = frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@thorough
@given(st.integers(0, 15), st.integers(1, 40), st.integers(1, 70), st.booleans(), dtypes, st.booleans())
def test_a_dense_layer_is_what_the_definition_says(n, features, units, bias, dtype, whole):
    layer = build(DenseLayer(units, use_bias=bias), (features,), dtype, whole)
    x = frames(layer, n, whole)
    assert (np.abs(layer(x) - expected(layer, x)) <= (0 if whole else rounding(layer, x))).all()


banks = st.builds(
    lambda filters, window, strides, contrast, thresholds: FilterBankLayer(
        filters, kernel_size=window, strides=strides, contrast=contrast, thresholds=thresholds
    ),
    st.integers(1, 40),
    pairs,
    pairs,
    st.sampled_from([0.1, 10.0, 1000.0]),
    st.sampled_from([(0.0,), (0.25, 0.75), (-1.0, 0.5, 2.0)]),
)


@thorough
@given(banks, shapes, dtypes)
def test_a_filter_bank_is_what_the_definition_says(layer, shape, dtype):
    build(layer, shape, dtype, False)
    x = frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@thorough
@given(banks, shapes, st.tuples(st.integers(1, 6), st.integers(1, 6)), st.sampled_from([1, 2, 9]), dtypes)
def test_a_filter_bank_pooled_in_one_pass_gives_the_bits_of_the_two_layers(bank, shape, cells, n, dtype):
    build(bank, shape, dtype, False)
    pooling = PoolingLayer(cells, mode="adaptive_average").build(bank.output_shape, dtype=dtype)
    x = frames(bank, n)
    steps = plan([bank, pooling], bank.input_shape).on_frames
    assert len(steps) == 1
    assert same_bits(steps[0].run(x), pooling(bank(x)))


def test_a_constant_shift_of_a_frame_does_not_change_what_a_filter_bank_answers():
    layer = build(FilterBankLayer(20, kernel_size=4), (12, 12, 3), np.float32, False)
    x = np.random.default_rng(0).integers(0, 128, (2, 12, 12, 3))
    shifted = layer(x + 100)
    assert (np.abs(shifted - layer(x)) <= rounding(layer, x) + rounding(layer, x + 100)).all()
    assert (shifted > 0).any()


@pytest.mark.parametrize("function", ["relu", "leaky_relu", "sigmoid", "tanh", "softmax", "sqrt"])
def test_the_layout_of_an_array_does_not_matter_to_activations(function):
    x = np.random.default_rng(0).normal(size=(6, 5)).T
    assert not x.flags.c_contiguous
    assert same_bits(activate(x, function, 0.3), activate(np.ascontiguousarray(x), function, 0.3))


@pytest.mark.parametrize("function", ["relu", "leaky_relu", "sigmoid", "tanh", "softmax", "sqrt"])
def test_activations_stay_finite_at_the_ends_of_the_scale(function):
    x = np.array([[-3e38, -1e4, -0.0, 0.0, 1e-45, 1e4, 3e38]], np.float32)
    y = activate(x, function, 0.3)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y, reference.activation(x, function), rtol=1e-6, atol=1e-38)


def test_infinity_wins_a_maximum_and_minus_infinity_is_a_value_like_others():
    x = np.array([-np.inf, -np.inf, 2, np.inf], np.float32).reshape(1, 1, 4, 1)
    y = PoolingLayer((1, 2)).build((1, 4, 1))(x)
    np.testing.assert_array_equal(y.ravel(), [-np.inf, np.inf])


poolings = st.one_of(
    st.builds(PoolingLayer, st.just(2), mode=st.sampled_from(["max", "average"])),
    st.builds(
        PoolingLayer,
        pairs,
        strides=pairs,
        padding=paddings,
        dilation_rate=pairs,
        mode=st.sampled_from(["max", "average"]),
    ),
    st.builds(PoolingLayer, pairs, mode=st.sampled_from(["adaptive_max", "adaptive_average"])),
)
activations = st.sampled_from([ActivationLayer("relu"), ActivationLayer("leaky_relu", negative_slope=-0.5)])


def direct(groups, own, window, strides, dilation, padding):
    """A direct convolution of any kind."""
    settings_of_it = {"kernel_size": window, "strides": strides, "dilation_rate": dilation, "padding": padding}
    return ConvLayer(groups * own, groups=groups, algorithm="direct", **settings_of_it)


convolutions = st.one_of(
    st.builds(direct, few, st.integers(1, 18), pairs, pairs, pairs, paddings),
    st.builds(
        lambda filters, padding, algorithm: ConvLayer(filters, kernel_size=3, padding=padding, algorithm=algorithm),
        st.integers(1, 40),
        paddings,
        st.sampled_from(["winograd2", "winograd4"]),
    ),
)


@settings(deadline=None, max_examples=400)
@given(
    convolutions,
    shapes,
    st.none() | activations,
    st.none() | poolings,
    st.sampled_from([0, 1, 3]),
    dtypes,
    st.booleans(),
)
def test_what_runs_in_one_pass_gives_the_bits_of_the_layers(conv, shape, activation, pooling, n, dtype, thin):
    shape = (*shape[:2], shape[2] * conv.groups)
    layers = [conv, *[copy.copy(layer) for layer in (activation, pooling) if layer is not None]]
    for layer in layers:
        shape = build(layer, shape, dtype, False).output_shape
    x = frames(conv, n)
    with mock.patch.multiple(convolution, STRIP_BYTES=1 if thin else 2**19, STRIP_REACH=0 if thin else 8):
        (step,) = plan(layers, conv.input_shape).on_frames
        y = step.run(x)
    for layer in layers:
        x = layer(x)
    assert same_bits(y, x)


def test_frames_of_many_tiles_are_within_the_bound_of_winograd():
    layer = build(ConvLayer(17, kernel_size=3, algorithm="winograd4"), (90, 91, 5), np.float32, False)
    x = frames(layer, 2)
    assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all()


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="only POSIX protects pages")
def test_nothing_is_read_beyond_a_block_that_is_not_pooled():
    block, page = filter_block(np.float32), mmap.PAGESIZE
    pages = mmap.mmap(-1, 2 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address + page), page, 0) == 0  # reading there ends Python
    last = np.frombuffer(pages, np.float32, block, page - 4 * block)
    last[:] = np.arange(block)
    y = np.zeros(block, np.float32)
    nowhere = np.empty(0, np.uint8)
    move = numba.njit(lambda y, x, steps: pool_window(y, nowhere, 0, block, x, 0, steps, steps, 0))
    move(y, last, 1000)
    np.testing.assert_array_equal(y, last)


@thorough
@given(st.integers(0, 15), st.integers(1, 40), st.integers(1, 70), activations, dtypes)
def test_a_dense_layer_and_its_activation_in_one_pass_give_the_bits_of_the_layers(
    n, features, units, activation, dtype
):
    dense_layer = build(DenseLayer(units), (features,), dtype, False)
    activation = copy.copy(activation).build((units,), dtype=dtype)
    x = frames(dense_layer, n)
    (step,) = plan([dense_layer, activation], (features,)).on_rows
    assert same_bits(step.run(x), activation(dense_layer(x)))


def test_kernels_refuse_to_mix_dtypes():
    with pytest.raises(TypingError, match="expected contiguous arrays of one dtype"):
        dense(np.ones((2, 3), np.float32), PackedDense.of(np.ones((3, 2), np.float64)))


def test_kernels_take_arrays_of_any_layout():
    rng = np.random.default_rng(0)
    x, weights = rng.integers(0, 9, (6, 5)).astype(np.float32), rng.integers(0, 9, (4, 6)).astype(np.float32).T
    np.testing.assert_array_equal(dense(x.T[:, ::-1], PackedDense.of(weights)), x.T[:, ::-1] @ weights)
    window = (np.array([0, 2]), np.array([2, 4]), 1)
    x = np.asfortranarray(rng.normal(size=(2, 4, 4, 3)))
    np.testing.assert_array_equal(pool2d(x, window, window, "max"), x.reshape(2, 2, 2, 2, 2, 3).max(axis=(2, 4)))


CPU_SCRIPT = """
import numpy as np
from agreement import CASES, built, expected, frames, is_exact, rounding
from framecnn.kernels.jit import cpu_kind
from framecnn.kernels.microkernel import PIXELS, filter_block
for name, case in CASES.items():
    if name.split("-")[0] in ("ConvLayer", "DenseLayer", "FilterBankLayer"):
        for whole in (True, False):
            layer = built(case, np.float32, whole)
            x = frames(layer, 3, whole)
            bound = 0 if whole and is_exact(layer) else rounding(layer, x)
            assert (np.abs(layer(x) - expected(layer, x)) <= bound).all(), name
print(cpu_kind(), PIXELS, filter_block(np.float32))
"""


def python_with(script, **environment):
    """Run a script in a fresh Python beside the tests."""
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=os.path.dirname(__file__),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("kind", "block"), [("avx512", "8 32"), ("avx2", "6 16"), ("plain", "4 8")])
def test_every_kind_of_cpu_gives_the_defined_numbers(kind, block):
    done = python_with(CPU_SCRIPT, FRAMECNN_CPU=kind)
    assert (done.stdout, done.stderr) == (f"{kind} {block}\n", "")


def test_an_unknown_kind_of_cpu_is_refused():
    done = python_with("import framecnn.kernels", FRAMECNN_CPU="nonsense")
    assert done.returncode == 1
    assert done.stderr.endswith(
        "framecnn.errors.SettingError: FRAMECNN_CPU: expected one of avx512, avx2, plain, got 'nonsense'; unset it\n"
    )
