"""A JPEG gives the same picture whatever size is asked for, though it is decoded at a fraction of its own."""

import io

import numpy as np
import pytest
from pictures import encoded, lossless_jpeg, scene
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from framecnn.data import decode
from framecnn.data.headers import is_lossless_jpeg

SIZES = [(24, 32), (30, 41), (60, 80), (120, 160), (33, 150), (240, 320), (481, 643)]


def written(path, image, **options):
    path.write_bytes(encoded(image, "JPEG", quality=92, **options))
    return path


def exif_with(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"subsampling": 0},
        {"exif": exif_with(6)},
        {"exif": exif_with(3)},
        {"restart_marker_rows": 1},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_a_jpeg_decoded_at_a_fraction_shows_what_it_shows_at_its_own_size(tmp_path, monkeypatch, mode, options):
    path = written(tmp_path / "x.jpg", scene(5, 481, 643).convert(mode), **options)
    fractions = [decode(path, size).pixels.astype(int) for size in SIZES]
    monkeypatch.setattr(JpegImageFile, "draft", lambda *_: None)
    for size, pixels in zip(SIZES, fractions, strict=True):
        assert np.abs(pixels - decode(path, size).pixels).max() <= 4, size


def test_the_fractions_are_used(tmp_path, monkeypatch):
    path, asked, draft = written(tmp_path / "x.jpg", scene(5, 481, 643)), [], JpegImageFile.draft
    monkeypatch.setattr(
        JpegImageFile, "draft", lambda image, *arguments: [draft(image, *arguments), asked.append(image.size)][0]
    )
    for size in SIZES:
        decode(path, size)
    assert asked == [(81, 61), (81, 61), (81, 61), (161, 121), (161, 121), (322, 241), (643, 481)]


def test_a_lossless_jpeg_has_its_pixels_at_every_size(tmp_path):
    image = scene(5, 97, 131).convert("L")
    path = tmp_path / "x.jpg"
    path.write_bytes(lossless_jpeg(np.asarray(image)))
    for size in [(97, 131), (48, 65), (24, 32), (12, 16), (40, 60)]:
        expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, reducing_gap=2.0))
        assert (decode(path, size).pixels == expected[..., None]).all(), size


def test_the_kind_of_a_jpeg_is_read_past_other_segments_and_filling():
    comment = b"\xff\xfe\x00\x06\xff\xc3ab"
    for number in range(16):
        start = b"\xff\xd8\xff\xff" + comment[1:] + b"junk" + b"\xff\x01" + bytes([0xFF, 0xC0 + number, 0, 11])
        assert is_lossless_jpeg(io.BytesIO(start)) == (number in (3, 7, 11, 15))
    for end in (b"", b"\xff", b"\xff\xfe", b"\xff\xfe\xff\xff"):
        assert not is_lossless_jpeg(io.BytesIO(b"\xff\xd8" + end))


def test_the_kind_of_a_jpeg_is_found_behind_megabytes_of_filling():
    reads = []

    class Counted(io.BytesIO):
        def read(self, size=-1):
            reads.append(size)
            return super().read(size)

    assert is_lossless_jpeg(Counted(b"\xff\xd8" + bytes(5_000_000) + b"\xff\xc3"))
    assert len(reads) < 11_000
