"""Depthwise convolution: exact on integers at every size, forward and backward, and the same bits however it is run."""

import copy
import ctypes
import mmap
from itertools import product

import numpy as np
import pytest
from agreement import expected, rounding
from gradient_bounds import defined, gradients_for
from spreading import exact_and_spread

from framecnn import ActivationLayer, BatchNormLayer, ConvLayer, PoolingLayer, ScalingLayer, ShapeError, num_threads
from framecnn.geometry import Window
from framecnn.kernels import PackedConv, choose_algorithm, conv2d, expansion
from framecnn.networks.fusion import training_passes
from framecnn.networks.prediction import PredictionPlan
from framecnn.testing.draws import draw_frames, draw_params, same_bits

DTYPES = (np.float32, np.float64)
KERNELS = [(1, 1), (2, 3), (3, 3), (3, 1), (4, 2), (5, 5), (1, 5), (5, 4)]
BORDERS = ["same", ((8, 0), (1, 9)), ((0, 9), (8, 1))]


def make(layer, shape, dtype=np.float32, integers=False):
    """Return the layer built for a shape, parameters drawn."""
    return draw_params(copy.copy(layer).build(shape, dtype=dtype), integers)


def depthwise(shape, multiplier=1, dtype=np.float32, integers=False, **settings):
    """Return a built depthwise layer."""
    channels = shape[2]
    settings = {"kernel_size": 3, "padding": "same", "algorithm": "depthwise"} | settings
    return make(ConvLayer(channels * multiplier, groups=channels, **settings), shape, dtype, integers)


def sides(length, other, axis):
    """Return (height, width) with the length on an axis: 0 is the height, 1 the width."""
    return (length, other) if axis == 0 else (other, length)


def assert_defined(layer, n):
    """Fail unless output and gradients of integer-valued data are exactly those of the definition."""
    x = draw_frames(layer, n, integers=True)
    y, backward = layer.vjp(x)
    where = f"{layer!r} for {layer.input_shape} in {layer.dtype}"
    np.testing.assert_array_equal(y, expected(layer, x), where)
    dy = gradients_for(y, integers=True)
    dx, gradients = backward(dy)
    wanted, wanted_gradients = defined(layer, x, dy)
    np.testing.assert_array_equal(dx, wanted, f"dx of {where}")
    for name, value in wanted_gradients.items():
        np.testing.assert_array_equal(gradients[name], value, f"{name} of {where}")


