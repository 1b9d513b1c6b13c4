"""The public strategies draw settings that fit, of every layer class, and shrink to plain ones."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import pretty

from framecnn import ConvLayer, DenseLayer, InputLayer, PoolingLayer
from framecnn.kernels.codegen.microkernel import PIXELS
from framecnn.layers import Case, Layer
from framecnn.testing import conv_cases, frames, labelled_features, layers, models, pool_cases, shapes

quick = settings(deadline=None, max_examples=100)


@quick
@given(st.data(), shapes(max_side=5, max_length=20))
def test_settings_fit_the_frames_that_they_are_drawn_for(data, shape):
    for kind, cases in ((ConvLayer, conv_cases), (PoolingLayer, pool_cases)):
        case = data.draw(cases(shape))
        assert case.input_shape == shape
        assert min(kind(**case.settings).infer_shape(shape)) >= 1


@pytest.mark.parametrize(
    ("cases", "name", "values"),
    [
        (conv_cases, "padding", {"valid", "same", "explicit"}),
        (conv_cases, "algorithm", {"auto", "direct", "winograd2", "winograd4"}),
        (conv_cases, "groups", {1, 2, 3}),
        (conv_cases, "use_bias", {True, False}),
        (pool_cases, "padding", {"valid", "same", "explicit"}),
        (pool_cases, "mode", {"max", "average", "adaptive_max", "adaptive_average"}),
    ],
)
def test_every_value_of_a_setting_is_drawn(cases, name, values):
    search = settings(phases=[Phase.generate], max_examples=5000, database=None, derandomize=True)
    for value in values:

        def has(case, value=value):
            drawn = case.settings.get(name)
            return drawn == value or (value == "explicit" and isinstance(drawn, tuple))

        find(cases(), has, settings=search)


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "columns"])
def test_frames_longer_than_several_register_blocks_are_drawn(axis):
    search = settings(phases=[Phase.generate], database=None, derandomize=True)
    shape = find(shapes(), lambda shape: shape[axis] > 4 * PIXELS, settings=search)
    assert shape[1 - axis] <= 12


def test_every_layer_class_is_drawn_but_the_input_layer():
    drawn = set()

    @settings(deadline=None, max_examples=600, database=None, derandomize=True)
    @given(layers())
    def draw(layer):
        drawn.add(type(layer))

    draw()
    ours = {kind for kind in Layer.registry.values() if kind.__module__.startswith("framecnn.")}
    assert drawn == ours - {InputLayer}


@quick
@given(st.data(), layers(integers=True))
def test_integers_are_integers(data, layer):
    x = data.draw(frames(layer.input_shape, dtype=layer.dtype))
    assert 1 <= len(x) <= 3
    for values in (x, *layer.params.values()):
        assert values.dtype == layer.dtype
        np.testing.assert_array_equal(values, values.round())


@quick
@given(labelled_features(max_samples=9, max_features=2, max_classes=3))
def test_every_class_has_two_samples(drawn):
    X, y = drawn
    assert X.shape == (len(y), X.shape[1])
    assert len(y) <= 9
    assert X.shape[1] <= 2
    classes, counts = np.unique(y, return_counts=True)
    assert 2 <= len(classes) <= 3
    assert counts.min() >= 2


def test_a_layer_class_of_ones_own_is_drawn_from_its_cases_and_in_networks(monkeypatch):
    monkeypatch.setattr(Layer, "registry", dict(Layer.registry))

    @dataclass(frozen=True)
    class TwiceLayer(Layer):
        """Double rows of features."""

        rounds: int = 1
        cases = (Case({"rounds": 3}, (4,)),)

        def infer_shape(self, input_shape):
            return input_shape

        def forward(self, x):
            return x * 2**self.rounds

    assert find(layers([TwiceLayer]), lambda layer: True) == TwiceLayer(3)
    model = find(models([TwiceLayer, DenseLayer]), lambda model: len(model.layers) > 2)
    assert model.names == ("input_1", "twice_1", "twice_2")
    assert find(models([DenseLayer]), lambda model: True).names == ("input_1",)  # no frame is a row


def test_what_fails_is_shrunk_to_a_plain_case_that_can_be_built_again():
    layer = find(layers([ConvLayer]), lambda layer: layer.filters > 2)
    assert pretty(layer) == "ConvLayer(filters=3, kernel_size=(1, 1)).build((1, 1, 1), dtype='float32')"
    assert pretty(DenseLayer(2)) == repr(DenseLayer(2))
