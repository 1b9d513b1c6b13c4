"""Updates of weights by gradients: one pass that reads weights, gradients and moments and writes all of them."""

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["adam_update", "sgd_update"]


def sgd_update(
    updated: Array, momentum: Array, weights: Array, gradient: Array, rate: float, friction: float, nesterov: bool
) -> None:
    """Write updated weights and momentum with all threads; :func:`framecnn.kernels.reference.sgd_update` defines them.

    Shapes: all arrays alike and contiguous; `momentum` is read and written.
    """
    number = weights.dtype.type
    outputs = (updated.reshape(-1), momentum.reshape(-1))
    scalars = (number(rate), number(friction), nesterov)
    run(sgd_step, weights.size, WORK, outputs, weights.reshape(-1), gradient.reshape(-1), *scalars)


def adam_update(
    updated: Array,
    momentum: Array,
    velocity: Array,
    weights: Array,
    gradient: Array,
    rate: float,
    epsilon: float,
    kept: tuple[float, float],
    decay: float,
) -> None:
    """Write updated weights and moments with all threads; :func:`framecnn.kernels.reference.adam_update` defines them.

    Shapes: all arrays alike and contiguous; `momentum` and `velocity` are read and written.
    """
    number = weights.dtype.type
    outputs = (updated.reshape(-1), momentum.reshape(-1), velocity.reshape(-1))
    scalars = (number(rate), number(epsilon), number(1 - kept[0]), number(1 - kept[1]), number(decay))
    run(adam_step, weights.size, WORK, outputs, weights.reshape(-1), gradient.reshape(-1), *scalars)


WORK = 16  # multiply-adds that take as long as a value's way from memory and back


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
