"""``framecnn predict`` on movies: labels by frame, by shot and by movie."""

import csv
import io
import json
import re
import sys

import numpy as np
import pytest
from commands import framecnn, refused, train_quickly
from movies import black, shots, write_movie

from framecnn.cli import predictions
from framecnn.data.cutting import cut_frames
from framecnn.data.decode import decode
from framecnn.data.movie_frames import MovieFrames
from framecnn.errors import DataError


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return train_quickly(tmp_path_factory.mktemp("trained")) / "model.safetensors"


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Return a movie of two shots: three seconds and one."""
    return write_movie(tmp_path_factory.mktemp("film") / "film.mp4", shots(72, 24))


@pytest.fixture
def labels(monkeypatch):
    """Let the model call the four frames across, across, blobs and blobs; the last one is out-of-distribution."""

    def script(classifier, classes, frames):
        return [
            {
                "label": label,
                "probability": p,
                "out_of_distribution": far,
                "nearest_training_path": None,
                "probabilities": {"across": p, "blobs": 1 - p, "down": 0},
            }
            for label, p, far in [
                ("across", 0.9, False),
                ("across", 0.7, False),
                ("blobs", 0.4, False),
                ("blobs", 0.3, True),
            ][: len(frames)]
        ]

    monkeypatch.setattr(predictions, "_label", script)


def test_frames_have_the_pixels_that_training_sees(tmp_path, film):
    cut_frames([film], tmp_path / "cut", every=0.5)
    written = {float(path.stem.split("_")[1][:-1]): path for path in tmp_path.rglob("*.jpg")}
    read = dict(MovieFrames(film, every=0.5, size=(24, 32)))
    assert len(written) == len(read) == 8
    for time, pixels in read.items():
        np.testing.assert_array_equal(pixels, decode(written[round(time, 3)], (24, 32)).pixels)


def test_a_blank_beginning_of_an_interval_is_passed_over(tmp_path):
    movie = MovieFrames(write_movie(tmp_path / "m.mp4", [*black(6), *shots(24), *black(24)]), size=(24, 32))
    assert [round(time, 2) for time, _ in movie] == [0.25, 1.0]
    assert repr(movie) == f"MovieFrames({str(tmp_path / 'm.mp4')!r}, every=1, size=(24, 32))"


def test_too_short_intervals_and_movies_without_a_frame_are_refused(tmp_path, film, monkeypatch):
    with pytest.raises(DataError, match=r"MovieFrames: expected at least 0\.01 seconds between frames, got 0"):
        MovieFrames(film, every=0)
    monkeypatch.setattr("framecnn.data.movie.Movie.frames", lambda self: iter(()))
    with pytest.raises(DataError, match=r"no frame could be decoded \(0 damaged packets or frames\); copy the movie"):
        list(MovieFrames(film))


def test_a_movie_and_its_shots_get_the_label_of_most_frames(model, film, labels):
    ended = framecnn("predict", model, film, "--json", "-")
    assert ended.code == 0, ended.err
    (movie,) = json.loads(ended.out)["movies"]
    assert (movie["label"], movie["share"], movie["out_of_distribution"]) == ("across", 0.5, 0.25)  # the more probable
    assert [(shot["label"], shot["share"], shot["n_frames"]) for shot in movie["shots"]] == [
        ("across", 0.666667, 3),
        ("blobs", 1, 1),
    ]
    assert [(shot["start"], shot["end"]) for shot in movie["shots"]] == [(0, 3), (3, 4)]
    assert [(frame["time"], frame["shot"]) for frame in movie["frames"]] == [(0, 0), (1, 0), (2, 0), (3, 1)]


def test_the_first_frame_of_a_shot_belongs_to_that_shot(model, tmp_path):
    path = write_movie(tmp_path / "m.mp4", shots(32, 16))  # the second shot begins at 4/3 s
    (movie,) = json.loads(framecnn("predict", model, path, "--every", "10ms", "--json", "-").out)["movies"]
    assert [frame["shot"] for frame in movie["frames"]] == [0] * 32 + [1] * 16
    assert [shot["n_frames"] for shot in movie["shots"]] == [32, 16]


def test_shots_are_printed_and_frames_on_request(model, film, labels):
    out = framecnn("predict", model, film).out
    assert re.search(rf"^{film} +across +50.0 % +4  25.0 % of the frames out-of-distribution$", out, re.MULTILINE)
    assert re.search(r"^  0 +0:00.0  0:03.0  across +66.7 % +3$", out, re.MULTILINE)
    assert re.search(r"^  1 +0:03.0  0:04.0  blobs +100.0 % +1  100.0 % of the frames", out, re.MULTILINE)
    assert "frame at" not in out
    by_frame = framecnn("predict", model, film, "--by-frame").out
    assert by_frame.startswith(out)
    assert re.search(r"^  0:03.0 +1  blobs +30.0 %  out-of-distribution: far", by_frame, re.MULTILINE)


def test_the_tables_have_a_row_for_each_frame(model, film, labels, tmp_path):
    ended = framecnn("predict", model, film, "--csv", "--predictions", tmp_path / "p.csv")
    assert [row["time_s"] for row in csv.DictReader(io.StringIO(ended.out))] == ["0.0", "1.0", "2.0", "3.0"]
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [f"{film}#t={time}.000" for time in range(4)]
    assert [row["group"] for row in rows] == ["shot000"] * 3 + ["shot001"]


def test_pictures_movies_and_folders_of_both_may_be_mixed(model, film, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "film.MP4").write_bytes(film.read_bytes())
    picture = next((model.parent / "films" / "down").iterdir())
    (folder / "a.jpg").write_bytes(picture.read_bytes())
    found = json.loads(framecnn("predict", model, picture, folder, film, "--every", "2s", "--json", "-").out)
    assert [row["path"] for row in found["pictures"]] == [str(picture), str(folder / "a.jpg")]
    assert [(row["path"], row["n_frames"]) for row in found["movies"]] == [
        (str(folder / "film.MP4"), 2),
        (str(film), 2),
    ]


def test_a_movie_that_cannot_be_predicted_is_named_and_the_others_are_predicted(model, film, tmp_path):
    (tmp_path / "broken.mp4").write_text("no movie")
    dark = write_movie(tmp_path / "dark.mp4", black(24))
    ended = framecnn("predict", model, tmp_path / "broken.mp4", tmp_path / "gone.mkv", dark, film)
    assert ended.code == 1
    broken, gone, blank = ended.err.splitlines()
    assert broken.startswith(f"warning: skipped {tmp_path}/broken.mp4: the movie cannot be read (")
    assert "the file does not exist; check the name" in gone
    assert blank == f"warning: skipped {dark}: every frame is blank (black or of one colour)"


def test_without_pyav_the_extra_is_named(model, film, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    assert refused("predict", model, film) == (
        f"predict: {film}: movies: the package av is not installed; run: pip install 'framecnn[video]'"
    )


def test_movies_are_not_drawn(model, film):
    assert "--show draws pictures, not movies" in framecnn("predict", model, film, "--show").err
