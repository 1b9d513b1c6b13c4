"""Rows of the table of bad inputs about files that no other file states; each fails without its guard."""

import csv
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from commands import fingerprint, framecnn, quick, refused, train_quickly, write_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from movies import shots, write_movie
from pictures import encoded, film_folder, scene
from PIL import Image
from refusals import little_memory, refusal

from framecnn import (
    ConvLayer,
    DenseLayer,
    InputLayer,
    Sequential,
    ShapeError,
    load,
    save,
)
from framecnn.cli import compare
from framecnn.data import FrameFolder, decode
from framecnn.errors import MachineError

SIZE = (48, 64)

LISTENING = """
import sys
heard = []

@sys.addaudithook
def listen(event, arguments):
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty"):
        heard.append(event)

from framecnn.data import SkippedFrame, decode
for path in sys.argv[1:]:
    try:
        decode(path)
    except SkippedFrame as skipped:
        print(skipped.reason)
assert heard == [], heard
import subprocess
subprocess.run(["true"])
print(heard)
"""


def test_no_file_that_is_called_a_picture_starts_another_process(tmp_path):
    (tmp_path / "gs").write_text("#!/bin/sh\nexit 0\n")  # what Pillow looks for to draw an EPS
    (tmp_path / "gs").chmod(0o755)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n%%EOF\n"
    contents = {
        "eps.jpg": eps,
        "x.eps": eps,
        "mac.eps": b"\xc5\xd0\xd3\xc6" + (32).to_bytes(4, "little") + len(eps).to_bytes(4, "little") + bytes(20) + eps,
        "pdf.jpg": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\ntrailer\n<<>>\n%%EOF\n",
        "svg.jpg": b"<svg xmlns='http://www.w3.org/2000/svg'><rect width='64' height='48'/></svg>",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    environment = os.environ | {"PATH": os.pathsep.join([str(tmp_path), os.environ["PATH"]])}
    command = [sys.executable, "-c", LISTENING, *contents]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    *reasons, heard = run.stdout.splitlines()
    assert reasons == ["not-an-image"] * len(contents)
    assert "subprocess.Popen" in heard, "the watch hears a process that is started"


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_palette_picture_is_averaged_when_it_shrinks_as_its_colours_are(tmp_path, file_format):
    image = scene(2).convert("P", palette=Image.Palette.ADAPTIVE, colors=7)
    for name, data in (("palette", encoded(image, file_format)), ("rgb", encoded(image.convert("RGB"), "PNG"))):
        (tmp_path / name).write_bytes(data)
    pixels = decode(tmp_path / "palette", (6, 8)).pixels
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 7
    assert (pixels == decode(tmp_path / "rgb", (6, 8)).pixels).all()


def test_a_ycck_jpeg_is_rgb(tmp_path):
    """YCCK is YCbCr of the inks cyan, magenta, yellow. Pillow writes none: its CMYK is marked as YCCK afterwards."""
    colour = np.full((*SIZE, 3), (200, 90, 30), np.uint8)
    light = np.asarray(Image.fromarray(255 - colour).convert("YCbCr"))
    stored = np.concatenate([light, np.full((*SIZE, 1), 255, np.uint8)], axis=2)
    data = bytearray(encoded(Image.fromarray(255 - stored, "CMYK"), "JPEG", quality=100, subsampling=0))
    transform = data.index(b"Adobe") + 11
    assert data[transform] == 0
    data[transform] = 2
    (tmp_path / "x.jpg").write_bytes(data)
    assert np.abs(decode(tmp_path / "x.jpg", SIZE).pixels.astype(int) - colour).max() <= 4


CONTENTS = {
    "good.png": encoded(scene(3), "PNG"),
    "empty.jpg": b"",
    "text.jpg": b"no picture",
    "cut.jpg": encoded(scene(4), "JPEG")[:300],
    "small.png": encoded(Image.new("L", (4, 4)), "PNG"),
    ".hidden.png": encoded(scene(5), "PNG"),
    "Thumbs.db": b"of Windows",
    "notes.txt": b"no picture either",
}
LINKS = {"out.png": "/dev/zero", "nowhere.png": "nothing", "round.png": "round.png"}


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "a/below"]), st.sampled_from([*CONTENTS, *LINKS, "pipe.jpg"])),
        max_size=12,
        unique=True,
    )
)
@settings(max_examples=30, deadline=None)
def test_every_file_is_used_or_skipped_for_a_reason_and_listed_once(tmp_path_factory, files):
    where = tmp_path_factory.mktemp("accounted")
    root = film_folder(where / "films", {"a": 1, "b": 1, "a/below": 0})
    for folder, name in files:
        path = root / folder / name
        if name in CONTENTS:
            path.write_bytes(CONTENTS[name])
        elif name in LINKS:
            path.symlink_to(LINKS[name])
        else:
            os.mkfifo(path)
    found = sorted(
        path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_symlink() or not path.is_dir()
    )
    frames = FrameFolder(root, size=SIZE)
    assert sorted([path for path, _ in frames.samples] + [skip.path for skip in frames.skipped]) == found
    assert frames.found == len(found)
    assert all(skip.reason and skip.detail for skip in frames.skipped)
    frames.write_manifest(where / "manifest.csv")
    with open(where / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == found
    assert all((row["status"] == "used") != bool(row["reason"]) for row in rows)


def test_too_many_bad_files_stop_an_evaluation_and_a_comparison_too(tmp_path, monkeypatch):
    root = train_quickly(tmp_path)
    for path in sorted((root / "films").rglob("*.jpg"))[::12]:
        path.write_bytes(b"")

    def begun(size):
        raise AssertionError("the comparison goes on")

    monkeypatch.setattr(compare, "compile_kernels", begun)
    for command in (("evaluate", root / "model.safetensors"), ("compare",)):
        ended = framecnn(*command, root / "films")
        assert ended.code == 2
        assert "error: films: expected at most 5 % of the files to be unusable, got 8.3 % (3 empty); " in ended.err
    assert framecnn("evaluate", root / "model.safetensors", root / "films", "--max-bad", "9").code == 0


def test_a_header_of_more_than_16_megabytes_is_not_read_however_large_the_file(tmp_path):
    path = tmp_path / "m"
    path.write_bytes((20 * 2**20).to_bytes(8, "little"))
    os.truncate(path, 40 * 2**20)
    with little_memory():
        assert "got 41943040 bytes without a" in refusal(path)


@pytest.mark.parametrize(
    "layers",
    [
        [InputLayer((2**15, 2**14, 1))],
        [InputLayer((8, 8, 3)), ConvLayer(1, kernel_size=1, strides=(10**7, 1), padding=((2 * 10**7, 0), (0, 0)))],
    ],
    ids=["a large map", "a large border"],
)
def test_a_network_that_could_not_be_loaded_is_not_saved(tmp_path, layers):
    with pytest.raises(ShapeError, match="expected at most 268,435,456 values per frame"):
        save(Sequential(layers).build(), tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_saving_a_model_removes_what_a_killed_process_left_of_the_same(tmp_path):
    path = tmp_path / "m"
    program = "from framecnn.storage.atomic import Path, temporary_path; temporary_path(Path('m')).touch()"
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    assert [left.name.startswith(".framecnn-") for left in tmp_path.iterdir()] == [True]
    save(Sequential([InputLayer((3,)), DenseLayer(2)]).build(), path)
    assert list(tmp_path.iterdir()) == [path]


def test_no_command_writes_over_a_file_that_framecnn_did_not_write(tmp_path):
    root = train_quickly(tmp_path)
    films, model, notes = root / "films", root / "model.safetensors", root / "notes.txt"
    notes.write_text("mine")
    before = fingerprint(root)
    for command in (
        ("evaluate", model, films, "--json", notes),
        ("evaluate", model, films, "--json", model),
        ("scan", films, "--manifest", notes),
        ("scan", films, "--manifest", model),
        ("train", films, "--out", root / "other.safetensors", "--json", notes),
        ("compare", films, "--json", notes),
        ("compare", films, "--report", notes),
    ):
        own = "the command reads this file" if command[1] == command[-1] else "was not written by this command"
        assert own in refused(*command)
    assert fingerprint(root) == before


KILLED_AFTER_THE_FIRST_RENAME = """
import os, sys
from pathlib import Path
from framecnn.storage.output_set import write_together

paths, replace, left = list(map(Path, sys.argv[1:])), os.replace, 2

def dying(*both):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    replace(*both)

with write_together(paths[0]) as stage:
    for path in paths[::-1]:
        stage(path).write_text("new")
    os.replace = dying  # the first is that of the journal
"""


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("train", {"--out": "m.safetensors", "--report": "r.html", "--json": "f.json"}),
        ("compare", {"--json": "f.json", "--report": "r.html"}),
    ],
)
def test_the_next_run_first_finishes_the_files_of_a_killed_one_even_if_it_fails_itself(tmp_path, command, options):
    films, out = tmp_path / "films", tmp_path / "out"
    films.mkdir()
    out.mkdir()
    paths = [out / name for name in options.values()]
    for path in paths:
        path.write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED_AFTER_THE_FIRST_RENAME, *paths], check=False)
    assert killed.returncode == 9
    assert sorted(path.read_text() for path in paths) == ["new", *["old"] * (len(paths) - 1)]
    arguments = [word for option, path in zip(options, paths, strict=True) for word in (option, path)]
    assert framecnn(command, films, *arguments).code == 2
    assert {path: path.read_text() for path in out.iterdir()} == dict.fromkeys(paths, "new")


