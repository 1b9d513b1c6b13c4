"""A subclass of a layer with a forward of its own is never fused, exported or trained as if it were its base class."""

import numpy as np
import pytest
from agreement import OURS

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    FilterBankLayer,
    FlatteningLayer,
    FormatError,
    InputLayer,
    PoolingLayer,
    Sequential,
    SettingError,
    ShapeError,
)
from framecnn.layers import Layer
from framecnn.networks.fusion import training_passes
from framecnn.networks.prediction import PredictionPlan
from framecnn.testing.draws import draw_frames, draw_params, same_bits
from framecnn.training.losses import mean_squared_error
from framecnn.training.optimizers import SGD

kinds = pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry that forgets the test's own layers."""
    monkeypatch.setattr(Layer, "registry", dict(Layer.registry))


def forward_plus_one(self, x):
    return super(type(self), self).forward(x) + x.dtype.type(1)


def vjp_plus_one(self, x, rng=None):
    _, backward = super(type(self), self).vjp(x, rng)
    return self.forward(x), backward


def subclass(kind, **methods):
    """A subclass that adds one to the output of its base class."""
    return type(f"Own{kind.__name__}", (kind,), methods)


def layers_around(layer, shape, dtype=np.float32):
    """The layer and those that its base class would be fused with, built."""
    chain = [layer, BatchNormLayer(), ActivationLayer("relu")]
    if len(layer.infer_shape(shape)) == 3:
        chain += [PoolingLayer(1, mode="adaptive_average"), FlatteningLayer()]
    for step in chain:
        draw_params(step.build(shape, dtype=dtype))
        shape = step.output_shape
    return chain


def first_case(kind, **methods):
    case = kind.cases[0]
    return subclass(kind, **methods)(**case.settings), case.input_shape


def model_of(layers):
    shape = layers[0].input_shape
    return Sequential([InputLayer(shape).build(shape, dtype=layers[0].dtype), *layers])


@kinds
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_prediction_runs_its_forward(kind, dtype):
    layer, shape = first_case(kind, forward=forward_plus_one)
    layers = layers_around(layer, shape, dtype)
    y = x = draw_frames(layer, 3)
    for step in layers:
        y = step(y)
    assert same_bits(layer(x), kind.forward(layer, x) + dtype(1))
    assert same_bits(model_of(layers).predict(x), y)


@kinds
def test_it_is_alone_in_its_passes(kind):
    layer, shape = first_case(kind, forward=forward_plus_one, vjp=vjp_plus_one)
    layers = [layer, *layers_around(layer, shape)[1:]]
    passes = PredictionPlan.of(layers, shape)
    assert next(iter(passes.on_frames + passes.on_rows)).run == layer.forward
    assert training_passes(layers, shape)[0].vjp == layer.vjp
    assert not training_passes(layers, shape)[0].skips_dx


@pytest.mark.parametrize("kind", [ActivationLayer, BatchNormLayer, PoolingLayer])
@pytest.mark.parametrize("before", [ConvLayer(4, kernel_size=2), DenseLayer(4), FilterBankLayer(4, kernel_size=2)])
def test_a_layer_before_it_does_not_take_it_into_its_pass(kind, before):
    shape = (6,) if isinstance(before, DenseLayer) else (6, 7, 2)
    if (kind, type(before)) == (PoolingLayer, DenseLayer):
        pytest.skip("pooling takes no rows")
    settings = {ActivationLayer: {"function": "relu"}, PoolingLayer: {"pool_size": 2, "mode": "adaptive_average"}}
    own = subclass(kind, forward=forward_plus_one, vjp=vjp_plus_one)(**settings.get(kind, {}))
    draw_params(before.build(shape))
    draw_params(own.build(before.output_shape))
    x = draw_frames(before, 3)
    model = model_of([before, own])
    assert same_bits(model.predict(x), own(before(x)))
    assert same_bits(model.vjp(x)[0], own(before(x)))


