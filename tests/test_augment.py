"""Augmentation: the change of a frame depends on its row alone, and each setting has the described effect."""

import numpy as np
import pytest
from textures import textures

from framecnn import SettingError, ShapeError, get_num_threads, num_threads
from framecnn.data import Augmentation

FRAMES = textures(8, (24, 32, 3))[0]
ROWS = np.arange(len(FRAMES))
EVERYTHING = {
    "flip": True,
    **dict.fromkeys(["shift", "crop", "scale", "brightness", "contrast", "cutout"], 0.2),
    "rotation": 15,
}


def changed(frames=FRAMES, rows=None, seed=0, epoch=1, **settings):
    return Augmentation(**settings)(frames, np.arange(len(frames)) if rows is None else rows, seed=seed, epoch=epoch)


def test_settings_of_zero_change_nothing():
    same = changed()
    np.testing.assert_array_equal(same, FRAMES)
    assert same is not FRAMES
    np.testing.assert_array_equal(changed(rotation=1e-300, shift=1e-300, scale=1e-300, crop=1e-300), FRAMES)


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_setting_changes_frames_and_keeps_shape_dtype_and_the_frames_it_was_given(name):
    before = FRAMES.copy()
    after = changed(**{name: EVERYTHING[name]})
    assert (after.dtype, after.shape) == (np.uint8, FRAMES.shape)
    assert (after != FRAMES).any(axis=(1, 2, 3)).mean() > 0.3
    np.testing.assert_array_equal(FRAMES, before)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_frames_may_have_any_number_of_channels_which_move_together(channels):
    frames = np.repeat(FRAMES[..., :1], channels, axis=-1)
    after = changed(frames, **EVERYTHING)
    np.testing.assert_array_equal(after, np.repeat(after[..., :1], channels, axis=-1))


def test_the_change_of_a_frame_does_not_depend_on_order_batch_or_threads():
    order = np.random.default_rng(0).permutation(len(FRAMES))
    whole = changed(**EVERYTHING)
    np.testing.assert_array_equal(changed(FRAMES[order], order, **EVERYTHING), whole[order])
    np.testing.assert_array_equal(changed(FRAMES[5:6], [5], **EVERYTHING), whole[5:6])
    with num_threads(get_num_threads() + 1):
        np.testing.assert_array_equal(changed(**EVERYTHING), whole)


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 2}, {"rows": ROWS + 1}], ids=str)
def test_another_seed_epoch_or_number_makes_another_frame(other):
    assert (changed(**EVERYTHING, **other) != changed(**EVERYTHING)).any(axis=(1, 2, 3)).all()


