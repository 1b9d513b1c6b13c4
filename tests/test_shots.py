"""The beginnings of shots and groups in movies."""

import math
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from movies import still
from small_shots import BLACK, HEIGHT, WIDTH, blend, detect, shot, starts

from framecnn.data.boundaries import Boundary
from framecnn.data.movie import Movie
from framecnn.data.shots import ShotDetector, group_names
from framecnn.errors import DataError, ShapeError


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


def test_a_gliding_camera_is_not_a_cut():
    assert starts(shot(1, 120)) == [0]


def test_growing_light_is_not_a_cut():
    pictures = [(picture * (0.4 + 0.6 * i / 60)).astype(np.uint8) for i, picture in enumerate(shot(1, 60))]
    assert starts(pictures) == [0]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_flash_is_not_a_cut(length):
    pictures = shot(1, 60)
    for i in range(30, 30 + length):
        pictures[i] = 255 - (255 - pictures[i]) // 4
    assert starts(pictures) == [0]


def test_a_flash_lasts_as_long_at_twice_the_frame_rate():
    pictures = [picture for picture in shot(1, 60) for _ in range(2)]
    for i in range(60, 66):
        pictures[i] = 255 - (255 - pictures[i]) // 4
    assert starts(pictures, rate=48) == [0]


def test_something_that_fills_a_quarter_of_the_picture_at_once_is_not_a_cut():
    pictures = shot(1, 60)
    for i in range(30, 60):
        pictures[i][:, : WIDTH // 4] = (250, 60, 10)
    assert starts(pictures) == [0]


def test_something_that_moves_in_the_dark_is_not_a_cut():
    pictures = [BLACK.copy() for _ in range(60)]
    for i, picture in enumerate(pictures):
        picture[20:30, 10:22] = 200
        left = 40 if i < 30 else 5
        picture[4:12, left : left + 8] = (220, 200, 40)
    assert starts(pictures) == [0]


@pytest.mark.parametrize("length", [12, 240])
def test_black_between_two_views_of_the_same_scene_is_not_a_boundary(length):
    a = [still(1, HEIGHT, WIDTH)] * 30
    assert starts([*a, *[BLACK] * length, *a]) == [0]


@pytest.mark.parametrize("length", [2, 12, 240])
def test_black_between_all_shots_is_one_boundary_each(length):
    black = [BLACK] * length
    assert starts([*shot(1, 30), *black, *shot(2, 30), *black, *shot(3, 30)]) == [0, 30 + length, 60 + 2 * length]


@pytest.mark.parametrize("length", [6, 24, 48])
def test_fading_out_and_in_gives_two_shots(length):
    a, b = shot(1, 72), shot(2, 72)
    for i, light in enumerate(np.linspace(0, 1, length)):
        a[-1 - i] = (a[-1 - i] * light).astype(np.uint8)
        b[i] = (b[i] * light).astype(np.uint8)
    assert len(starts([*a, *[BLACK] * 6, *b])) == 2


def test_a_single_black_frame_is_not_a_cut_and_hides_none():
    a, b = shot(1, 60), shot(2, 30)
    assert starts([*a[:30], BLACK, *a[31:]]) == [0]
    assert starts([*a[:30], BLACK, *b]) == [0, 31]


def test_a_black_movie_has_no_shot():
    assert starts([BLACK] * 30) == []


def test_a_movie_of_one_frame_has_one_shot():
    assert starts([still(1, HEIGHT, WIDTH)]) == [0]
    assert starts([]) == []


def test_what_was_found_does_not_depend_on_what_comes_much_later():
    pictures = shot(1, 30) + shot(2, 260)
    detector = ShotDetector()
    for i, picture in enumerate(pictures):
        detector.push(i / 24, picture)
    assert detector.starts == [0, 30 / 24]


def test_every_cut_of_a_long_movie_is_found_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(12, 90, 40)
    pictures = [picture for seed, length in enumerate(lengths) for picture in shot(seed, length)]
    assert starts(pictures) == [0, *np.cumsum(lengths)[:-1]]


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

    peak(720)  # memory that is used once
    assert peak(720) < 1.2 * peak(360)


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


def joined(old, new, n, share):
    """Return two shots whose last and first n frames are mixed; the second has the share(progress from 0 to 1)."""
    mixed = [
        blend(a, b, share((i + 0.5) / n)) for i, (a, b) in enumerate(zip(old[len(old) - n :], new[:n], strict=True))
    ]
    return [*old[: len(old) - n], *mixed, *new[n:]]


def wiped(progress):
    return np.clip((progress - np.linspace(0, 1, WIDTH))[None, :, None] * WIDTH, 0, 1)


@pytest.mark.parametrize("share", [lambda progress: progress, wiped], ids=["dissolve", "wipe"])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("rate", [10, 24, 60])
def test_a_dissolve_or_wipe_is_one_boundary_near_its_middle(share, seconds, rate):
    n, length = round(seconds * rate), 4 * rate
    a, b = ([np.array(still(seed, HEIGHT, WIDTH))] * length for seed in (1, 2))
    first, second = starts(joined(a, b, n, share), rate)
    assert first == 0
    assert abs(second - (length - n / 2)) <= max(0.3 * n, 2)


@pytest.mark.parametrize("rate", [10, 24, 60])
@pytest.mark.parametrize("flat", [0, 255])
@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0])
def test_a_fade_through_black_or_white_is_one_boundary_between_scenes_and_none_within_one(rate, flat, seconds):
    half = round(seconds * rate / 2)

    def faded(a, b):
        for i, light in enumerate((np.arange(half) + 0.5) / half):
            a[-1 - i], b[i] = (blend(np.full_like(x, flat), x, light) for x in (a[-1 - i], b[i]))
        return [*a, *b]

    length = 3 * rate
    a, b = ([np.array(still(seed, HEIGHT, WIDTH))] * length for seed in (1, 2))
    first, second = starts(faded([*a], [*b]), rate)
    assert first == 0
    assert abs(second - length) <= half
    assert starts(faded([*a], [*a]), rate) == [0]


