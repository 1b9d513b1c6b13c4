"""Algebraic identities of layers, tested on all that the strategies draw."""

from itertools import pairwise

import numpy as np
from agreement import expected, is_exact, rounding
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from framecnn import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    KMeansClassifier,
    ParallelLayer,
    PoolingLayer,
    ScalingLayer,
    Sequential,
)
from framecnn.testing import conv_cases, frames, labelled_features, layers, models, shapes
from framecnn.testing.draws import draw_params, same_bits

SUMS = [ConvLayer, DenseLayer, FlatteningLayer, DropoutLayer]  # exact on integers, except by Winograd

identity = settings(deadline=None, max_examples=60)
equal = np.testing.assert_array_equal


def batch(data, layer, n=2, integers=True):
    """Draw frames for a layer."""
    return data.draw(frames(layer.input_shape, n=n, dtype=layer.dtype, integers=integers))


def conv(kernel, input_shape, **settings):
    """A direct convolution by a given kernel, without bias."""
    layer = ConvLayer(
        kernel.shape[3], kernel_size=kernel.shape[:2], use_bias=False, algorithm="direct", **settings
    ).build(input_shape, dtype=kernel.dtype)
    layer.params["kernel"] = kernel
    return layer


@identity
@given(st.data(), layers(SUMS, integers=True), st.integers(-3, 3))
def test_sums_of_products_are_linear_but_for_the_bias(data, layer, factor):
    a, b = batch(data, layer), batch(data, layer)
    zero = layer(0 * a)
    left, right = layer(a + factor * b) - zero, layer(a) - zero + factor * (layer(b) - zero)
    parts = [(1, a + factor * b), (1, a), (abs(factor), b), (1 + abs(factor), 0 * a)]
    bound = 0 if is_exact(layer) else 2 * sum(weight * rounding(layer, part) for weight, part in parts)
    assert (np.abs(left - right) <= bound).all()


@identity
@given(st.data(), layers(SUMS, integers=True))
def test_gradients_are_adjoint_to_sums_of_products_exactly(data, layer):
    assume(is_exact(layer))
    x, other = batch(data, layer), batch(data, layer)
    dy = data.draw(frames(layer.output_shape, n=2, dtype=layer.dtype))
    dx, gradients = layer.vjp(x)[1](dy)
    assert inner(layer(other) - layer(0 * other), dy) == inner(other, dx)
    if "kernel" in layer.params:
        kernel = layer.params["kernel"]
        assert inner(layer(x) - layer(0 * x), dy) == inner(kernel, gradients["kernel"])
    if "bias" in layer.params:
        equal(gradients["bias"], dy.reshape(-1, dy.shape[-1]).sum(axis=0))


def inner(a, b):
    """The inner product, in float64."""
    return float(np.sum(a.astype(np.float64) * b))


@identity
@given(st.data(), layers([PoolingLayer, DownsamplingLayer]))
def test_gradients_are_adjoint_to_means_exactly_where_powers_of_two_are_shared(data, layer):
    assume(isinstance(layer, DownsamplingLayer) or layer.mode.endswith("average"))
    x = batch(data, layer)
    dy = data.draw(frames(layer.output_shape, n=2, dtype=layer.dtype))
    y, backward = layer.vjp(x)
    dx, _ = backward(dy)
    exact = all(size.bit_count() == 1 for size in window_sizes(layer))
    magnitude = inner(np.abs(x), layer.vjp(x)[1](np.abs(dy))[0])
    roundings = max(window_sizes(layer)) + most_windows_of_a_pixel(layer) + 4  # of the two sums and their divisions
    bound = 0 if exact else roundings * np.finfo(layer.dtype).eps * magnitude
    assert abs(inner(y, dy) - inner(x, dx)) <= bound


