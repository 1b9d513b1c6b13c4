"""Passes through branches give the bits of their layers at every size, and need the memory that they say."""

import copy
import os
from itertools import product

import numpy as np
import pytest
from agreement import expected

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    ParallelLayer,
    PoolingLayer,
    ScalingLayer,
)
from framecnn.kernels import FUSED_ACTIVATIONS
from framecnn.networks.fusion import prediction_passes
from framecnn.networks.prediction import PredictionPlan
from framecnn.testing.draws import difference, draw_frames, draw_params, same_bits

LONG = os.environ.get("FRAMECNN_LONG_TESTS") == "1"
ALGORITHMS = ["direct", "winograd2", "winograd4"]
FUSED = [None, *(ActivationLayer(name, negative_slope=-0.5) for name in FUSED_ACTIVATIONS if name != "linear")]


def make(layer, shape, dtype=np.float32, integers=False):
    """Return the layer built for a shape, parameters drawn."""
    return draw_params(copy.copy(layer).build(shape, dtype=dtype), integers)


def chain_of(layers, shape, dtype=np.float32):
    """Return built layers; those that are None are left out."""
    chain = []
    for layer in layers:
        if layer is not None:
            chain.append(make(layer, chain[-1].output_shape if chain else shape, dtype))
    return chain


def assert_one_pass(chain, n, where):
    """Fail unless a chain is one pass with the bits of its layers."""
    x = draw_frames(chain[0], n)
    (step,) = prediction_passes(chain, chain[0].input_shape)
    wanted = x
    for layer in chain:
        wanted = layer(wanted)
    y = step.run(x)
    assert same_bits(y, wanted), f"{where}: {difference(y, wanted)}"