def test_a_model_for_which_there_is_no_memory_is_not_called_damaged(tmp_path, monkeypatch):
    save(Sequential([InputLayer((3,)), DenseLayer(2)]).build(), tmp_path / "m")

    def exhausted(*arguments):
        raise MemoryError

    monkeypatch.setattr(np, "empty", exhausted)
    with pytest.raises(MachineError, match=r"^m: expected memory for the model, got none"):
        load(tmp_path / "m")


@pytest.fixture
def disk(tmp_path):
    """Yield a new disk, and a function that makes it read-only."""
    where = tmp_path / "disk"
    where.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", where]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to be allowed to mount a disk")
    yield where, lambda: subprocess.run(["mount", "-o", "remount,ro", where], check=True)
    subprocess.run(["umount", where], check=True)


def test_frames_movies_and_models_may_lie_on_a_disk_that_is_read_only(disk, tmp_path, monkeypatch):
    quick(monkeypatch)
    where, close = disk
    films, movie = write_frames(where / "films"), write_movie(where / "m.mp4", shots(24, 24))
    (films / "across" / "empty.jpg").touch()
    first = ("train", films, "-o", tmp_path / "first.safetensors", "--size", "24x32")
    assert framecnn(*first).code == 0
    model = where / "model.safetensors"
    shutil.copy(tmp_path / "first.safetensors", model)
    close()
    with pytest.raises(OSError, match="Read-only"):
        (films / "x").touch()
    before = fingerprint(where)
    for command in (
        ("scan", films, "--manifest", tmp_path / "scanned.csv"),
        ("train", films, "-o", tmp_path / "second.safetensors", "--size", "24x32"),
        ("evaluate", model, films, "--json", tmp_path / "figures.json"),
        ("predict", model, films),
        ("summary", model),
        ("frames", movie, "-o", tmp_path / "frames"),
    ):
        ended = framecnn(*command)
        assert ended.code == 0, ended.err
    assert fingerprint(where) == before
    assert (tmp_path / "second.safetensors").read_bytes() == model.read_bytes()
