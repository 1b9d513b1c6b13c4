"""Every size in turn: fused passes give the bits of their layers, and kernels the defined integers.

Kernels work in blocks of pixels, filters, tiles and rows, so an error may appear at one width in ten only. Sizes are
therefore enumerated instead of drawn. ``FRAMECNN_LONG_TESTS=1`` walks the full product of sizes and settings (half an
hour); `.ci/run` walks the short one under every instruction set (``FRAMECNN_ISA``).
"""

import copy
import os
from itertools import product

import numpy as np
import pytest
from agreement import expected, rounding
from gradient_bounds import defined, gradients_for, rounding_backward
from spreading import exact_and_spread

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    FilterBankLayer,
    PoolingLayer,
)
from framecnn.kernels import FUNCTIONS
from framecnn.networks.fusion import training_passes
from framecnn.networks.prediction import PredictionPlan
from framecnn.testing.draws import difference, draw_frames, draw_params, same_bits

LONG = os.environ.get("FRAMECNN_LONG_TESTS") == "1"
GRIDS = list(product(range(1, 7), repeat=2))
STEPS = list(product([1, 2, 3], [3, 1, 6]))  # strides and kernel size
THRESHOLDS = [(0.25, 0.75), (0.0,), (-1.0, 0.5, 2.0)]
ALGORITHMS = ["direct", "winograd2", "winograd4"]
POOLINGS = [
    {"pool_size": 2},
    {"pool_size": 2, "mode": "average"},
    {"pool_size": 3, "strides": 2, "padding": "same"},
    {"pool_size": (2, 3), "strides": 1, "mode": "average", "padding": "same"},
    {"pool_size": (2, 3), "mode": "adaptive_average"},
    {"pool_size": (3, 2), "mode": "adaptive_max"},
]
RELU, LEAKY = ActivationLayer("relu"), ActivationLayer("leaky_relu", negative_slope=-0.5)


def make(layer, shape, dtype=np.float32, integers=False):
    """Return the layer built for a shape, parameters drawn."""
    return draw_params(copy.copy(layer).build(shape, dtype=dtype), integers)


def layer_by_layer(chain, x):
    """Return the output of layers, each run alone."""
    for layer in chain:
        x = layer(x)
    return x


def assert_bits(chain, x, where):
    """Fail unless the plan of a chain is one pass with the bits of its layers."""
    planned = PredictionPlan.of(chain, chain[0].input_shape)
    (step,) = (*planned.on_frames, *planned.on_rows)
    y, wanted = step.run(x), layer_by_layer(chain, x)
    assert same_bits(y, wanted), f"{where}: {difference(y, wanted)}"


def sides(length, other, axis):
    """Return (height, width) with the length on an axis: 0 is the height, 1 the width."""
    return (length, other) if axis == 0 else (other, length)


@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
def test_a_filter_bank_averaged_in_one_pass_at_every_size(axis):
    for length in range(1, 201):
        others = [3, 4, 9, 23] if LONG else [3 + length % 5]
        steps = STEPS if LONG else [STEPS[length % len(STEPS)]]
        for number, (other, (strides, size)) in enumerate(product(others, steps)):
            shape = (*sides(length, max(other, size), axis), 1)
            if length < size:
                continue
            thresholds = THRESHOLDS[(length + number) % len(THRESHOLDS)]
            setting = {"kernel_size": size, "strides": strides, "thresholds": thresholds}
            bank = make(FilterBankLayer(4, **setting), shape)
            x = draw_frames(bank, 2)
            responses = bank(x)
            grids = GRIDS if LONG else [sides(cells, 1 + length % 3, axis) for cells in range(1, 7)]
            for grid in grids:
                pooling = make(PoolingLayer(grid, mode="adaptive_average"), bank.output_shape)
                (step,) = PredictionPlan.of([bank, pooling], shape).on_frames
                y, wanted = step.run(x), pooling(responses)
                assert same_bits(y, wanted), f"{shape}, {setting}, grid {grid}: {difference(y, wanted)}"


