"""Updates of weights by gradients: one pass that reads weights, gradients and moments and writes all of them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from framecnn.kernels.jit import kernel
from framecnn.kernels.threads import run
from framecnn.typing import Array

__all__ = ["adam_update", "sgd_update"]

WORK = 16  # multiply-adds that take as long as moving a value from memory and back


class AdamSettings(NamedTuple):
    """Settings of Adam in the dtype of the weights; `share_1` and `share_2` are 1 - betas."""

    rate: float
    epsilon: float
    share_1: float
    share_2: float
    decay: float


def sgd_update(
    outputs: tuple[Array, ...], weights: Array, gradient: Array, rate: float, momentum: float, nesterov: bool
) -> None:
    """Write updated weights and velocity with all threads; :func:`framecnn.kernels.reference.sgd_update` defines them.

    Shapes: all arrays, outputs (updated, velocity) too, have one shape and are contiguous. The velocity is read and
    written.
    """
    scalar = weights.dtype.type
    _run(sgd_step, outputs, weights, gradient, scalar(rate), scalar(momentum), nesterov)


def adam_update(
    outputs: tuple[Array, ...],
    weights: Array,
    gradient: Array,
    rate: float,
    epsilon: float,
    betas: tuple[float, float],
    decay: float,
) -> None:
    """Write updated weights and moments with all threads; :func:`framecnn.kernels.reference.adam_update` defines them.

    Shapes: all arrays, outputs (updated, first moment, second moment) too, have one shape and are contiguous. The
    moments are read and written.
    """
    settings = AdamSettings(*map(weights.dtype.type, (rate, epsilon, 1 - betas[0], 1 - betas[1], decay)))
    _run(adam_step, outputs, weights, gradient, settings)


def _run(
    function: Callable[..., None], outputs: tuple[Array, ...], weights: Array, gradient: Array, *settings: Any
) -> None:
    flat = tuple(output.reshape(-1) for output in outputs)
    run(function, weights.size, WORK, flat, weights.reshape(-1), gradient.reshape(-1), *settings)


@kernel
def sgd_step(outputs, weights, gradient, rate, momentum, nesterov, start, stop):
    """Outputs (updated, velocity), (size,) each, from weights and gradient (size,); items are values."""
    updated, velocity = outputs[0][start:stop], outputs[1][start:stop]
    weights, gradient = weights[start:stop], gradient[start:stop]
    for i in range(len(updated)):  # from 0, so that LLVM knows that no index is negative, and computes vectors
        step = rate * gradient[i]
        velocity[i] = momentum * velocity[i] - step
        updated[i] = weights[i] + (momentum * velocity[i] - step if nesterov else velocity[i])


@kernel
def adam_step(outputs, weights, gradient, settings, start, stop):
    """Outputs (updated, first, second moment), (size,) each, from weights and gradient (size,); items are values."""
    updated, first, second = outputs[0][start:stop], outputs[1][start:stop], outputs[2][start:stop]
    weights, gradient = weights[start:stop], gradient[start:stop]
    rate, epsilon, share_1, share_2, decay = settings
    for i in range(len(updated)):  # from 0, so that LLVM knows that no index is negative, and computes vectors
        first[i] += share_1 * (gradient[i] - first[i])
        second[i] += share_2 * (gradient[i] * gradient[i] - second[i])
        updated[i] = weights[i] - decay * weights[i] - rate * first[i] / (np.sqrt(second[i]) + epsilon)
