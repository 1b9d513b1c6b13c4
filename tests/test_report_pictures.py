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
from framecnn.report.pictures import Missing, filter_tiles, thumbnails


def test_thumbnails_keep_the_proportions_of_their_file(tmp_path):
    sizes = {"wide": (448, 252), "square": (400, 400), "tiny": (32, 32), "tall": (100, 252)}
    for name, size in sizes.items():
        Image.new("RGB", size, "teal").save(tmp_path / f"{name}.png")
    upright = Image.Exif()
    upright[0x0112] = 6
    Image.new("RGB", (252, 100), "teal").save(tmp_path / "upright.jpg", exif=upright)
    Image.new("RGB", (252, 100), "teal").save(tmp_path / "upright.tif", exif=upright)
    made = thumbnails([str(path) for path in sorted(tmp_path.iterdir())], budget=10**6)
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
    assert thumbnails(["a.jpg"], budget=1000) == {"a.jpg": Missing("unreadable")}


def test_a_thumbnail_opens_its_file_once_and_by_the_decoder_of_frames(tmp_path, monkeypatch):
    path = str(tmp_path / "a.jpg")
    Image.new("RGB", (64, 36), "teal").save(path)
    opened, fdopen = [], os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *arguments: opened.append(1) or fdopen(*arguments))
    monkeypatch.setattr(Image, "open", None)
    assert thumbnails([path], budget=10**6)[path].width == 64
    assert opened == [1]


def test_thumbnails_are_made_by_as_many_threads_as_were_asked_for(monkeypatch):
    asked, run = [], pictures.map_ahead
    monkeypatch.setattr(pictures, "map_ahead", lambda *arguments: asked.append(arguments[2]) or run(*arguments))
    with num_threads(3):
        assert thumbnails(["gone.jpg"], budget=1) == {"gone.jpg": Missing("vanished")}
    assert asked == [3]


def test_a_file_that_is_not_a_picture_gives_its_reason(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"not a picture")
    assert thumbnails([str(tmp_path / "a.jpg")], budget=1000) == {str(tmp_path / "a.jpg"): Missing("not-an-image")}


def pixels_of(picture):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2]))))


def test_each_filter_is_stretched_to_its_own_range():
    filters = np.stack([np.linspace(5, 6, 27), np.linspace(-900, 900, 27)]).reshape(2, 3, 3, 3)
    pixels = pixels_of(filter_tiles(filters))
    assert pixels.shape == (24, 51, 4)
    np.testing.assert_array_equal(pixels[:, :24], pixels[:, 27:])
    assert (pixels[:, :24, :3].min(), pixels[:, :24, :3].max()) == (0, 255)
    assert np.all(pixels[:, 24:27, 3] == 0)


def test_grey_filters_are_drawn_before_coloured_ones():
    colour, grey = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    colour[..., 0], grey[0] = 1, 1
    pixels = pixels_of(filter_tiles(np.stack([colour, grey])))
    np.testing.assert_array_equal(pixels[0, [0, 27], :3], [[255, 255, 255], [255, 0, 0]])


def test_of_more_filters_than_fit_some_of_every_colourfulness_are_drawn():
    filters = np.zeros((600, 2, 2, 3))
    filters[:, 0] = 1
    filters[:, 1, :, 0] = np.linspace(0, 1, 600)[::-1, None]
    pixels = pixels_of(filter_tiles(filters))
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