@pytest.mark.parametrize("axis", [0, 1], ids=["heights", "widths"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_convolution_adds_the_other_branch_at_every_size(algorithm, axis):
    for length in range(1, 201 if LONG else 71):
        shape = (length, 3 + length % 6, 5) if axis == 0 else (3 + length % 6, length, 5)
        conv = ConvLayer(5, kernel_size=3, padding="same", algorithm=algorithm)
        for act in FUSED if LONG else [FUSED[length % len(FUSED)]]:
            for branches in ([[conv], []], [[], [conv]], [[conv], [PoolingLayer(3, strides=1, padding="same")]]):
                assert_one_pass(chain_of([ParallelLayer(branches), act], shape), 2, f"{shape}, {act}, {branches}")


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_a_convolution_adds_the_other_branch_at_every_depth(kernel_size):
    for filters in range(1, 201 if LONG else 101):
        conv = ConvLayer(filters, kernel_size=kernel_size, padding="same", algorithm="direct")
        chain = chain_of([ParallelLayer([[conv], []]), ActivationLayer("relu6")], (3, 5, filters))
        assert_one_pass(chain, 1, f"{filters} filters of {kernel_size}")


@pytest.mark.parametrize("walked", ["pixels", "channels", "filters"])
def test_a_1x1_convolution_gives_the_defined_integers_at_every_size(walked):
    for length in range(1, 201):
        sizes = {"pixels": 3, "channels": 5, "filters": 7} | {walked: length}
        layer = make(ConvLayer(sizes["filters"], kernel_size=1), (1, sizes["pixels"], sizes["channels"]), integers=True)
        for n in (1, 3):
            x = draw_frames(layer, n, integers=True)
            np.testing.assert_array_equal(layer(x), expected(layer, x), f"{sizes}, {n} frames")


@pytest.mark.parametrize("merge", ["add", "multiply", "concatenate"])
def test_branches_are_merged_at_every_depth(merge):
    gate = [PoolingLayer(1, mode="adaptive_average")]
    others = {"add": [[PoolingLayer(3, strides=1, padding="same")]], "multiply": [gate, [ActivationLayer("tanh")]]}
    for depth in range(1, 201 if LONG else 71):
        for other in others.get(merge, [[ActivationLayer("relu"), DropoutLayer(0.5)]]):
            act = None if merge == "concatenate" else FUSED[depth % len(FUSED)]
            for branches in ([[], other], [other, []]):
                chain = chain_of([ParallelLayer(branches, merge=merge), act], (3, 2 + depth % 5, depth))
                assert_one_pass(chain, 2, f"{depth} channels, {branches}, {act}")


@pytest.mark.parametrize("merge", ["add", "multiply", "concatenate"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_branches_are_merged_from_left_to_right(merge, dtype):
    conv = ConvLayer(4, kernel_size=1)
    chain = chain_of([ParallelLayer([[conv], [], [conv, ActivationLayer("relu")]], merge=merge)], (5, 6, 4), dtype)
    x = draw_frames(chain[0], 3)
    (step,) = prediction_passes(chain, (5, 6, 4))
    assert same_bits(step.run(x), chain[0](x))


def test_maps_of_many_values_are_merged_like_small_ones():
    chain = chain_of([ParallelLayer([[], [ActivationLayer("relu")]])], (64, 64, 4))
    assert_one_pass(chain, 2, "64 x 64 x 4")


@pytest.mark.parametrize("layer", [ScalingLayer(), BatchNormLayer()], ids=repr)
def test_scaling_and_its_activation_are_one_pass_at_every_depth(layer):
    for depth, act in product(range(1, 71), FUSED if LONG else FUSED[:2]):
        assert_one_pass(chain_of([layer, act], (2, 3, depth)), 2, f"{depth} channels, {act}")


@pytest.mark.parametrize("layer", [ConvLayer(9, kernel_size=3), DenseLayer(9)], ids=repr)
def test_scaling_is_folded_into_the_layer_before_it_and_again_after_it_is_set(layer):
    chain = chain_of([layer, ScalingLayer()], (5, 4, 3) if isinstance(layer, ConvLayer) else (30,))
    (step,) = prediction_passes(chain, chain[0].input_shape)
    x = draw_frames(chain[0], 2)
    np.testing.assert_allclose(step.run(x), chain[1](chain[0](x)), 1e-4, 1e-4)
    chain[1].params["offset"] = chain[1].params["offset"] + 100
    np.testing.assert_allclose(step.run(x), chain[1](chain[0](x)), 1e-4, 1e-4)


@pytest.mark.parametrize("function", [act.function for act in FUSED if act])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_activation_in_registers_has_the_bits_of_its_kernel_on_special_values(function, dtype):
    info = np.finfo(dtype)
    special = [0.0, -0.0, 3, -3, 6, -6, np.inf, -np.inf, np.nan, info.tiny, -info.tiny, info.max, info.min, 1e-45]
    near = [np.nextafter(dtype(end), dtype(way)) for end in (3, -3, 6, 0) for way in (np.inf, -np.inf)]
    values = np.array([*special, *near], dtype)
    chain = chain_of([ScalingLayer(), ActivationLayer(function)], (1, len(values), 1), dtype)
    chain[0].params.update(scale=[1], offset=[0])
    x = values[None, None, :, None]
    (step,) = prediction_passes(chain, chain[0].input_shape)
    np.testing.assert_array_equal(step.run(x), chain[1](chain[0](x)))


def test_a_residual_has_the_bits_of_a_separate_sum_for_any_batch():
    layer = make(ConvLayer(6, kernel_size=3, padding="same", algorithm="winograd4"), (7, 9, 3))
    x, residual = draw_frames(layer, 5), np.random.default_rng(0).normal(size=(5, 7, 9, 6)).astype(np.float32)
    together = layer.forward_fused(x, residual=residual)
    assert same_bits(together, layer(x) + residual)
    assert same_bits(layer.forward_fused(x[2:3], residual=residual[2:3]), together[2:3])


def test_passes_of_branches_count_what_is_in_memory_at_a_time():
    conv = ConvLayer(4, kernel_size=3, padding="same")
    (step,) = prediction_passes([ParallelLayer([[conv, ActivationLayer("relu"), conv], []])], (10, 10, 4))
    assert step.values == 3 * 400  # the input, which is the residual too, what is between the two, and the output
    (step,) = prediction_passes([ParallelLayer([[conv], [conv, ActivationLayer("tanh")]])], (10, 10, 4))
    assert step.values == 3 * 400  # the input, the other branch before and after tanh, then also the sum
    (step,) = prediction_passes([ParallelLayer([[], [conv]], merge="concatenate")], (10, 10, 4))
    assert step.values == 4 * 400
    plan = PredictionPlan.of([ParallelLayer([[conv], []])], (10, 10, 4))
    assert plan.activation_bytes(batch_size=1, itemsize=4) == 4 * 800
