"""Gradients of layers against the definitions in kernels/reference.py, with the same bits however they are computed."""

import numpy as np
import pytest
from agreement import CASES, built, is_exact
from gradient_bounds import defined, gradients_for, input_gradient_by_winograd, rounding_backward
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from spreading import exact_and_spread

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FlatteningLayer,
    InputLayer,
    PoolingLayer,
    Sequential,
    SettingError,
    ShapeError,
    num_threads,
)
from framecnn.layers import Layer
from framecnn.networks.fusion import training_passes
from framecnn.networks.prediction import PredictionPlan
from framecnn.testing import frames, layers
from framecnn.testing.draws import draw_frames, same_bits

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
DEFINED = {
    name: case
    for name, case in CASES.items()
    if name.split("-")[0] in ("ActivationLayer", "ConvLayer", "DenseLayer", "PoolingLayer", "DownsamplingLayer")
}


@pytest.mark.parametrize("case", DEFINED.values(), ids=DEFINED.keys())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_integers_give_the_defined_gradients(case, dtype):
    layer = built(case, dtype, integers=True)
    x = draw_frames(layer, 3, integers=True) / (100 if isinstance(layer, ActivationLayer) else 1)
    x = x.astype(dtype)
    y, backward = layer.vjp(x)
    dy = gradients_for(y, integers=True)
    expected_dx, expected_grads = defined(layer, x, dy)
    dx, grads = backward(dy)
    bound, bounds = rounding_backward(layer, x, dy)
    assert (np.abs(dx - expected_dx) <= bound).all()
    assert dx.dtype == dtype
    for name, expected_grad in expected_grads.items():
        assert (np.abs(grads[name] - expected_grad) <= bounds[name]).all()
        assert grads[name].dtype == dtype
    assert grads.keys() == expected_grads.keys() == layer.params.keys()


@settings(deadline=None, max_examples=150)
@given(st.data(), layers([ConvLayer], integers=True), st.integers(0, 9))
def test_gradients_of_any_convolution_are_exact(data, layer, n):
    assume(is_exact(layer) and not input_gradient_by_winograd(layer))
    x = data.draw(frames(layer.input_shape, n=n, dtype=layer.dtype))
    y, backward = layer.vjp(x)
    dy = gradients_for(y, integers=True)
    dx, grads = backward(dy)
    expected_dx, expected_grads = defined(layer, x, dy)
    np.testing.assert_array_equal(dx, expected_dx)
    for name, value in expected_grads.items():
        np.testing.assert_array_equal(grads[name], value)


def a_network(dtype=np.float32):
    """Return a network with every combination of layers that are trained together, and an odd size."""
    layers = [
        InputLayer((21, 26, 3), scale=0.5),
        ConvLayer(17, kernel_size=3, padding="same"),
        ActivationLayer("relu"),
        PoolingLayer(2),
        ConvLayer(33, kernel_size=3, padding="same"),
        BatchNormLayer(),
        ActivationLayer("leaky_relu"),
        PoolingLayer(2),
        ConvLayer(32, kernel_size=3, padding="same"),
        ActivationLayer("leaky_relu", negative_slope=0.2),
        PoolingLayer(2, strides=1),
        ConvLayer(8, kernel_size=2),
        PoolingLayer(2),
        DropoutLayer(0.25),
        FlatteningLayer(),
        DenseLayer(6),
    ]
    return Sequential(layers).build(0, dtype)


def layer_by_layer(model, x, dy, rng):
    """Return output and gradients without any fusion."""
    steps = []
    for name, layer in zip(model.names, model.layers, strict=True):
        x, backward = layer.vjp(x, rng)
        steps.append((name, backward))
    y, grads = x, {}
    for name, backward in reversed(steps):
        dy, own = backward(dy)
        grads |= {f"{name}/{key}": value for key, value in own.items()}
    return y, dy, grads


@pytest.mark.parametrize("n", [0, 1, 9])
def test_layers_trained_together_give_the_bits_of_layers_one_by_one(n):
    model = a_network()
    assert len(training_passes(model.layers, model.input_shape)) < len(model.layers)
    x = np.random.default_rng(1).normal(size=(n, 21, 26, 3)).astype(np.float32)
    y, backward = model.vjp(x, np.random.default_rng(5))
    dy = gradients_for(y)
    dx, grads = backward(dy)
    expected_y, expected_dx, expected_grads = layer_by_layer(model, x, dy, np.random.default_rng(5))
    assert same_bits(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)
    assert grads.keys() == expected_grads.keys() == model.state_dict().keys()
    for name, value in expected_grads.items():
        np.testing.assert_array_equal(grads[name], value)


def test_gradients_have_the_same_bits_on_one_thread_and_two():
    model = a_network()
    x = np.random.default_rng(1).normal(size=(40, 21, 26, 3)).astype(np.float32)
    results = []
    for threads in (1, 2):
        with num_threads(threads):
            y, backward = model.vjp(x, np.random.default_rng(5))
            results.append({**backward(gradients_for(y))[1], "y": y})
    assert all(same_bits(results[0][name], results[1][name]) for name in results[0])


def test_without_the_gradient_of_the_input_the_others_are_the_same():
    model = a_network()
    x = np.random.default_rng(1).normal(size=(5, 21, 26, 3)).astype(np.float32)
    y, backward = model.vjp(x)
    _, grads = backward(gradients_for(y))
    _, backward = model.vjp(x, wrt_input=False)
    dx, same = backward(gradients_for(y))
    assert dx is None
    assert all(same_bits(same[name], value) for name, value in grads.items())


