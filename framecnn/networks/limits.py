"""Limits for networks from files: a small file could demand unlimited memory."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from framecnn.errors import ShapeError
from framecnn.layers import Layer, ParallelLayer
from framecnn.layers.base import DTYPES
from framecnn.storage.model_file import Description, expect
from framecnn.typing import Array, Shape

__all__ = ["check_description", "check_map_size"]

LARGEST_MAP = 2**28  # values: 1 GiB of float32
FLOATS = {dtype.name: dtype for dtype in DTYPES}


def check_description(description: Description, layers: Sequence[Layer], tensors: Mapping[str, Array]) -> np.dtype[Any]:
    """Return the dtype of a described network, or raise an error if it cannot run.

    Parameters
    ----------
    description : mapping
        ``layers``, their settings, and ``dtype``.
    layers : sequence of Layer
        The layers built from those settings.
    tensors : mapping of str to array

    Returns
    -------
    numpy.dtype

    Raises
    ------
    ShapeError
        If a frame would need too much memory in a layer.
    FormatError
        If a setting is beyond the range of the dtype, or a tensor has a different dtype.
    """
    shape: Shape = layers[0].shape  # type: ignore[attr-defined]
    for layer in layers:
        shape = check_map_size(layer, shape)
    dtype = FLOATS[description["dtype"]]
    least, largest = float(np.finfo(dtype).tiny), float(np.finfo(dtype).max)
    sizes = [abs(number) for number in _numbers(description["layers"]) if number]
    expect(all(least <= size <= largest for size in sizes), f"settings in the range of {dtype}")
    expect(all(tensor.dtype == dtype for tensor in tensors.values()), f"tensors of {dtype}")
    return dtype


def _numbers(value: Any) -> Iterator[float]:
    """Yield all numbers of a description."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def check_map_size(layer: Layer, input_shape: Shape) -> Shape:
    """Return the output shape of a layer, or raise ShapeError if a frame would need too much memory.

    Parameters
    ----------
    layer : Layer
    input_shape : tuple of int

    Returns
    -------
    tuple of int

    Raises
    ------
    ShapeError
        If the padded input or the output has more than 2**28 values per frame, or the layer does not fit the input.

    Examples
    --------
    >>> from framecnn import PoolingLayer
    >>> check_map_size(PoolingLayer(2), (240, 360, 3))
    (120, 180, 3)
    """
    if isinstance(layer, ParallelLayer):
        for branch in layer.branches:
            shape = input_shape
            for inner in branch:
                shape = check_map_size(inner, shape)
    padding = getattr(layer, "padding", None)
    sides = padding if isinstance(padding, tuple) else ()
    padded = [length + before + after for length, (before, after) in zip(input_shape, sides, strict=False)]
    output = layer.infer_shape(input_shape)
    if math.prod(output) > LARGEST_MAP:
        raise ShapeError(f"{type(layer).__name__}: expected at most {LARGEST_MAP:,} values per frame, got {output}")
    if sides and math.prod(padded) * input_shape[-1] > LARGEST_MAP:
        raise ShapeError(f"{type(layer).__name__}: expected at most {LARGEST_MAP:,} values per frame, got {padded}")
    return output
