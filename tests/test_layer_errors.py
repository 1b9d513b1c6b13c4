"""Errors of layers: who raises them, what was expected, what was given."""

import copy
import pickle
import re
from dataclasses import dataclass

import numpy as np
import pytest

from framecnn import (
    ActivationLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    FilterBankLayer,
    FlatteningLayer,
    FormatError,
    InputLayer,
    PoolingLayer,
    SettingError,
    ShapeError,
)
from framecnn.layers import Case, Layer, Param
from framecnn.testing.draws import same_bits

HUGE = 10**400  # JSON can hold it, a float cannot

SETTINGS = [
    (lambda: InputLayer((4,), scale=np.nan), "InputLayer: expected scale as a finite number, got nan"),
    (lambda: InputLayer((4,), scale=HUGE), "InputLayer: expected scale as a finite number, got 1000"),
    (lambda: InputLayer((4,), scale="1"), "InputLayer: expected scale as a finite number, got '1'"),
    (lambda: ConvLayer(0, kernel_size=3), "ConvLayer: expected filters as a positive integer, got 0"),
    (lambda: ConvLayer(2.0, kernel_size=3), "ConvLayer: expected filters as a positive integer, got 2.0"),
    (lambda: ConvLayer(2, kernel_size=(3, 0)), "ConvLayer: expected kernel_size as one positive integer or two, got"),
    (lambda: ConvLayer(2, kernel_size=3, strides=-1), "ConvLayer: expected strides as one positive integer or two"),
    (lambda: ConvLayer(2, kernel_size=3, dilation_rate=2**31), "ConvLayer: expected dilation_rate as one positive"),
    (lambda: ConvLayer(2, kernel_size=3, groups=True), "ConvLayer: expected groups as a positive integer, got T"),
    (lambda: ConvLayer(2, kernel_size=3, padding="full"), "ConvLayer: expected padding 'valid', 'same' or ((top,"),
    (lambda: ConvLayer(2, kernel_size=3, padding=((1, 1), (0, -1))), "in pixels, got ((1, 1), (0, -1))"),
    (
        lambda: ConvLayer(2, kernel_size=3, use_bias="no"),
        "ConvLayer: expected use_bias as one of True, False, got 'no'",
    ),
    (
        lambda: ConvLayer(2, kernel_size=3, kernel_initializer="big"),
        "expected kernel_initializer as one of zeros, ones",
    ),
    (lambda: PoolingLayer("2"), "PoolingLayer: expected pool_size as one positive integer or two, got '2'"),
    (lambda: PoolingLayer(2, mode="sum"), "expected mode as one of max, average, adaptive_max, adaptive_average, got"),
    (
        lambda: PoolingLayer(2, mode="adaptive_max", strides=1),
        "expected no strides, padding or dilation_rate with mode",
    ),
    (lambda: DownsamplingLayer(0.5), "DownsamplingLayer: expected factor as one positive integer or two, got 0.5"),
    (lambda: DownsamplingLayer(2, mode="max"), "DownsamplingLayer: expected mode as one of mean, stride, got 'max'"),
    (lambda: DenseLayer(-3), "DenseLayer: expected units as a positive integer, got -3"),
    (lambda: DenseLayer(3, kernel_initializer=None), "DenseLayer: expected kernel_initializer as one of zeros, ones"),
    (lambda: ActivationLayer("swish"), "ActivationLayer: expected function as one of relu, sigmoid, softmax, tanh"),
    (lambda: ActivationLayer("relu", negative_slope=None), "expected negative_slope as a finite number, got None"),
    (lambda: FilterBankLayer(2, kernel_size=3, thresholds=()), "expected thresholds as finite numbers, got ()"),
    (lambda: FilterBankLayer(2, kernel_size=3, thresholds=0.5), "expected thresholds as finite numbers, got 0.5"),
    (lambda: FilterBankLayer(2, kernel_size=3, thresholds=(1, np.inf)), "expected every threshold as a finite number"),
    (lambda: FilterBankLayer(2, kernel_size=3, contrast=0), "FilterBankLayer: expected contrast as a positive number"),
    (lambda: FilterBankLayer(2, kernel_size=3, contrast=np.inf), "expected contrast as a finite number, got inf"),
]

INPUT_SHAPES = [(), 7, (4, 0), (4, True), (4, 2**31)]

