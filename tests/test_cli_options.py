"""Arguments and options: wrong ones are refused in one line, before work starts."""

import os

import pytest
import typer
from commands import fingerprint, refused, write_frames

from framecnn.cli.options import frame_size


@pytest.fixture
def films(tmp_path):
    return write_frames(tmp_path / "films")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "Invalid value for 'FOLDER': expected a folder of frames, got 'gone', which does not exist"),
        (["films/frames.csv"], "expected a folder of frames, got 'films/frames.csv', which is not a folder"),
        (["films", "--out", "films/m.safetensors"], "films/m.safetensors: expected a file outside "),
        (["films", "--out", "link/m.safetensors"], "link/m.safetensors: expected a file outside "),
        (["films", "--json", "films/across/f.json"], "films/across/f.json: expected a file outside "),
        (["films", "--out", "pipe/new/m.safetensors"], "pipe' is none; choose another"),
        (["films", "--out", "out"], "out: expected a file to write, got a folder or a device; name a file"),
        (["films", "--out", "."], ".: expected a file to write, got a folder or a device; name a file"),
        (["films", "--out", "/"], "/: expected a file to write, got a folder or a device; name a file"),
        (["films", "--out", "loop/m.safetensors"], "loop' is none; choose another"),
        (["loop"], "expected a folder of frames, got 'loop', which is not a folder"),
        (["films", "--out", "pipe"], "pipe: expected a file to write, got a folder or a device"),
        (["films", "--report", "out"], "out: expected a file to write, got a folder or a device"),
        (
            ["films", "--json", "model.safetensors"],
            "model.safetensors: two outputs would be written to this file; choose",
        ),
        (
            ["films", "--report", "manifest.csv"],
            "manifest.csv: two outputs would be written to this file; choose another name for one",
        ),
        (["films", "--groups", "gone.csv"], "table: cannot read 'gone.csv' (No such file or directory)"),
        (["films", "--groups", "films/across"], "table: cannot read 'films/across' (Is a directory)"),
        (["films", "--size", "240"], "Invalid value for '--size': expected HEIGHTxWIDTH such as 240x360"),
        (["films", "--split", "even"], "Invalid value for '--split': expected group or random, got 'even'"),
        (["films", "--seed", "-1"], "Invalid value for '--seed'"),
        (["films", "--seed", "4294967296"], "Invalid value for '--seed'"),
        (["films", "--max-bad", "101"], "Invalid value for '--max-bad'"),
        (["films", "--max-memory", "much"], "'--max-memory': expected bytes, or text such as '4 GiB' or '500 MB', got"),
        (
            ["films", "--cache-dir", "films/cache"],
            "'--cache-dir': expected a folder outside 'films', which is only read",
        ),
        (
            ["films", "--test", "out", "--cache-dir", "out/c"],
            "'--cache-dir': expected a folder outside 'out', which is ",
        ),
        (["films", "--seed", "one"], "Invalid value for '--seed'"),
        ([], "Missing argument 'FOLDER'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_arguments_are_one_line_before_work_starts(films, monkeypatch, arguments, message):
    monkeypatch.chdir(films.parent)
    (films.parent / "link").symlink_to(films)
    (films.parent / "loop").symlink_to("loop")
    (films.parent / "out").mkdir()
    os.mkfifo(films.parent / "pipe")
    before = fingerprint(films.parent)
    assert message in refused("train", *arguments)
    assert fingerprint(films.parent) == before


@pytest.mark.parametrize("command", ["train", "scan", "compare"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("A night.MP4", "which is a movie; cut it first: framecnn frames 'A night.MP4' --out FOLDER"),
        (
            "a.jpg",
            "which is a picture; name the folder that has one folder of pictures per class, or use framecnn predict",
        ),
    ],
)
def test_a_movie_or_a_picture_in_place_of_the_folder_gets_a_remedy(tmp_path, monkeypatch, command, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).touch()
    assert message in refused(command, name)


def test_pictures_are_not_cut(tmp_path):
    (tmp_path / "a.jpg").touch()
    assert "pictures need no cutting: sort them into one folder per class, then framecnn train FOLDER" in refused(
        "frames", tmp_path / "a.jpg", "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_named_before_the_outputs_are_checked(films, monkeypatch):
    monkeypatch.chdir(films.parent)
    (films.parent / "model.safetensors").write_text("a model")
    assert "expected a folder of frames, got 'model.safetensors', which is not a folder" in (
        refused("train", "model.safetensors")
    )


@pytest.mark.parametrize(("text", "size"), [("8x8", (8, 8)), ("240X360", (240, 360)), (" 4096x4096 ", (4096, 4096))])
def test_a_size_is_height_and_width(text, size):
    assert frame_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "240", "240x", "x360", "7x360", "240x4097", "-240x360", "2.5x3", "240x360x3", "a x b"]
)
def test_invalid_sizes_are_refused(text):
    with pytest.raises(typer.BadParameter, match="expected HEIGHTxWIDTH such as 240x360, each 8 to 4096 pixels, got"):
        frame_size(text)
