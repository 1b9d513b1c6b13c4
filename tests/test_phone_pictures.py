"""Pictures of phones: AVIF, and HEIC with an extra, turned upright; without the extra the reason names it."""

import builtins

import numpy as np
import pytest
from pictures import encoded, film_folder, scene
from PIL import Image, features

from framecnn.data import FrameFolder, SkippedFrame, decode
from framecnn.errors import DataError

SIZE = (24, 32)
HAS_AVIF = pytest.mark.skipif(not features.check("avif"), reason="this Pillow is built without AVIF")
ORIENTATION = 0x0112
CODEC_ERROR = 10  # grey levels, mostly of subsampled colours; a picture that is turned wrongly differs by 40 or more


@pytest.fixture
def heic():
    """Return the function that encodes a picture as HEIC; skip without pillow-heif or its encoder."""
    pillow_heif = pytest.importorskip("pillow_heif")

    def encode(image, **options):
        path = options.pop("path")
        try:
            pillow_heif.from_pillow(image).save(path, quality=95, **options)
        except (RuntimeError, ValueError) as error:
            pytest.skip(f"pillow-heif cannot write HEIC here: {error}")
        return path

    return encode


def oriented(number):
    exif = Image.Exif()
    exif[ORIENTATION] = number
    return exif.tobytes()


def difference(one, other):
    return np.abs(one.astype(int) - other.astype(int)).mean()


def quarter_turn():
    """Return a picture, and what a viewer shows of it with orientation 6: a quarter turn clockwise."""
    image = scene(3)
    return image, image.transpose(Image.Transpose.ROTATE_270)


@HAS_AVIF
def test_avif_is_decoded_and_turned_upright(tmp_path):
    image, upright = quarter_turn()
    for name, exif, expected in (("plain", None, image), ("turned", oriented(6), upright)):
        path = tmp_path / f"{name}.avif"
        path.write_bytes(encoded(image, "AVIF", quality=95, **({} if exif is None else {"exif": exif})))
        decoded = decode(path, expected.size[::-1])
        assert difference(decoded.pixels, np.asarray(expected)) < CODEC_ERROR
        assert decoded.notes == ()
    (tmp_path / "x.jpg").write_bytes((tmp_path / "plain.avif").read_bytes())
    assert decode(tmp_path / "x.jpg", SIZE).notes == ("extension-mismatch",)


def test_heic_is_decoded_and_turned_upright(tmp_path, heic):
    image, upright = quarter_turn()
    decoded = decode(heic(image, path=tmp_path / "plain.heic"), image.size[::-1])
    assert difference(decoded.pixels, np.asarray(image)) < CODEC_ERROR
    turned = decode(heic(image, path=tmp_path / "turned.HEIC", exif=oriented(6)), upright.size[::-1])
    assert difference(turned.pixels, np.asarray(upright)) < CODEC_ERROR
    assert decoded.notes == turned.notes == ()


def test_a_folder_of_phone_pictures_is_used(tmp_path, heic):
    root = film_folder(tmp_path, {"a": 1, "b": 1})
    heic(scene(7), path=root / "a" / "IMG_0001.HEIC")
    heic(scene(8), path=root / "b" / "IMG_0002.heif")
    assert [path for path, _ in FrameFolder(root, size=SIZE).samples if "IMG" in path] == [
        "a/IMG_0001.HEIC",
        "b/IMG_0002.heif",
    ]


@pytest.fixture
def without_heif(monkeypatch):
    """Hide pillow-heif."""

    def hiding(name, *arguments, original=builtins.__import__, **options):
        if name == "pillow_heif":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", hiding)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
REMEDY = "HEIC pictures: the package pillow-heif is not installed; run: pip install 'framecnn[heif]'"


def test_a_folder_of_heic_without_the_extra_names_it(tmp_path, without_heif):
    root = film_folder(tmp_path, {"a": 2, "b": 2})
    (root / "b" / "IMG_0001.HEIC").write_bytes(HEIC)
    folder = FrameFolder(root, size=SIZE)
    assert folder.scan_warnings == [
        f"pictures that another package decodes are skipped (first: 'b/IMG_0001.HEIC': {REMEDY})"
    ]
    (root / "c").mkdir()
    (root / "c" / "IMG_0002.HEIC").write_bytes(HEIC)
    with pytest.raises(DataError) as error:
        FrameFolder(root, size=SIZE)
    assert f"'c' holds no usable frame: 1 missing-decoder (first: 'c/IMG_0002.HEIC': {REMEDY})" in str(error.value)


def test_without_the_extra_the_reason_names_it(tmp_path, without_heif):
    path = tmp_path / "IMG_0001.HEIC"
    for start in (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", b"\0\0\0\x18ftyphevx"):
        path.write_bytes(start + bytes(100))
        with pytest.raises(SkippedFrame) as skipped:
            decode(path)
        assert str(skipped.value) == f"missing-decoder: {REMEDY}"


def test_a_pillow_without_avif_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    for start in (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif"):
        (tmp_path / "x.avif").write_bytes(start + bytes(100))
        with pytest.raises(
            SkippedFrame, match="missing-decoder: an AVIF picture, and this Pillow is built without AVIF"
        ):
            decode(tmp_path / "x.avif")


@HAS_AVIF
@pytest.mark.parametrize("kept", [20, 0.5, 0.9])
def test_a_truncated_avif_is_skipped(tmp_path, kept):
    data = encoded(scene(1), "AVIF")
    (tmp_path / "x.avif").write_bytes(data[: kept if kept > 1 else int(kept * len(data))])
    with pytest.raises(SkippedFrame):
        decode(tmp_path / "x.avif", SIZE)


def test_a_truncated_heic_is_skipped(tmp_path, heic):
    data = heic(scene(1), path=tmp_path / "x.heic").read_bytes()
    for kept in (20, len(data) // 2, len(data) - 9):
        (tmp_path / "x.heic").write_bytes(data[:kept])
        with pytest.raises(SkippedFrame):
            decode(tmp_path / "x.heic", SIZE)