@pytest.mark.parametrize("rate", [10, 24, 60])
@pytest.mark.parametrize("length", [1, 4, 6])
@pytest.mark.parametrize("strength", [0.6, 1.0])
def test_white_frames_are_not_a_cut_and_hide_none(rate, length, strength):
    a, b = shot(1, 60 + length), shot(2, 60)
    for i in range(30, 30 + length):
        a[i] = blend(a[i], np.uint8(255), strength)
    assert starts(a, rate) == [0]
    a, b = shot(1, 30), shot(2, 40)
    first, second = starts([*a, *[np.full_like(BLACK, 255)] * length, *b], rate)
    assert first == 0
    assert 30 <= second <= 30 + length


@pytest.mark.parametrize(("change", "is_boundary"), [(0.2, (False, False)), (0.5, (True, False)), (0.7, (True, True))])
def test_across_white_frames_scenes_must_differ_more_than_across_a_fade(monkeypatch, change, is_boundary):
    monkeypatch.setattr("framecnn.data.boundaries._change", lambda *arguments: change)
    white = [np.full_like(BLACK, 255)] * 6
    faded, back = ([blend(x, np.uint8(255), i / 12) for i, x in enumerate(shot(1, 12))] for _ in "ab")
    fade = [*shot(1, 48), *faded, *white, *back[::-1], *shot(1, 48)]
    flash = [*shot(1, 60), *white, *shot(2, 60)]
    assert (len(starts(fade)) == 2, len(starts(flash)) == 2) == is_boundary