@pytest.mark.parametrize("multiplier", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_channels_gives_the_defined_integers(multiplier, dtype):
    for channels in range(1, 41):
        size, strides = KERNELS[channels % len(KERNELS)], 1 + channels % 3
        assert_defined(depthwise((5, 9, channels), multiplier, dtype, True, kernel_size=size, strides=strides), n=2)
        assert_defined(depthwise((4, 8, channels), multiplier, dtype, True), n=1)


@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
def test_every_side_gives_the_defined_integers(axis, strides, dilation):
    for length, (number, size) in product(range(1, 21), enumerate(KERNELS)):
        shape = (*sides(length, 3 + number, axis), (1, 5, 16, 19)[length % 4])
        padding = BORDERS[(length + number) % len(BORDERS)]
        setting = {"kernel_size": size, "strides": strides, "dilation_rate": dilation, "padding": padding}
        dtype = DTYPES[length % 2]
        assert_defined(depthwise(shape, 1 + number % 2, dtype, True, **setting), n=1 + length % 2)


def test_strides_and_dilations_that_differ_along_the_axes_give_the_defined_integers():
    for strides, dilation in product(product([1, 2, 3, 4], repeat=2), product([1, 2, 3], repeat=2)):
        setting = {"kernel_size": (3, 2), "strides": strides, "dilation_rate": dilation}
        assert_defined(depthwise((13, 12, 17), 1, np.float32, True, **setting), n=1)


def test_windows_that_lie_in_the_border_are_the_bias():
    layer = depthwise((2, 2, 3), 1, np.float32, True, kernel_size=2, padding=((5, 4), (3, 6)))
    assert_defined(layer, n=1)
    assert_defined(depthwise((2, 3, 18), 2, np.float32, True, padding=((9, 0), (0, 9)), strides=3), n=1)


def test_every_part_of_a_large_gradient_is_added_up():
    assert_defined(depthwise((70, 65, 50), 1, np.float32, True), n=1)
    assert_defined(depthwise((31, 33, 18), 3, np.float32, True, strides=2, padding="valid"), n=9)


@pytest.mark.parametrize("size", [3, 5, (4, 3)])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_floats_are_within_the_bound(size, strides, dtype):
    for width in range(1, 31):
        layer = depthwise((11, width, 1 + 3 * width), 1, dtype, kernel_size=size, strides=strides)
        x = draw_frames(layer, 2)
        assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all(), layer.input_shape


@pytest.mark.parametrize("multiplier", [1, 2])
def test_bits_depend_neither_on_threads_nor_on_the_batch(multiplier):
    layer = depthwise((40, 41, 70), multiplier, kernel_size=5, strides=2)
    x = draw_frames(layer, 5)
    with num_threads(1):
        y, backward = layer.vjp(x)
        dy = gradients_for(y)
        dx, gradients = backward(dy)
    with num_threads(2):
        other, backward = layer.vjp(x)
        other_dx, other_gradients = backward(dy)
    assert same_bits(y, other)
    assert same_bits(dx, other_dx)
    assert all(same_bits(gradients[name], other_gradients[name]) for name in gradients)
    for n in range(1, 5):
        assert same_bits(layer(x[:n]), y[:n])
        assert same_bits(layer.vjp(x[:n])[1](dy[:n])[0], dx[:n])


POOLINGS = [
    None,
    {"pool_size": 2},
    {"pool_size": 2, "mode": "average"},
    {"pool_size": 3, "strides": 2, "padding": "same"},
    {"pool_size": (2, 3), "mode": "adaptive_average"},
]
ACTIVATIONS = [ActivationLayer("relu"), ActivationLayer("leaky_relu", negative_slope=-0.5)]


@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_one_pass_gives_the_bits_of_its_layers(pooling):
    for width, act in product(range(4, 30), ACTIVATIONS):
        chain = [depthwise((7 + width % 3, width, 1 + width), 1 + width % 2)]
        chain.append(make(act, chain[-1].output_shape))
        if pooling:
            chain.append(make(PoolingLayer(**pooling), chain[-1].output_shape))
        x = draw_frames(chain[0], 2)
        (step,) = PredictionPlan.of(chain, chain[0].input_shape).on_frames
        y = step.run(x)
        for layer in chain:
            x = layer(x)
        assert same_bits(y, x), (width, act)


EXPANDED = [  # frame, filters, settings of the depthwise convolution
    ((40, 30, 5), 70, {}),
    ((61, 9, 1), 33, {"strides": 2}),
    ((30, 33, 40), 64, {"strides": (1, 3), "kernel_size": (1, 5)}),
    ((57, 16, 7), 96, {"kernel_size": 5, "padding": ((0, 3), (4, 1))}),
    ((90, 11, 3), 48, {"dilation_rate": (3, 2), "use_bias": False}),
    ((50, 20, 3), 40, {"padding": ((9, 8), (9, 0)), "strides": (2, 1)}),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("frame", "filters", "settings"), EXPANDED, ids=str)
def test_an_expansion_is_never_written_and_gives_the_bits_of_its_layers(frame, filters, settings, dtype, monkeypatch):
    monkeypatch.setattr(expansion, "LARGE_MAP", 0)
    monkeypatch.setattr(expansion, "MOST_REPEATED", 1)
    activations = [ActivationLayer("relu6"), ActivationLayer("hard_swish")]
    for number, strip in enumerate((0, 4000, 10**6)):
        chain = [make(ConvLayer(filters, kernel_size=1, use_bias=number != 1), frame, dtype)]
        chain += [make(activations[0], chain[-1].output_shape, dtype)] if number else []
        chain.append(depthwise(chain[-1].output_shape, dtype=dtype, **settings))
        chain += [make(activations[1], chain[-1].output_shape, dtype)] if number != 1 else []
        with monkeypatch.context() as patched:
            patched.setattr(expansion, "STRIP_VALUES", 10**9)
            plan = PredictionPlan.of(chain, frame)
        (step,) = plan.on_frames
        monkeypatch.setattr(expansion, "STRIP_VALUES", strip)
        for n in (0, 1, 3):
            x = z = draw_frames(chain[0], n)
            for layer in chain:
                z = layer(z)
            for threads in (1, 3):
                with num_threads(threads):
                    assert same_bits(step.run(x), z), (strip, n, threads)


def test_normalisations_are_folded_into_an_expansion_and_its_depthwise_convolution(monkeypatch):
    monkeypatch.setattr(expansion, "LARGE_MAP", 0)
    monkeypatch.setattr(expansion, "MOST_REPEATED", 1)
    chain = [make(ConvLayer(40, kernel_size=1), (24, 20, 6))]
    chain += [make(BatchNormLayer(), (24, 20, 40)), make(ActivationLayer("relu6"), (24, 20, 40))]
    chain += [depthwise((24, 20, 40)), make(ScalingLayer(), (24, 20, 40))]
    x = draw_frames(chain[0], 2)
    (step,) = PredictionPlan.of(chain, chain[0].input_shape).on_frames
    exact, spread = exact_and_spread(chain, x)
    assert (np.abs(step.run(x) - exact) <= 2 * spread).all()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"kernel_size": 3, "padding": "same"}, {}),
        ({"kernel_size": 1, "strides": 2}, {}),
        ({"kernel_size": 1, "padding": ((0, 1), (0, 0))}, {}),
        ({"kernel_size": 1, "groups": 2}, {}),
        ({"kernel_size": 1}, {"groups": 1}),
        ({"kernel_size": 1}, {"groups": 512}),
        ({"kernel_size": 1}, {"filters": 2048}),
        ({"kernel_size": 1}, {"algorithm": "direct"}),
        ({"kernel_size": 1, "filters": 16}, {"filters": 16, "groups": 16}),
    ],
    ids=str,
)
def test_other_pairs_of_convolutions_and_small_maps_are_two_passes(first, second):
    chain = [
        ConvLayer(**({"filters": 1024} | first)),
        ConvLayer(**({"filters": 1024, "groups": 1024, "kernel_size": 3} | second)),
    ]
    plans = [PredictionPlan.of(layers, (40, 40, 4)).on_frames for layers in (chain, [chain[0]])]
    assert [len(plan) for plan in plans] == [2, 1]