@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
def test_a_constant_frame_averages_to_its_one_response_at_every_size(axis):
    """Every window counts once in each cell that it lies in; sums are exact, a mean rounds 1 / n and a product."""
    for length, cells in product(range(1, 201), range(1, 7)):
        shape = (*sides(length, 2, axis), 1)
        bank = FilterBankLayer(3, kernel_size=1, thresholds=(0.0, 1.0)).build(shape)
        bank.params["bias"] = np.array([2, 3, 4], np.float32)
        (step,) = PredictionPlan.of(
            [bank, PoolingLayer(sides(cells, 2, axis), mode="adaptive_average")], shape
        ).on_frames
        y = step.run(np.full((1, *shape), 7, np.float32))
        rounded = 2 * np.finfo(np.float32).eps
        np.testing.assert_allclose(y, np.broadcast_to([2, 3, 4, 1, 2, 3], y.shape), rounded, 0, err_msg=f"{shape}")


@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_convolution_activated_and_pooled_in_one_pass_at_every_size(algorithm, axis):
    for length in range(1, 201 if LONG else 71):
        poolings = [None, *POOLINGS] if LONG or length <= 40 else [POOLINGS[length % len(POOLINGS)]]
        for other, pooling, act in product([3, 8, 17] if LONG else [3 + length % 7], poolings, [RELU, LEAKY]):
            shape = (*sides(length, other, axis), 2)
            chain = [make(ConvLayer(5, kernel_size=3, padding="same", algorithm=algorithm), shape)]
            chain.append(make(act, chain[-1].output_shape))
            if pooling:
                if pooling.get("padding") != "same" and "adaptive" not in pooling.get("mode", "") and length < 2:
                    continue
                chain.append(make(PoolingLayer(**pooling), chain[-1].output_shape))
            assert_bits(chain, draw_frames(chain[0], 2), f"{shape}, {act.function}, {pooling}")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("pooling", [None, *POOLINGS], ids=str)
def test_a_map_pooled_strip_by_strip_at_every_height(pooling, algorithm):
    for height in range(2, 201, 1 if LONG else 3):
        shape = (height, 13, 1)
        layer = ConvLayer(260, kernel_size=3, padding="same", algorithm=algorithm)  # 13 KB a row: strips of 37 rows
        chain = [make(layer, shape)]
        if pooling:
            chain.append(make(PoolingLayer(**pooling), chain[-1].output_shape))
        assert_bits(chain, draw_frames(chain[0], 1), f"{shape}")


@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_normalised_convolution_in_one_pass_at_every_size(algorithm, axis):
    """Folding rounds kernel and bias once more, hence twice the bound of the layers one after the other."""
    for length in range(1, 201 if LONG else 71):
        shape = (*sides(length, 4, axis), 2)
        chain = [make(ConvLayer(3, kernel_size=3, padding="same", algorithm=algorithm), shape)]
        for layer in (BatchNormLayer(), RELU, PoolingLayer(**POOLINGS[2 + length % 4])):
            chain.append(make(layer, chain[-1].output_shape))
            x = draw_frames(chain[0], 2)
            (step,) = PredictionPlan.of(chain, shape).on_frames
            exact, spread = exact_and_spread(chain, x)
            assert (np.abs(step.run(x) - exact) <= 2 * spread).all(), f"{shape}, {layer!r}"


@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
def test_a_direct_convolution_and_its_gradients_give_the_defined_integers_at_every_size(axis):
    steps = [{}, {"strides": 2}, {"dilation_rate": 2}, {"padding": "same"}, {"padding": ((0, 1), (2, 0)), "strides": 3}]
    for length in range(1, 201):
        for setting in steps if LONG else [steps[length % len(steps)]]:
            shape = (*sides(length, 5 + length % 3, axis), 1 + length % 3)
            if length < 5 and setting.get("padding") != "same":
                continue
            layer = make(ConvLayer(3, kernel_size=3, algorithm="direct", **setting), shape, integers=True)
            assert_defined(layer, n=1 + length % 3)


@pytest.mark.parametrize("what", ["channels", "filters"])
def test_a_convolution_and_its_gradients_give_the_defined_integers_at_every_depth(what):
    for depth in range(1, 201 if LONG else 71):
        channels, filters = (depth, 3) if what == "channels" else (2, depth)
        layer = make(ConvLayer(filters, kernel_size=3, algorithm="direct"), (4, 9, channels), integers=True)
        assert_defined(layer, n=2)


@pytest.mark.parametrize("what", ["channels", "filters"])
@pytest.mark.parametrize("algorithm", ["winograd2", "winograd4"])
def test_winograd_is_within_its_bound_at_every_depth(algorithm, what):
    for depth in range(1, 201 if LONG else 71):
        channels, filters = (depth, 3) if what == "channels" else (2, depth)
        layer = make(ConvLayer(filters, kernel_size=3, algorithm=algorithm), (5, 8, channels))
        x = draw_frames(layer, 2)
        assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all(), (channels, filters)


