"""Pictures inside a report: thumbnails in their proportions, filters scaled to their own range."""

import base64
import io
import os

import numpy as np
import pytest
from PIL import Image

from framecnn import num_threads
from framecnn.errors import MachineError, ShapeError
from framecnn.report import pictures
from framecnn.report.pictures import Missing, contribution_overlay, embed, filter_tiles, grey_first, map_picture


def test_thumbnails_keep_the_proportions_of_their_file(tmp_path):
    sizes = {"wide": (448, 252), "square": (400, 400), "tiny": (32, 32), "tall": (100, 252)}
    for name, size in sizes.items():
        Image.new("RGB", size, "teal").save(tmp_path / f"{name}.png")
    upright = Image.Exif()
    upright[0x0112] = 6
    Image.new("RGB", (252, 100), "teal").save(tmp_path / "upright.jpg", exif=upright)
    Image.new("RGB", (252, 100), "teal").save(tmp_path / "upright.tif", exif=upright)
    made, _ = embed([str(path) for path in sorted(tmp_path.iterdir())], budget=10**6)
    assert [(picture.width, picture.height) for picture in made.values()] == [
        (126, 126),
        (50, 126),
        (32, 32),
        (50, 126),
        (50, 126),
        (224, 126),
    ]


def test_an_error_of_the_machine_loses_a_thumbnail_and_not_the_report(tmp_path, monkeypatch):
    def fail(path, box):
        raise MachineError("decode: cannot read 'a.jpg' (no memory left); free memory")

    monkeypatch.setattr(pictures, "decode_within", fail)
    assert embed(["a.jpg"], budget=1000) == ({"a.jpg": Missing("unreadable")}, {})


def test_a_thumbnail_opens_its_file_once_and_by_the_decoder_of_frames(tmp_path, monkeypatch):
    path = str(tmp_path / "a.jpg")
    Image.new("RGB", (64, 36), "teal").save(path)
    opened, fdopen = [], os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *arguments: opened.append(1) or fdopen(*arguments))
    monkeypatch.setattr(Image, "open", None)
    assert pictures._thumbnail(path).width == 64
    assert opened == [1]


def test_thumbnails_are_made_by_as_many_threads_as_were_asked_for(monkeypatch):
    asked, run = [], pictures.map_ahead
    monkeypatch.setattr(pictures, "map_ahead", lambda *arguments: asked.append(arguments[2]) or run(*arguments))
    with num_threads(3):
        assert embed(["gone.jpg"], budget=1) == ({"gone.jpg": Missing("vanished")}, {})
    assert asked == [3, 3]


def test_a_file_that_is_not_a_picture_gives_its_reason(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    assert embed([str(tmp_path / "a.jpg")], budget=1000)[0] == {str(tmp_path / "a.jpg"): Missing("not-an-image")}


def pixels_of(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))))


def test_each_filter_is_stretched_to_its_own_range():
    filters = np.stack([np.linspace(5, 6, 27), np.linspace(-900, 900, 27)]).reshape(2, 3, 3, 3)
    pixels = pixels_of(filter_tiles(filters))
    assert pixels.shape == (24, 51, 4)
    np.testing.assert_array_equal(pixels[:, :24], pixels[:, 27:])
    assert (pixels[:, :24, :3].min(), pixels[:, :24, :3].max()) == (0, 255)
    assert np.all(pixels[:, 24:27, 3] == 0)


def test_grey_filters_come_before_coloured_ones():
    colour, grey = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    colour[..., 0], grey[0] = 1, 1
    pixels = pixels_of(filter_tiles(grey_first(np.stack([colour, grey]))))
    np.testing.assert_array_equal(pixels[0, [0, 27], :3], [[255, 255, 255], [255, 0, 0]])


