"""A file is decoded to upright RGB pixels, or skipped with one reason."""

import importlib
import io
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import warnings
from typing import get_args

import numpy as np
import pytest
from pictures import (
    bmp_claiming,
    encoded,
    gif_claiming,
    jpeg_claiming,
    png_claiming,
    scene,
    tiff,
    webp_claiming,
)
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from framecnn.data import decode as public_decode
from framecnn.data.decode import BACKGROUND, MAX_PIXELS, SkippedFrame, decode, decode_with_state
from framecnn.data.headers import claimed_size
from framecnn.data.reasons import REASONS, Reason

SIZE = (48, 64)


def reason_of(path, size=SIZE):
    with pytest.raises(SkippedFrame) as skipped:
        decode(path, size)
    assert str(skipped.value) == f"{skipped.value.reason}: {skipped.value.detail}"
    assert "\n" not in skipped.value.detail
    return skipped.value.reason


def written(tmp_path, name, data):
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF", "WEBP", "GIF", "JPEG"])
def test_every_format_gives_the_pixels_that_were_saved(tmp_path, file_format):
    image = scene(1)
    exact = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(file_format, {})
    if file_format == "GIF":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
    path = written(tmp_path, f"x.{file_format.lower()}", encoded(image, file_format, **exact))
    pixels = decode(path, SIZE).pixels
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*SIZE, 3)
    difference = np.abs(pixels.astype(int) - np.asarray(image.convert("RGB")))
    assert difference.max() <= (4 if file_format == "JPEG" else 0)


def test_the_default_size_is_240_rows_of_360_pixels(tmp_path):
    assert public_decode(written(tmp_path, "x.png", encoded(scene(0), "PNG"))).pixels.shape == (240, 360, 3)


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (10.5, 10), (10,), 10, (10, 10, 3), ("a", 10), (10**5, 10**5)])
def test_invalid_sizes_are_refused(tmp_path, size):
    path = written(tmp_path, "x.png", encoded(scene(0), "PNG"))
    with pytest.raises(ValueError, match=re.escape(f"decode: expected size=(height, width), two positive integers "
                                                   f"in pixels, got {size!r}")):  # fmt: skip
        decode(path, size)


