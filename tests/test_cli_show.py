"""``framecnn predict --random-from`` and ``--show``: random pictures, and drawings of predictions."""

import re
import shutil
import sys

import pytest
from commands import framecnn, record_opened, refused, train_quickly, write_frames
from PIL import Image
from test_cli_predict import predictions

from framecnn.cli import showing


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_quickly(tmp_path_factory.mktemp("trained")) / "model.safetensors"


@pytest.fixture
def films(model):
    return model.parent / "films"


opened = pytest.fixture(record_opened)


def test_a_random_picture_comes_with_every_probability(model, films, opened):
    ended = framecnn("predict", model, "--random-from", films)
    assert ended.code == 0
    assert re.search(rf"^{films}/\w+/\d+\.jpg +\w+ +\d", ended.out, re.MULTILINE)
    shares = [float(share) for share in re.findall(r"^(?:across|blobs|down) +([\d.]+) %$", ended.out, re.MULTILINE)]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.2)
    assert opened == []
    drawn = {predictions(model, "--random-from", films)["pictures"][0]["path"] for _ in range(9)}
    assert len(drawn) > 1


def test_files_that_cannot_be_read_are_never_drawn(model, tmp_path):
    pictures = write_frames(tmp_path / "new", n_groups=1, with_groups=False)
    (pictures / "down" / "text.jpg").write_text("no picture")
    for frame in (pictures / "across").glob("[0-9]*.jpg"):
        frame.rename(tmp_path / frame.name)
    shutil.rmtree(pictures / "blobs")
    for frame in list((pictures / "down").glob("[0-9]*.jpg"))[1:]:
        frame.unlink()
    rows = predictions(model, "--random-from", pictures)["pictures"]
    assert [row["path"] for row in rows] == list(map(str, (pictures / "down").glob("[0-9]*.jpg")))


def test_show_draws_the_picture_with_its_probabilities_and_opens_it(model, films, opened):
    ended = framecnn("predict", model, "--random-from", films, "--show")
    assert ended.code == 0
    (path,) = opened
    assert ended.err == f"drew {path}\n"
    with Image.open(path) as picture:
        assert picture.width > picture.height


def test_show_draws_the_first_pictures_one_below_the_other(model, films, opened):
    frames = sorted((films / "down").iterdir())
    heights = []
    for shown in (frames[:1], frames[:3], [films]):
        ended = framecnn("predict", model, *shown, "--show")
        assert ended.code == 0
        with Image.open(opened[-1]) as picture:
            heights.append(picture.height)
    assert heights == [heights[0], 3 * heights[0], showing.MOST_SHOWN * heights[0]]
    assert ended.err.endswith("(the first 12 of 36 pictures)\n")


def test_without_a_screen_the_drawing_is_named_and_nothing_is_started(model, films, opened, monkeypatch):
    monkeypatch.setattr(showing, "_has_screen", lambda: False)
    ended = framecnn("predict", model, next((films / "down").iterdir()), "--show")
    assert (ended.code, opened) == (0, [])
    assert re.fullmatch(r"drew \S+/prediction\.png; no program to show it was found, open it yourself\n", ended.err)


def test_every_drawing_is_kept(model, films, opened, tmp_path):
    for _ in range(3):
        assert framecnn("predict", model, "--random-from", films, "--show").code == 0
    assert {str(path) for path in tmp_path.glob("*/*")} == set(opened)
    assert len(set(opened)) == 3


@pytest.mark.parametrize("options", [[], ["--show"], ["--explain"]])
def test_the_drawing_is_written_to_a_file_and_not_opened(model, films, opened, tmp_path, options):
    frame, file = next((films / "down").iterdir()), tmp_path / "drawn.png"
    for _ in range(2):
        ended = framecnn("predict", model, frame, "--drawing", file, *options)
        assert (ended.code, ended.err.splitlines()[0], opened) == (0, f"drew {file}", [])
    with Image.open(file) as picture:
        assert picture.format == "PNG"
    assert list(tmp_path.iterdir()) == [file]


def test_no_other_picture_is_replaced_by_a_drawing(model, films, opened, tmp_path):
    frame, file = next((films / "down").iterdir()), tmp_path / "mine.png"
    Image.new("RGB", (9, 9)).save(file)
    before = file.read_bytes()
    said = refused("predict", model, frame, "--drawing", file)
    assert said == f"{file}: the file exists and was not written by this command; move it or choose another name"
    assert file.read_bytes() == before
    assert "expected a file called .png, got 'a.jpg'" in refused("predict", model, frame, "--drawing", "a.jpg")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows opens files itself")
@pytest.mark.parametrize("script", ["echo noise; echo noise >&2; exit 3", None])
def test_without_a_viewer_a_warning_is_printed_instead_of_noise(model, films, tmp_path, monkeypatch, capfd, script):
    for name in ("open", "xdg-open") if script else ():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(showing, "_has_screen", lambda: True)
    monkeypatch.setattr(showing.tempfile, "tempdir", str(tmp_path))
    ended = framecnn("predict", model, "--random-from", films, "--show")
    assert ended.code == 0
    assert ended.err.endswith("; no program to show it was found, open it yourself\n")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("far", "mark"), [(True, ", out-of-distribution"), (False, "")])
def test_a_drawing_names_an_out_of_distribution_picture(far, mark):
    row = {"path": "a/b\n.jpg", "label": "day", "probability": 1.0, "out_of_distribution": far}
    assert showing._title(row) == f"day, 100.0 %{mark}: b\\n.jpg"


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="these always have a screen")
def test_a_screen_is_one_of_x_or_wayland(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not showing._has_screen()
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    assert showing._has_screen()
