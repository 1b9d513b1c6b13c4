"""Updates of weights by gradients: one pass that reads weights, gradients and moments and writes all of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["adam_update", "sgd_update"]

WORK = 16  # multiply-adds that take as long as a value's way from memory and back


def sgd_update(
    outputs: tuple[Array, ...], weights: Array, gradient: Array, rate: float, friction: float, nesterov: bool
) -> None:
    """Write updated weights and momentum with all threads; :func:`framecnn.kernels.reference.sgd_update` defines them.

    Shapes: outputs (updated, momentum) and all else alike and contiguous; momentum is read and written.
    """
    number = weights.dtype.type
    _run(sgd_step, outputs, weights, gradient, number(rate), number(friction), nesterov)


def adam_update(
    outputs: tuple[Array, ...],
    weights: Array,
    gradient: Array,
    rate: float,
    epsilon: float,
    kept: tuple[float, float],
    decay: float,
) -> None:
    """Write updated weights and moments with all threads; :func:`framecnn.kernels.reference.adam_update` defines them.

    Shapes: outputs (updated, momentum, velocity) and all else alike and contiguous; moments are read and written.
    """
    shares = (1 - kept[0], 1 - kept[1])
    _run(adam_step, outputs, weights, gradient, *map(weights.dtype.type, (rate, epsilon, *shares, decay)))


def _run(
    function: Callable[..., None], outputs: tuple[Array, ...], weights: Array, gradient: Array, *scalars: Any
) -> None:
    flat = tuple(output.reshape(-1) for output in outputs)
    run(function, weights.size, WORK, flat, weights.reshape(-1), gradient.reshape(-1), *scalars)


@kernel
def sgd_step(outputs, weights, gradient, rate, friction, nesterov, start, stop):
    """Updated weights and momentum (size,) from weights and gradient (size,); items are values."""
    updated, momentum = outputs
    for i in range(start, stop):
        step = rate * gradient[i]
        momentum[i] = friction * momentum[i] - step
        updated[i] = weights[i] + (friction * momentum[i] - step if nesterov else momentum[i])


@kernel
def adam_step(outputs, weights, gradient, rate, epsilon, share_1, share_2, decay, start, stop):
    """Updated weights and moments (size,) from weights and gradient (size,); items are values."""
    updated, momentum, velocity = outputs
    for i in range(start, stop):
        momentum[i] += share_1 * (gradient[i] - momentum[i])
        velocity[i] += share_2 * (gradient[i] * gradient[i] - velocity[i])
        updated[i] = weights[i] - decay * weights[i] - rate * momentum[i] / (np.sqrt(velocity[i]) + epsilon)
