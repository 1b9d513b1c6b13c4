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
from framecnn.data.shots import SMALL_SIZE, ShotDetector, group_names
from framecnn.errors import DataError, ShapeError

HEIGHT, WIDTH = SMALL_SIZE


def shot(seed, n_frames):
    return [np.array(picture) for picture in moving(seed, n_frames, HEIGHT, WIDTH)]


def detect(pictures, rate=24):
    detector = ShotDetector()
    for i, picture in enumerate(pictures):
        detector.push(i / rate, picture)
    detector.finish()
    return detector


def starts(pictures, rate=24):
    """The first frames of the shots."""
    return [round(time * rate) for time in detect(pictures, rate).starts]


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
    detector = ShotDetector()
    for i, picture in enumerate(pictures):
        detector.push(i / 24, picture)
    assert detector.starts == [0, 30]


def test_memory_does_not_grow_with_the_movie():
    def peak(n_frames):
        pictures = shot(1, 40) + shot(2, 40)
        detector = ShotDetector()
        tracemalloc.start()
        for i in range(n_frames):
            detector.push(i / 24, pictures[i % 80])
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
