"""The decoded colours of a file are those that a viewer shows."""

import struct

import numpy as np
import pytest
from pictures import encoded, scene, tiff
from PIL import Image

from framecnn.data.decode import BACKGROUND, SkippedFrame, decode

SIZE = (48, 64)


def pixels_of(tmp_path, data, size=SIZE, name="x"):
    path = tmp_path / name
    path.write_bytes(data)
    return decode(path, size).pixels.astype(int)


def ramp(low, high, dtype):
    return np.linspace(low, high, SIZE[0] * SIZE[1]).astype(dtype).reshape(SIZE)


def test_cmyk_jpeg_is_rgb(tmp_path):
    inks = np.zeros((*SIZE, 4), np.uint8)
    inks[:, :16, 0] = inks[:, 16:32, 1] = inks[:, 32:48, 2] = inks[:, 48:, 3] = 255
    pixels = pixels_of(tmp_path, encoded(Image.fromarray(inks, "CMYK"), "JPEG", quality=100, subsampling=0))
    for column, colour in ((8, (0, 255, 255)), (24, (255, 0, 255)), (40, (255, 255, 0)), (56, (0, 0, 0))):
        assert np.abs(pixels[24, column] - colour).max() <= 3


def test_palette_pictures_have_the_colours_of_their_palette(tmp_path):
    image = scene(2).convert("P", palette=Image.Palette.ADAPTIVE, colors=7)
    for file_format in ("PNG", "GIF", "BMP", "TIFF"):
        assert (pixels_of(tmp_path, encoded(image, file_format)) == np.asarray(image.convert("RGB"))).all()


def test_a_palette_picture_is_resized_by_colour_not_by_palette_number(tmp_path):
    image = Image.new("P", (64, 48))
    image.putpalette([0, 0, 0, 255, 0, 0, 200, 200, 200])
    image.paste(2, (32, 0, 64, 48))
    pixels = pixels_of(tmp_path, encoded(image, "PNG"), (12, 16))
    assert (pixels[..., 0] == pixels[..., 1]).all(), "no red, though red lies between black and grey in the palette"


def test_one_bit_pictures_are_black_and_white_and_grey_when_smaller(tmp_path):
    checks = np.indices(SIZE).sum(axis=0) % 2 * 255
    image = Image.fromarray(checks.astype(np.uint8)).convert("1", dither=Image.Dither.NONE)
    assert (pixels_of(tmp_path, encoded(image, "PNG"))[..., 0] == checks).all()
    assert np.abs(pixels_of(tmp_path, encoded(image, "PNG"), (12, 16)) - 127.5).max() < 2


@pytest.mark.parametrize(("opacity", "seen"), [(255, 40), (0, 128), (128, round(128 + (40 - 128) * 128 / 255))])
def test_grey_with_alpha_has_a_mid_grey_background(tmp_path, opacity, seen):
    pixels = pixels_of(tmp_path, encoded(Image.new("LA", (64, 48), (40, opacity)), "PNG"))
    assert np.abs(pixels - seen).max() <= 1


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_the_colour_of_invisible_pixels_does_not_show(tmp_path, file_format):
    image = Image.new("RGBA", (64, 48), (255, 0, 0, 0))
    image.paste((10, 20, 30, 255), (32, 0, 64, 48))
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    data = encoded(image, file_format, **options)
    pixels = pixels_of(tmp_path, data)
    assert (pixels[:, :32] == BACKGROUND).all()
    assert (pixels[:, 32:] == (10, 20, 30)).all()
    smaller = pixels_of(tmp_path, data, (13, 17))
    assert smaller[..., 0].max() <= 128, "red does not bleed into the seam"


def bmp_with_alpha(alpha):
    """Return a BMP of 32 bits per pixel that says where its opacity lies."""
    pixels = np.dstack([np.asarray(scene(6))[..., ::-1], np.full(SIZE, alpha)]).astype(np.uint8)[::-1].tobytes()
    header = struct.pack("<IiiHHIIiiII", 108, SIZE[1], SIZE[0], 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(pixels), 0, 0, 14 + len(header)) + header + pixels


def test_a_bmp_without_any_opacity_is_opaque_as_viewers_show_it(tmp_path):
    colours = np.asarray(scene(6)).astype(int)
    assert (pixels_of(tmp_path, bmp_with_alpha(0)) == colours).all()
    assert (pixels_of(tmp_path, bmp_with_alpha(255)) == colours).all()
    assert np.abs(pixels_of(tmp_path, bmp_with_alpha(128)) - (colours + 128) / 2).max() <= 1
    some = np.zeros(SIZE)
    some[0, 0] = 255
    pixels = pixels_of(tmp_path, bmp_with_alpha(some))
    assert (pixels[0, 0] == colours[0, 0]).all()
    assert (pixels[1:] == BACKGROUND).all()


