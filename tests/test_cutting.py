"""Cutting movies into a folder of frames: which frames are taken, their files and their groups."""

import csv
import tracemalloc
from contextlib import nullcontext

import numpy as np
import pytest
from movies import RATE, black, cut_off, flip_bits, moving, shots, still, write_movie
from PIL import Image

from framecnn.data import FrameFolder
from framecnn.data.cutting import MovieReport, cut_frames
from framecnn.errors import DataError


def table(out):
    with open(out / "frames.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def groups(out):
    return [row["group"] for row in table(out)]


def times(out):
    return [float(row["time_s"]) for row in table(out)]


@pytest.fixture
def movie(tmp_path):
    """Return a movie of three shots: 2, 1 and 4 seconds."""
    return write_movie(tmp_path / "orion.mp4", shots(48, 24, 96))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "frames"


def test_frames_are_in_the_folder_of_their_class_and_in_the_table(movie, out):
    (report,) = cut_frames([movie], out)
    assert report == MovieReport("orion", "orion", 7, 3, report.seconds, report.duration, 0, 0, 0, (0, 0, 0, 0))
    assert (out / "frames.csv").read_text().splitlines()[:2] == [
        "path,label,group,movie,time_s",
        "orion/orion_0000.000s.jpg,orion,orion_shot000,orion,0.000",
    ]
    assert groups(out) == ["orion_shot000"] * 2 + ["orion_shot001"] + ["orion_shot002"] * 4
    assert times(out) == [0, 1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in (out / "orion").iterdir()) == [row["path"].split("/")[1] for row in table(out)]
    assert {path.name for path in out.iterdir()} == {"orion", "frames.csv"}


def test_the_files_are_the_frames_of_those_times(movie, out):
    cut_frames([movie], out, every=0.5)
    pictures = shots(48, 24, 96)
    for row in table(out):
        saved = np.asarray(Image.open(out / row["path"])).astype(int)
        assert np.abs(saved - pictures[round(float(row["time_s"]) * RATE)]).mean() < 10


def test_frame_folder_finds_the_groups_by_itself(movie, out, tmp_path):
    cut_frames([movie, write_movie(tmp_path / "sintel.mkv", moving(7, 48))], out)
    folder = FrameFolder(out, size=(48, 64))
    assert folder.classes == ["orion", "sintel"]
    assert list(folder.groups) == groups(out)
    assert not folder.skipped


def test_long_shots_are_cut_into_blocks(movie, out):
    cut_frames([movie], out, block=1.0)
    assert groups(out) == [
        "orion_shot000_block00",
        "orion_shot000_block01",
        "orion_shot001",
        *[f"orion_shot002_block{i:02d}" for i in range(4)],
    ]


def test_frames_per_shot_are_evenly_spaced(movie, out):
    cut_frames([movie], out, per_shot=2)
    assert groups(out) == [f"orion_shot{shot:03d}" for shot in (0, 0, 1, 1, 2, 2)]
    assert times(out) == pytest.approx([0.5, 1.5, 2.25, 2.75, 4, 6], abs=1.1 / RATE)


def test_a_shot_gives_no_more_frames_than_it_has(tmp_path, out):
    cut_frames([write_movie(tmp_path / "m.mp4", shots(5, 30))], out, per_shot=8)
    assert groups(out) == ["m_shot000"] * 5 + ["m_shot001"] * 8


def test_a_shot_whose_frames_all_come_at_its_beginning_gives_what_it_has(tmp_path, out):
    when = [10 * slide + i / 25 for slide in range(4) for i in range(25)]
    path = write_movie(tmp_path / "slides.mkv", [still(int(time // 10)) for time in when], times=when)
    (report,) = cut_frames([path], out, per_shot=1)
    assert (report.n_frames, report.n_shots) == (4, 4)
    assert groups(out) == [f"slides_shot{i:03d}" for i in range(4)]


def test_a_frame_that_stays_on_is_taken_for_the_seconds_in_which_none_comes(tmp_path, out):
    when = [0, 0.5, 1.5, 4.0, 8.0]
    path = write_movie(tmp_path / "m.mkv", [still(i) for i in range(5)], times=when)
    (report,) = cut_frames([path], out)
    assert times(out) == when
    assert report.n_repeated == 4


@pytest.mark.parametrize("n_white", [1, 4, 6])
def test_white_frames_split_no_group(tmp_path, out, n_white):
    pictures = moving(0, 72)
    pictures[30 : 30 + n_white] = [np.full((48, 64, 3), 255, np.uint8)] * n_white
    (report,) = cut_frames([write_movie(tmp_path / "m.mp4", pictures)], out, every=0.5)
    assert set(groups(out)) == {"m_shot000"}
    assert report.n_shots == 1


def test_black_and_repeated_frames_are_dropped_and_counted(tmp_path, out):
    pictures = [*moving(0, 24), *black(48), *[still(1)] * 72, *moving(2, 24)]
    (report,) = cut_frames([write_movie(tmp_path / "m.mp4", pictures)], out)
    assert times(out) == [0, 3, 6]
    assert (report.n_black, report.n_repeated, report.n_shots) == (2, 2, 3)
    assert report.describe() == "m: 3 frames; 3 shots found; 7.0 s; skipped: 2 black, 2 repeated"


def test_a_later_frame_takes_the_place_of_a_black_one(tmp_path, out):
    (report,) = cut_frames([write_movie(tmp_path / "m.mp4", [*black(12), *moving(0, 36)])], out)
    assert times(out) == [0.5, 1]
    assert report.n_black == 0


@pytest.mark.parametrize(("per_shot", "n_black"), [(None, 1), (2, 0)])
def test_a_black_movie_gives_no_frame(tmp_path, out, per_shot, n_black):
    (report,) = cut_frames([write_movie(tmp_path / "m.mp4", black(24))], out, per_shot=per_shot)
    assert (report.n_frames, report.n_shots, report.n_black) == (0, 0, n_black)
    assert table(out) == []
    assert not (out / "m").exists()


def test_black_bars_are_cropped_on_request(tmp_path, out):
    pictures = [np.pad(picture, ((8, 8), (0, 0), (0, 0))) for picture in moving(0, 48)]
    path = write_movie(tmp_path / "m.mp4", pictures)
    cut_frames([path], out)
    (report,) = cut_frames([path], tmp_path / "cropped", crop_letterbox=True)
    assert Image.open(out / "m/m_0001.000s.jpg").size == (64, 64)
    assert Image.open(tmp_path / "cropped/m/m_0001.000s.jpg").size == (64, 48)
    assert report.bars == (8, 8, 0, 0)
    assert "cropped 8 + 8 rows and 0 + 0 columns" in report.describe()


def test_movies_of_one_class_share_a_folder(tmp_path, out):
    paths = [write_movie(tmp_path / f"{name}.mp4", moving(seed, 24)) for seed, name in enumerate("ab")]
    cut_frames(paths, out, label="wide shots")
    assert [(row["path"], row["label"], row["group"]) for row in table(out)] == [
        ("wide shots/a_0000.000s.jpg", "wide shots", "a_shot000"),
        ("wide shots/b_0000.000s.jpg", "wide shots", "b_shot000"),
    ]


def test_a_damaged_movie_gives_the_readable_frames_and_a_note(tmp_path, out):
    path = write_movie(tmp_path / "m.mkv", shots(*[24] * 10))
    (report,) = cut_frames([cut_off(path, 0.5)], out)
    assert report.is_short
    assert report.n_frames == len(table(out)) >= 2
    assert f"; read {report.seconds:.1f} s of 10.0 s" in report.describe()
    (report,) = cut_frames([flip_bits(path, 60)], out)
    assert report.n_damaged > 0
    assert f"; {report.n_damaged} damaged packets or frames" in report.describe()


def test_a_movie_of_which_nothing_can_be_decoded_is_an_error_and_leaves_nothing(tmp_path, out):
    path = write_movie(tmp_path / "m.mp4", [still(0)] * 12, movflags="faststart")
    broken = bytearray(path.read_bytes())
    start = broken.index(b"mdat") + 4
    broken[start:] = b"\xff" * (len(broken) - start)
    path.write_bytes(broken)
    with pytest.raises(DataError, match=r"no frame of '.*m\.mp4' could be decoded \(\d+ damaged"):
        cut_frames([path], out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"movies": []}, "expected at least one movie, got none"),
        ({"every": 0}, "expected at least 0.01 seconds between frames, got 0"),
        ({"every": float("nan")}, "expected at least 0.01 seconds"),
        ({"every": float("inf")}, "expected at least 0.01 seconds"),
        ({"per_shot": 0}, "expected 1 to 10,000 frames per shot, got 0"),
        ({"per_shot": 2**63}, "expected 1 to 10,000 frames per shot, got 9223372036854775808"),
        ({"block": 0}, "expected blocks longer than 0 seconds, got 0"),
        ({"label": ""}, "expected the name of a folder as label, got '': it is hidden or empty"),
        ({"label": "a/b"}, "as label, got 'a/b'"),
        ({"label": ".."}, "as label"),
        ({"label": ".git"}, "as label"),
        ({"label": "a\nb"}, "as label"),
    ],
)
def test_invalid_arguments_are_refused(movie, out, arguments, message):
    with pytest.raises(DataError, match=message):
        cut_frames(**({"movies": [movie], "out": out} | arguments))
    assert not out.exists()


def test_two_movies_of_one_name_are_refused(movie, out, tmp_path):
    (tmp_path / "other").mkdir()
    other = write_movie(tmp_path / "other/orion.mkv", moving(5, 4))
    with pytest.raises(DataError, match=r"two movies are called 'orion': '.*mp4' and '.*mkv'; rename one of"):
        cut_frames([movie, other], out)
    assert not out.exists()


def test_nothing_is_changed_before_all_movies_have_been_opened(movie, out, tmp_path):
    with pytest.raises(DataError, match="the file does not exist"):
        cut_frames([movie, tmp_path / "gone.mp4"], out)
    assert not out.exists()


def test_the_movie_itself_is_never_changed(movie, out):
    before = movie.read_bytes(), movie.stat().st_mtime_ns
    cut_frames([movie], out, per_shot=1, crop_letterbox=True)
    assert (movie.read_bytes(), movie.stat().st_mtime_ns) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_what_was_there_before(movie, out, tmp_path, error):
    cut_frames([write_movie(tmp_path / "first.mp4", moving(5, 24))], out)
    before = {path.relative_to(out): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    def interrupt(done, total, name):
        if done > 3:
            raise error

    with pytest.raises(error):
        cut_frames([movie], out, progress=interrupt)
    assert {path.relative_to(out): path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before
    assert {path.name for path in out.iterdir()} == {"first", "frames.csv"}


def test_progress_reports_the_position_in_each_movie(movie, out):
    told = []
    cut_frames([movie], out, per_shot=1, progress=lambda *args: told.append(args))
    assert {name for _, _, name in told} == {"orion, finding shots", "orion"}
    assert told[-1][:2] == pytest.approx((167 / RATE, 7), abs=0.01)


def test_progress_says_how_many_of_several_movies_are_done(two, out):
    told = []
    cut_frames(two, out, progress=lambda *args: told.append(args[2]))
    assert set(told) == {"a (1 of 2)", "b (2 of 2)"}


def test_the_same_movie_gives_the_same_bytes(movie, out, tmp_path):
    cut_frames([movie], out)
    cut_frames([movie], tmp_path / "again")
    for path in out.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(out)).read_bytes()


def test_memory_does_not_grow_with_the_movie(tmp_path):
    def peak(n_frames):
        path = write_movie(tmp_path / f"{n_frames}.mp4", moving(0, n_frames))
        tracemalloc.start()
        cut_frames([path], tmp_path / str(n_frames))
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    peak(24)
    assert peak(640) < 1.2 * peak(360)


def test_a_clip_gives_its_frames(shared_data, out):
    (report,) = cut_frames([shared_data / "clips/cosmos_laundromat.mp4"], out, every=2.0)
    assert (report.n_frames, report.n_shots, report.n_damaged, report.is_short) == (26, 10, 0, False)
    assert report.seconds == pytest.approx(50.2, abs=0.1)
    assert groups(out)[7:14] == [f"cosmos_laundromat_shot005_block{i:02d}" for i in (0, 0, 0, 0, 1, 1, 1)]


@pytest.fixture
def two(tmp_path):
    return [write_movie(tmp_path / f"{name}.mp4", shots(24, 24)) for name in ("a", "b")]


def cut_names(movies, out, stop=None, **options):
    """Cut movies, interrupted at the one called `stop`, and return the names of those that were decoded."""
    seen = []

    def progress(done, total, name):
        seen.append(name.split()[0])
        if seen[-1] == stop:
            raise KeyboardInterrupt

    with nullcontext() if stop is None else pytest.raises(KeyboardInterrupt):
        cut_frames(movies, out, progress=progress, **options)
    return sorted(set(seen))


def test_replacing_cuts_movies_again_that_an_interrupted_run_finished(two, out):
    assert cut_names(two, out, "b") == ["a", "b"]
    assert cut_names(two[:1], out, replace=True) == ["a"]
    assert cut_names(two[1:], out) == ["b"]


def test_replacing_resumes_after_the_same_call_only(two, out):
    cut_names(two, out)
    for again, decoded in ((two, ["b"]), (two[:1], ["a"])):
        assert cut_names(two, out, "b", replace=True) == ["a", "b"]
        assert cut_names(again, out, replace=True) == decoded
    assert cut_names(two, out, replace=True) == ["a", "b"]


def test_another_version_of_framecnn_does_not_resume(two, out, monkeypatch):
    cut_names(two, out, "b")
    monkeypatch.setattr("framecnn.data.cutting.__version__", "99.0")
    with pytest.raises(
        DataError, match=r"cut 'a' with different settings \(with framecnn \d.*\); repeat it with its settings"
    ):
        cut_names(two, out)
    assert cut_names(two, out, replace=True) == ["a", "b"]
