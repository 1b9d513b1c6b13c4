"""Flashes beside motion, lamps, fades and cuts: no shot begins at one, and none is hidden by it."""

import numpy as np
import pytest
from movies import still
from small_shots import BLACK, HEIGHT, WIDTH, blend, shot, starts

from framecnn.data.transitions import describe, shifted_correlation

WHITE = np.uint8(255)


def panned(seed, n_frames, step, first=0):
    wide = still(seed, HEIGHT, WIDTH * 4)
    return [wide[:, first + step * i : first + step * i + WIDTH].copy() for i in range(n_frames)]


def flashed(pictures, first, length, strength=1.0):
    """Return a copy in which some frames are brighter."""
    inside = range(first, first + length)
    return [blend(p, WHITE, strength) if i in inside else p for i, p in enumerate(pictures)]


@pytest.mark.parametrize("length", [1, 3, 6])
def test_a_flash_in_a_faint_shot_is_no_fade_to_the_next_shot(length):
    faint = [blend(np.full_like(BLACK, 60), x, 0.1 + 0.04 * i / 60) for i, x in enumerate(shot(1, 60))]
    assert starts([*shot(2, 48), *flashed(faint, 20, length), *shot(3, 48)]) == [0, 48, 108]


@pytest.mark.parametrize(("rate", "step"), [(10, 2), (24, 4)])
@pytest.mark.parametrize("length", [1, 4, 6])
@pytest.mark.parametrize("strength", [0.75, 1.0])
@pytest.mark.parametrize("lamp", [0.45, 1.0])
def test_a_pan_and_a_lamp_go_on_during_a_flash(rate, step, length, strength, lamp):
    pictures = flashed(panned(1, 40, step), 20, length, strength)
    for i in range(20 + length, 40):
        pictures[i] = (pictures[i] * lamp).astype(np.uint8)
    assert starts(pictures, rate) == [0]


def test_a_lamp_that_is_switched_off_after_a_flash_does_not_lengthen_it():
    pictures = flashed(shot(1, 96), 40, 4, 0.75)
    for i in range(50, 96):
        pictures[i] = pictures[i] // 2
    assert starts(pictures) == [0]


@pytest.mark.parametrize("flat", [0, 255])
def test_a_fade_through_two_mixed_frames_a_side_is_no_flash(flat):
    a, b = ([np.array(still(seed, HEIGHT, WIDTH))] * 30 for seed in (1, 2))
    mixed = [blend(x, np.uint8(flat), share) for x, share in ((a[0], 0.25), (a[0], 0.75), (b[0], 0.75), (b[0], 0.25))]
    first, second = starts([*a, *mixed, *b], rate=10)
    assert first == 0
    assert 30 <= second <= 34


@pytest.mark.parametrize("rate", [10, 24])
def test_a_flash_between_two_pans_hides_no_cut(rate):
    pictures = flashed(panned(1, 30, 3) + panned(2, 30, 3), 28, 5)
    first, second = starts(pictures, rate)
    assert first == 0
    assert 28 <= second <= 33


@pytest.mark.parametrize("length", [1, 3, 6])
@pytest.mark.parametrize("gap", [4, 10])
def test_frames_between_a_flash_and_a_cut_are_no_flash(length, gap):
    dark, light = (
        [np.array(still(seed, HEIGHT, WIDTH) * share).astype(np.uint8)] * 60 for seed, share in ((1, 0.3), (2, 1))
    )
    pictures = [*flashed(dark, 60 - gap - length, length), *light]
    assert starts(pictures) == [0, 60]


def test_shifted_correlation_finds_a_panned_and_darkened_picture_but_no_other():
    first, panned_on = panned(1, 2, 20)
    pictures = np.array([first, panned_on // 2, still(2, HEIGHT, WIDTH), BLACK])
    one = np.zeros(4, int)
    same, shifted, other, nothing = shifted_correlation(describe(np.arange(4.0), pictures), one, np.arange(4))
    assert same == pytest.approx(1, abs=1e-3)
    assert shifted > 0.9
    assert other < 0.6
    assert nothing == 0