def test_a_transparent_palette_colour_and_a_transparent_grey_show_the_background(tmp_path):
    palette = Image.new("P", (64, 48), 1)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    assert (pixels_of(tmp_path, encoded(palette, "GIF", transparency=1)) == BACKGROUND).all()
    assert (pixels_of(tmp_path, encoded(Image.new("L", (64, 48), 7), "PNG", transparency=7)) == BACKGROUND).all()
    deep = Image.fromarray(ramp(0, 65535, np.uint16))
    pixels = pixels_of(tmp_path, encoded(deep, "PNG", transparency=65535))
    assert tuple(pixels[-1, -1]) == BACKGROUND
    assert tuple(pixels[0, 0]) == (0, 0, 0)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_from_the_full_range_of_16_bits(tmp_path, file_format):
    values = ramp(0, 65535, np.uint16)
    pixels = pixels_of(tmp_path, encoded(Image.fromarray(values), file_format))
    assert (pixels[..., 0] == np.rint(values / 257)).all()
    dark = pixels_of(tmp_path, encoded(Image.fromarray(values // 4), file_format))
    assert dark.max() == 64, "a dark picture stays dark"


def test_16_bit_tiff_that_counts_from_white_is_not_a_negative(tmp_path):
    values = ramp(0, 65535, "<u2")
    pixels = pixels_of(tmp_path, tiff(64, 48, values.tobytes(), bits=16, photometric=0))
    assert (pixels[..., 0] == 255 - np.rint(values / 257)).all()


def test_12_bit_tiff_is_scaled_from_the_full_range_of_12_bits(tmp_path):
    pixels = pixels_of(tmp_path, tiff(64, 48, b"\xff" * (64 * 48 * 12 // 8), bits=12))
    assert (pixels == 255).all()


def test_float_tiff_within_0_and_1_is_scaled_from_there(tmp_path):
    values = ramp(0.25, 0.75, np.float32)
    pixels = pixels_of(tmp_path, encoded(Image.fromarray(values), "TIFF"))
    assert (pixels[..., 1] == np.rint(values * 255)).all()


def test_float_tiff_beyond_0_and_1_is_scaled_from_its_smallest_to_its_largest_value(tmp_path):
    values = ramp(-300, 700, np.float32)
    values[0, :3] = (np.nan, -np.inf, np.inf)
    pixels = pixels_of(tmp_path, encoded(Image.fromarray(values), "TIFF"))[..., 2]
    low, high = values[0, 3], values[-1, -1]
    assert (pixels[0, :3] == (0, 0, 255)).all()
    assert np.abs(pixels[1:] - (values[1:] - low) * (255 / (high - low))).max() <= 0.51
    assert (pixels_of(tmp_path, encoded(Image.fromarray(np.full(SIZE, 7, np.float32)), "TIFF")) == 0).all()


def test_float_tiff_may_span_all_that_floats_can_hold(tmp_path):
    values = ramp(-3e38, 3e38, np.float32)
    pixels = pixels_of(tmp_path, encoded(Image.fromarray(values), "TIFF"))
    assert (pixels[..., 0] == np.rint(np.linspace(0, 255, values.size)).reshape(SIZE)).mean() > 0.99
    assert np.abs(pixels[..., 0] - np.linspace(0, 255, values.size).reshape(SIZE)).max() <= 0.51


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(ramp(0, 9, np.int32)), "TIFF"),
        encoded(Image.fromarray(np.full(SIZE, np.nan, np.float32)), "TIFF"),
        encoded(Image.new("LAB", (64, 48)), "TIFF"),
        tiff(64, 48, bytes(64 * 48 * 8), bits=64, sample_format=3),
    ],
    ids=["32-bit integers", "not one number", "Lab", "64-bit floats"],
)
def test_other_depths_are_skipped_not_clipped(tmp_path, data):
    with pytest.raises(SkippedFrame) as skipped:
        pixels_of(tmp_path, data)
    assert skipped.value.reason == "unsupported-depth"


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_several_pictures_the_first_is_used_and_noted(tmp_path, file_format):
    first, second = Image.new("RGB", (64, 48), (0, 0, 255)), Image.new("RGB", (64, 48), (255, 0, 0))
    options = {"lossless": True} if file_format == "WEBP" else {}
    data = encoded(first, file_format, save_all=True, append_images=[second], **options)
    path = tmp_path / f"x.{file_format.lower()}"
    path.write_bytes(data)
    decoded = decode(path, SIZE)
    assert decoded.notes == ("animated",)
    assert (decoded.pixels == (0, 0, 255)).all()
    path.write_bytes(encoded(first, file_format, **options))
    assert decode(path, SIZE).notes == ()


def test_an_animation_that_breaks_after_its_first_picture_is_used(tmp_path):
    pictures = [scene(seed).convert("P", palette=Image.Palette.ADAPTIVE) for seed in (0, 1)]
    data = encoded(pictures[0], "GIF", save_all=True, append_images=pictures[1:])
    whole = pixels_of(tmp_path, data)
    alone = len(encoded(pictures[0], "GIF"))
    for cut in range(alone + 25, len(data), 100):
        assert (pixels_of(tmp_path, data[:cut]) == whole).all()


STORED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, 3),
    99: lambda upright: upright,
}


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pictures_come_upright(tmp_path, file_format, orientation):
    upright = np.asarray(scene(5))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(file_format, {})
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    pixels = pixels_of(tmp_path, encoded(stored, file_format, exif=exif, **options))
    assert np.abs(pixels - upright).max() <= (4 if file_format == "JPEG" else 0)


def test_a_large_jpeg_on_its_side_is_decoded_at_the_size_it_has_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = scene(5, 480, 640)
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    pixels = pixels_of(tmp_path, encoded(stored, "JPEG", quality=95, exif=exif))
    assert np.abs(pixels - np.asarray(upright.resize((64, 48), Image.Resampling.BILINEAR))).mean() < 2


@pytest.mark.parametrize(
    "exif",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0nonsense" * 20,
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12\0\x03\0\0\0\x01\0\x06",
        b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\0\0\0\x26\0\0\0",
    ],
)
def test_broken_exif_never_stops_a_frame(tmp_path, exif):
    for file_format in ("JPEG", "PNG", "WEBP"):
        plain = pixels_of(tmp_path, encoded(scene(0), file_format))
        assert (pixels_of(tmp_path, encoded(scene(0), file_format, exif=exif)) == plain).all()