def assert_defined(layer, n):
    """Fail unless output and gradients of integer-valued data are exactly those of the definition."""
    x = draw_frames(layer, n, integers=True)
    np.testing.assert_array_equal(layer(x), expected(layer, x), repr(layer))
    y, backward = layer.vjp(x)
    dy = gradients_for(y, integers=True)
    dx, gradients = backward(dy)
    wanted, wanted_gradients = defined(layer, x, dy)
    np.testing.assert_array_equal(dx, wanted, f"dx of {layer!r} for {layer.input_shape}")
    for name, value in wanted_gradients.items():
        np.testing.assert_array_equal(gradients[name], value, f"{name} of {layer!r} for {layer.input_shape}")


@pytest.mark.parametrize("walked", ["samples", "features", "units"])
def test_a_dense_layer_gives_the_defined_integers_at_every_size(walked):
    for length in range(1, 201 if LONG else 101):
        n, features, units = (length if name == walked else fixed for name, fixed in DENSE_SIZES)
        layer = make(DenseLayer(units), (features,), integers=True)
        assert_defined(layer, n)
        assert_bits([layer, make(RELU, (units,))], draw_frames(layer, n), (n, features, units))


DENSE_SIZES = (("samples", 3), ("features", 7), ("units", 9))


@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
@pytest.mark.parametrize("pooling", [*POOLINGS, {"factor": (2, 3)}, {"factor": 3, "mode": "stride"}], ids=str)
def test_pooling_and_its_gradient_at_every_size(pooling, axis):
    kind = DownsamplingLayer if "factor" in pooling else PoolingLayer
    for length in range(3, 201 if LONG else 36):
        layer = make(kind(**pooling), (*sides(length, 3, axis), 1 + length % 18))
        x = draw_frames(layer, 1)
        assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all(), layer.input_shape
        y, backward = layer.vjp(x)
        dy = gradients_for(y)
        wanted, _ = defined(layer, x, dy)
        assert (np.abs(backward(dy)[0] - wanted) <= rounding_backward(layer, x, dy)[0]).all(), layer.input_shape


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
def test_a_training_pass_gives_the_bits_of_its_layers_at_every_size(axis, algorithm):
    for length in range(2, 201 if LONG else 71):
        for channels in [1, 3, 8, 17] if LONG else [1 + length % 18]:
            shape = (*sides(length, 4 + length % 3, axis), channels)
            chain = [make(ConvLayer(3 + length % 15, kernel_size=3, padding="same", algorithm=algorithm), shape)]
            chain += [make(RELU, chain[-1].output_shape), make(PoolingLayer(2), chain[-1].output_shape)]
            (step,) = training_passes(chain, shape)
            x = draw_frames(chain[0], 2)
            y, backward = step.vjp(x, None)
            dx, gradients = backward(dy := gradients_for(y))
            z, backwards = x, []
            for layer in chain:
                z, back = layer.vjp(z)
                backwards.append(back)
            assert same_bits(y, z), shape
            for back in reversed(backwards):
                dy, own = back(dy)
            np.testing.assert_array_equal(dx, dy, f"dx for {shape}")
            for name, value in own.items():
                np.testing.assert_array_equal(gradients[name], value, f"{name} for {shape}")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_an_activation_at_every_size(function):
    for size in range(1, 201):
        layer = make(ActivationLayer(function), (size,))
        x = draw_frames(layer, 2)
        assert (np.abs(layer(x) - expected(layer, x)) <= rounding(layer, x)).all(), size


def test_a_frame_has_the_same_bits_in_a_batch_of_every_size():
    shape = (9, 11, 3)
    chain = [make(ConvLayer(5, kernel_size=3, padding="same"), shape), make(RELU, (9, 11, 5))]
    chain += [make(PoolingLayer(2), (9, 11, 5)), make(ConvLayer(4, kernel_size=3, algorithm="winograd2"), (4, 5, 5))]
    planned = PredictionPlan.of(chain, shape)
    frames = draw_frames(chain[0], 200)
    together = planned.run(frames, np.dtype(np.float32))
    for n in range(1, 200):
        part = planned.run(frames[200 - n :], np.dtype(np.float32))
        assert same_bits(part, together[200 - n :]), n
