"""Layers of a network that is being read, with their weights: simplified as they are appended."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DropoutLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    PaddingLayer,
    ParallelLayer,
    PoolingLayer,
    ScalingLayer,
)
from framecnn.layers.chain import layer_names
from framecnn.networks.limits import check_map_size
from framecnn.networks.sequential import Sequential
from framecnn.typing import Array, Shape

__all__ = ["NOT_NEGATIVE", "Part", "Parts"]

ROW_BY_ROW = (ActivationLayer, BatchNormLayer, DenseLayer, DropoutLayer, ScalingLayer)
NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softmax", "sqrt", "softplus")
"""Activations without negative values: zeros around them do not change a maximum."""

FLOAT32 = 2.0**-23  # a graph may hold 1/6 rounded to float32
GATES = {"hard_sigmoid": "hard_swish", "sigmoid": "silu"}
"""Activations, and what they become when their input is multiplied by their output."""


@dataclass(frozen=True)
class Part:
    """A layer and its weights.

    Parameters
    ----------
    layer : Layer
    values : mapping of str to array
        All its parameters.
    constant : bool, default False
        Whether the values are numbers that the graph holds and no weights, so that they may be combined.
    branches : tuple of Parts
        The parts of a ParallelLayer.
    """

    layer: Layer
    values: Mapping[str, Array] = field(default_factory=dict)
    constant: bool = False
    branches: tuple["Parts", ...] = ()

    def scales_by(self, scale: float, offset: float, precision: float = 0.0) -> bool:
        """Whether it multiplies everything by one number of the graph, and adds another."""
        return self.constant and all(
            np.allclose(self.values[name], number, rtol=precision, atol=0)
            for name, number in (("scale", scale), ("offset", offset))
        )

    def applies(self, *functions: str) -> bool:
        """Whether it is one of several activations."""
        return isinstance(self.layer, ActivationLayer) and self.layer.function in functions


class Parts:
    """A chain of parts.

    Parameters
    ----------
    shape : tuple of int
        Shape of the value with which the chain begins.

    Attributes
    ----------
    parts : list of Part
    shapes : list of tuple of int
        The shape before each part, and the one after the last.
    """

    def __init__(self, shape: Shape):
        self.parts: list[Part] = []
        self.shapes: list[Shape] = [tuple(shape)]

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def shape(self) -> Shape:
        """The shape after the last part."""
        return self.shapes[-1]

    def append(self, layer: Layer, **values: Array) -> None:
        """Append a layer with its weights; padding before it becomes its own where that is the same."""
        while len(self) and isinstance(self.parts[-1].layer, PaddingLayer):
            padded = self._padded(self.parts[-1].layer, layer)
            if padded is None:
                break
            self._pop()
            layer = padded
        self._push(Part(layer, values))

    def append_scaling(self, scale: Array, offset: Array) -> None:
        """Append numbers by which all channels are multiplied, and numbers that are added then; (c,) each."""
        if len(self) and self.parts[-1].constant:
            last = self._pop().values
            scale, offset = last["scale"] * scale, last["offset"] * scale + offset
        part = Part(ScalingLayer(), {"scale": scale, "offset": offset}, constant=True)
        if part.scales_by(1 / 6, 0, FLOAT32) and self._take_sixfold():
            return
        if not part.scales_by(1, 0):
            self._push(part)

    def append_merge(self, merge: str, branches: tuple["Parts", ...]) -> None:
        """Append branches that begin with the last value of the chain."""
        lengths = [*map(len, branches)]
        if merge == "multiply" and sorted(lengths) == [0, 1]:
            gate = branches[lengths.index(1)].parts[0]
            if gate.applies(*GATES):
                return self.append(ActivationLayer(GATES[gate.layer.function]))  # type: ignore[attr-defined]
        layer = ParallelLayer(tuple(tuple(part.layer for part in branch) for branch in branches), merge=merge)
        values = {f"branch_{n}/{key}": value for n, branch in enumerate(branches, 1) for key, value in branch.named()}
        return self._push(Part(layer, values, branches=branches))

    def unflatten(self) -> bool:
        """Undo the flattening of maps (1, 1, c) to rows; return whether that was possible."""
        for place in reversed(range(len(self))):
            layer = self.parts[place].layer
            if isinstance(layer, FlatteningLayer) and self.shapes[place][:-1] == (1, 1):
                later = self.parts[place + 1 :]
                del self.parts[place:], self.shapes[place + 1 :]
                for part in later:
                    self._push(_on_maps(part))
                return True
            if not isinstance(layer, ROW_BY_ROW):
                break
        return False

    def named(self) -> Iterator[tuple[str, Array]]:
        """Yield the values of all parts, named ``"conv_1/kernel"``."""
        for name, part in zip(layer_names(part.layer for part in self), self, strict=True):
            for key, value in part.values.items():
                yield f"{name}/{key}", value

    def network(self, dtype: np.dtype | str) -> Sequential:
        """Return a built network; a first multiplication by one number becomes the scale of its input."""
        scale = 1.0
        if len(self) and self.parts[0].constant:
            factors = self.parts[0].values["scale"]
            if self.parts[0].scales_by(factors[0], 0):
                scale = float(factors[0])
                del self.parts[0], self.shapes[0]
        network = Sequential([InputLayer(self.shapes[0], scale=scale), *(part.layer for part in self)])
        return network.load_state_dict(dict(self.named()), dtype)

    def _push(self, part: Part) -> None:
        self.shapes.append(check_map_size(part.layer, self.shape))
        self.parts.append(part)

    def _pop(self) -> Part:
        self.shapes.pop()
        return self.parts.pop()

    def _padded(self, border: PaddingLayer, layer: Layer) -> Layer | None:
        """Return a layer with the padding before it as its own, or None if that would compute something else."""
        if getattr(layer, "padding", None) != "valid" or border.value != 0:
            return None
        if isinstance(layer, PoolingLayer):
            after = self.parts[-2] if len(self) > 1 else None
            fits = all(max(sides) < size for sides, size in zip(border.padding, layer.pool_size, strict=True))
            # a maximum ignores its padding, and zeros do not change a maximum of values that are not negative
            if layer.mode != "max" or not fits or after is None or not after.applies(*NOT_NEGATIVE):
                return None
        return Layer.from_config(layer.config | {"padding": border.padding})

    def _take_sixfold(self) -> bool:
        """Replace relu6(x + 3), which is about to be divided by 6, by one activation; return whether it was there."""
        if len(self) > 1 and self._is_raised_relu6(self.parts[-2:]):
            self._pop()
            self._pop()
            self._push(Part(ActivationLayer("hard_sigmoid")))
            return True
        last = self.parts[-1] if len(self) else None
        if last is None or len(last.branches) != 2 or getattr(last.layer, "merge", None) != "multiply":
            return False
        empty, full = sorted(last.branches, key=len)
        if len(empty) or not self._is_raised_relu6(full.parts):
            return False
        self._pop()
        self._push(Part(ActivationLayer("hard_swish")))
        return True

    @staticmethod
    def _is_raised_relu6(parts: list[Part]) -> bool:
        return len(parts) == 2 and parts[0].scales_by(1, 3) and parts[1].applies("relu6")


def _on_maps(part: Part) -> Part:
    """Return the equivalent on maps (1, 1, c) of a layer on rows (c,)."""
    if not isinstance(part.layer, DenseLayer):
        return part
    settings: Iterable[str] = ("use_bias", "kernel_initializer")
    layer = ConvLayer(part.layer.units, kernel_size=1, **{name: getattr(part.layer, name) for name in settings})
    return Part(layer, {**part.values, "kernel": part.values["kernel"][None, None]})