SHAPES = [
    (InputLayer((4, 4, 3)), (4, 4, 1), "InputLayer: expected input of shape (4, 4, 3), got (4, 4, 1)"),
    (ConvLayer(2, kernel_size=3), (9,), "ConvLayer: expected frames of shape (height, width, channels), got (9,)"),
    (ConvLayer(2, kernel_size=3), (2, 9, 1), "ConvLayer: expected frames of at least 3x3 with the border, got 2x9"),
    (
        ConvLayer(2, kernel_size=3, dilation_rate=4),
        (9, 8, 1),
        "expected frames of at least 9x9 with the border, got 9x8",
    ),
    (
        ConvLayer(4, kernel_size=1, groups=2),
        (5, 5, 3),
        "expected channels and filters as multiples of groups=2, got 3 c",
    ),
    (ConvLayer(3, kernel_size=1, groups=2), (5, 5, 4), "got 4 channels and 3 filters"),
    (PoolingLayer(3), (4, 2, 1), "PoolingLayer: expected frames of at least 3x3 with the border, got 4x2"),
    (PoolingLayer(2, padding=((2, 0), (0, 0))), (4, 4, 1), "PoolingLayer: expected every window to meet the frame 4x4"),
    (PoolingLayer(2, padding=((0, 0), (0, 2))), (4, 4, 1), "PoolingLayer: expected every window to meet the frame 4x4"),
    (PoolingLayer(2, strides=1, dilation_rate=2, padding="same"), (1, 1, 1), "use less of them"),
    (DownsamplingLayer(3), (2, 3, 1), "DownsamplingLayer: expected frames of at least 3x3 with the border, got 2x3"),
    (
        DenseLayer(2),
        (3, 3, 1),
        "DenseLayer: expected rows of features (d,), got (3, 3, 1); put a FlatteningLayer before",
    ),
    (FilterBankLayer(2, kernel_size=(2, 5)), (9, 4, 3), "FilterBankLayer: expected frames of at least 2x5"),
    (FlatteningLayer(), (), "FlatteningLayer: expected input_shape as positive integers up to 2,147,483,647, got ()"),
    (FlatteningLayer(), 5, "up to 2,147,483,647, got 5"),
    (FlatteningLayer(), (3, 2.5), "up to 2,147,483,647, got (3, 2.5)"),
]


@pytest.mark.parametrize(("make", "message"), SETTINGS)
def test_settings_that_are_not_allowed_are_refused(make, message):
    with pytest.raises(SettingError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("shape", INPUT_SHAPES)
def test_shapes_that_no_frame_can_have_are_refused(shape):
    message = f"InputLayer: expected shape as positive integers up to 2,147,483,647, got {shape!r}"
    with pytest.raises(ShapeError, match=re.escape(message)):
        InputLayer(shape)


@pytest.mark.parametrize(("layer", "input_shape", "message"), SHAPES)
def test_frames_that_do_not_fit_are_refused_when_the_layer_is_built(layer, input_shape, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        layer.build(input_shape)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 4, 4, 3)), "FlatteningLayer: expected x of shape (n, 4, 5, 3), got (2, 4, 4, 3)"),
        (np.zeros((4, 5, 3)), "FlatteningLayer: expected x of shape (n, 4, 5, 3), got (4, 5, 3)"),
        (np.zeros((1, 4, 5, 3), complex), "FlatteningLayer: expected real numbers, got dtype complex128"),
        (np.full((1, 4, 5, 3), "a"), "FlatteningLayer: expected real numbers, got dtype <U1"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(x, message):
    with pytest.raises(ShapeError, match=re.escape(message)):
        FlatteningLayer().build((4, 5, 3))(x)


def test_frames_of_the_wrong_shape_are_refused_before_they_are_decoded():
    class Undecoded:
        shape = (5, 2, 2, 3)

        def __array__(self, dtype=None, copy=None):
            pytest.fail("decoded")

    with pytest.raises(ShapeError, match=re.escape("got (5, 2, 2, 3)")):
        FlatteningLayer().build((4, 5, 3))(Undecoded())


def test_a_layer_must_be_built_before_it_works():
    message = re.escape("DenseLayer: expected a built layer, got one without parameters; call build(input_shape)")
    for use in (lambda layer: layer([[1]]), lambda layer: layer.n_params):
        with pytest.raises(ShapeError, match=message):
            use(DenseLayer(1))
    for name in ("params", "input_shape", "output_shape", "dtype"):
        with pytest.raises(ShapeError, match=message):
            getattr(DenseLayer(1), name)
        assert not hasattr(DenseLayer(1), name)
    with pytest.raises(AttributeError, match="DenseLayer has no attribute 'weights'"):
        DenseLayer(1).weights  # noqa: B018


def test_a_layer_that_is_not_built_can_be_copied_compared_and_printed():
    layer = DenseLayer(1)
    assert copy.deepcopy(layer) == pickle.loads(pickle.dumps(layer)) == layer
    assert repr(copy.copy(layer)) == repr(layer)


def test_any_dtype_but_float32_and_float64_is_refused():
    with pytest.raises(SettingError, match="DenseLayer: expected dtype float32 or float64, got float16"):
        DenseLayer(1).build((2,), dtype=np.float16)
    for layer in (DenseLayer(1), FlatteningLayer()):
        with pytest.raises(SettingError, match="Layer: expected dtype float32 or float64, got foo"):
            layer.build((2,), dtype="foo")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "kernel",
            np.zeros((2, 3)),
            "DenseLayer: expected kernel as real numbers of shape (3, 2), got float64 of (2, 3)",
        ),
        ("kernel", np.zeros((3, 2), complex), "expected kernel as real numbers of shape (3, 2), got complex128"),
        ("weights", 0, "DenseLayer: expected one of the parameters ['bias', 'kernel'], got 'weights'"),
    ],
)
def test_a_parameter_that_does_not_fit_is_refused_by_every_setter(name, value, message):
    layer = DenseLayer(2).build((3,))
    before = dict(layer.params)
    for set_it in (layer.params.__setitem__, lambda name, value: layer.params.update({name: value})):
        with pytest.raises(ShapeError, match=re.escape(message)):
            set_it(name, value)
    assert all(same_bits(layer.params[key], before[key]) for key in before)


