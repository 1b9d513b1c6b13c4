"""Layers applied one after the other: their names, their shapes, and the pass through them."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from framecnn.layers.base import Backward, Layer
from framecnn.typing import Array, Shape

__all__ = ["chain_backward", "chain_forward", "chain_vjp", "layer_names", "walk"]


def layer_names(layers: Iterable[Layer]) -> tuple[str, ...]:
    """Return ``"conv_1"``, ``"pooling_1"``, ...: the class of each layer, counted from 1 within each class.

    Examples
    --------
    >>> from framecnn import DenseLayer
    >>> layer_names([DenseLayer(8), DenseLayer(2)])
    ('dense_1', 'dense_2')
    """
    counts: Counter[str] = Counter()
    names = []
    for layer in layers:
        class_name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(layer).__name__.removesuffix("Layer")).lower()
        counts[class_name] += 1
        names.append(f"{class_name}_{counts[class_name]}")
    return tuple(names)


def walk(layers: Sequence[Layer], input_shape: Shape) -> Iterator[tuple[str, Layer, Shape, Shape]]:
    """Yield name, layer, input shape and output shape of each layer in order; raise ShapeError if one does not fit.

    Examples
    --------
    >>> from framecnn import DenseLayer
    >>> [shapes for _, _, *shapes in walk([DenseLayer(8), DenseLayer(2)], (5,))]
    [[(5,), (8,)], [(8,), (2,)]]
    """
    shape = input_shape
    for name, layer in zip(layer_names(layers), layers, strict=True):
        output = layer.infer_shape(shape)
        yield name, layer, shape, output
        shape = output


def chain_forward(layers: Iterable[Layer], x: Array) -> Array:
    """Return the output of built layers for a checked batch (n, ...)."""
    for layer in layers:
        x = layer.forward(x)
    return x


def chain_vjp(layers: Sequence[Layer], x: Array, rng: np.random.Generator | None) -> tuple[Array, Backward]:
    """Return the output of built layers, and a function that computes the gradients, as :meth:`Layer.vjp` does.

    Gradients of parameters are named ``"conv_1/kernel"``.
    """
    steps = []
    for name, layer in zip(layer_names(layers), layers, strict=True):
        x, backward = layer.vjp(x, rng)
        steps.append((name, backward))
    return x, chain_backward(steps)


def chain_backward(steps: Sequence[tuple[str, Backward]]) -> Backward:
    """Return the function that computes the gradients of named layers, from those of each, in forward order."""

    def backward_all(dy: Array) -> tuple[Array, dict[str, Array]]:
        gradients: dict[str, Array] = {}
        for name, backward in reversed(steps):
            dy, own = backward(dy)
            gradients |= {f"{name}/{key}": value for key, value in own.items()}
        return dy, gradients

    return backward_all
