"""Pictures read as `to_onnx` says, without framecnn, are the frames of framecnn and get its labels."""

import inspect
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from framecnn import FrameClassifier
from framecnn.data.decode import decode
from framecnn.interop.onnx_export import PICTURES, to_onnx

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

EXAMPLE = Path(__file__).parents[1] / "examples" / "06_onnx_elsewhere.py"
SIZE = (48, 72)


@pytest.fixture(scope="module")
def read_picture():
    """The reader of the example."""
    return runpy.run_path(str(EXAMPLE))["read_picture"]


def photo(seed, width, height):
    """A picture with edges, soft shapes and grain, as a camera makes them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
    edges = np.asarray(coarse.resize((width, height), Image.Resampling.NEAREST), np.float32)
    grain = rng.normal(0, 12, (height, width, 1))
    return Image.fromarray(np.clip(0.6 * soft + 0.4 * edges + grain, 0, 255).astype(np.uint8))


def saved(folder):
    """Photos in every format and orientation that people have, from smaller than a frame to eight times as large."""
    sides = [
        (40, 32, 1),
        (160, 120, 3),
        (800, 1200, 8),
        (1920, 1080, 6),
        *((640, 480, turn) for turn in (1, 3, 6, 8, 99)),
    ]
    for number, (width, height, turn) in enumerate(sides):
        exif = Image.Exif()
        exif[0x0112] = turn
        photo(number, width, height).save(folder / f"{number}_{turn}.jpg", exif=exif)
    photo(7, 640, 480).save(folder / "photo.png")
    photo(8, 640, 480).save(folder / "photo.webp")
    photo(9, 640, 480).save(folder / "photo.gif")
    photo(10, 640, 480).convert("L").save(folder / "grey.jpg")
    photo(11, 640, 480).convert("CMYK").save(folder / "print.jpg")
    clear = photo(12, 640, 480)
    clear.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 640).astype(np.uint8), (480, 1))))
    clear.save(folder / "clear.png")
    return sorted(folder.iterdir())


def read_both(read_picture, paths):
    """Frames (n, h, w, 3) of framecnn, and those that the reader gives."""
    read = np.concatenate([read_picture(path, *SIZE) for path in paths])
    return np.stack([decode(path, SIZE).pixels for path in paths]), read.transpose(0, 2, 3, 1)


def flips(frames, read, labels):
    """How many labels of read frames differ in ONNX Runtime from those of framecnn's own."""
    classifier = FrameClassifier(n_filters=30, random_state=0).fit(frames, labels)
    session = onnxruntime.InferenceSession(to_onnx(classifier).SerializeToString())
    given = session.run(["label"], {"x": np.ascontiguousarray(read.transpose(0, 3, 1, 2))})[0]
    return int((classifier.classes_[given] != classifier.predict(frames)).sum())


def test_photos_of_every_kind_are_read_to_the_bit(read_picture, tmp_path):
    paths = saved(tmp_path)
    frames, read = read_both(read_picture, paths)
    assert [path.name for path, a, b in zip(paths, frames, read, strict=True) if (a != b).any()] == []
    assert flips(frames, read, np.arange(len(paths)) % 3) == 0


def test_no_label_of_film_frames_flips(read_picture, shared_data):
    films = [folder for folder in sorted((shared_data / "films").iterdir()) if folder.is_dir()]
    paths = [path for film in films for path in sorted(film.glob("*.jpg"))[::10][:15]]
    assert len(paths) >= 60
    assert flips(*read_both(read_picture, paths), [path.parent.name for path in paths]) == 0


def test_what_the_metadata_say_is_what_decode_does(read_picture, tmp_path):
    photo(0, 640, 480).save(tmp_path / "photo.jpg")
    frame = decode(tmp_path / "photo.jpg", SIZE).pixels.astype(int)
    with Image.open(tmp_path / "photo.jpg") as image:
        crude = np.asarray(image.resize(SIZE[::-1], Image.Resampling.NEAREST), int)
    assert np.abs(frame - crude).max() > 20, "the filter matters"


def test_the_metadata_name_the_calls_by_which_decode_reads_a_picture(monkeypatch, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(0, 640, 480).save(tmp_path / "photo.jpg", exif=exif)
    called = {}

    def record(owner, name):
        real = getattr(owner, name)

        def recorded(self, *args, **kwargs):
            called[name] = inspect.signature(real).bind(self, *args, **kwargs).arguments
            return real(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, recorded)

    record(Image.Image, "resize")
    record(JpegImageFile, "draft")
    record(Image.Image, "transpose")
    assert decode(tmp_path / "photo.jpg", SIZE).pixels.shape[2] == len(PICTURES["channels"])
    assert called["resize"]["resample"].name.lower() == PICTURES["filter"]  # whose filters Pillow antialiases
    assert called["resize"]["reducing_gap"] == PICTURES["reducing_gap"]
    assert called["draft"]["size"] == SIZE
    assert called["transpose"]["method"] == Image.Transpose.ROTATE_270