def test_of_more_filters_than_fit_some_of_every_colourfulness_are_drawn():
    filters = np.zeros((600, 2, 2, 3))
    filters[:, 0] = 1
    filters[:, 1, :, 0] = np.linspace(0, 1, 600)[::-1, None]
    pixels = pixels_of(filter_tiles(grey_first(filters)))
    rows = np.arange(0, pixels.shape[0], 27) + 23
    red = pixels[rows][:, np.arange(0, pixels.shape[1], 27), 0].ravel()
    assert (len(red), red.min(), red.max()) == (400, 0, 255)
    assert np.all(np.diff(red.astype(int)) >= 0)


def test_flat_broken_and_many_channelled_filters_are_drawn_too():
    for filters in (np.ones((1, 4, 4, 3)), np.full((1, 4, 4, 1), np.nan), np.zeros((1, 4, 4, 7))):
        assert np.unique(pixels_of(filter_tiles(filters))[..., :3]).tolist() == [128]


@pytest.mark.parametrize("shape", [(0, 6, 6, 3), (6, 6, 3)])
def test_filters_need_four_dimensions_and_at_least_one_filter(shape):
    with pytest.raises(ShapeError, match="expected filters"):
        filter_tiles(np.zeros(shape))


def test_full_size_pictures_get_what_thumbnails_leave_of_the_budget(tmp_path):
    paths = []
    for number in range(6):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.effect_noise((600, 400), 60).save(paths[-1])
    small, full = embed(paths, 10**7)
    sizes = [len(shown.uri) for shown in full.values()]
    budget = sum(len(shown.uri) for shown in small.values()) + sum(sizes[:3]) + sizes[3] // 2
    small, full = embed(paths, budget)
    used = sum(len(shown.uri) for shown in [*small.values(), *full.values()])
    assert len(small) == 6
    assert list(full) == paths[:3]
    assert budget - max(sizes) < used <= budget


def test_a_full_size_picture_is_as_large_as_its_file_up_to_a_screen(tmp_path):
    for name, size in {"frame": (480, 270), "photograph": (4000, 3000), "tiny": (9, 8)}.items():
        Image.new("RGB", size, "teal").save(tmp_path / f"{name}.png")
    _, full = embed([str(path) for path in sorted(tmp_path.iterdir())], 10**7)
    assert [(shown.width, shown.height) for shown in full.values()] == [(480, 270), (1440, 1080), (9, 8)]


def test_no_data_about_camera_or_place_gets_into_a_report(tmp_path):
    exif = Image.Exif()
    exif[0x010E], exif[0x010F] = "my home", "camera 4711"
    Image.new("RGB", (640, 360), "teal").save(tmp_path / "a.jpg", exif=exif)
    assert b"my home" in (tmp_path / "a.jpg").read_bytes()
    small, full = embed([str(tmp_path / "a.jpg")], 10**7)
    for picture in (*small.values(), *full.values()):
        data = base64.b64decode(picture.uri.partition(",")[2])
        assert b"my home" not in data
        assert b"Exif" not in data


def test_an_overlay_is_blue_for_orange_against_and_transparent_at_zero():
    contributions = np.zeros((30, 48))
    contributions[:10, :2], contributions[20:, 40:] = 4, -1
    overlay = np.asarray(contribution_overlay(contributions))
    assert overlay.shape == (15, 24, 4)
    assert overlay[0, 0].tolist() == [0, 92, 190, 215]
    assert overlay[-1, -1].tolist() == [230, 115, 0, 54]
    assert (overlay[:, 5:15, 3] == 0).all()


def test_the_blocks_of_an_overlay_are_means_of_the_contributions():
    contributions = np.random.default_rng(0).normal(size=(32, 48))
    expected = contributions.reshape(16, 2, 24, 2).mean(axis=(1, 3))
    overlay = np.asarray(contribution_overlay(contributions)).astype(float)
    depth = np.where(overlay[..., 2] > 100, 1, -1) * overlay[..., 3] / 215
    np.testing.assert_allclose(depth, expected / np.abs(expected).max(), atol=1 / 215)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (7, 5)])
def test_a_map_of_any_shape_is_drawn(shape):
    for value in (0.0, -3.0, 1e-300):
        drawn = map_picture(np.full(shape, value))
        assert 1 <= drawn.height <= shape[0]
        assert drawn.width == min(24, shape[1])
