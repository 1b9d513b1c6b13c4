"""Frames and parameters for tests, drawn with fixed seeds, and the comparison of arrays."""

import numpy as np

from framecnn.layers import Layer
from framecnn.typing import Array, Shape

__all__ = ["difference", "draw_distinct", "draw_frames", "draw_params", "same_bits"]


def draw_frames(layer: Layer, n: int, integers: bool = False) -> Array:
    """Return frames for a built layer: integers from 0 to 255, or floats around zero.

    Examples
    --------
    >>> from framecnn import FlatteningLayer
    >>> draw_frames(FlatteningLayer().build((2, 1)), n=1, integers=True).shape
    (1, 2, 1)
    """
    rng = np.random.default_rng(2)
    shape = (n, *layer.input_shape)
    return (rng.integers(0, 256, shape) if integers else rng.normal(0, 40, shape)).astype(layer.dtype)


def draw_params(layer: Layer, integers: bool = False) -> Layer:
    """Set all parameters of a built layer to integers below 16, or to floats around zero, and return the layer.

    Parameters initialised to ones, such as scales and variances, stay positive.

    Examples
    --------
    >>> from framecnn import DenseLayer
    >>> draw_params(DenseLayer(2).build((1,)), integers=True).params["bias"]
    array([ 8., 14.], dtype=float32)
    """
    rng = np.random.default_rng(1)
    for name, spec in layer.param_specs(layer.input_shape).items():
        if spec.initializer == "ones":
            drawn = rng.integers(1, 16, spec.shape) if integers else rng.uniform(0.5, 1.5, spec.shape)
        else:
            drawn = rng.integers(-15, 16, spec.shape) if integers else rng.normal(size=spec.shape)
        layer.params[name] = drawn
    return layer


def draw_distinct(shape: Shape, rng: np.random.Generator) -> Array:
    """Return floats from -2.5 to 2.5, none close to another one or to zero, so that maxima and relu are smooth there.

    Examples
    --------
    >>> np.sort(draw_distinct((4,), np.random.default_rng(0)))
    array([-2.25, -1.25,  0.75,  1.75])
    """
    size = int(np.prod(shape))
    values = (rng.permutation(size) + 0.25) * 4 / size - 2
    return (values + np.copysign(0.5, values)).reshape(shape)


def same_bits(a: Array, b: Array) -> bool:
    """Return whether two arrays have equal dtype, shape and bytes.

    Examples
    --------
    >>> same_bits(np.zeros(1), -np.zeros(1))
    False
    """
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def difference(a: Array, b: Array) -> str:
    """Return a description of how `a` differs from `b`.

    Examples
    --------
    >>> difference(np.array([1.0, 2.0]), np.array([1.0, 5.0]))
    '1 of 2 values that differ, the first at (1,): 2.0 instead of 5.0'
    """
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        return f"{a.dtype} of {a.shape} instead of {b.dtype} of {b.shape}"
    a, b = np.atleast_1d(a), np.atleast_1d(b)
    bits = np.dtype(f"u{a.itemsize}")
    positions = np.argwhere(np.ascontiguousarray(a).view(bits) != np.ascontiguousarray(b).view(bits))
    if not len(positions):
        return "the same bits"
    first = tuple(positions[0].tolist())
    count = len(positions)
    return f"{count} of {a.size} values that differ, the first at {first}: {a[first]!s} instead of {b[first]!s}"
