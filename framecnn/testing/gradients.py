"""What every layer promises about its backward pass, as small named checks."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from framecnn.layers import Layer
from framecnn.layers.base import DTYPES
from framecnn.testing.contract import Check, Make, expect, expect_same
from framecnn.testing.draws import apart, draw_frames
from framecnn.thread_count import num_threads
from framecnn.typing import Array

__all__ = ["GRADIENTS", "has_gradients"]

STEP = 1e-5
TOLERANCE = 1e-6
DIRECTIONS = 3
X = "x"  # the input's name among the arguments of a layer


def has_gradients(layer: Layer) -> bool:
    """Return whether a layer has written a backward pass.

    Examples
    --------
    >>> from framecnn import FlatteningLayer
    >>> has_gradients(FlatteningLayer())
    True
    """
    return type(layer).vjp is not Layer.vjp


def same_output(make: Make) -> None:
    """Without an rng, vjp gives the output of forward, to the bit."""
    for dtype in DTYPES:
        layer = make(dtype)
        x = draw_frames(layer, 3)
        expect_same(layer, "the output of forward from vjp without rng", layer.vjp(x)[0], layer(x))


def gradient_layout(make: Make) -> None:
    """Backward gives a gradient like the input and one like each parameter, and touches nothing."""
    for dtype in DTYPES:
        for n in (0, 3):
            layer = make(dtype)
            x = draw_frames(layer, n)
            y, backward = layer.vjp(x)
            x.flags.writeable = False
            dy = np.ones_like(y)
            dy.flags.writeable = False
            dx, gradients = backward(dy)
            names = sorted(layer.params)
            expect(sorted(gradients) == names, layer, f"gradients of {names}", sorted(gradients))
            for name, value, gradient in [(X, x, dx), *((k, layer.params[k], gradients[k]) for k in gradients)]:
                received = f"{gradient.dtype} of {gradient.shape}"
                like = (gradient.dtype, gradient.shape) == (value.dtype, value.shape)
                expect(like, layer, f"d{name} as {value.dtype} of {value.shape}", received)


def backward_again(make: Make) -> None:
    """Backward may be called again and gives the same bits; a seed decides what training draws."""
    layer = make()
    x = draw_frames(layer, 3)
    y, backward = layer.vjp(x)
    dy = _like(y)
    _expect_same_gradients(layer, "a second call of backward", backward(dy), backward(dy))
    for training in (False, True):
        (first, one), (second, other) = (layer.vjp(x, np.random.default_rng(5) if training else None) for _ in "ab")
        expect_same(layer, "the same output from the same seed", second, first)
        _expect_same_gradients(layer, "the same seed", other(dy), one(dy))


def eight_threads_backward(make: Make) -> None:
    """Eight threads may train one layer at once: nothing is kept on it between forward and backward."""
    layer = make()
    batches = [draw_frames(layer, 3) + number for number in range(8)]
    passes = [layer.vjp(x) for x in batches]
    dy = _like(passes[0][0])
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda step: step[1](dy), passes))
    for x, result in zip(batches, results, strict=True):
        _expect_same_gradients(layer, "eight threads at once", result, layer.vjp(x)[1](dy))


def number_of_threads_backward(make: Make) -> None:
    """The number of threads that kernels use does not change a bit of a gradient."""
    layer = make()
    x = np.concatenate([draw_frames(layer, 11)] * 8)  # enough work for several chunks
    results = []
    for number in (1, 2):
        with num_threads(number):
            y, backward = layer.vjp(x)
            results.append(backward(_like(y)))
    _expect_same_gradients(layer, "two threads and one", *results)


def gradient(make: Make) -> None:
    """Gradients are those of central differences along random directions, in float64."""
    _differentiate(make, training=False)


def gradient_in_training(make: Make) -> None:
    """So they are in training, where a layer may draw or look at the whole batch."""
    _differentiate(make, training=True)


def adjoint(make: Make) -> None:
    """Where the output is linear in an argument, ``<L v, dy> == <v, L* dy>``: on whole numbers exactly."""
    layer, rng = make(np.float64, whole=True), np.random.default_rng(4)
    values = _arguments(layer, lambda shape: rng.integers(-15, 16, shape).astype(np.float64))
    for name, value in values.items():

        def linear(argument: Array, name: str = name) -> Array:
            return _run(layer, values | {name: argument})[0] - _run(layer, values | {name: 0 * argument})[0]

        other = rng.integers(-15, 16, value.shape).astype(np.float64)
        y, both = linear(value), linear(value + other)
        if np.abs(both - y - linear(other)).max() > 1e-9 * np.abs(both).max():
            continue
        dy = rng.integers(-15, 16, y.shape).astype(np.float64)
        products, adjoints = y * dy, value * _run(layer, values)[1](dy)[name]
        exact = all((array == np.rint(array)).all() for array in (products, adjoints))
        allowed = 0 if exact else 1e-10 * np.abs(products).sum()
        left, right = products.sum(), adjoints.sum()
        holds = bool(abs(left - right) <= allowed)
        expect(holds, layer, f"<L {name}, dy> = {left} as <{name}, L* dy>", right)


def _differentiate(make: Make, training: bool) -> None:
    layer, rng = make(np.float64), np.random.default_rng(5)
    values = _arguments(layer, lambda shape: apart(shape, rng))
    y, backward = _run(layer, values, training)
    dy = rng.normal(size=y.shape)
    gradients = backward(dy)
    for name, value in values.items():
        for _ in range(DIRECTIONS):
            direction = rng.normal(size=value.shape)
            after, before = (_run(layer, values | {name: value + h * direction}, training)[0] for h in (STEP, -STEP))
            numeric = float(np.sum(dy * (after - before)) / (2 * STEP))
            terms = gradients[name] * direction
            analytic = float(terms.sum())
            scale = max(abs(numeric), float(np.linalg.norm(terms)))
            holds = abs(analytic - numeric) <= TOLERANCE * scale
            expect(holds, layer, f"d{name} along a direction as its central difference, {numeric!r}", repr(analytic))


def _arguments(layer: Layer, draw) -> dict[str, Array]:
    """Return values for the input and for all parameters that training changes."""
    trainable = [name for name, spec in layer.param_specs(layer.input_shape).items() if spec.trainable]
    return {X: draw((3, *layer.input_shape))} | {name: layer.params[name] for name in trainable}


def _run(layer: Layer, values: Mapping[str, Array], training: bool = False):
    """Return the output for these arguments, and a backward that gives all gradients by name."""
    layer.params.update({name: value for name, value in values.items() if name != X})
    y, backward = layer.vjp(values[X], np.random.default_rng(6) if training else None)

    def by_name(dy: Array) -> dict[str, Array]:
        dx, gradients = backward(dy)
        return {X: dx} | gradients

    return y, by_name


def _like(y: Array) -> Array:
    return np.random.default_rng(7).normal(size=y.shape).astype(y.dtype)


def _expect_same_gradients(layer: Layer, when: str, one: tuple, other: tuple) -> None:
    (dx, gradients), (dx_again, gradients_again) = one, other
    expect_same(layer, f"the same bits of dx from {when}", dx_again, dx)
    for name, value in gradients.items():
        expect_same(layer, f"the same bits of d{name} from {when}", gradients_again[name], value)


GRADIENTS: tuple[Check, ...] = (
    same_output,
    gradient_layout,
    backward_again,
    eight_threads_backward,
    number_of_threads_backward,
    gradient,
    gradient_in_training,
    adjoint,
)
"""For layers that have written vjp."""
