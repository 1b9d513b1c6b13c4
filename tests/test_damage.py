"""Damaged pictures: a frame has the pixels that were saved, or is skipped, as far as its format can show damage.

With FRAMECNN_LONG_TESTS=1 every bit of the small pictures is flipped, else one bit of every byte.
"""

import io
import os
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from pictures import encoded, scene
from PIL import Image, ImageFile

from framecnn.data import FrameFolder, SkippedFrame, decode
from framecnn.data.checksums import DamagedFile, check_png

SIZE = (12, 16)
LONG = os.environ.get("FRAMECNN_LONG_TESTS") == "1"


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def with_exif_after_the_pixels(data, orientation):
    content = exif(orientation).tobytes()[6:]
    chunk = b"eXIf" + content
    return data[:-12] + struct.pack(">I", len(content)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[-12:]


SMALL = scene(1, *SIZE)
PALETTE = SMALL.convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
PNGS = {
    "colour": encoded(SMALL, "PNG", exif=exif(6)),
    "palette": encoded(PALETTE, "PNG"),
    "16 bits": encoded(Image.fromarray(np.asarray(SMALL.convert("L")).astype(np.uint16) * 257), "PNG"),
    "rotated": with_exif_after_the_pixels(encoded(SMALL.convert("L"), "PNG"), 6),
}
ANIMATED = encoded(SMALL, "PNG", save_all=True, append_images=[scene(2, *SIZE)])


def outcome(path, data):
    """Return the pixels of a file, or the reason why it is skipped."""
    path.write_bytes(data)
    try:
        return decode(path, SIZE).pixels
    except SkippedFrame as skipped:
        return skipped.reason


def flips(data):
    """Yield the position and a copy of a file for each wrong bit."""
    for place in range(len(data)):
        for bit in range(8) if LONG else (place % 8,):
            yield place, data[:place] + bytes([data[place] ^ 1 << bit]) + data[place + 1 :]


@pytest.mark.parametrize("name", PNGS)
def test_a_png_with_one_wrong_bit_is_skipped_wherever_it_is(tmp_path, name):
    path = tmp_path / "x.png"
    assert outcome(path, PNGS[name]).shape == (*SIZE, 3)
    found = Counter(outcome(path, damaged) for _, damaged in flips(PNGS[name]))
    assert set(found) == {"decoder-error", "truncated", "not-an-image"}
    assert sum(found.values()) >= len(PNGS[name])


def test_an_animation_with_one_wrong_bit_has_its_first_picture_or_is_skipped(tmp_path):
    path = tmp_path / "x.png"
    whole = outcome(path, ANIMATED)
    later = ANIMATED.index(b"fcTL", ANIMATED.index(b"IDAT")) + 4
    for place, damaged in flips(ANIMATED):
        if place > later + 60 and place % 9 and not LONG:
            continue
        found = outcome(path, damaged)
        assert (found == whole).all() if place > later + 30 else isinstance(found, str) or (found == whole).all()


@pytest.mark.parametrize("n_bytes", [1, 30, 100])
def test_a_png_with_a_run_of_zeros_is_skipped_wherever_it_is(tmp_path, n_bytes):
    data = encoded(scene(1), "PNG")
    for start in range(8, len(data) - n_bytes, 101):
        damaged = data[:start] + bytes(n_bytes) + data[start + n_bytes :]
        assert damaged == data or isinstance(outcome(tmp_path / "x.png", damaged), str)


@pytest.mark.parametrize("options", [{}, {"exif": exif(1)}])
@pytest.mark.parametrize("rest", [b"", b"\xff"])
def test_a_png_with_missing_pixels_and_right_checksums_is_skipped(tmp_path, rest, options):
    data = encoded(scene(1), "PNG", **options)
    start = data.index(b"IDAT")
    (length,) = struct.unpack(">I", data[start - 4 : start])
    for kept in range(2, length - 20, length // 20):
        chunk = data[start : start + 4 + kept] + rest * (length - kept)
        damaged = data[: start - 4] + struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        assert isinstance(outcome(tmp_path / "x.png", damaged + data[start + 8 + length :]), str)


SAVED = {
    "x.png": ("PNG", {}),
    "x.jpg": ("JPEG", {}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "x.webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "x.bmp": ("BMP", {}),
    "x.gif": ("GIF", {}),
    "x.tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "packbits.tif": ("TIFF", {"compression": "packbits"}),
}


@pytest.mark.parametrize("name", SAVED)
def test_a_file_cut_anywhere_is_skipped_or_decoded_completely(tmp_path, name):
    file_format, options = SAVED[name]
    data = encoded(PALETTE if file_format == "GIF" else SMALL, file_format, **options)
    whole = outcome(tmp_path / name, data)
    for cut in range(1, len(data), 1 if LONG else 3):
        found = outcome(tmp_path / name, data[:cut])
        assert isinstance(found, str) or (file_format == "GIF" and cut >= len(data) - 2 and (found == whole).all())


def test_a_deflated_tiff_with_wrong_bytes_is_skipped_or_decoded_correctly(tmp_path):
    data = encoded(SMALL, "TIFF", compression="tiff_adobe_deflate")
    whole = outcome(tmp_path / "x.tif", data)
    with Image.open(io.BytesIO(data)) as image:
        start, n_bytes = (image.tag_v2[tag][0] for tag in (273, 279))  # of the only strip
    for place in range(start, start + n_bytes):
        damaged = data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]
        found = outcome(tmp_path / "x.tif", damaged)
        assert isinstance(found, str) or (found == whole).all()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "GIF", "BMP", "TIFF"])
def test_a_global_setting_of_pillow_to_load_truncated_files_changes_nothing(tmp_path, monkeypatch, file_format):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(scene(0).convert("L"), file_format)
    assert outcome(tmp_path / "x", data[: len(data) * 2 // 3]) == "truncated"
    assert ImageFile.LOAD_TRUNCATED_IMAGES, "the setting is unchanged"


def test_every_hostile_picture_that_is_used_can_be_loaded_completely(shared_data):
    root = shared_data / "images_hostile"
    used = Counter()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        try:
            decode(path, SIZE)
        except SkippedFrame:
            continue
        if path.suffix.lower() == ".png":
            with open(path, "rb") as file:
                check_png(file)
        with Image.open(path) as image:
            image.load()
            used[image.format] += 1
    assert used["PNG"] > 150
    assert used["JPEG"] > 50


def test_checksums_are_read_in_blocks_and_a_wrong_one_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), "PNG")
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with open(path, "rb") as file:
        check_png(file)
    path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    with open(path, "rb") as file, pytest.raises(DamagedFile, match=r"the checksum of chunk b'IDAT' is wrong"):
        check_png(file)
    path.write_bytes(data[:-3])
    with open(path, "rb") as file, pytest.raises(EOFError, match="the file is truncated"):
        check_png(file)


def test_a_damaged_png_is_listed_with_its_reason(tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        scene(seed).save(tmp_path / name / "x.png")
    data = encoded(scene(3), "PNG")
    place = data.index(b"IDAT") + len(data) // 2
    (tmp_path / "a" / "y.png").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert [(skip.path, skip.reason) for skip in FrameFolder(tmp_path, size=SIZE).skipped] == [
        ("a/y.png", "decoder-error")
    ]
