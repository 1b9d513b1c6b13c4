"""Files made by others to break decoders: each is used or skipped, without any output."""

import shutil
import struct
import subprocess
import sys
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pictures import encoded, film_folder, scene, tiff
from PIL import Image

from framecnn import num_threads
from framecnn.data import FrameFolder, SkippedFrame, decode

SIZE = (24, 32)
REASONS = {"empty", "not-an-image", "truncated", "too-large", "too-small", "unsupported-depth", "decoder-error"}

started: list[str] | None = None


@sys.addaudithook
def watch(event, arguments):
    if started is not None and event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        started.append(event)


@pytest.fixture
def processes():
    """Return the audit events of the test that start a process."""
    global started
    started = []
    yield started
    started = None


@pytest.fixture(scope="module")
def hostile_folder(shared_data, tmp_path_factory):
    """Return good frames of two classes, one of them mixed with every hostile image."""
    root = film_folder(tmp_path_factory.mktemp("mixed"), {"good": 5, "mixed": 5})
    shutil.copytree(shared_data / "images_hostile", root / "mixed" / "hostile")
    return root


def outcomes(folder):
    return folder.samples, folder.notes, [(skip.path, skip.reason) for skip in folder.skipped], folder.groups.tolist()


def test_hostile_images_in_a_folder_are_used_or_skipped_without_output(hostile_folder, capfd, processes):
    files = [path for path in hostile_folder.rglob("*") if path.is_file()]
    hidden = [path for path in files if path.name.startswith(".")]
    found = {}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for threads in (1, 2, 8):
            with num_threads(threads):
                found[threads] = FrameFolder(hostile_folder, size=SIZE)
    assert seen == []
    assert capfd.readouterr() == ("", "")
    assert processes == []
    folder = found[1]
    assert outcomes(folder) == outcomes(found[2]) == outcomes(found[8])
    assert folder.found == len(files) > 700
    reasons = Counter(skip.reason for skip in folder.skipped)
    assert reasons["hidden"] == len(hidden)
    assert set(reasons) <= REASONS | {"hidden", "not-a-picture"}
    assert len(folder) > 400
    assert sum(path.startswith(("good/", "mixed/0")) for path, _ in folder.samples) == 10
    assert np.asarray(folder.frames).shape == (len(folder), *SIZE, 3)


def test_pictures_agree_with_the_references_of_their_authors(shared_data):
    root = shared_data / "images_hostile"
    pairs = [(png, root / "pngsuite" / "bmp" / f"{png.stem}.bmp") for png in (root / "pngsuite" / "png").glob("*.png")]
    for part in ("jpeg_decoder/tests/reftest", "go_image"):
        pairs += [
            (path, path.with_suffix(".png"))
            for path in (root / part).rglob("*")
            if path.suffix in (".jpg", ".jpeg", ".bmp", ".tiff", ".webp")
        ]
    compared = Counter()
    for path, reference in pairs:
        try:
            with Image.open(reference) as image:
                size = image.size[::-1]
            found, expected = (decode(file, size).pixels.astype(int) for file in (path, reference))
        except (SkippedFrame, OSError):
            continue
        if path.stem == "tbbn0g04":  # Pillow compares 8-bit pixels with the 4-bit transparent grey
            continue
        assert np.abs(found - expected).max() <= (4 if path.suffix in (".jpg", ".jpeg") else 1), path.name
        compared[path.suffix] += 1
    assert compared[".png"] > 120
    assert compared[".jpg"] >= 10


def damaged(data, rng):
    """Return a copy with a few wrong bytes and, in one case of three, without its end."""
    copy = bytearray(data)
    for place in rng.integers(4, len(copy), 6):
        copy[place] = rng.integers(256)
    return bytes(copy[: len(copy) * 2 // 3] if rng.integers(3) == 0 else copy)


SAVED = {
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "jpeg.tif": ("TIFF", {"compression": "jpeg"}),
    "packbits.tif": ("TIFF", {"compression": "packbits"}),
    "raw.tif": ("TIFF", {}),
    "x.jpg": ("JPEG", {}),
    "progressive.jpg": ("JPEG", {"progressive": True}),
    "x.png": ("PNG", {}),
    "x.webp": ("WEBP", {}),
    "lossless.webp": ("WEBP", {"lossless": True}),
    "x.bmp": ("BMP", {}),
    "x.gif": ("GIF", {}),
}


@pytest.mark.parametrize("name", SAVED)
def test_damaged_files_neither_print_nor_warn_nor_raise_anything_but_a_skip(tmp_path, capfd, name):
    file_format, options = SAVED[name]
    exif = {} if file_format in ("BMP", "GIF") else {"exif": Image.Exif().tobytes()}
    data = encoded(scene(0), file_format, **options, **exif)
    rng = np.random.default_rng(sum(map(ord, name)))
    path = tmp_path / name
    skipped = Counter()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(60):
            path.write_bytes(damaged(data, rng))
            try:
                assert decode(path, SIZE).pixels.shape == (*SIZE, 3)
            except SkippedFrame as skip:
                skipped[skip.reason] += 1
    assert set(skipped) <= REASONS
    assert sum(skipped.values()) > 0
    assert seen == []
    assert capfd.readouterr() == ("", "")


def test_what_pillow_logs_does_not_reach_the_terminal(tmp_path):
    data = tiff(64, 48, bytes(64 * 48)).replace(
        struct.pack("<HHII", 277, 3, 1, 1), struct.pack("<HHII", 277, 3, 1, 999)
    )
    (tmp_path / "samples.tif").write_bytes(data)
    program = (
        "from framecnn.data import SkippedFrame, decode\ntry: decode('samples.tif')\nexcept SkippedFrame: print(1)"
    )
    # another process, because pytest listens to every log
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "1\n", "")


def test_the_same_file_gives_the_same_pixels_in_any_thread(tmp_path):
    paths = []
    for name, (file_format, options) in SAVED.items():
        paths.append(tmp_path / name)
        paths[-1].write_bytes(encoded(scene(0, 240, 360), file_format, **options))
    alone = [decode(path, SIZE).pixels for path in paths]
    with ThreadPoolExecutor(8) as pool:
        for path, pixels in zip(paths * 8, pool.map(lambda path: decode(path, SIZE).pixels, paths * 8), strict=True):
            assert (pixels == alone[paths.index(path)]).all()