def test_a_flip_mirrors_half_of_the_frames():
    after = changed(np.repeat(FRAMES[:1], 200, axis=0), np.arange(200), flip=True)
    mirrored = (after == FRAMES[0][:, ::-1]).all(axis=(1, 2, 3))
    assert ((after == FRAMES[0]).all(axis=(1, 2, 3)) ^ mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_a_shift_moves_whole_pixels_and_mirrors_at_the_edge():
    found = set()
    for frame, after in zip(FRAMES, changed(shift=0.1), strict=True):
        padded = np.pad(frame, ((3, 3), (3, 3), (0, 0)), "symmetric")
        places = [(i, j) for i in range(7) for j in range(7) if (padded[i : i + 24, j : j + 32] == after).all()]
        assert places
        found.update(places)
    assert len(found) > 10
    assert {i for i, _ in found} >= {1, 3, 5}


def test_a_disc_in_the_middle_stays_there_when_the_frame_turns():
    down, right = np.mgrid[:41, :41] - 20
    disc = np.uint8(200 * (down**2 + right**2 < 100))[None, ..., None]
    after = changed(np.repeat(disc, 5, axis=0), rotation=180).astype(int)
    inner = (down**2 + right**2 < 60) | (down**2 + right**2 > 150)
    assert (after[:, inner] == disc[:, inner]).all()


def test_a_scale_makes_a_disc_larger_or_smaller_by_no_more_than_asked():
    down, right = np.mgrid[:81, :81] - 40
    disc = np.uint8(255 * (down**2 + right**2 < 400))[None, ..., None]
    areas = changed(np.repeat(disc, 40, axis=0), scale=0.5).mean(axis=(1, 2, 3)) / disc.mean()
    assert areas.max() <= 1.5**2 * 1.02
    assert areas.min() >= 1.5**-2 * 0.98
    assert areas.max() > 1.8
    assert areas.min() < 0.6


def test_a_crop_shows_a_part_of_the_frame_over_the_whole_frame():
    ramp = np.broadcast_to(np.arange(0, 240, 6, dtype=np.uint8)[:, None, None], (40, 30, 1))
    after = changed(np.repeat(ramp[None], 60, axis=0), crop=0.5).astype(int)
    height = (after[:, -1, 15, 0] - after[:, 0, 15, 0]) / (ramp[-1, 0, 0] - ramp[0, 0, 0])
    assert (height < 1.01).all()
    assert (height > 0.48).all()
    assert height.min() < 0.6
    assert np.ptp(after[:, 0, 15, 0]) > 60


def test_brightness_adds_the_same_to_all_values_until_they_are_black_or_white():
    frames = np.full((50, 8, 8, 1), 128, np.uint8)
    frames[:, 0, 0] = 255
    difference = changed(frames, brightness=0.25).astype(int) - frames
    assert (np.ptp(difference[:, 1:], axis=(1, 2, 3)) == 0).all()
    assert np.abs(difference).max() <= 64
    assert np.ptp(difference) > 90
    assert (changed(frames, brightness=0.25)[:, 0, 0] >= 255 - 64).all()


def test_contrast_keeps_the_mean():
    frames = np.tile(np.array([100, 140], np.uint8).reshape(1, 1, 2, 1), (50, 8, 4, 1))
    after = changed(frames, contrast=0.5).astype(int)
    np.testing.assert_allclose(after.mean(axis=(1, 2, 3)), 120, atol=0.5)
    spread = after[:, 0, 1, 0] - after[:, 0, 0, 0]
    assert spread.min() < 25
    assert spread.max() > 55
    assert 20 <= spread.min() <= spread.max() <= 60


def test_a_cutout_covers_a_rectangle_of_the_asked_size():
    after = changed(cutout=0.25)
    corners = set()
    for frame, covered in zip(FRAMES, after, strict=True):
        places = [
            (i, j)
            for i in range(19)
            for j in range(25)
            if (covered[i : i + 6, j : j + 8] == np.rint(frame.mean())).all()
        ]
        assert len(places) == 1
        i, j = places[0]
        corners.add(places[0])
        rest = covered.copy()
        rest[i : i + 6, j : j + 8] = frame[i : i + 6, j : j + 8]
        np.testing.assert_array_equal(rest, frame)
    assert len(corners) > 30
    np.testing.assert_array_equal(changed(cutout=1)[0], np.full_like(FRAMES[0], np.rint(FRAMES[0].mean())))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 0.5}, "expected flip as True or False, got 0.5"),
        ({"shift": -0.1}, "expected shift from 0 to 1, got -0.1"),
        ({"crop": 1}, "expected crop from 0 to 0.99, got 1"),
        ({"rotation": 181}, "expected rotation from 0 to 180, got 181"),
        ({"scale": np.nan}, "expected scale as a finite number, got nan"),
        ({"brightness": "much"}, "expected brightness as a finite number, got 'much'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(SettingError, match=f"^Augmentation: {message}"):
        Augmentation(**settings)


@pytest.mark.parametrize("frames", [FRAMES / 255, FRAMES[0], FRAMES.astype(np.int16)], ids=["float", "one", "int16"])
def test_frames_that_are_not_pictures_are_refused(frames):
    with pytest.raises(ShapeError, match=r"^Augmentation: expected uint8 frames \(n, height, width, channels\), got"):
        changed(frames)


def test_every_frame_needs_its_row():
    with pytest.raises(ShapeError, match=r"^Augmentation: expected one row per frame, got 48 frames, 3 rows"):
        changed(rows=[0, 1, 2])