def window_sizes(layer):
    """The numbers of pixels of all windows: what a frame of ones adds up to."""
    if isinstance(layer, DownsamplingLayer):
        return [layer.factor[0] * layer.factor[1] if layer.mode == "mean" else 1]
    (rows, row_stops, row_step), (columns, column_stops, column_step) = layer.windows(layer.input_shape[:2])
    heights, widths = -((rows - row_stops) // row_step), -((columns - column_stops) // column_step)
    return np.outer(heights, widths).ravel().tolist()


def most_windows_of_a_pixel(layer):
    """Return the largest number of windows that share a pixel."""
    if isinstance(layer, DownsamplingLayer):
        return 1
    counts = []
    for length, axis in zip(layer.input_shape[:2], layer.windows(layer.input_shape[:2]), strict=True):
        pixels = [pixel for start, stop in zip(*axis[:2], strict=True) for pixel in range(start, stop, axis[2])]
        counts.append(max(np.bincount(pixels, minlength=length)))
    return counts[0] * counts[1]


@identity
@given(st.data(), conv_cases())
def test_a_delta_kernel_crops(data, case):
    given_settings = {name: case.settings[name] for name in ("strides", "dilation_rate")}
    (rows, columns), channels = case.settings["kernel_size"], case.input_shape[2]
    (down, across), (step_u, step_v) = given_settings["strides"], given_settings["dilation_rate"]
    extent = (step_u * (rows - 1), step_v * (columns - 1))
    assume(extent[0] < case.input_shape[0] and extent[1] < case.input_shape[1])
    u, v = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    kernel = np.zeros((rows, columns, channels, channels), np.float32)
    kernel[u, v] = np.eye(channels)
    x = data.draw(frames(case.input_shape, integers=False))
    top, left = u * step_u, v * step_v
    bottom, right = x.shape[1] - extent[0] + top, x.shape[2] - extent[1] + left
    equal(conv(kernel, case.input_shape, **given_settings)(x), x[:, top:bottom:down, left:right:across])


@identity
@given(st.data(), frames(), st.integers(1, 40))
def test_a_convolution_of_1_x_1_is_a_matrix_product(data, x, filters):
    kernel = data.draw(frames((1, x.shape[3], filters), n=1))
    equal(conv(kernel, x.shape[1:])(x), x @ kernel[0, 0])


@identity
@given(st.data(), conv_cases(), st.integers(1, 20))
def test_a_dilated_kernel_is_one_stuffed_with_zeros(data, case, filters):
    (rows, columns), channels = case.settings["kernel_size"], case.input_shape[2]
    down, across = case.settings["dilation_rate"]
    extent = (down * (rows - 1) + 1, across * (columns - 1) + 1)
    assume(extent[0] <= case.input_shape[0] and extent[1] <= case.input_shape[1])
    kernel = data.draw(frames((columns, channels, filters), n=rows))
    stuffed = np.zeros((*extent, channels, filters), np.float32)
    stuffed[::down, ::across] = kernel
    x = data.draw(frames(case.input_shape))
    dilated = conv(kernel, case.input_shape, dilation_rate=(down, across))
    equal(dilated(x), conv(stuffed, case.input_shape)(x))


@identity
@given(st.data(), layers([ConvLayer, PoolingLayer, FilterBankLayer], integers=True))
def test_a_shifted_frame_gives_a_shifted_map(data, layer):
    if isinstance(layer, PoolingLayer):
        assume(not layer.mode.startswith("adaptive"))
    assume(getattr(layer, "padding", "valid") == "valid" and not getattr(layer, "algorithm", "").startswith("winograd"))
    rows, columns = (data.draw(st.integers(0, size - 1)) for size in layer.output_shape[:2])
    top, left = rows * layer.strides[0], columns * layer.strides[1]
    x = batch(data, layer)
    shifted = x[:, top:, left:]
    inside = same_settings(layer, shifted.shape[1:])(shifted)
    y = layer(x)[:, rows:, columns:]
    bound = 0 if is_exact(layer) or isinstance(layer, PoolingLayer) else 2 * rounding(layer, x)[:, rows:, columns:]
    assert (np.abs(inside - y) <= bound).all()


def same_settings(layer, input_shape):
    """The layer and its parameters, for frames of another size."""
    settings = {name: value for name, value in layer.config.items() if name != "layer"}
    return type(layer)(**settings).assign(input_shape, layer.params, layer.dtype)


@identity
@given(st.data(), layers([PoolingLayer]))
def test_a_maximum_is_monotone_and_a_member_of_its_window(data, layer):
    assume(layer.mode.endswith("max"))
    x = batch(data, layer)
    y = layer(x)
    assert (layer(x + np.abs(batch(data, layer))) >= y).all()
    rows, columns = layer.windows(layer.input_shape[:2])
    for i, vertical in enumerate(zip(*rows[:2], strict=True)):
        for j, horizontal in enumerate(zip(*columns[:2], strict=True)):
            window = x[:, slice(*vertical, rows[2]), slice(*horizontal, columns[2])]
            assert (window == y[:, i, j][:, None, None]).any(axis=(1, 2)).all()


@identity
@given(st.data(), layers([PoolingLayer]))
def test_relu_and_maximum_commute(data, layer):
    assume(layer.mode.endswith("max"))
    x = batch(data, layer, integers=False)
    before = ActivationLayer("relu").build(layer.input_shape, dtype=layer.dtype)
    after = ActivationLayer("relu").build(layer.output_shape, dtype=layer.dtype)
    equal(layer(before(x)), after(layer(x)))


@identity
@given(st.data(), shapes(max_channels=40), st.integers(-50, 50), st.sampled_from([np.float32, np.float64]))
def test_the_rows_of_a_softmax_are_probabilities_in_the_order_of_the_scores(data, shape, shift, dtype):
    layer = ActivationLayer("softmax").build(shape, dtype=dtype)
    x = batch(data, layer)
    y, eps = layer(x), np.finfo(dtype).eps
    assert ((y > 0) & (y <= 1)).all()
    assert (np.abs(y.sum(axis=-1) - 1) <= (shape[2] + 2) * eps).all()
    assert (np.diff(np.take_along_axis(y, x.argsort(axis=-1), axis=-1)) >= 0).all()
    equal(layer(x + shift), y)


@identity
@given(st.data(), layers([FlatteningLayer]))
def test_flattening_loses_nothing(data, layer):
    x = batch(data, layer, integers=False)
    y, backward = layer.vjp(x)
    equal(y.reshape(x.shape), x)
    equal(backward(y)[0], x)


@identity
@given(st.data(), models())
def test_the_shapes_of_a_chain_compose(data, model):
    shape = model.input_shape
    for layer in model.layers:
        assert layer.input_shape == shape
        shape = layer.infer_shape(shape)
    assert model.output_shape == shape
    n = data.draw(st.sampled_from([1, 0, 3]))
    assert model.predict(np.zeros((n, *model.input_shape))).shape == (n, *shape)
    assert [row.output_shape for row in model.summary().rows if row.depth == 0] == [
        layer.output_shape for layer in model.layers
    ]


def folded(layers):
    """Whether the plan may fold a batch normalisation or scaling into the sums before it."""
    kept = [layer for layer in layers if not isinstance(layer, DropoutLayer)]
    branches = [branch for layer in kept if isinstance(layer, ParallelLayer) for branch in layer.branches]
    scaling = BatchNormLayer | ScalingLayer
    pairs = pairwise(kept)
    return any(isinstance(a, ConvLayer | DenseLayer) and isinstance(b, scaling) for a, b in pairs) or any(
        map(folded, branches)
    )


@settings(deadline=None, max_examples=200)
@given(st.data(), models())
def test_a_model_predicts_what_its_layers_give_one_after_the_other(data, model):
    assume(not folded(model.layers))
    y = x = data.draw(frames(model.input_shape, dtype=model.layers[0].dtype, integers=False))
    for layer in model.layers:
        y = layer(y)
    assert same_bits(model.predict(x), y)


@identity
@given(st.data(), layers([ConvLayer, DenseLayer]))
def test_folding_a_batch_normalisation_rounds_no_more_than_twice_what_the_layers_may(data, summing):
    layer = draw_params(BatchNormLayer().build(summing.output_shape, dtype=summing.dtype))
    x = batch(data, summing, integers=False)
    first = InputLayer(summing.input_shape).build(summing.input_shape, dtype=summing.dtype)
    y, exact = Sequential([first, summing, layer]).predict(x), expected(layer, expected(summing, x))
    scale, _ = layer.scale_and_shift()
    bound = 2 * (np.abs(scale) * rounding(summing, x) + rounding(layer, expected(summing, x)))
    assert (np.abs(y - exact) <= bound).all()


@settings(deadline=None, max_examples=60)
@given(st.data(), models(dtype=np.float64, max_layers=4))
def test_the_gradient_of_a_chain_is_that_of_its_layers_one_after_the_other(data, model):
    x = data.draw(frames(model.input_shape, dtype=np.float64, integers=False))
    y, backward = model.vjp(x)
    steps = []
    for layer in model.layers:
        x, step = layer.vjp(x)
        steps.append(step)
    assert same_bits(x, y)
    gradient, wanted = np.ones_like(y), {}
    for name, step in zip(reversed(model.names), reversed(steps), strict=True):
        gradient, own = step(gradient)
        wanted |= {f"{name}/{key}": value for key, value in own.items()}
    dx, gradients = backward(np.ones_like(y))
    equal(dx, gradient)
    assert gradients.keys() == wanted.keys() == model.param_specs().keys()
    for name, value in wanted.items():
        equal(gradients[name], value)


def in_pairs(y):
    """Groups of two samples of a class each."""
    places = [np.count_nonzero(y[:number] == label) for number, label in enumerate(y)]
    return np.array([f"{label}{place // 2}" for label, place in zip(y, places, strict=True)])


few = settings(deadline=None, max_examples=25)


@few
@given(st.data(), labelled_features())
def test_the_order_of_rows_changes_no_prediction_of_the_head(data, drawn):
    X, y = drawn
    groups, order = in_pairs(y), np.array(data.draw(st.permutations(range(len(X)))))
    head = KMeansClassifier(random_state=0)
    distances, labels = head.fit(X, y, groups).transform(X), head.predict(X)
    head.fit(X[order], y[order], groups[order])
    np.testing.assert_allclose(head.transform(X), distances, rtol=1e-9, atol=1e-9)
    equal(head.predict(X), labels)


@few
@given(st.data(), labelled_features())
def test_renaming_the_classes_renames_the_predictions(data, drawn):
    X, y = drawn
    classes = np.unique(y)
    names = dict(zip(classes, data.draw(st.permutations(list("uvwxyz")[: len(classes)])), strict=True))
    renamed = np.array([names[label] for label in y])
    head, groups = KMeansClassifier(random_state=0), data.draw(st.sampled_from([None, in_pairs(y)]))
    labels = head.fit(X, y, groups).predict(X)
    equal(head.fit(X, renamed, groups).predict(X), [names[label] for label in labels])
