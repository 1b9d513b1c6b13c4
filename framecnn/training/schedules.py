"""Schedules of the learning rate: functions from the number of an update, from 0, to its rate."""

import math
from dataclasses import dataclass

from framecnn.arguments import check_count, check_number
from framecnn.errors import SettingError

__all__ = ["CosineDecay", "LearningRate", "StepDecay", "WarmUp", "check_rate", "rate_at"]


@dataclass(frozen=True)
class StepDecay:
    r"""A rate that is multiplied by the same factor at regular intervals.

    .. math:: rate \cdot decay\_rate^{\lfloor step / decay\_steps \rfloor}

    Parameters
    ----------
    learning_rate : float
        The first rate.
    decay_steps : int
        Updates between two changes.
    decay_rate : float
        The factor of each change.

    Raises
    ------
    SettingError
        If a setting has an invalid value.

    Notes
    -----
    Keras: ``ExponentialDecay(..., staircase=True)``.

    Examples
    --------
    >>> schedule = StepDecay(0.4, decay_steps=10, decay_rate=0.5)
    >>> schedule(0), schedule(9), schedule(10), schedule(25)
    (0.4, 0.4, 0.2, 0.1)
    """

    learning_rate: float
    decay_steps: int
    decay_rate: float

    def __post_init__(self) -> None:
        check_number("StepDecay", "learning_rate", self.learning_rate)
        check_count("StepDecay", "decay_steps", self.decay_steps)
        check_number("StepDecay", "decay_rate", self.decay_rate)

    def __call__(self, step: int) -> float:
        return self.learning_rate * self.decay_rate ** (step // self.decay_steps)


@dataclass(frozen=True)
class CosineDecay:
    r"""A rate that falls along half a cosine.

    .. math:: rate \cdot \left((1 - \alpha) \tfrac 1 2 (1 + \cos(\pi\, step / decay\_steps)) + \alpha\right)

    Parameters
    ----------
    learning_rate : float
        The first rate.
    decay_steps : int
        The update from which the rate stays constant.
    alpha : float, default 0
        The last rate, as a share of the first.

    Raises
    ------
    SettingError
        If a setting has an invalid value.

    Notes
    -----
    Keras: ``CosineDecay``.

    References
    ----------
    Loshchilov & Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.

    Examples
    --------
    >>> schedule = CosineDecay(0.4, decay_steps=10)
    >>> schedule(0), schedule(5), schedule(10), schedule(99)
    (0.4, 0.2, 0.0, 0.0)
    """

    learning_rate: float
    decay_steps: int
    alpha: float = 0.0

    def __post_init__(self) -> None:
        check_number("CosineDecay", "learning_rate", self.learning_rate)
        check_count("CosineDecay", "decay_steps", self.decay_steps)
        check_number("CosineDecay", "alpha", self.alpha)

    def __call__(self, step: int) -> float:
        fallen = 0.5 * (1 + math.cos(math.pi * min(step, self.decay_steps) / self.decay_steps))
        return self.learning_rate * ((1 - self.alpha) * fallen + self.alpha)


@dataclass(frozen=True)
class WarmUp:
    """A rate that rises linearly to the first rate of the schedule that follows.

    Parameters
    ----------
    learning_rate : float or schedule
        The rate after the warm-up; its step 0 is the first update after it.
    warmup_steps : int
        Updates that the warm-up takes.
    start : float, default 0
        The rate of the first update.

    Raises
    ------
    SettingError
        If a setting has an invalid value.

    Notes
    -----
    Keras: ``CosineDecay(start, ..., warmup_target=rate, warmup_steps=...)`` if a CosineDecay follows.

    References
    ----------
    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017.

    Examples
    --------
    >>> schedule = WarmUp(StepDecay(0.4, 10, 0.5), warmup_steps=4)
    >>> schedule(0), schedule(2), schedule(4), schedule(14)
    (0.0, 0.2, 0.4, 0.2)
    """

    learning_rate: "LearningRate"
    warmup_steps: int
    start: float = 0.0

    def __post_init__(self) -> None:
        check_rate("WarmUp", self.learning_rate)
        check_count("WarmUp", "warmup_steps", self.warmup_steps)
        check_number("WarmUp", "start", self.start)

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (rate_at(self.learning_rate, 0) - self.start) * step / self.warmup_steps + self.start
        return rate_at(self.learning_rate, step - self.warmup_steps)


LearningRate = float | StepDecay | CosineDecay | WarmUp
"""A number or a schedule. Other functions are refused: a checkpoint stores the settings of a schedule as text."""


def rate_at(learning_rate: LearningRate, step: int) -> float:
    """Return the learning rate of an update.

    Parameters
    ----------
    learning_rate : float or schedule
    step : int
        The number of the update, from 0.

    Returns
    -------
    float

    Examples
    --------
    >>> rate_at(0.1, 7)
    0.1
    """
    return learning_rate(step) if callable(learning_rate) else learning_rate


def check_rate(who: str, learning_rate: LearningRate) -> None:
    """Raise SettingError unless `learning_rate` is a schedule or a finite number of at least 0."""
    if isinstance(learning_rate, StepDecay | CosineDecay | WarmUp):
        return
    if check_number(who, "learning_rate", learning_rate) < 0:
        raise SettingError(f"{who}: expected learning_rate of at least 0, got {learning_rate!r}")