def test_a_parameter_is_copied_in_the_dtype_of_the_layer():
    layer = DenseLayer(2).build((3,))
    mine = np.ones((3, 2), np.float32)
    layer.params["kernel"] = mine
    mine[:] = 7
    np.testing.assert_array_equal(layer.params["kernel"], np.ones((3, 2)))
    layer.params["kernel"] = [[1, 2], [3, 4], [5, 6]]
    assert layer.params["kernel"].dtype == np.float32


def test_all_parameters_are_required_and_an_error_leaves_the_layer_unchanged():
    layer = DenseLayer(2).build((3,))
    with pytest.raises(ShapeError, match=re.escape("expected the parameters ['bias', 'kernel'], got ['kernel']")):
        layer.assign((5,), {"kernel": np.zeros((5, 2))})
    assert layer.input_shape == (3,)
    assert layer(np.ones((1, 3))).shape == (1, 2)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layer": "SecretLayer"}, "layer: expected one of ActivationLayer, "),
        ({"units": 3}, "got None"),
        ({"layer": ["DenseLayer"]}, "got ['DenseLayer']"),
        (["DenseLayer"], "got None"),
        ({"layer": "DenseLayer", "units": 3, "speed": 1}, "DenseLayer: expected settings that fit it, got {'units': 3"),
        ({"layer": "DenseLayer", "units": -1}, "expected units as a positive integer, got -1"),
        ({"layer": "DenseLayer"}, "missing 1 required positional argument: 'units'"),
    ],
)
def test_a_config_that_describes_no_layer_is_a_format_error(config, message):
    with pytest.raises(FormatError, match=re.escape(message)):
        Layer.from_config(config)


def test_sizes_beyond_all_frames_take_no_memory():
    assert PoolingLayer(2**31 - 1, mode="adaptive_average").infer_shape((4, 4, 3)) == (2**31 - 1, 2**31 - 1, 3)
    far = ((2**30, 2**30), (2**30, 2**30))
    assert PoolingLayer(2**30 + 1, strides=1, padding=far).infer_shape((1, 1, 1)) == (2**30 + 1, 2**30 + 1, 1)
    assert FlatteningLayer().infer_shape((2**31, 2**31, 2**31)) == (2**93,)
    far, near = (FilterBankLayer(2, kernel_size=3, strides=step).build((4, 4, 1)) for step in (2**31 - 1, 2))
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(far(x), near(x))
    np.testing.assert_array_equal(far.forward_average(x, (1, 1)), near.forward_average(x, (1, 1)))


@pytest.fixture
def registry(monkeypatch):
    """A registry that forgets the test's own layers."""
    monkeypatch.setattr(Layer, "registry", dict(Layer.registry))


def test_a_layer_of_ones_own_is_registered_when_it_is_defined(registry):
    @dataclass(frozen=True)
    class ShiftLayer(Layer):
        """Add a learned value to every channel."""

        cases = (Case({}, (2, 3)),)

        def infer_shape(self, input_shape):
            return input_shape

        def param_specs(self, input_shape):
            return {"shift": Param(input_shape[-1:], "ones")}

        def forward(self, x):
            return x + self.params["shift"]

    layer = Layer.from_config({"layer": "ShiftLayer"}).build((2, 3))
    np.testing.assert_array_equal(layer(np.zeros((1, 2, 3))), np.ones((1, 2, 3)))
    assert layer.multiply_adds((2, 3)) == 0


def test_the_error_of_a_missing_method_names_it(registry):
    @dataclass(frozen=True)
    class EmptyLayer(Layer):
        """Nothing yet."""

    with pytest.raises(NotImplementedError, match="EmptyLayer: expected a method infer_shape, got none; write it"):
        EmptyLayer().build((1,))
    with pytest.raises(NotImplementedError, match="EmptyLayer: expected a method forward, got none; write it"):
        EmptyLayer().forward(np.zeros((1, 1)))
