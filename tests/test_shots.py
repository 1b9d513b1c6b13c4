"""Where shots begin, and which frames are worth nothing."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from movies import moving, still

from framecnn.data.movie import Movie
from framecnn.data.shots import (
    SMALL_SIZE,
    LetterboxDetector,
    RepeatDetector,
    ShotDetector,
    group_names,
    is_blank,
)
from framecnn.errors import DataError, ShapeError

HEIGHT, WIDTH = SMALL_SIZE


def shot(seed, n_frames):
    return [np.array(picture) for picture in moving(seed, n_frames, HEIGHT, WIDTH)]


def starts(pictures, rate=24):
    detector = ShotDetector(rate)
    for i, picture in enumerate(pictures):
        detector.push(i, picture)
    return detector.finish()


BLACK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def test_every_hard_cut_is_found_at_its_first_frame():
    lengths = [30, 12, 50, 8, 40]
    pictures = [picture for seed, length in enumerate(lengths) for picture in shot(seed, length)]
    assert starts(pictures) == [0, 30, 42, 92, 100]


def test_a_cut_back_to_the_same_place_is_a_cut():
    a, b = shot(1, 30), shot(2, 30)
    assert starts(a + b + a) == [0, 30, 60]


def test_cuts_are_found_in_a_grey_movie():
    pictures = [np.repeat(p.mean(-1, keepdims=True).astype(np.uint8), 3, -1) for p in shot(1, 30) + shot(2, 30)]
    assert starts(pictures) == [0, 30]


@pytest.mark.parametrize("bar", [4, 5, 9])
def test_cuts_are_found_between_black_bars(bar):
    pictures = shot(1, 30) + shot(2, 30)
    for picture in pictures:
        picture[:bar] = picture[-bar:] = 0
    assert starts(pictures) == [0, 30]


def test_a_gliding_camera_is_no_cut():
    assert starts(shot(1, 120)) == [0]


def test_growing_light_is_no_cut():
    pictures = [(picture * (0.4 + 0.6 * i / 60)).astype(np.uint8) for i, picture in enumerate(shot(1, 60))]
    assert starts(pictures) == [0]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_no_cut(length):
    pictures = shot(1, 60)
    for i in range(30, 30 + length):
        pictures[i] = 255 - (255 - pictures[i]) // 4
    assert starts(pictures) == [0]


def test_a_flash_lasts_as_long_at_twice_the_frame_rate():
    pictures = [picture for picture in shot(1, 60) for _ in range(2)]
    for i in range(60, 66):
        pictures[i] = 255 - (255 - pictures[i]) // 4
    assert starts(pictures, rate=48) == [0]


def test_something_that_fills_a_quarter_of_the_picture_at_once_is_no_cut():
    pictures = shot(1, 60)
    for i in range(30, 60):
        pictures[i][:, : WIDTH // 4] = (250, 60, 10)
    assert starts(pictures) == [0]


def test_something_that_moves_in_the_dark_is_no_cut():
    pictures = [BLACK.copy() for _ in range(60)]
    for i, picture in enumerate(pictures):
        picture[20:30, 10:22] = 200
        left = 40 if i < 30 else 5
        picture[4:12, left : left + 8] = (220, 200, 40)
    assert starts(pictures) == [0]


def test_black_ends_a_shot_even_if_the_same_picture_returns():
    a = [still(1, HEIGHT, WIDTH)] * 30
    assert starts([*a, *[BLACK] * 12, *a]) == [0, 42]


@pytest.mark.parametrize("length", [6, 24, 48])
def test_fading_out_and_in_gives_two_shots(length):
    a, b = shot(1, 72), shot(2, 72)
    for i, light in enumerate(np.linspace(0, 1, length)):
        a[-1 - i] = (a[-1 - i] * light).astype(np.uint8)
        b[i] = (b[i] * light).astype(np.uint8)
    assert len(starts([*a, *[BLACK] * 6, *b])) == 2


def test_a_single_black_frame_is_no_cut_but_hides_none():
    a, b = shot(1, 60), shot(2, 30)
    assert starts([*a[:30], BLACK, *a[31:]]) == [0]
    assert starts([*a[:30], BLACK, *b]) == [0, 31]


def test_a_black_movie_has_no_shot():
    assert starts([BLACK] * 30) == []


def test_a_movie_of_one_frame_has_one_shot():
    assert starts([still(1, HEIGHT, WIDTH)]) == [0]
    assert starts([]) == []


def test_what_was_found_does_not_depend_on_what_comes_much_later():
    pictures = shot(1, 30) + shot(2, 60)
    detector = ShotDetector(24)
    for i, picture in enumerate(pictures):
        detector.push(i, picture)
    assert detector.starts == [0, 30]


def test_memory_does_not_grow_with_the_movie():
    def peak(n_frames):
        pictures = shot(1, 40) + shot(2, 40)
        detector = ShotDetector(24)
        tracemalloc.start()
        for i in range(n_frames):
            detector.push(i, pictures[i % 80])
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(50)
    assert peak(500) < 1.3 * peak(150)


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ShapeError, match=r"expected a picture of shape \(36, 64, 3\), got \(48, 64, 3\)"):
        ShotDetector().push(0.0, still(1))


@pytest.mark.parametrize(
    ("clip", "cuts"),
    [
        ("cosmos_laundromat.mp4", [20, 143, 208, 259, 318, 644, 761, 913, 1188]),
        (
            "tears_of_steel.webm",
            [
                *(52, 122, 158, 221, 309, 715, 788, 872, 901, 987, 1127, 1157, 1203),
                *(1234, 1246, 1284, 1345, 1378, 1430, 1472, 1525, 1571, 1618, 1650, 1689),
            ],
        ),
    ],
)
def test_the_cuts_a_person_sees_in_the_clips_are_found_and_no_others(shared_data, clip, cuts):
    with Movie(shared_data / "clips" / clip) as movie:
        assert starts([movie.small(frame) for _, frame in movie.frames()], movie.rate) == [0, *cuts]


def test_black_and_flat_pictures_are_blank_and_dark_scenes_are_not():
    noise = np.random.default_rng(0).integers(0, 12, BLACK.shape, dtype=np.uint8)
    assert is_blank(BLACK)
    assert is_blank(noise)
    assert is_blank(BLACK + np.uint8(255))
    assert is_blank(np.broadcast_to(np.uint8([30, 60, 200]), BLACK.shape))
    assert not is_blank(still(1, HEIGHT, WIDTH) // 4)
    assert not is_blank(still(1, HEIGHT, WIDTH))


def test_noise_does_not_hide_a_repeat_and_a_small_movement_is_none():
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
def test_darkness_on_one_side_or_almost_everywhere_is_no_bar(bars):
    assert bars_of(framed(*bars)) == (0, 0, 0, 0)


def test_a_bar_is_black_in_every_frame():
    assert bars_of(framed(12, 12, 0, 0), framed(8, 8, 0, 0, seed=2)) == (8, 8, 0, 0)
    assert bars_of(framed(12, 12, 0, 0), np.zeros((90, 160, 3), np.uint8)) == (12, 12, 0, 0)


def test_frames_of_another_size_start_anew():
    assert bars_of(framed(12, 12, 0, 0)[:, :80], framed(8, 8, 0, 0)) == (8, 8, 0, 0)


def test_no_picture_has_no_bars():
    assert bars_of() == bars_of(np.zeros((90, 160, 3), np.uint8)) == (0, 0, 0, 0)


def test_a_shot_no_longer_than_a_block_is_one_group():
    assert group_names("m", [0, 9.9, 10, 29.9], [0, 10], 30, 10) == [
        "m_shot000",
        "m_shot000",
        "m_shot001_block00",
        "m_shot001_block01",
    ]


@given(
    lengths=st.lists(st.floats(0.04, 500), min_size=1, max_size=6),
    block=st.floats(0.5, 60),
    shares=st.lists(st.floats(0, 0.9999), min_size=1, max_size=40),
)
def test_a_group_lies_in_one_shot_and_is_no_longer_than_a_block(lengths, block, shares):
    bounds = np.cumsum([0.0, *lengths]).tolist()
    times = sorted(share * bounds[-1] for share in shares)
    names = group_names("m", times, bounds[:-1], bounds[-1], block)
    assert len(names) == len(times)
    for (earlier, first), (later, second) in pairwise(zip(times, names, strict=True)):
        if first == second:
            assert later - earlier <= block * (1 + 1e-5)
            assert not any(earlier < bound <= later for bound in bounds)


def test_blocks_without_length_are_refused():
    for block in (0, -1, math.nan):
        with pytest.raises(DataError, match="expected a block longer than 0 seconds"):
            group_names("m", [0], [0], 1, block)
