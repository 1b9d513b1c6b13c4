"""Schedules: the formulas of Keras, and a warm-up before any of them."""

import numpy as np
import pytest

from framecnn.errors import SettingError
from framecnn.training.schedules import CosineDecay, StepDecay, WarmUp, rate_at

STEPS = [0, 1, 9, 10, 19, 20, 25, 29, 30, 31, 50, 1000]


@pytest.mark.parametrize(
    ("schedule", "name", "settings"),
    [
        (StepDecay(0.3, 10, 0.7), "ExponentialDecay", {"decay_steps": 10, "decay_rate": 0.7, "staircase": True}),
        (CosineDecay(0.3, 30), "CosineDecay", {"decay_steps": 30}),
        (CosineDecay(0.3, 30, alpha=0.1), "CosineDecay", {"decay_steps": 30, "alpha": 0.1}),
        (
            WarmUp(CosineDecay(0.9, 20, alpha=0.1), 10, start=0.3),
            "CosineDecay",
            {"decay_steps": 20, "alpha": 0.1, "warmup_target": 0.9, "warmup_steps": 10},
        ),
    ],
    ids=["step", "cosine", "cosine that ends at a tenth", "warm-up and cosine"],
)
def test_rates_are_those_of_keras(schedule, name, settings):
    """Keras computes them in float32."""
    keras = pytest.importorskip("keras", reason="needs the package keras")
    theirs = getattr(keras.optimizers.schedules, name)(0.3, **settings)
    expected = [float(theirs(step)) for step in STEPS]
    np.testing.assert_allclose([schedule(step) for step in STEPS], expected, rtol=1e-5, atol=1e-7)


def test_a_warm_up_ends_at_the_first_rate_of_its_schedule():
    schedule = WarmUp(StepDecay(0.4, 3, 0.5), warmup_steps=4)
    assert [schedule(step) for step in range(11)] == pytest.approx([0, 0.1, 0.2, 0.3, *[0.4] * 3, *[0.2] * 3, 0.1])
    assert [WarmUp(0.4, 2)(step) for step in (0, 1, 2, 3)] == [0, 0.2, 0.4, 0.4]
    assert WarmUp(WarmUp(0.4, 2), 2)(4) == 0.4


def test_a_number_is_the_rate_of_every_step():
    assert [rate_at(0.1, step) for step in (0, 10**9)] == [0.1, 0.1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StepDecay("fast", 10, 0.5), "StepDecay: expected learning_rate as a finite number, got 'fast'"),
        (lambda: StepDecay(0.1, 0, 0.5), "StepDecay: expected decay_steps as a positive integer, got 0"),
        (lambda: StepDecay(0.1, 1, np.inf), "StepDecay: expected decay_rate as a finite number, got inf"),
        (lambda: CosineDecay(np.nan, 10), "CosineDecay: expected learning_rate as a finite number, got nan"),
        (lambda: CosineDecay(0.1, 1.5), "CosineDecay: expected decay_steps as a positive integer, got 1.5"),
        (lambda: CosineDecay(0.1, 1, None), "CosineDecay: expected alpha as a finite number, got None"),
        (lambda: WarmUp(None, 1), "WarmUp: expected learning_rate as a finite number, got None"),
        (lambda: WarmUp(0.1, -1), "WarmUp: expected warmup_steps as a positive integer, got -1"),
        (lambda: WarmUp(0.1, 1, "0"), "WarmUp: expected start as a finite number, got '0'"),
    ],
)
def test_settings_that_are_not_numbers_are_refused(make, message):
    with pytest.raises(SettingError, match=message):
        make()