def test_a_network_without_parameters_has_the_gradient_of_its_input_only():
    model = Sequential([InputLayer((4, 4, 1)), PoolingLayer(2)]).build()
    y, backward = model.vjp(np.zeros((1, 4, 4, 1)))
    assert backward(np.ones_like(y))[0].sum() == 4
    assert model.vjp(np.zeros((1, 4, 4, 1)), wrt_input=False)[1](np.ones_like(y)) == (None, {})


def test_the_gradient_of_a_network_agrees_with_central_differences():
    model = a_network(np.float64)
    rng = np.random.default_rng(1)
    x, direction = rng.normal(size=(2, 3, 21, 26, 3))
    y, backward = model.vjp(x, np.random.default_rng(5))
    dy = gradients_for(y)
    dx, grads = backward(dy)
    step = 1e-6

    def value(x):
        return (model.vjp(x, np.random.default_rng(5))[0] * dy).sum()

    slope = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert (dx * direction).sum() == pytest.approx(slope, rel=1e-6)
    for name, spec in model.param_specs().items():
        if spec.trainable:
            before, direction = model.state_dict()[name], rng.normal(size=spec.shape)
            model.update({name: before + step * direction})
            above = value(x)
            model.update({name: before - step * direction})
            below = value(x)
            model.update({name: before})
            assert (grads[name] * direction).sum() == pytest.approx((above - below) / (2 * step), rel=1e-6, abs=1e-7)


def test_layers_that_lose_signs_or_pool_otherwise_are_trained_apart():
    def numbers(*layers):
        return [step.first for step in training_passes(layers, (9, 9, 2))]

    conv, relu = ConvLayer(3, kernel_size=2), ActivationLayer("relu")
    assert numbers(conv, relu, PoolingLayer(2)) == [0]
    assert numbers(conv, relu, PoolingLayer(3)) == [0, 2]
    assert numbers(conv, relu, PoolingLayer(2, mode="average")) == [0, 2]
    assert numbers(conv, ActivationLayer("leaky_relu", negative_slope=-1.0), PoolingLayer(2)) == [0, 1, 2]
    assert numbers(conv, ActivationLayer("tanh"), PoolingLayer(2)) == [0, 1, 2]
    assert numbers(conv, PoolingLayer(2)) == [0]


@pytest.mark.parametrize("summing", [ConvLayer(9, kernel_size=3, use_bias=False), DenseLayer(9)])
def test_a_batch_normalisation_is_folded_into_the_layer_before_it(summing):
    shape = (8, 8, 3) if isinstance(summing, ConvLayer) else (12,)
    norm, relu = BatchNormLayer(), ActivationLayer("relu")
    layers = [InputLayer(shape), summing, norm, DropoutLayer(0.5), relu]
    model = Sequential(layers).build(0)
    passes = PredictionPlan.of(layers, shape)
    assert len(passes.on_frames + passes.on_rows) == 1
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, *shape)).astype(np.float32)
    for _ in range(2):  # folded again after a parameter has changed
        for layer in (summing, norm):
            for name, value in layer.params.items():
                layer.params[name] = np.abs(rng.normal(size=value.shape))
        exact, spread = exact_and_spread([summing, norm, relu], x)
        assert (np.abs(model.predict(x) - exact) <= 2 * spread).all()  # folding rounds kernel and bias once more


def test_batch_normalisation_learns_the_mean_and_variance_of_what_it_sees():
    layer = BatchNormLayer(momentum=0.75).build((2,), dtype=np.float64)
    x = np.array([[1.0, 5.0], [3.0, 5.0]])
    _, backward = layer.vjp(x, np.random.default_rng(0))
    _, moved = backward(np.ones_like(x))
    np.testing.assert_array_equal(moved["moving_mean"], [0.5, 1.25])
    np.testing.assert_array_equal(moved["moving_variance"], [1.0, 0.75])
    _, backward = layer.vjp(x)
    np.testing.assert_array_equal(backward(np.ones_like(x))[1]["moving_variance"], [1, 1])


def test_dropout_drops_its_share_and_keeps_the_mean():
    layer = DropoutLayer(0.25).build((100, 100, 1))
    x = np.ones((1, 100, 100, 1), np.float32)
    y, backward = layer.vjp(x, np.random.default_rng(0))
    assert y.dtype == np.float32
    deviation = np.sqrt(0.25 * 0.75 / y.size)  # of the share of a binomial distribution; five of them are never left
    assert (y == 0).mean() == pytest.approx(0.25, abs=5 * deviation)
    assert y.mean() == pytest.approx(1, abs=5 * deviation / 0.75)
    np.testing.assert_array_equal(backward(x)[0], y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DropoutLayer(1), "DropoutLayer: expected rate as a number from 0 to below 1, got 1"),
        (lambda: BatchNormLayer(momentum=2), "BatchNormLayer: expected momentum as a number from 0 to 1, got 2"),
        (lambda: BatchNormLayer(epsilon=0), "BatchNormLayer: expected epsilon as a positive number, got 0"),
        (
            lambda: a_network().update({"conv_9/kernel": np.zeros(1)}),
            "Sequential.update: expected parameters of input_1, .*, got 'conv_9/kernel'",
        ),
        (lambda: a_network().update({"conv_1/bias": np.zeros(1)}), r"ConvLayer: expected bias as .* \(17,\), got"),
        (lambda: a_network().vjp(np.zeros((1, 2, 2, 3))), "Sequential.vjp: expected x of shape"),
    ],
)
def test_invalid_settings_and_parameters_are_refused(make, message):
    with pytest.raises((SettingError, ShapeError), match=message):
        make()


def test_the_error_of_a_layer_without_vjp_names_the_method():
    class OnlyForward(Layer):
        pass

    with pytest.raises(
        NotImplementedError, match="OnlyForward: expected a method vjp that belongs to its forward, got none; write"
    ):
        OnlyForward().vjp(np.zeros((1, 2)))
    del Layer.registry["OnlyForward"]