def test_a_normalisation_is_folded_into_the_kernel():
    for channels in range(1, 41, 3):
        chain = [depthwise((6, 9, channels), 1 + channels % 2)]
        for layer in (BatchNormLayer(), ActivationLayer("relu")):
            chain.append(make(layer, chain[-1].output_shape))
        x = draw_frames(chain[0], 2)
        (step,) = PredictionPlan.of(chain, chain[0].input_shape).on_frames
        exact, spread = exact_and_spread(chain, x)
        assert (np.abs(step.run(x) - exact) <= 2 * spread).all(), channels


def test_training_with_pooling_gives_the_bits_of_its_layers():
    for width in range(2, 24):
        chain = [depthwise((6, width, 3 + width), 1 + width % 2)]
        chain += [make(ActivationLayer("relu"), chain[-1].output_shape), make(PoolingLayer(2), chain[-1].output_shape)]
        (step,) = training_passes(chain, chain[0].input_shape)
        x = draw_frames(chain[0], 2)
        y, backward = step.vjp(x, None)
        dx, gradients = backward(dy := gradients_for(y))
        z, backwards = x, []
        for layer in chain:
            z, back = layer.vjp(z)
            backwards.append(back)
        assert same_bits(y, z), width
        for back in reversed(backwards):
            dy, own = back(dy)
        np.testing.assert_array_equal(dx, dy, f"dx for {width}")
        for name, value in own.items():
            np.testing.assert_array_equal(gradients[name], value, f"{name} for {width}")


def test_auto_is_depthwise_for_as_many_groups_as_channels():
    kernel, window = np.zeros((3, 3, 1, 32), np.float32), Window((9, 9), (3, 3))
    assert choose_algorithm(kernel, window, groups=32) == "depthwise"
    assert choose_algorithm(kernel.astype(np.float64), window, groups=16) == "depthwise"
    assert choose_algorithm(kernel, window, groups=1) != "depthwise"
    assert choose_algorithm(np.zeros((3, 3, 2, 32), np.float32), window, groups=16) == "direct"


def test_direct_computes_the_same_integers():
    layer = make(ConvLayer(40, kernel_size=3, strides=2, groups=20, algorithm="direct"), (9, 12, 20), integers=True)
    assert_defined(layer, n=2)


def test_depthwise_needs_as_many_groups_as_channels():
    message = "ConvLayer: expected as many channels as groups for 'depthwise', got 6 channels and 3 groups; use"
    with pytest.raises(ShapeError, match=message):
        ConvLayer(6, kernel_size=3, groups=3, algorithm="depthwise").build((9, 9, 6))


@pytest.mark.skipif(not hasattr(mmap, "PROT_READ"), reason="only POSIX protects pages")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_frames", [2, 17, 33, 65, 130, 200])
def test_every_frame_of_a_batch_adds_to_the_gradients(n_frames, dtype):
    """With few channels a part has many frames: all of them must count, however many there are."""
    for channels, multiplier in ((1, 2), (2, 1), (3, 1), (4, 2), (8, 1), (16, 1), (33, 1)):
        layer = ConvLayer(channels * multiplier, kernel_size=3, groups=channels, padding="same", algorithm="depthwise")
        layer = draw_params(layer.build((5, 4, channels), dtype=dtype), integers=True)
        x = draw_frames(layer, n_frames, integers=True)
        y, backward = layer.vjp(x)
        dy = np.arange(y.size, dtype=dtype).reshape(y.shape) % 5 - 2
        _, found = backward(dy)
        np.testing.assert_array_equal(found["bias"], dy.sum(axis=(0, 1, 2)))
        np.testing.assert_array_equal(found["kernel"][1, 1, 0], (np.repeat(x, multiplier, axis=3) * dy).sum((0, 1, 2)))


@pytest.mark.parametrize("channels", [1, 3, 15, 17, 33])
def test_nothing_is_read_behind_a_frame(channels):
    page, shape = mmap.PAGESIZE, (1, 4, 5, channels)
    size = int(np.prod(shape)) * 4
    pages = mmap.mmap(-1, 3 * page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert libc.mprotect(address + 2 * page, page, 0) == 0
    x = np.frombuffer((ctypes.c_char * size).from_address(address + 2 * page - size), np.float32).reshape(shape)
    kernel = np.ones((3, 3, 1, channels), np.float32)
    y = conv2d(x, PackedConv.of("depthwise", kernel, None, channels), Window((4, 5), (3, 3)))
    assert not y.any()
    assert libc.mprotect(address + 2 * page, page, mmap.PROT_READ | mmap.PROT_WRITE) == 0
