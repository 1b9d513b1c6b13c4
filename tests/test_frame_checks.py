"""Blank frames, near-repeats and black bars."""

import numpy as np
import pytest
from movies import still

from framecnn.data.frame_checks import LetterboxDetector, RepeatDetector
from framecnn.data.small_pictures import SMALL_SIZE, is_blank

HEIGHT, WIDTH = SMALL_SIZE
BLACK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def test_black_and_flat_pictures_are_blank_and_dark_scenes_are_not():
    noise = np.random.default_rng(0).integers(0, 12, BLACK.shape, dtype=np.uint8)
    assert is_blank(BLACK)
    assert is_blank(noise)
    assert is_blank(BLACK + np.uint8(255))
    assert is_blank(np.broadcast_to(np.uint8([30, 60, 200]), BLACK.shape))
    assert not is_blank(still(1, HEIGHT, WIDTH) // 4)
    assert not is_blank(still(1, HEIGHT, WIDTH))


def test_noise_does_not_hide_a_repeat_and_a_small_movement_is_not_a_repeat():
    picture = np.array(still(1, HEIGHT, WIDTH))
    noisy = np.clip(picture + np.random.default_rng(0).integers(-6, 7, picture.shape), 0, 255).astype(np.uint8)
    moved = picture.copy()
    moved[10:14, 20:24] = 255 - moved[10:14, 20:24]
    seen = RepeatDetector()
    seen.remember(picture)
    assert seen.is_repeat(noisy)
    assert not seen.is_repeat(moved)


def test_a_repeat_of_any_earlier_frame_is_recognised():
    pictures = [still(seed, HEIGHT, WIDTH) for seed in range(150)]
    seen = RepeatDetector()
    for picture in pictures:
        assert not seen.is_repeat(picture)
        seen.remember(picture)
    assert all(seen.is_repeat(picture) for picture in pictures)


def bars_of(*pictures):
    detector = LetterboxDetector()
    for picture in pictures:
        detector.push(picture)
    return detector.bars()


def framed(top, bottom, left, right, seed=1):
    picture = np.zeros((90, 160, 3), np.uint8)
    inner = picture[top : 90 - bottom, left : 160 - right]
    inner[:] = 40 + still(seed, *inner.shape[:2]) // 2
    return picture


@pytest.mark.parametrize("bars", [(12, 12, 0, 0), (0, 0, 20, 20), (11, 12, 0, 0), (10, 10, 24, 24), (0, 0, 0, 0)])
def test_bars_are_found(bars):
    assert bars_of(framed(*bars)) == bars


@pytest.mark.parametrize("bars", [(12, 0, 0, 0), (0, 0, 10, 30), (40, 40, 0, 0)])
def test_darkness_on_one_side_or_almost_everywhere_is_not_a_bar(bars):
    assert bars_of(framed(*bars)) == (0, 0, 0, 0)


def test_a_bar_is_black_in_every_frame():
    assert bars_of(framed(12, 12, 0, 0), framed(8, 8, 0, 0, seed=2)) == (8, 8, 0, 0)
    assert bars_of(framed(12, 12, 0, 0), np.zeros((90, 160, 3), np.uint8)) == (12, 12, 0, 0)


def test_frames_of_another_size_start_anew():
    assert bars_of(framed(12, 12, 0, 0)[:, :80], framed(8, 8, 0, 0)) == (8, 8, 0, 0)


def test_no_picture_has_no_bars():
    assert bars_of() == bars_of(np.zeros((90, 160, 3), np.uint8)) == (0, 0, 0, 0)