def test_large_and_small_steps_are_averaged_not_sampled(tmp_path):
    stripes = np.zeros((96, 128), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(written(tmp_path, "x.png", encoded(Image.fromarray(stripes), "PNG")), (24, 32)).pixels
    assert np.abs(pixels[:, 2:-2].astype(int) - 127.5).max() < 8


def test_a_jpeg_is_decoded_smaller_but_never_below_the_asked_size(tmp_path, monkeypatch):
    module = importlib.import_module("framecnn.data.decode")  # the package's attribute of that name is the function
    sizes = []
    plain = module.plain_image
    monkeypatch.setattr(module, "plain_image", lambda image: sizes.append(image.size) or plain(image))
    path = written(tmp_path, "x.jpg", encoded(scene(3, 480, 640), "JPEG", quality=95))
    for asked in ((48, 64), (120, 160), (121, 160), (300, 400), (500, 700)):
        pixels = decode(path, asked).pixels
        whole = np.asarray(scene(3, 480, 640).resize(asked[::-1], Image.Resampling.BILINEAR))
        assert np.abs(pixels.astype(int) - whole).mean() < 2
    assert sizes == [(80, 60), (160, 120), (320, 240), (640, 480), (640, 480)]


def test_a_file_without_bytes_is_empty(tmp_path):
    assert reason_of(written(tmp_path, "x.jpg", b"")) == "empty"


@pytest.mark.parametrize(
    "data",
    [
        b"no picture\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='9' height='9'/></svg>",
        b"<!DOCTYPE html><html><img src='x.jpg'></html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\nshowpage\n%%EOF\n",
        b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n",
        b"\x00" * 4096,
    ],
)
def test_a_file_named_jpg_without_a_picture_is_not_an_image(tmp_path, data):
    assert reason_of(written(tmp_path, "x.jpg", data)) == "not-an-image"


@pytest.mark.parametrize(
    ("name", "file_format", "notes"),
    [
        ("x.jpg", "PNG", ("extension-mismatch",)),
        ("x.png", "JPEG", ("extension-mismatch",)),
        ("picture", "JPEG", ("extension-mismatch",)),
        ("x.JPEG", "JPEG", ()),
        ("x.TIF", "TIFF", ()),
    ],
)
def test_a_picture_under_the_name_of_another_format_is_used_and_noted(tmp_path, name, file_format, notes):
    assert decode(written(tmp_path, name, encoded(scene(0), file_format)), SIZE).notes == notes


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_truncated(tmp_path, progressive):
    data = encoded(scene(0), "JPEG", progressive=progressive)
    cuts = [*range(3, 700, 13), len(data) // 2, len(data) - 20, len(data) - 1]
    assert {reason_of(written(tmp_path, "x.jpg", data[:cut])) for cut in cuts} == {"truncated"}


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "GIF", "TIFF"])
def test_half_a_file_is_truncated(tmp_path, file_format):
    data = encoded(scene(0).convert("L"), file_format)
    assert reason_of(written(tmp_path, "x", data[: len(data) // 2])) == "truncated"


BOMBS = {
    "square.png": png_claiming(50_000, 50_000),
    "line.png": png_claiming(1_000_000_000, 1),
    "large.png": png_claiming(10_000, 10_000),
    "square.jpg": jpeg_claiming(50_000, 50_000),
    "large.jpg": jpeg_claiming(10_000, 10_000),
    "square.bmp": bmp_claiming(50_000, 50_000),
    "square.gif": gif_claiming(50_000, 50_000),
    "square.tif": tiff(50_000, 50_000, bytes(64)),
    "large.webp": webp_claiming(10_000, 10_000),
    "square.webp": webp_claiming(16_383, 16_383),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_that_claims_too_many_pixels_is_too_large(tmp_path, name):
    assert reason_of(written(tmp_path, name, BOMBS[name])) == "too-large"


def test_the_limit_is_64_megapixels(tmp_path):
    assert MAX_PIXELS == 64_000_000
    assert reason_of(written(tmp_path, "over.png", png_claiming(8_000, 8_001))) == "too-large"
    assert reason_of(written(tmp_path, "at.png", png_claiming(8_000, 8_000))) != "too-large"


def test_a_file_of_more_bytes_than_any_allowed_picture_is_not_read(tmp_path):
    path = written(tmp_path, "x.webp", b"RIFF\xff\xff\xff\xffWEBPVP8X")
    os.truncate(path, 8 * MAX_PIXELS + 16_000_001)
    assert reason_of(path) == "too-large"


SPARSE = {
    "well formed.tif": (tiff(50_000, 50_000, b"", n_bytes=500_000_000), 500_000_000),
    "big end.tif": (encoded(scene(0), "TIFF"), 400_000_000),
    "big.tif": (encoded(scene(0), "TIFF", big_tiff=True), 400_000_000),
    "one chunk.png": (encoded(scene(0), "PNG")[:33] + struct.pack(">I4s", 399_999_000, b"abCd"), 400_000_000),
    "lossy.webp": (encoded(scene(0), "WEBP"), 400_000_000),
    "lossless.webp": (encoded(scene(0), "WEBP", lossless=True), 400_000_000),
    "alpha.webp": (encoded(Image.new("RGBA", (64, 48)), "WEBP"), 400_000_000),
    "large.webp": (webp_claiming(10_000, 10_000), 400_000_000),
    "odd.webp": (b"RIFF\xf8\x83\xd7\x17WEBPJUNK", 400_000_000),
    "header cut.tif": (b"II*\0\xff\xff\xff\xff", 400_000_000),
    "no tags.tif": (b"MM\0*\0\0\0\x08", 400_000_000),
}
OTHERWISE = {"odd.webp": "decoder-error", "header cut.tif": "truncated", "no tags.tif": "decoder-error"}


def test_decompression_bombs_take_no_memory(tmp_path):
    written(tmp_path, "a.png", encoded(scene(0), "PNG"))
    for name, data in BOMBS.items():
        written(tmp_path, f"bomb {name}", data)
    for name, (data, n_bytes) in SPARSE.items():
        os.truncate(written(tmp_path, name, data), n_bytes)
    expected = {f"bomb {name}": "too-large" for name in BOMBS} | dict.fromkeys(SPARSE, "too-large") | OTHERWISE
    program = (
        "import json, resource, sys\n"
        "from framecnn.data.decode import SkippedFrame, decode\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "decode('a.png')\n"
        "before = peak()\n"
        "for name, reason in json.loads(sys.argv[1]).items():\n"
        "    try: decode(name)\n"
        "    except SkippedFrame as skipped: assert skipped.reason == reason, (name, skipped)\n"
        "    else: raise AssertionError(name)\n"
        "    assert peak() - before < 10 * 1024, (name, peak() - before)\n"
    )
    command = [sys.executable, "-c", program, json.dumps(expected)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP"])
def test_a_large_file_of_a_large_picture_is_read(tmp_path, monkeypatch, file_format):
    monkeypatch.setattr(importlib.import_module("framecnn.data.decode"), "_SMALL_FILE", 100)
    path = written(tmp_path, "x", encoded(scene(0), file_format))
    assert path.stat().st_size > 100
    assert decode(path, SIZE).pixels.shape == (*SIZE, 3)
    path = written(tmp_path, "x", encoded(scene(0), file_format) + bytes(64 * 48 * 8))
    assert reason_of(path) == "too-large"


@pytest.mark.parametrize("byte_order", "<>")
def test_sizes_that_tiffs_claim_are_read_in_either_byte_order_and_width_of_numbers(byte_order):
    mark = {"<": b"II", ">": b"MM"}[byte_order]
    for kind, number, size in ((3, "H", (64, 48)), (4, "I", (70_000, 48))):
        tags = b"".join(
            struct.pack(f"{byte_order}HHI", tag, kind, 1) + struct.pack(byte_order + number, side).ljust(4, b"\0")
            for tag, side in zip((256, 257), size, strict=True)
        )
        header = mark + struct.pack(f"{byte_order}HIH", 42, 8, 2)
        assert claimed_size(io.BytesIO(header + tags)) == size
        with pytest.raises(ValueError, match="headers: expected a TIFF picture with width and height, got one without"):
            claimed_size(io.BytesIO(header + tags[:12]))
    with pytest.raises(EOFError, match="the header is truncated"):
        claimed_size(io.BytesIO(mark + struct.pack(f"{byte_order}HI", 42, 8)))
    with pytest.raises(ValueError, match="headers: expected a WebP picture, got a chunk b'JUNK'"):
        claimed_size(io.BytesIO(b"RIFF....WEBPJUNK"))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 500), (500, 1), (7, 8), (8, 7)])
def test_fewer_than_eight_rows_or_columns_are_too_small(tmp_path, width, height):
    assert reason_of(written(tmp_path, "x.png", encoded(Image.new("L", (width, height)), "PNG"))) == "too-small"


def test_eight_rows_and_columns_are_enough(tmp_path):
    path = written(tmp_path, "x.png", encoded(Image.new("RGB", (8, 8), (1, 2, 3)), "PNG"))
    assert (decode(path, (4, 4)).pixels == (1, 2, 3)).all()


@pytest.mark.parametrize("error", [SyntaxError, ValueError, struct.error, OSError, RecursionError, KeyError])
def test_any_exception_of_a_decoder_skips_the_file(tmp_path, monkeypatch, error):
    def load(image):
        raise error("at\nodds")

    monkeypatch.setattr(JpegImageFile, "load", load)
    assert reason_of(written(tmp_path, "x.jpg", encoded(scene(0), "JPEG"))) == "decoder-error"


def test_only_regular_files_are_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # the path of a socket is at most 107 bytes long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.jpg")
    for name in ("pipe.jpg", "folder.jpg", "device.jpg", "socket.jpg"):
        assert reason_of(tmp_path / name) == "not-a-file"


def test_a_pipe_put_in_place_of_a_file_at_the_last_moment_does_not_block(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.jpg")
    file = os.stat(written(tmp_path, "x.jpg", b"x"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path: file)
        reason = reason_of(tmp_path / "pipe.jpg")
    assert reason == "not-a-file"


def test_broken_links_and_unreadable_files_are_skipped(tmp_path, monkeypatch):
    (tmp_path / "dangling.jpg").symlink_to("nothing")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert reason_of(tmp_path / "none.jpg") == "vanished"
    assert reason_of(tmp_path / "dangling.jpg") == "vanished"
    assert reason_of(tmp_path / "loop.jpg") == "unreadable"
    assert reason_of(tmp_path / ("n" * 300)) == "unreadable"
    assert reason_of("nul\0.jpg") == "unreadable"

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, "x.jpg", b"x")
    monkeypatch.setattr(os, "open", forbidden)
    assert reason_of(path) == "unreadable"


def test_reasons_describe_every_file_to_which_they_apply():
    assert set(REASONS) == set(get_args(Reason))
    assert REASONS["unreadable"] == "the system could not read it"  # also a link loop or too long a name
    assert REASONS["too-large"] == "too many pixels or bytes"


def test_a_file_that_is_not_the_one_that_was_scanned_has_changed(tmp_path):
    path = written(tmp_path, "x.png", encoded(scene(0), "PNG"))
    decoded, state = decode_with_state(path, SIZE)
    assert (decode_with_state(path, SIZE, state)[0].pixels == decoded.pixels).all()
    os.utime(path, ns=(0, 0))
    with pytest.raises(SkippedFrame, match="changed: the file is not the one that was scanned"):
        decode_with_state(path, SIZE, state)


def test_a_file_that_changes_while_it_is_read_has_changed(tmp_path, monkeypatch):
    path = written(tmp_path, "x.jpg", encoded(scene(0), "JPEG"))

    def load(image, original=JpegImageFile.load):
        path.write_bytes(b"")
        return original(image)

    monkeypatch.setattr(JpegImageFile, "load", load)
    assert reason_of(path) == "changed"


def test_warnings_of_pillow_are_dropped_and_warning_filters_are_restored(tmp_path):
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\0\0\0\x26\0\0\0"  # says 255 bytes, gives none
    path = written(tmp_path, "x.jpg", encoded(scene(0), "JPEG", exif=exif))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Image.open(path).getexif().get(0x0112)
    assert seen, "this file makes Pillow warn"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = list(warnings.filters)
        threads = [threading.Thread(target=decode, args=(path, SIZE)) for _ in range(8)]
        for thread in threads:
            thread.start()
        pixels = decode(path, SIZE).pixels
        for thread in threads:
            thread.join()
        assert list(warnings.filters) == before
    assert pixels.shape == (*SIZE, 3)
    assert BACKGROUND == (128, 128, 128)
