"""Layers read from an ONNX file, one after the other, and how the file lays out the value after them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from framecnn.interop.onnx_layout import Flattened, flattened_from, flattened_order, joined
from framecnn.layers import FlatteningLayer, Layer, ParallelLayer, ScalingLayer
from framecnn.layers.chain import layer_names
from framecnn.networks.limits import check_map_size
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array, Shape

__all__ = ["Chain", "Layout", "Operator"]

Layout = Literal["channels_first", "channels_last", "squeezed", "half squeezed"]
"""How the file lays out maps: (n, c, h, w), (n, h, w, c), or maps of one pixel as (n, c) or as (n, c, 1)."""


@dataclass(frozen=True)
class Operator:
    """A node with one computed input: its attributes, its other inputs, and what else its meaning depends on.

    Attributes
    ----------
    settings : mapping of str to value
    weights : sequence of array or None
        The inputs other than the computed one; None for one that is left out.
    is_first : bool
        Whether the computed input is the first.
    opset : int
        The version of the operators.
    batch : int
        The size of the batch in the file.
    becomes_maps : bool
        Whether rows after this operator become maps of one pixel again, in this chain or after it.
    """

    settings: Mapping[str, Any]
    weights: Sequence[Any]
    is_first: bool
    opset: int
    batch: int
    becomes_maps: bool

    @property
    def weight(self) -> Array:
        """The first weight; raise ValueError if there is none."""
        if not self.weights or self.weights[0] is None:
            raise ValueError("expected weights that the file holds, got none")
        weight: Array = self.weights[0]
        return weight

    def weight_or_none(self, place: int) -> Array | None:
        """Return the weight at a place, counted from 0, or None if there is none."""
        return self.weights[place] if len(self.weights) > place else None


class Chain:
    """Layers one after the other, and their parameters.

    Parameters
    ----------
    shape : tuple of int
        Of the value before the first layer, (h, w, c) of maps.
    layout : str
    flattened : tuple of shapes

    Attributes
    ----------
    layers : list of Layer
    params : list of dict of str to array
        Of each layer.
    shape : tuple of int
        Output shape of the last layer.
    layout : "channels_first", "channels_last", "squeezed" or "half squeezed"
        Of maps in the file; "channels_first" for all other values.
    flattened : tuple of shapes
        From which rows were flattened, if ONNX orders their features differently.
    """

    def __init__(self, shape: Shape, layout: Layout = "channels_first", flattened: Flattened = ()):
        self.layers: list[Layer] = []
        self.params: list[dict[str, Array]] = []
        self.shape, self.layout, self.flattened = shape, layout, flattened

    def branch(self) -> "Chain":
        """Return an empty chain that begins where this one ends."""
        return Chain(self.shape, self.layout, self.flattened)

    @property
    def has_maps(self) -> bool:
        return len(self.shape) == 3

    @property
    def sizes(self) -> Shape:
        """The sizes in the file, without the batch."""
        if not self.has_maps or self.layout == "channels_last":
            return self.shape
        height, width, channels = self.shape
        return {"squeezed": (channels,), "half squeezed": (channels, 1)}.get(self.layout, (channels, height, width))

    @property
    def rank(self) -> int:
        """The number of axes in the file, the batch included."""
        return len(self.sizes) + 1

    @property
    def channel_axis(self) -> int:
        """The axis of the channels in the file, or the last axis of what is neither maps nor rows."""
        return 1 if self.has_maps and self.layout != "channels_last" else self.rank - 1

    @property
    def pixel_axes(self) -> tuple[int, int]:
        """The axes of rows and columns in the file; raise ValueError unless the value is maps there."""
        if not self.has_maps or "squeezed" in self.layout:
            raise ValueError(f"expected maps (n, c, h, w), got {self.rank} axes")
        return (2, 3) if self.layout == "channels_first" else (1, 2)

    def map_shape(self) -> tuple[int, int, int]:
        """Return (h, w, c); raise ValueError unless the value is maps (n, c, h, w) in the file."""
        if self.pixel_axes != (2, 3):
            raise ValueError("expected maps (n, c, h, w), got maps (n, h, w, c)")
        return self.shape[0], self.shape[1], self.shape[2]

    def row_length(self) -> int:
        """Return d; raise ValueError unless the value is rows."""
        if len(self.shape) != 1:
            raise ValueError(f"expected rows (n, d), got {self.rank} axes; flatten them first")
        return self.shape[0]

    def in_our_order(self, weights: Array) -> Array:
        """Return weights whose first axis follows ONNX's order of features in framecnn's order."""
        return weights[np.argsort(flattened_order(self.flattened))] if self.flattened else weights

    def per_channel(self, weights: Array) -> Array:
        """Return weights that broadcast to one number per channel as (c,), in framecnn's order."""
        single = [1] * self.rank
        single[self.channel_axis] = channels = self.shape[-1]
        if np.broadcast_shapes(weights.shape, tuple(single)) != tuple(single):
            raise ValueError(f"expected one number, or one per channel, {tuple(single)}, got {weights.shape}")
        return self.in_our_order(np.broadcast_to(weights, single).reshape(channels))

    def append(self, layer: Layer, **params: Array) -> None:
        """Add a layer."""
        self.shape = check_map_size(layer, self.shape)
        self.layers.append(layer)
        self.params.append(params)

    def change(self, layer: Layer, **params: Array) -> None:
        """Replace the last layer, keeping its parameters and adding others."""
        self.layers[-1] = layer
        self.params[-1] |= params

    def remove_last(self, shape: Shape) -> None:
        """Remove the last layer, whose input had the given shape."""
        self.layers.pop()
        self.params.pop()
        self.shape = shape

    def last(self, kind: type[Layer]) -> Any:
        """Return the last layer if it is of a kind, else None."""
        return self.layers[-1] if self.layers and type(self.layers[-1]) is kind else None

    def scale(self, factor: Array | float, offset: Array | float) -> None:
        """Add a layer that multiplies every channel and adds an offset, or change such a layer before it."""
        channels = self.shape[-1]
        if self.last(ScalingLayer):
            before = self.params.pop()
            self.layers.pop()
            with np.errstate(over="ignore", invalid="ignore"):
                factor, offset = before["scale"] * factor, before["offset"] * factor + offset
        params = {"scale": np.broadcast_to(factor, channels), "offset": np.broadcast_to(offset, channels)}
        if not all(np.isfinite(value).all() for value in params.values()):
            raise ValueError("expected finite factors and offsets, got products beyond the range of floats")
        self.append(ScalingLayer(), **params)

    def reshape(self, sizes: Shape, becomes_maps: bool) -> None:
        """Give the value other sizes in the file: flatten it, or squeeze maps of one pixel and back.

        If rows become maps again, maps of one pixel stay maps here.
        """
        layouts: dict[Shape, Layout] = {}
        if self.has_maps and self.shape[:2] == (1, 1):
            channels = self.shape[2]
            layouts = {(1, 1, channels): "channels_last", (channels, 1, 1): "channels_first"}
            layouts |= {(channels, 1): "half squeezed"}
            if becomes_maps or self.layout == "squeezed":
                layouts |= {(channels,): "squeezed"}
        if sizes == self.sizes:
            return
        if sizes in layouts:
            self.layout = layouts[sizes]
        elif sizes == (math.prod(self.shape),):
            self._flatten()
        else:
            raise ValueError(f"expected a reshape to rows, (n, {math.prod(self.shape)}), got {[-1, *sizes]}")

    def _flatten(self) -> None:
        if self.has_maps and self.layout == "channels_first":
            self.flattened = flattened_from(self.shape)
        self.layout = "channels_first"
        self.append(FlatteningLayer())

    def merge(self, kind: str, branches: Sequence[Self]) -> None:
        """Add branches, which begin where this chain ends, and what merges them."""
        layouts = {branch.layout for branch in branches if branch.has_maps}
        if len(layouts) > 1:
            raise ValueError(f"expected branches that end with the same axes, got {' and '.join(sorted(layouts))}")
        if kind == "concatenate":
            flattened = joined((branch.shape[-1], branch.flattened) for branch in branches)
        else:
            orders = {branch.flattened for branch in branches}
            if len(orders) > 1:
                raise ValueError("expected branches whose rows are flattened from the same maps, got different orders")
            (flattened,) = orders
        params = {
            f"branch_{number}/{name}/{key}": value
            for number, branch in enumerate(branches, start=1)
            for name, params in zip(layer_names(branch.layers), branch.params, strict=True)
            for key, value in params.items()
        }
        self.append(ParallelLayer(tuple(tuple(branch.layers) for branch in branches), merge=kind), **params)
        self.layout, self.flattened = branches[0].layout, flattened

    def model(self, dtype: np.dtype) -> Sequential:
        """Return the built network."""
        network = Sequential(self.layers)
        parameters: Iterable[tuple[str, dict[str, Array]]] = zip(network.names, self.params, strict=True)
        return network.load_state_dict(
            {f"{name}/{key}": value for name, params in parameters for key, value in params.items()}, dtype
        )
