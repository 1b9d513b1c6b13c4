"""ONNX's own test cases, node by node, and the convolution models that PyTorch once exported with its outputs."""

import unittest
import warnings
from functools import cache

import numpy as np
import pytest

from framecnn import FormatError
from framecnn.interop.onnx_backend import Backend

onnx = pytest.importorskip("onnx", minversion="1.23")
loader = pytest.importorskip("onnx.backend.test.loader")
runner = pytest.importorskip("onnx.backend.test.runner")

ALL = (
    *("Conv", "GlobalAveragePool", "GlobalMaxPool", "Relu", "Sigmoid", "Tanh", "LeakyRelu", "BatchNormalization"),
    *("Elu", "HardSigmoid", "HardSwish", "Softplus", "Swish"),
)
SOME = ("MaxPool", "AveragePool", "Flatten", "Softmax", "Gemm", "MatMul", "Reshape", "Dropout", "Clip", "Gelu", "Pad")

OTHER_AXES = "no maps: frames have rows and columns"
MATRICES = "a product with weights of more axes than a dense layer has"
TRAINING = "in training, not at inference"
TWO_OUTPUTS = "a second output, which no layer gives"
TRANSPOSED = "the batch stands last"
NOT_TO_ROWS = "no reshape to rows"
AXIS = "flattens other axes than all behind the batch"
LIMITS = "other limits than 0 and 6, or 0 alone"
INTEGERS = "no floats"

EXCLUDED = {
    "test_averagepool_1d_default": OTHER_AXES,
    "test_averagepool_3d_default": OTHER_AXES,
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False": OTHER_AXES,
    "test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True": OTHER_AXES,
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False": OTHER_AXES,
    "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True": OTHER_AXES,
    "test_averagepool_3d_dilations_small": OTHER_AXES,
    "test_batchnorm_epsilon_training_mode": TRAINING,
    "test_batchnorm_example_training_mode": TRAINING,
    "test_clip": LIMITS,
    "test_clip_default_int8_inbounds": INTEGERS,
    "test_clip_default_int8_max": INTEGERS,
    "test_clip_default_int8_min": INTEGERS,
    "test_clip_default_max": LIMITS,
    "test_clip_example": LIMITS,
    "test_clip_inbounds": LIMITS,
    "test_clip_min_greater_than_max": LIMITS,
    "test_clip_outbounds": LIMITS,
    "test_clip_splitbounds": LIMITS,
    "test_dropout_default_mask": TWO_OUTPUTS,
    "test_dropout_default_mask_ratio": TWO_OUTPUTS,
    "test_edge_pad": INTEGERS,
    "test_flatten_axis0": AXIS,
    "test_flatten_axis2": AXIS,
    "test_flatten_axis3": AXIS,
    "test_flatten_negative_axis1": AXIS,
    "test_flatten_negative_axis2": AXIS,
    "test_flatten_negative_axis4": AXIS,
    "test_gelu_tanh_1": "an approximate gelu",
    "test_gelu_tanh_2": "an approximate gelu",
    "test_gemm_all_attributes": TRANSPOSED,
    "test_gemm_default_matrix_bias": "a bias for each row of the batch",
    "test_gemm_transposeA": TRANSPOSED,
    "test_matmul_1d_1d": MATRICES,
    "test_matmul_1d_3d": MATRICES,
    "test_matmul_3d": MATRICES,
    "test_matmul_4d": MATRICES,
    "test_matmul_4d_1d": MATRICES,
    "test_matmul_bcast": MATRICES,
    "test_maxpool_1d_default": OTHER_AXES,
    "test_maxpool_2d_uint8": INTEGERS,
    "test_maxpool_3d_default": OTHER_AXES,
    "test_maxpool_3d_dilations": OTHER_AXES,
    "test_maxpool_3d_dilations_use_ref_impl": OTHER_AXES,
    "test_maxpool_3d_dilations_use_ref_impl_large": OTHER_AXES,
    "test_maxpool_with_argmax_2d_precomputed_pads": TWO_OUTPUTS,
    "test_maxpool_with_argmax_2d_precomputed_strides": TWO_OUTPUTS,
    "test_reflect_pad": INTEGERS,
    "test_reshape_allowzero_reordered": NOT_TO_ROWS,
    "test_reshape_extended_dims": NOT_TO_ROWS,
    "test_reshape_negative_dim": NOT_TO_ROWS,
    "test_reshape_negative_extended_dims": NOT_TO_ROWS,
    "test_reshape_one_dim": NOT_TO_ROWS,
    "test_reshape_reordered_all_dims": NOT_TO_ROWS,
    "test_reshape_reordered_last_dims": NOT_TO_ROWS,
    "test_reshape_zero_and_negative_dim": NOT_TO_ROWS,
    "test_reshape_zero_dim": NOT_TO_ROWS,
    "test_softmax_axis_0": "along the batch",
    "test_softmax_axis_1": "along an axis that is neither channels of maps nor the last",
    "test_training_dropout": TRAINING,
    "test_training_dropout_default": TRAINING,
    "test_training_dropout_default_mask": TRAINING,
    "test_training_dropout_mask": TRAINING,
    "test_training_dropout_zero_ratio": TRAINING,
    "test_training_dropout_zero_ratio_mask": TRAINING,
    "test_wrap_pad": INTEGERS,
}

RUN = {
    "AveragePool": 13,
    "BatchNormalization": 2,
    "Clip": 2,
    "Conv": 6,
    "Dropout": 4,
    "Elu": 3,
    "Flatten": 3,
    "Gelu": 2,
    "Gemm": 8,
    "GlobalAveragePool": 2,
    "GlobalMaxPool": 2,
    "HardSigmoid": 3,
    "HardSwish": 1,
    "LeakyRelu": 3,
    "MatMul": 1,
    "MaxPool": 11,
    "Pad": 3,
    "Relu": 1,
    "Reshape": 1,
    "Sigmoid": 2,
    "Softmax": 5,
    "Softplus": 2,
    "Swish": 1,
    "Tanh": 2,
}
"""How many cases of each operator run here, of those that onnx 1.23 holds."""

