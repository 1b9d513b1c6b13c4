"""The checks of a layer's backward pass: functions whose name and first line say what is checked."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from framecnn.layers import Layer
from framecnn.layers.base import DTYPES
from framecnn.testing.contract import (
    Check,
    Make,
    expect,
    expect_same,
    n_roundings,
    repeats_for_chunks,
)
from framecnn.testing.draws import draw_distinct, draw_frames
from framecnn.thread_count import num_threads
from framecnn.typing import Array, Shape

__all__ = ["GRADIENTS", "has_gradients", "linear_arguments"]

EPS = float(np.finfo(np.float64).eps)
STEP = 1e-5  # below the differences of the values of `draw_distinct`: no kink lies within two steps
DIRECTIONS = 3
X = "x"  # the name of the input among the arguments of a layer
Gradients = tuple[Array, dict[str, Array]]


def has_gradients(layer: Layer) -> bool:
    """Return whether a layer defines a backward pass.

    Examples
    --------
    >>> from framecnn import FlatteningLayer
    >>> has_gradients(FlatteningLayer())
    True
    """
    return type(layer).vjp is not Layer.vjp


def same_output(make: Make) -> None:
    """Without an rng, the output of vjp equals that of forward, bit for bit."""
    for dtype in DTYPES:
        layer = make(dtype)
        x = draw_frames(layer, 3)
        expect_same(layer, "the output of forward from vjp without rng", layer.vjp(x)[0], layer(x))


def gradient_layout(make: Make) -> None:
    """Backward returns a gradient like the input and one like each parameter, and writes to neither."""
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
    """Backward returns the same bits when it is called again, and training draws the same from the same seed."""
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
    """Eight threads may train one layer at once: it keeps nothing between forward and backward."""
    layer = make()
    batches = [draw_frames(layer, 3) + number for number in range(8)]
    passes = [layer.vjp(x) for x in batches]
    dy = _like(passes[0][0])
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda step: step[1](dy), passes))
    for x, result in zip(batches, results, strict=True):
        _expect_same_gradients(layer, "eight threads at once", result, layer.vjp(x)[1](dy))


def number_of_threads_backward(make: Make) -> None:
    """Gradients are the same bit for bit for any number of threads, in the first and in later chunks of a batch."""
    layer = make()
    x = draw_frames(layer, 11)
    y, backward = layer.vjp(x)
    dy, repeats, results = _like(y), repeats_for_chunks(layer, len(x)), []
    dx, _ = backward(dy)
    for number in (1, 2):
        with num_threads(number):
            _, backward = layer.vjp(np.concatenate([x] * repeats))
            results.append(backward(np.concatenate([dy] * repeats)))
    expect_same(layer, "the same bits of dx for frames in later chunks", results[0][0], np.concatenate([dx] * repeats))
    _expect_same_gradients(layer, "two threads and one", *results)


def gradient(make: Make) -> None:
    """Gradients equal central differences along random directions, in float64."""
    _differentiate(make, training=False)


def gradient_in_training(make: Make) -> None:
    """Gradients equal central differences in training too, in which layers may draw or use the whole batch."""
    _differentiate(make, training=True)


def adjoint(make: Make) -> None:
    """If the output is linear in an argument, ``<L v, dy> == <v, L* dy>``, exactly on integers."""
    layer, rng = make(np.float64, integers=True), np.random.default_rng(4)
    values = _arguments(layer, lambda shape: _integers(rng, shape))
    for name in linear_arguments(layer, values):
        value = values[name]
        y = _linear(layer, values, name)(value)
        dy = _integers(rng, y.shape)
        products, adjoints = y * dy, value * _run(layer, values)[1](dy)[name]
        exact = all((array == np.rint(array)).all() for array in (products, adjoints))
        allowed = 0 if exact else n_roundings(layer) * EPS * float(np.abs(products).sum() + np.abs(adjoints).sum())
        left, right = products.sum(), adjoints.sum()
        holds = bool(abs(left - right) <= allowed)
        expect(holds, layer, f"<L {name}, dy> = {left} as <{name}, L* dy>", right)


def linear_arguments(layer: Layer, values: Mapping[str, Array]) -> list[str]:
    """Return the names of the arguments, "x" and parameters, in which the output is linear around given values.

    Rounding of a sum over all values is tolerated; nonlinear functions differ far more.

    Examples
    --------
    >>> from framecnn import DenseLayer
    >>> layer = DenseLayer(2).build((3,), dtype=np.float64)
    >>> linear_arguments(layer, {"x": np.ones((1, 3)), **layer.params})
    ['x', 'kernel', 'bias']
    """
    rng, names = np.random.default_rng(9), []
    for name, value in values.items():
        linear, other = _linear(layer, values, name), _integers(rng, value.shape)
        one, two, both = linear(value), linear(other), linear(value + other)
        allowed = n_roundings(layer) * EPS * (np.abs(one) + np.abs(two) + np.abs(both)).max()
        if np.abs(both - one - two).max() <= allowed:
            names.append(name)
    return names


def _linear(layer: Layer, values: Mapping[str, Array], name: str) -> Callable[[Array], Array]:
    """Return the output as a function of one argument, minus the output for zeros as that argument."""
    values = dict(values)

    def output(argument: Array) -> Array:
        y, _ = _run(layer, values | {name: argument})
        return y

    return lambda argument: output(argument) - output(np.zeros_like(argument))


def _integers(rng: np.random.Generator, shape: Shape) -> Array:
    return rng.integers(-15, 16, shape).astype(np.float64)


def _differentiate(make: Make, training: bool) -> None:
    """Compare gradients with central differences.

    Truncation error: about 1/3 of the change when the step doubles. Allowed: 2/3, plus rounding of both outputs.
    """
    layer, rng = make(np.float64), np.random.default_rng(5)
    values = _arguments(layer, lambda shape: draw_distinct(shape, rng))
    y, backward = _run(layer, values, training)
    dy = rng.normal(size=y.shape)
    gradients = backward(dy)
    rounding = n_roundings(layer) * EPS * float(np.abs(dy * y).sum()) / STEP
    for name, value in values.items():
        for _ in range(DIRECTIONS):
            direction = rng.normal(size=value.shape)

            def difference(step: float, name: str = name, value: Array = value, along: Array = direction) -> float:
                after, before = (_run(layer, values | {name: value + h * along}, training)[0] for h in (step, -step))
                return float(np.sum(dy * (after - before)) / (2 * step))

            numeric, analytic = difference(STEP), float((gradients[name] * direction).sum())
            allowed = 2 * abs(difference(2 * STEP) - numeric) / 3 + rounding
            holds = abs(analytic - numeric) <= allowed
            expect(holds, layer, f"d{name} along a direction as its central difference, {numeric!r}", repr(analytic))


def _arguments(layer: Layer, draw: Callable[[Shape], Array]) -> dict[str, Array]:
    """Return values for the input and for all parameters that training changes."""
    trainable = [name for name, spec in layer.param_specs(layer.input_shape).items() if spec.trainable]
    return {X: draw((3, *layer.input_shape))} | {name: layer.params[name] for name in trainable}


def _run(
    layer: Layer, values: Mapping[str, Array], training: bool = False
) -> tuple[Array, Callable[[Array], dict[str, Array]]]:
    """Return the output for these arguments, and a function that returns all gradients by name."""
    layer.params.update({name: value for name, value in values.items() if name != X})
    y, backward = layer.vjp(values[X], np.random.default_rng(6) if training else None)

    def by_name(dy: Array) -> dict[str, Array]:
        dx, gradients = backward(dy)
        return {X: dx} | gradients

    return y, by_name


def _like(y: Array) -> Array:
    dy: Array = np.random.default_rng(7).normal(size=y.shape).astype(y.dtype)
    return dy


def _expect_same_gradients(layer: Layer, when: str, one: Gradients, other: Gradients) -> None:
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
"""All checks of layers that define vjp, the most basic first."""