@kinds
@pytest.mark.parametrize("wrt_input", [True, False])
def test_training_runs_its_vjp(kind, wrt_input):
    calls = []

    def vjp(self, x, rng=None):
        y, backward = vjp_plus_one(self, x, rng)

        def doubled(dy):
            calls.append(self)
            dx, gradients = backward(dy)
            return 2 * dx, {name: 2 * value for name, value in gradients.items()}

        return y, doubled

    layer, shape = first_case(kind, forward=forward_plus_one, vjp=vjp)
    model = model_of(layers_around(layer, shape))
    x = draw_frames(layer, 3)
    y, backward = model.vjp(x, wrt_input=wrt_input)
    assert same_bits(y, model.predict(x))
    dx, gradients = backward(np.ones_like(y))
    assert (dx is None) is not wrt_input
    dy, wanted = np.ones_like(y), {}
    steps, z = [], x
    for name, step in zip(model.names, model.layers, strict=True):
        z, back = step.vjp(z)
        steps.append((name, back))
    for name, back in reversed(steps):
        dy, own = back(dy)
        wanted |= {f"{name}/{key}": value for key, value in own.items()}
    assert gradients.keys() == wanted.keys()
    assert all(same_bits(gradients[name], wanted[name]) for name in wanted)
    if layer.params or wrt_input:
        assert layer in calls


@kinds
def test_a_forward_without_a_vjp_of_its_own_is_not_trained(kind):
    layer, shape = first_case(kind, forward=forward_plus_one)
    model = model_of(layers_around(layer, shape))
    message = f"Own{kind.__name__}: expected a method vjp that belongs to its forward, got none; write it to train"
    x, y = draw_frames(layer, 3), np.zeros((3, *model.output_shape))
    for train in (
        lambda: model.vjp(x),
        lambda: model.fit(x, y, epochs=1, loss=mean_squared_error, optimizer=SGD(0.1), progress=None),
    ):
        with pytest.raises(NotImplementedError, match=message):
            train()


def test_a_forward_from_a_second_base_class_is_not_trained():
    class Doubled:
        def forward(self, x):
            return 2 * x

    mixed = type("MixedLayer", (Doubled, DenseLayer), {})
    with pytest.raises(NotImplementedError, match="MixedLayer: expected a method vjp that belongs to its forward"):
        mixed(2).build((3,)).vjp(np.ones((1, 3), np.float32))


@kinds
def test_a_vjp_alone_is_the_one_that_trains(kind):
    layer, shape = first_case(kind, vjp=lambda self, x, rng=None: (x, lambda dy: "its own"))
    step = training_passes([layer.build(shape)], shape)[0]
    assert step.vjp(np.zeros((1, *shape), np.float32))[1](0) == "its own"


@kinds
def test_its_summary_and_its_file_name_its_class(kind):
    layer, shape = first_case(kind, forward=forward_plus_one)
    model = model_of(layers_around(layer, shape))
    assert model.summary().rows[1].layer == f"Own{kind.__name__}"
    assert layer.config["layer"] == f"Own{kind.__name__}"
    assert type(Layer.from_config(layer.config)) is type(layer)


@kinds
def test_it_is_not_exported_to_onnx(kind):
    pytest.importorskip("onnx")
    from framecnn.interop.onnx_export import to_onnx

    layer, shape = first_case(kind, forward=forward_plus_one)
    message = rf"to_onnx: expected layers that ONNX has, got .*Own{kind.__name__}\(.*ONNX_CONVERTERS.register"
    with pytest.raises(FormatError, match=message):
        to_onnx(model_of(layers_around(layer, shape)))


@kinds
def test_it_is_not_exported_to_keras(kind):
    pytest.importorskip("keras")
    from framecnn.interop.keras import to_keras

    layer, shape = first_case(kind, forward=forward_plus_one)
    message = rf"to_keras: expected layers that Keras has, got .*Own{kind.__name__}\(.*KERAS_CONVERTERS.register"
    with pytest.raises(FormatError, match=message):
        to_keras(model_of(layers_around(layer, shape)))


def test_errors_of_a_subclass_name_it():
    with pytest.raises(SettingError, match=r"^OwnConvLayer: expected filters as a positive integer, got 0"):
        subclass(ConvLayer)(0, kernel_size=1)
    with pytest.raises(ShapeError, match=r"^OwnPoolingLayer: expected frames of at least 2x2"):
        subclass(PoolingLayer)(2).build((1, 1, 3))