MODELS_2D = [
    "test_Conv2d",
    "test_Conv2d_depthwise",
    "test_Conv2d_depthwise_padded",
    "test_Conv2d_depthwise_strided",
    "test_Conv2d_depthwise_with_multiplier",
    "test_Conv2d_dilated",
    "test_Conv2d_groups",
    "test_Conv2d_groups_thnn",
    "test_Conv2d_no_bias",
    "test_Conv2d_padding",
    "test_Conv2d_strided",
]
EXCLUDED_MODELS = {
    "test_Conv1d": OTHER_AXES,
    "test_Conv1d_dilated": OTHER_AXES,
    "test_Conv1d_groups": OTHER_AXES,
    "test_Conv1d_pad1": OTHER_AXES,
    "test_Conv1d_pad1size1": OTHER_AXES,
    "test_Conv1d_pad2": OTHER_AXES,
    "test_Conv1d_pad2size1": OTHER_AXES,
    "test_Conv1d_stride": OTHER_AXES,
    "test_Conv3d": OTHER_AXES,
    "test_Conv3d_dilated": OTHER_AXES,
    "test_Conv3d_dilated_strided": OTHER_AXES,
    "test_Conv3d_groups": OTHER_AXES,
    "test_Conv3d_no_bias": OTHER_AXES,
    "test_Conv3d_stride": OTHER_AXES,
    "test_Conv3d_stride_padding": OTHER_AXES,
    "test_ConvTranspose2d": "a transposed convolution, which no layer is",
    "test_ConvTranspose2d_no_bias": "a transposed convolution, which no layer is",
}


@cache
def node_cases():
    """All cases of one node of an operator that framecnn has, by name; onnx computes them, which takes seconds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cases of other operators overflow on purpose
        cases = loader.load_node_model_tests()
    alone = {case.name: case for case in cases if len(case.model.graph.node) == 1}
    return {name: case for name, case in alone.items() if operator(case) in ALL + SOME}


def operator(case):
    """The operator that a case is about."""
    return case.model.graph.node[0].op_type


def cases_that_run(kind):
    """The cases of an operator that are not excluded, in the order of their names."""
    return [case for name, case in sorted(node_cases().items()) if operator(case) == kind and name not in EXCLUDED]


CONVOLUTIONS = {
    case.name: case for case in loader.load_model_tests(kind="pytorch-converted") if "Conv" in case.name.split("_")[1]
}


def array(value):
    """What a case holds as an array: newer ones hold tensors."""
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def stored(case, name):
    """An input or output that lies beside a model."""
    with open(f"{case.model_dir}/test_data_set_0/{name}_0.pb", "rb") as file:
        return onnx.numpy_helper.to_array(onnx.load_tensor(file))


def assert_similar(given, wanted, case):
    """The comparison of ONNX's own runner, with the tolerance of the case."""
    runner.Runner.assert_similar_outputs(wanted, given, case.rtol, case.atol)


@pytest.mark.parametrize(("kind", "number"), [(kind, number) for kind in RUN for number in range(RUN[kind])])
def test_a_node_gives_what_onnx_says(kind, number):
    case = cases_that_run(kind)[number]
    for inputs, outputs in case.data_sets:
        assert_similar(Backend.run_model(case.model, list(map(array, inputs))), list(map(array, outputs)), case)


@pytest.mark.parametrize("name", sorted(EXCLUDED))
def test_an_excluded_node_is_refused_by_name(name):
    case = node_cases()[name]
    with pytest.raises(FormatError, match=r"^Backend: (cannot take \w+: )?expected "):
        Backend.run_model(case.model, list(map(array, case.data_sets[0][0])))


def test_the_number_of_onnx_nodes_that_run_is_known():
    counted = {kind: len(cases_that_run(kind)) for kind in ALL + SOME}
    assert counted == RUN
    assert sum(counted.values()) == 83
    assert min(RUN["MaxPool"], RUN["AveragePool"]) >= 11
    excluded = {name for name in EXCLUDED if operator(node_cases()[name]) in ALL}
    assert {EXCLUDED[name] for name in excluded} == {TRAINING}, "of these every case at inference runs"


@pytest.mark.parametrize("name", MODELS_2D)
def test_a_model_from_pytorch_gives_pytorchs_output(name):
    case = CONVOLUTIONS[name]
    model = onnx.load(f"{case.model_dir}/model.onnx")
    assert_similar(Backend.run_model(model, [stored(case, "input")]), [stored(case, "output")], case)


@pytest.mark.parametrize("name", EXCLUDED_MODELS)
def test_an_excluded_model_is_refused_by_name(name):
    model = onnx.load(f"{CONVOLUTIONS[name].model_dir}/model.onnx")
    assert not Backend.is_compatible(model)
    with pytest.raises(FormatError, match=r"^Backend: cannot take Conv"):
        Backend.prepare(model)


def test_so_many_models_from_pytorch_run():
    assert CONVOLUTIONS.keys() == {*MODELS_2D, *EXCLUDED_MODELS}
    assert len(MODELS_2D) == 11


def test_onnxs_own_runner_drives_the_backend():
    official = runner.Runner(Backend, __name__).include(r"test_(basic_conv|Conv2d_).*").exclude("cuda")
    result = unittest.TestResult()
    official.test_suite.run(result)
    assert result.testsRun - len(result.skipped) >= 2 + 10
    assert result.wasSuccessful(), result.failures + result.errors
