"""Losses: values by definition, gradients by central differences, no infinity where the loss is finite."""

import numpy as np
import pytest

from framecnn import SettingError, ShapeError
from framecnn.training.losses import mean_squared_error, sigmoid_cross_entropy, softmax_cross_entropy

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 5, 7)
SOFT = RNG.random((7, 5))
WEIGHTS = [0.5, 2.0, 0.0, 1.0, 3.0]
CASES = {
    "softmax": (softmax_cross_entropy, LABELS, {}),
    "weighted": (softmax_cross_entropy, LABELS, {"class_weights": WEIGHTS}),
    "smoothed": (softmax_cross_entropy, LABELS, {"label_smoothing": 0.1}),
    "weighted and smoothed": (softmax_cross_entropy, LABELS, {"class_weights": WEIGHTS, "label_smoothing": 0.3}),
    "sigmoid": (sigmoid_cross_entropy, SOFT, {}),
    "squares": (mean_squared_error, SOFT, {}),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


def test_the_gradient_is_that_of_the_value(case):
    loss, targets, settings = case
    outputs, direction, step = RNG.normal(0, 2, (7, 5)), RNG.normal(size=(7, 5)), 1e-5
    _, gradient = loss(outputs, targets, **settings)
    ahead, behind = (loss(outputs + sign * step * direction, targets, **settings)[0] for sign in (1, -1))
    assert np.sum(gradient * direction) == pytest.approx((ahead - behind) / (2 * step), rel=1e-8)


def test_float32_gives_what_float64_gives(case):
    loss, targets, settings = case
    outputs = RNG.normal(0, 2, (7, 5)).astype(np.float32)
    value, gradient = loss(outputs, targets, **settings)
    exact, exact_gradient = loss(outputs.astype(np.float64), targets, **settings)
    assert value == exact
    assert gradient.dtype == np.float32
    assert exact_gradient.dtype == np.float64
    np.testing.assert_array_equal(gradient, exact_gradient.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_outputs_have_a_finite_loss_and_a_gradient(dtype):
    edge = float(np.finfo(dtype).max) / 100
    for size in (88.0, 1e4, 1e30, edge):
        logits = np.array([[size, -size, 0], [-size, size, size], [-size, -size, -size]], dtype)
        for value, gradient in (
            softmax_cross_entropy(logits, [1, 0, 2], label_smoothing=0.1),
            sigmoid_cross_entropy(logits, [[0, 1, 1], [1, 0, 0], [0, 1, 0.5]]),
        ):
            assert np.isfinite(value)
            assert value > 0
            assert np.isfinite(gradient).all()


def test_nan_gives_nan(case):
    loss, targets, settings = case
    outputs = np.zeros((7, 5))
    outputs[0, 0] = np.nan
    value, gradient = loss(outputs, targets, **settings)
    assert np.isnan(value)
    assert np.isnan(gradient).any()


def test_a_loss_beyond_the_largest_number_is_infinite_without_a_warning():
    assert mean_squared_error(np.array([[1e200]]), [[0]])[0] == np.inf
    assert np.isnan(softmax_cross_entropy(np.array([[np.inf, 0]]), [0])[0])


def test_the_loss_of_equal_logits_is_the_logarithm_of_the_number_of_classes():
    value, gradient = softmax_cross_entropy(np.zeros((3, 4)), [0, 1, 3])
    assert value == pytest.approx(np.log(4))
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-16)


def test_a_certain_and_right_prediction_has_a_loss_of_zero():
    assert softmax_cross_entropy(np.array([[1000.0, 0, 0]]), [0])[0] == 0
    assert sigmoid_cross_entropy(np.array([[1000.0, -1000]]), [[1, 0]])[0] == 0
    assert mean_squared_error(np.array([[3.0]]), [[3]])[0] == 0


def test_a_class_of_weight_two_counts_as_if_its_rows_were_there_twice():
    logits = RNG.normal(size=(4, 3))
    once = softmax_cross_entropy(logits, [0, 1, 2, 2], class_weights=[1, 1, 2])[0] * 4
    twice = softmax_cross_entropy(np.concatenate([logits, logits[2:]]), [0, 1, 2, 2, 2, 2])[0] * 6
    assert once == pytest.approx(twice)


def test_values_and_gradients_are_those_of_keras():
    keras = pytest.importorskip("keras", reason="needs the package keras")
    backend = pytest.importorskip("tensorflow", reason="needs the package tensorflow")
    keras.config.set_floatx("float64")
    try:
        logits = RNG.normal(0, 3, (7, 5))
        one_hot = np.eye(5)[LABELS]
        weights = np.asarray(WEIGHTS)
        smoothed = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
        pairs = [
            (softmax_cross_entropy(logits, LABELS), lambda x: keras.losses.CategoricalCrossentropy(True)(one_hot, x)),
            (
                softmax_cross_entropy(logits, LABELS, class_weights=weights, label_smoothing=0.1),
                lambda x: smoothed(one_hot, x, sample_weight=weights[LABELS]),
            ),
            (sigmoid_cross_entropy(logits, SOFT), lambda x: keras.losses.BinaryCrossentropy(True)(SOFT, x)),
            (mean_squared_error(logits, SOFT), lambda x: keras.losses.MeanSquaredError()(SOFT, x)),
        ]
        for (value, gradient), theirs in pairs:
            x = backend.constant(logits)
            with backend.GradientTape() as tape:
                tape.watch(x)
                expected = theirs(x)
            assert value == pytest.approx(float(expected), rel=1e-12)
            np.testing.assert_allclose(gradient, tape.gradient(expected, x).numpy(), rtol=1e-10, atol=1e-15)
    finally:
        keras.config.set_floatx("float32")


LOGITS = np.zeros((2, 3))
REFUSED = [
    (softmax_cross_entropy, (np.zeros((0, 3)), []), {}, ShapeError, r"logits of shape \(n, classes\).*got \(0, 3\)"),
    (softmax_cross_entropy, (np.zeros(3), [0]), {}, ShapeError, r"expected logits of shape .*got \(3,\)"),
    (
        softmax_cross_entropy,
        (LOGITS, [0]),
        {},
        ShapeError,
        r"one label per row, shape \(2,\), got shape \(1,\)",
    ),
    (softmax_cross_entropy, (LOGITS, [0, 3]), {}, ShapeError, "integers from 0 to 2, got 0 to 3"),
    (softmax_cross_entropy, (LOGITS, [-1, 0]), {}, ShapeError, "integers from 0 to 2, got -1 to 0"),
    (softmax_cross_entropy, (LOGITS, [0.0, 1.0]), {}, ShapeError, "integers from 0 to 2, got dtype float64"),
    (
        softmax_cross_entropy,
        (LOGITS, [0, 1]),
        {"label_smoothing": 1},
        SettingError,
        r"label_smoothing in \[0, 1\), got",
    ),
    (
        softmax_cross_entropy,
        (LOGITS, [0, 1]),
        {"class_weights": [1]},
        ShapeError,
        r"per class, shape \(3,\)",
    ),
    (
        softmax_cross_entropy,
        (LOGITS, [0, 1]),
        {"class_weights": [1, -1, 1]},
        SettingError,
        "class_weights of at least 0, got",
    ),
    (
        softmax_cross_entropy,
        (LOGITS, [0, 1]),
        {"class_weights": [1, np.inf, 1]},
        SettingError,
        "expected finite class_weights",
    ),
    (sigmoid_cross_entropy, (LOGITS, np.zeros(2)), {}, ShapeError, r"the outputs' shape \(2, 3\), got \(2,\)"),
    (sigmoid_cross_entropy, (LOGITS, LOGITS + 2), {}, ShapeError, "expected targets from 0 to 1, got 2.0 to 2.0"),
    (sigmoid_cross_entropy, (LOGITS[:0], LOGITS[:0]), {}, ShapeError, r"expected logits .* got \(0, 3\)"),
    (mean_squared_error, (LOGITS, LOGITS[:1]), {}, ShapeError, r"the outputs' shape \(2, 3\), got \(1, 3\)"),
    (mean_squared_error, (np.float64(1), 1), {}, ShapeError, r"expected outputs of shape \(n, ...\).* got \(\)"),
]


@pytest.mark.parametrize(("loss", "given", "settings", "error", "message"), REFUSED)
def test_what_does_not_fit_is_refused(loss, given, settings, error, message):
    with pytest.raises(error, match=f"^{loss.__name__}: .*{message}"):
        loss(*given, **settings)