@pytest.mark.parametrize(("rate", "score", "is_cut"), [(24, 0.4, True), (10, 0.4, False), (10, 0.5, True)])
def test_frames_further_apart_must_differ_more(monkeypatch, rate, score, is_cut):
    def scores(elapsed, differences):
        found = np.zeros(len(elapsed), np.float32)
        found[24] = score
        return found

    monkeypatch.setattr("framecnn.data.boundaries.cut_scores", scores)
    assert (starts(shot(1, 24) + shot(2, 24), rate) == [0, 24]) == is_cut


@pytest.mark.parametrize("length", [3, 5])
def test_a_weak_flash_at_the_end_of_a_pan_is_not_a_cut(length):
    wide = still(5, HEIGHT, WIDTH * 3)
    places = [*[0] * 24, *range(5, 30, 5), *[40] * (24 + length)]
    pictures = [wide[:, place : place + WIDTH] for place in places]
    for i in range(29, 29 + length):
        pictures[i] = blend(pictures[i], np.uint8(255), 0.5)
    assert starts(pictures) == [0]


@pytest.mark.parametrize("seed", [2, 5])
def test_a_flash_in_flickering_light_is_not_a_cut(seed):
    light = np.repeat([1, 0.4, 0.75, 0.85, 0.8], [26, 4, 1, 1, 28])
    pictures = [(picture * share).astype(np.uint8) for picture, share in zip(shot(seed, 60), light, strict=True)]
    for i in range(32, 37):
        pictures[i] = blend(pictures[i], np.uint8(255), 0.8)
    assert starts(pictures, rate=10) == [0]


def test_a_strobe_is_one_shot():
    pictures = shot(1, 96)
    for i in range(24, 72):
        if i // 3 % 2:
            pictures[i] = blend(pictures[i], np.uint8(255), 0.9)
    assert starts(pictures) == [0]


def test_appearing_black_bars_and_subtitles_are_not_a_cut():
    pictures = shot(1, 96)
    for picture in pictures[24:72]:
        picture[30:33, 16:48:2] = 255
    for picture in pictures[48:]:
        picture[:4] = picture[-4:] = 0
    assert starts(pictures) == [0]


@pytest.mark.parametrize("length", [5, 8, 12])
def test_a_montage_of_very_short_shots_loses_none(length):
    pictures = [picture for seed in range(12) for picture in shot(seed, length)]
    assert starts(pictures) == [length * i for i in range(12)]


def test_shots_whose_frames_come_in_bursts_are_found():
    times = [10 * slide + i / 25 for slide in range(4) for i in range(25)]
    detector = ShotDetector()
    for time in times:
        detector.push(time, still(int(time // 10), HEIGHT, WIDTH))
    assert detector.finish() == detector.group_starts == [0, 10, 20, 30]


def test_a_frame_a_second_is_enough_for_cuts():
    pictures = [still(i // 6, HEIGHT, WIDTH) for i in range(30)]
    assert starts(pictures, rate=1) == [0, 6, 12, 18, 24]


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_movie_of_one_colour_has_no_shot(value):
    assert starts([np.full_like(BLACK, value)] * 300) == []


def test_a_doubtful_boundary_begins_a_shot_but_no_group(monkeypatch):
    found = [Boundary(30, True), Boundary(60, False)]
    monkeypatch.setattr("framecnn.data.shots.find_boundaries", lambda frames, differences: found)
    detector = detect(shot(1, 100))
    assert detector.starts == [0, 30 / 24, 60 / 24]
    assert detector.group_starts == [0, 30 / 24]


def test_clear_cuts_begin_groups_too():
    detector = detect(shot(1, 60) + shot(2, 60) + shot(3, 60))
    assert detector.group_starts == detector.starts == [0, 2.5, 5]


def test_the_same_shots_are_found_at_every_frame_rate():
    pictures = shot(1, 48) + shot(2, 24) + shot(3, 60)
    for repeats in (1, 2, 5):
        repeated = [picture for picture in pictures for _ in range(repeats)]
        assert detect(repeated, 24 * repeats).starts == [0, 2, 3]


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
