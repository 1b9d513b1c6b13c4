"""Layers that branch: shapes, names of parameters, merges, files, summaries and limits."""

import json

import numpy as np
import pytest

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FlatteningLayer,
    FormatError,
    InputLayer,
    PaddingLayer,
    ParallelLayer,
    PoolingLayer,
    ScalingLayer,
    Sequential,
    SettingError,
    ShapeError,
    load,
)
from framecnn.layers import Layer
from framecnn.networks.limits import check_map_size
from framecnn.testing.draws import draw_frames, draw_params, same_bits

MEAN = PoolingLayer(1, mode="adaptive_average")


def residual(filters, *more):
    return ParallelLayer([[ConvLayer(filters, kernel_size=3, padding="same"), BatchNormLayer(), *more], []])


def network(*layers, shape=(6, 7, 4)):
    return Sequential([InputLayer(shape), *layers]).build()


@pytest.mark.parametrize("merge", ["add", "multiply", "concatenate"])
def test_outputs_are_merged_as_numpy_does(merge):
    layer = draw_params(
        ParallelLayer([[ConvLayer(4, kernel_size=1)], [], [ScalingLayer()]], merge=merge).build((3, 5, 4))
    )
    x = draw_frames(layer, 2)
    first, second, third = (x if not branch else branch[0](x) for branch in layer.built_branches())
    merged = {
        "add": lambda: first + second + third,
        "multiply": lambda: first * second * third,
        "concatenate": lambda: np.concatenate([first, second, third], axis=-1),
    }[merge]()
    assert same_bits(layer(x), merged)


def test_one_value_per_channel_multiplies_maps():
    layer = ParallelLayer([[], [MEAN]], merge="multiply").build((4, 6, 3))
    x = draw_frames(layer, 2)
    np.testing.assert_array_equal(layer(x), x * MEAN.build((4, 6, 3))(x))
    assert layer.output_shape == (4, 6, 3)


def test_blocks_nest():
    inner = ParallelLayer([[], [ConvLayer(3, kernel_size=1)]], merge="concatenate")
    model = network(ParallelLayer([[inner, ConvLayer(4, kernel_size=1)], []]))
    assert model.output_shape == (6, 7, 4)
    assert next(iter(model.parameters())) == "parallel_1/branch_1/parallel_1/branch_2/conv_1/kernel"


def test_parameters_belong_to_the_layer_and_are_not_stored_twice():
    layer = residual(4).build((5, 5, 4))
    (convolution, norm), empty = layer.built_branches()
    assert empty == ()
    assert convolution.params["kernel"] is layer.params["branch_1/conv_1/kernel"]
    assert norm.params["gamma"] is layer.params["branch_1/batch_norm_1/gamma"]
    assert layer.built_branches()[0][0] is convolution
    layer.params["branch_1/conv_1/kernel"] = np.zeros((3, 3, 4, 4))
    assert layer.built_branches()[0][0] is not convolution
    assert not layer.built_branches()[0][0].params["kernel"].any()


def test_one_description_may_stand_in_several_branches():
    shared = ConvLayer(2, kernel_size=1)
    layer = ParallelLayer([[shared], [shared]], merge="concatenate").build((3, 3, 1))
    kernels = [branch[0].params["kernel"] for branch in layer.built_branches()]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize(
    ("branches", "merge", "shapes"),
    [
        ([[ConvLayer(3, kernel_size=1)], []], "add", r"\(6, 7, 3\), \(6, 7, 4\)"),
        ([[MEAN], []], "add", r"\(1, 1, 4\), \(6, 7, 4\)"),
        ([[MEAN, ConvLayer(1, kernel_size=1)], []], "multiply", r"\(1, 1, 1\), \(6, 7, 4\)"),
        ([[PoolingLayer(2)], []], "concatenate", r"\(3, 3, 4\), \(6, 7, 4\)"),
        ([[FlatteningLayer()], []], "concatenate", r"\(168,\), \(6, 7, 4\)"),
    ],
)
def test_outputs_that_do_not_fit_each_other_are_refused(branches, merge, shapes):
    with pytest.raises(ShapeError, match=f"ParallelLayer: expected branches whose outputs fit '{merge}', got {shapes}"):
        ParallelLayer(branches, merge=merge).build((6, 7, 4))


