"""Run commands of framecnn in this process, on small folders of frames."""

import csv
import hashlib
import io
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass

import pytest
from PIL import Image
from textures import textures

from framecnn.cli import main, showing
from framecnn.estimators import features


@dataclass(frozen=True)
class Ended:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


def framecnn(*arguments):
    """Return the exit code and the output of a command line."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as end:
        main([os.fspath(argument) for argument in arguments])
    texts = (stream.buffer.getvalue().decode("utf-8", "surrogateescape") for stream in (out, err))
    return Ended(end.value.code or 0, *texts)


def refused(*arguments):
    """Return the one line on standard error with which a command line must end, without other output."""
    ended = framecnn(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    return ended.err.rstrip("\n").removeprefix("error: ")


def quick(monkeypatch):
    """Make training fast, with few filters and patches; commands have no options for it."""
    monkeypatch.setattr(features, "FILTERS", 12)
    monkeypatch.setattr(features, "SMALL_FRAME_FILTERS", 12)
    monkeypatch.setattr(features, "PATCHES", 2000)


def record_opened(monkeypatch, tmp_path):
    """Return the list of the drawings that would have been opened in a viewer; they are written below `tmp_path`."""
    files = []
    monkeypatch.setattr(showing, "_has_screen", lambda: True)
    monkeypatch.setattr(showing, "_open", lambda path: not files.append(path))
    monkeypatch.setattr(showing.tempfile, "tempdir", str(tmp_path))
    return files


def new_films(tmp_path):
    """Return a new folder of frames; see :func:`write_frames`."""
    return write_frames(tmp_path / "films")


def write_frames(root, n_groups=5, names=("across", "blobs", "down"), with_groups=True):
    """Return a folder with JPEG files of three textures, one folder per class, and the table of their groups."""
    frames, labels, groups = textures(n_groups)
    rows = []
    for number, (frame, label, group) in enumerate(zip(frames, labels, groups, strict=True)):
        name = names[("across", "blobs", "down").index(label)]
        path = root / name / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(path, quality=95)
        rows.append((f"{name}/{path.name}", name, group))
    if with_groups:
        with open(root / "frames.csv", "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file).writerows([("path", "label", "group"), *rows])
    return root


def fingerprint(root):
    """Return a digest of everything in a folder: names, contents, times and permissions."""
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        state = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        facts = os.fsencode(path), state.st_mode, state.st_size, state.st_mtime_ns, state.st_ino, content
        total.update(repr(facts).encode())
    return total.hexdigest()


def train_quickly(root):
    """Write a folder of films and a model that is trained on it; return the folder of both."""
    films = write_frames(root / "films", n_groups=6)
    with pytest.MonkeyPatch.context() as monkeypatch:
        quick(monkeypatch)
        assert framecnn("train", films, "-o", root / "model.safetensors", "--size", "24x32").code == 0
    return root
