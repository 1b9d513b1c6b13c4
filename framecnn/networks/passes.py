"""What a pass is: one or several layers computed at once; and how branches of passes run and are merged."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from framecnn.layers import Backward
from framecnn.layers.chain import chain_backward
from framecnn.typing import Array, Shape

__all__ = ["Pass", "Run", "TrainingPass", "Vjp", "most_values", "through", "vjp_through"]

Run = Callable[..., Array]
Vjp = Callable[..., tuple[Array, Backward]]


class Pass(NamedTuple):
    """One or several layers computed at once; shapes exclude the batch.

    `values` is the number of values per frame in memory while the pass runs, input and output included; `parameters`
    that of the layers. A pass that `takes_residual` may be called with a `residual`, which it adds, and with an
    activation for the sum. One of `only_kernels` computes nothing in Python, so :mod:`framecnn.kernels.program` may
    record it.
    """

    run: Run
    input_shape: Shape
    output_shape: Shape
    multiply_adds: int
    values: int
    parameters: int = 0
    takes_residual: bool = False
    only_kernels: bool = False


class TrainingPass(NamedTuple):
    """One or several layers whose gradients are computed at once; only the first layer may have parameters.

    ``first`` is the index of the first layer. ``vjp`` takes x and rng as :meth:`framecnn.layers.Layer.vjp` does, and
    ``wrt_input`` too if `skips_dx`. In training, with a generator as `rng`, one of `only_kernels` and its backward
    compute nothing in Python, so :mod:`framecnn.kernels.program` may record them.
    """

    first: int
    vjp: Vjp
    skips_dx: bool
    only_kernels: bool


def through(passes: Sequence[Pass], x: Array) -> Array:
    """Return the output of passes, one after the other."""
    for step in passes:
        x = step.run(x)
    return x


def vjp_through(
    passes: Sequence[TrainingPass],
    names: Sequence[str],
    x: Array,
    rng: np.random.Generator | None,
    lowest: int | None = None,
) -> tuple[Array, Backward]:
    """Return output and backward of passes, one after the other; names are those of all their layers.

    If `lowest`, the index of a layer, is given, backward stops there and returns None as dx.
    """
    steps = []
    for step in passes:
        skips_dx = step.skips_dx and step.first == lowest
        x, backward = step.vjp(x, rng, wrt_input=False) if skips_dx else step.vjp(x, rng)
        if lowest is None or step.first >= lowest:
            steps.append((names[step.first], backward))
    backward_all = chain_backward(steps)

    def without_dx(dy: Array) -> tuple[Any, dict[str, Array]]:
        return None, backward_all(dy)[1]

    return x, backward_all if lowest is None else without_dx


def most_values(branches: Sequence[Sequence[Pass]], input_shape: Shape, merged: Any) -> int:
    """Return the largest number of values per frame in memory while branches run one by one and are merged.

    The input stays in memory until the last branch is done, outputs until all are merged to the shape `merged`, or
    None if the last pass writes the merged output.
    """
    given = math.prod(input_shape)
    kept, most = given, given
    for passes in branches:
        for number, step in enumerate(passes):
            most = max(most, kept + step.values - (0 if number else given))
        kept += math.prod(passes[-1].output_shape) if passes else 0
    return most if merged is None else max(most, kept + math.prod(merged))