@pytest.mark.parametrize(
    ("branches", "message"),
    [
        ([[]], "expected at least two branches"),
        ([], "expected at least two branches"),
        ("ab", "expected at least two branches"),
        (None, "expected at least two branches"),
        ([[DenseLayer(2)], [3]], "expected branch 2 as a sequence of layers, got int"),
        ([DenseLayer(2), []], "expected branch 1 as a sequence of layers, got DenseLayer"),
        ([[], "ab"], "expected branch 2 as a sequence of layers, got str"),
    ],
)
def test_branches_that_are_not_sequences_of_layers_are_refused(branches, message):
    with pytest.raises(SettingError, match=f"ParallelLayer: {message}"):
        ParallelLayer(branches)


def test_an_unknown_merge_is_refused():
    with pytest.raises(
        SettingError, match="ParallelLayer: expected merge as one of add, concatenate, multiply, got 'max'"
    ):
        ParallelLayer([[], []], merge="max")


def test_a_padding_by_name_is_refused_and_so_is_a_value_that_is_no_number():
    with pytest.raises(SettingError, match=r"PaddingLayer: expected padding as .*, got 'same'"):
        PaddingLayer("same")
    with pytest.raises(SettingError, match="PaddingLayer: expected value as a finite number"):
        PaddingLayer(((0, 0), (0, 0)), value="0")


def test_a_network_with_branches_is_saved_and_loaded(tmp_path):
    model = network(
        residual(4, ActivationLayer("hard_swish")), ActivationLayer("relu"), FlatteningLayer(), DenseLayer(2)
    )
    path = tmp_path / "model.safetensors"
    model.save(path)
    again, x = load(path), draw_frames(model.layers[0], 3)
    assert again.layers == model.layers
    assert same_bits(again.predict(x), model.predict(x))


@pytest.mark.parametrize(
    "branches",
    [[[{"layer": "NoLayer"}], []], [[{"layer": "DenseLayer"}], []], [[{}], []], 3, [[[]], []]],
)
def test_branches_of_a_forged_file_are_refused(branches):
    with pytest.raises(FormatError):
        Layer.from_config({"layer": "ParallelLayer", "branches": branches, "merge": "add"})


def test_the_config_is_plain_json():
    layer = residual(4, residual(4))
    assert Layer.from_config(json.loads(json.dumps(layer.config))) == layer


def test_a_map_of_a_branch_that_is_too_large_for_a_file_is_refused():
    wide = PaddingLayer(((0, 2**13), (0, 2**13)))
    layer = ParallelLayer([[wide, ConvLayer(8, kernel_size=1), MEAN], [MEAN, ConvLayer(8, kernel_size=1)]])
    with pytest.raises(ShapeError, match="expected at most 268,435,456 values per frame"):
        check_map_size(layer, (4, 4, 4))


def test_the_summary_lists_the_layers_of_branches_and_counts_them_once():
    model = network(residual(4), ParallelLayer([[MEAN, ConvLayer(4, kernel_size=1)], []], merge="multiply"))
    summary = model.summary()
    assert summary.n_params == sum(value.size for value in model.parameters().values())
    assert summary.multiply_adds == sum(layer.multiply_adds(layer.input_shape) for layer in model.layers)
    assert [(row.depth, row.name) for row in summary.rows] == [
        (0, "input_1"),
        (0, "parallel_1"),
        (1, "branch_1/conv_1"),
        (1, "branch_1/batch_norm_1"),
        (1, "branch_2"),
        (0, "parallel_2"),
        (1, "branch_1/pooling_1"),
        (1, "branch_1/conv_1"),
        (1, "branch_2"),
    ]
    assert "  branch_1/conv_1" in str(summary)


def test_a_residual_network_learns_and_keeps_running_statistics():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 40)
    x = rng.normal(size=(40, 6, 7, 4)) + 2 * y[:, None, None, None]
    model = network(residual(4), ActivationLayer("relu"), MEAN, FlatteningLayer(), DenseLayer(2))
    before = model.state_dict()
    history = model.fit(x, y, epochs=8, batch_size=10, progress=None)
    assert history.loss[-1] < history.loss[0]
    after = model.state_dict()
    for name in ("conv_1/kernel", "batch_norm_1/gamma", "batch_norm_1/moving_mean"):
        key = f"parallel_1/branch_1/{name}"
        assert not np.array_equal(before[key], after[key]), key
