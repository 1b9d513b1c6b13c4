"""Branches: chains of layers that take the same input, and whose outputs are merged."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial, reduce
from typing import Any, ClassVar

import numpy as np

from framecnn import kernels
from framecnn.arguments import check_choice
from framecnn.errors import SettingError, ShapeError
from framecnn.layers.activation import ActivationLayer
from framecnn.layers.base import Backward, Case, Layer, Param, check_fits
from framecnn.layers.chain import chain_forward, chain_vjp, walk
from framecnn.layers.conv import ConvLayer
from framecnn.layers.dense import DenseLayer
from framecnn.layers.normalization import BatchNormLayer
from framecnn.layers.pooling import PoolingLayer
from framecnn.typing import Array, Shape

__all__ = ["MERGES", "ParallelLayer"]

MERGES = ("add", "concatenate", "multiply")
Branch = tuple[Layer, ...]

_CONV = ConvLayer(4, kernel_size=3, padding="same")
_GATE = (PoolingLayer(1, mode="adaptive_average"), ConvLayer(2, kernel_size=1), ActivationLayer("relu"))


@dataclass(frozen=True)
class ParallelLayer(Layer):
    r"""Branches that take the same input, and whose outputs are added, concatenated or multiplied.

    .. math:: y = b_1(x) + b_2(x) + \dots

    A branch is a chain of layers; an empty one passes its input on. Residual blocks are branches that are added to an
    empty one, inception and dense blocks are branches that are concatenated, and squeeze-and-excitation blocks multiply
    maps by one value per channel.

    Parameters
    ----------
    branches : sequence of sequences of Layer
        At least two. The layers are descriptions: their parameters are drawn when this layer is built, and belong to
        this layer under names such as ``"branch_1/conv_1/kernel"``.
    merge : "add" (default), "concatenate" or "multiply"
        "add" needs outputs of equal shapes. "multiply" also takes outputs (1, 1, c), one value per channel, beside maps
        (h, w, c). "concatenate" joins channels, or the features of rows.

    Shapes
    ------
    x (n, ...) -> y (n, ...) of the shape of the outputs; with "concatenate", their channels added up

    Raises
    ------
    SettingError
        If there are fewer than two branches, an item is not a layer, or `merge` is unknown.
    ShapeError
        When it is built or called, if an input does not fit a branch, or the outputs do not fit each other.

    Notes
    -----
    Keras: ``Add``, ``Concatenate`` and ``Multiply`` of a functional model; ONNX: ``Add``, ``Concat`` and ``Mul``.

    References
    ----------
    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; Szegedy et al., "Going Deeper with
    Convolutions", CVPR 2015; Huang et al., "Densely Connected Convolutional Networks", CVPR 2017; Hu et al.,
    "Squeeze-and-Excitation Networks", CVPR 2018.

    Examples
    --------
    >>> block = ParallelLayer([[ConvLayer(3, kernel_size=3, padding="same"), ActivationLayer("relu")], []])
    >>> block.build((8, 8, 3)).output_shape, list(block.params)
    ((8, 8, 3), ['branch_1/conv_1/kernel', 'branch_1/conv_1/bias'])
    """

    branches: tuple[Branch, ...]
    _: KW_ONLY
    merge: str = "add"

    cases: ClassVar = (
        Case({"branches": ((BatchNormLayer(), ActivationLayer("relu"), _CONV), ())}, (5, 6, 4)),
        Case({"branches": ((_CONV,), (PoolingLayer(2, strides=1, padding="same"),), ())}, (4, 5, 4)),
        Case({"branches": ((), (_CONV,), (ConvLayer(3, kernel_size=1),)), "merge": "concatenate"}, (6, 5, 2)),
        Case(
            {
                "branches": ((), (*_GATE, ConvLayer(3, kernel_size=1), ActivationLayer("sigmoid"))),
                "merge": "multiply",
            },
            (5, 4, 3),
        ),
        Case({"branches": ((DenseLayer(6), ActivationLayer("tanh")), ()), "merge": "multiply"}, (6,)),
    )

    def __post_init__(self) -> None:
        check_choice(self._who, "merge", self.merge, MERGES)
        branches = self.branches if np.iterable(self.branches) and not isinstance(self.branches, str) else ()
        self._set(branches=tuple(self._as_branch(number, branch) for number, branch in enumerate(branches, start=1)))
        if len(self.branches) < 2:
            raise SettingError(
                f"{self._who}: expected at least two branches, each a sequence of layers, got {self.branches!r}; "
                "an empty branch passes its input on"
            )

    def _as_branch(self, number: int, branch: Any) -> Branch:
        """Return a branch as a tuple of layers, which files hold as their settings."""
        is_sequence = np.iterable(branch) and not isinstance(branch, str | Mapping)
        items = branch if is_sequence else ()
        layers = tuple(Layer.from_config(item) if isinstance(item, Mapping) else item for item in items)
        others = [type(layer).__name__ for layer in layers if not isinstance(layer, Layer)]
        if others or not is_sequence:
            received = ", ".join(others) or type(branch).__name__
            raise SettingError(f"{self._who}: expected branch {number} as a sequence of layers, got {received}")
        return layers

    @property
    def config(self) -> dict[str, Any]:
        """The class name and the settings, ready for JSON."""
        return {
            "layer": self._who,
            "branches": [[layer.config for layer in branch] for branch in self.branches],
            "merge": self.merge,
        }

    def walk(self, input_shape: Shape) -> Iterator[tuple[str, Layer, Shape, Shape]]:
        """Yield name, layer, input shape and output shape of every layer of all branches, in order.

        Names are those of the parameters, such as ``"branch_1/conv_1"``.
        """
        for number, branch in enumerate(self.branches, start=1):
            for name, layer, shape, output in walk(branch, input_shape):
                yield f"branch_{number}/{name}", layer, shape, output

    def infer_shape(self, input_shape: Shape) -> Shape:
        shapes = []
        for branch in self.branches:
            shape = tuple(input_shape)
            for layer in branch:
                shape = layer.infer_shape(shape)
                check_fits(type(layer).__name__, "an output", shape)
            shapes.append(shape)
        if self.merge == "concatenate":
            if len({shape[:-1] for shape in shapes}) == 1:
                return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
        else:
            largest = max(shapes, key=lambda shape: int(np.prod(shape, dtype=object)))
            per_channel = (*(1 for _ in largest[:-1]), largest[-1])
            allowed = {largest, per_channel} if self.merge == "multiply" else {largest}
            if allowed >= {*shapes}:
                return largest
        received = ", ".join(map(str, shapes))
        raise ShapeError(f"{self._who}: expected branches whose outputs fit {self.merge!r}, got {received}")

    def param_specs(self, input_shape: Shape) -> dict[str, Param]:
        return {
            f"{name}/{key}": spec
            for name, layer, shape, _ in self.walk(input_shape)
            for key, spec in layer.param_specs(shape).items()
        }

    def multiply_adds(self, input_shape: Shape) -> int:
        return sum(layer.multiply_adds(shape) for _, layer, shape, _ in self.walk(input_shape))

    def built_branches(self) -> tuple[Branch, ...]:
        """Return the branches as built layers, which share the arrays of :attr:`params`."""
        return self.params.derived("branches", self._built_branches)

    def _built_branches(self) -> tuple[Branch, ...]:
        built = iter([self._built_layer(name, layer, shape) for name, layer, shape, _ in self.walk(self.input_shape)])
        return tuple(tuple(next(built) for _ in branch) for branch in self.branches)

    def _built_layer(self, name: str, layer: Layer, input_shape: Shape) -> Layer:
        values = {key: self.params[f"{name}/{key}"] for key in layer.param_specs(input_shape)}
        return copy.copy(layer).assign(input_shape, values, self.dtype)

    def forward(self, x: Array) -> Array:
        return self.merged([chain_forward(branch, x) for branch in self.built_branches()])

    def merged(self, outputs: list[Array]) -> Array:
        """Return the outputs of the branches added or multiplied from left to right, or concatenated."""
        if self.merge == "concatenate":
            return np.concatenate(outputs, axis=-1)
        return reduce(partial(kernels.merge, operation=self.merge), outputs)

    def vjp(self, x: Array, rng: np.random.Generator | None = None) -> tuple[Array, Backward]:
        return self.vjp_merged([chain_vjp(branch, x, rng) for branch in self.built_branches()])

    def vjp_merged(self, results: list[tuple[Array, Backward]], has_relu: bool = False) -> tuple[Array, Backward]:
        """Return output and backward of the layer from those of its branches; of a sum, with relu after it if asked."""
        outputs = [y for y, _ in results]
        if has_relu:
            *first, last = outputs
            y = kernels.merge(self.merged(first), last, "add", "relu")
        else:
            y = self.merged(outputs)

        def backward(dy: Array) -> tuple[Array, dict[str, Array]]:
            gradients, inputs = dict[str, Array](), []
            if has_relu:
                dy = kernels.activate_backward(dy, y, y, "relu", 0.0)
            parts = self.merged_backward(dy, outputs)
            for number, ((_, branch_backward), part) in enumerate(zip(results, parts, strict=True), start=1):
                branch_dx, own = branch_backward(part)
                inputs.append(branch_dx)
                gradients |= {f"branch_{number}/{key}": value for key, value in own.items()}
            return reduce(partial(kernels.merge, operation="add"), inputs), gradients

        return y, backward

    def merged_backward(self, dy: Array, outputs: list[Array]) -> list[Array]:
        """Return the gradients with respect to the outputs of the branches."""
        if self.merge == "add":
            return [dy] * len(outputs)
        if self.merge == "concatenate":
            ends = np.cumsum([y.shape[-1] for y in outputs])[:-1]
            return [np.ascontiguousarray(part) for part in np.split(dy, ends, axis=-1)]
        parts = []
        for number, y in enumerate(outputs):
            part = reduce(np.multiply, [*outputs[:number], *outputs[number + 1 :]], dy)
            parts.append(part if part.shape == y.shape else part.sum(axis=(1, 2), keepdims=True))
        return parts
