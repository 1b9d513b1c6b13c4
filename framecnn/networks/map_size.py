"""A limit of what a layer may compute for one frame: the few bytes of its settings can ask for more than any memory."""

import math

from framecnn.errors import ShapeError
from framecnn.layers import Layer
from framecnn.typing import Shape

__all__ = ["check_map_size"]

LARGEST_MAP = 2**28  # values: 1 GiB of float32


def check_map_size(layer: Layer, input_shape: Shape) -> Shape:
    """Return the output shape of a layer, or raise ShapeError where a frame would need too much memory.

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
        If the padded input or the output has more than 2**28 values a frame, or the layer does not fit the input.

    Examples
    --------
    >>> from framecnn import PoolingLayer
    >>> check_map_size(PoolingLayer(2), (240, 360, 3))
    (120, 180, 3)
    """
    padding = getattr(layer, "padding", None)
    sides = padding if isinstance(padding, tuple) else ()
    padded = [length + before + after for length, (before, after) in zip(input_shape, sides, strict=False)]
    output = layer.infer_shape(input_shape)
    if math.prod(output) > LARGEST_MAP:
        raise ShapeError(f"{type(layer).__name__}: expected at most {LARGEST_MAP:,} values a frame, got {output}")
    if sides and math.prod(padded) * input_shape[-1] > LARGEST_MAP:
        raise ShapeError(f"{type(layer).__name__}: expected at most {LARGEST_MAP:,} values a frame, got {padded}")
    return output
