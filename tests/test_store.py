"""Adding movies to a folder of frames without changing others."""

import csv
import json
import os
import shutil
import tempfile
from contextlib import suppress

import pytest
from failing import every_failure
from pictures import scene

from framecnn.data import FrameFolder
from framecnn.data.store import FrameStore, file_name
from framecnn.errors import DataError
from framecnn.storage.atomic import hidden_path


def add(root, movie, label, times, replace=False):
    """Add a movie whose frames are files that contain its name."""
    store = FrameStore(root)
    with store.run({movie: {"label": label}}, replace), store.staging() as staging:
        for time in times:
            (staging / file_name(movie, time)).write_text(movie)
        groups = [(time, f"{movie}_shot{i:03d}") for i, time in enumerate(times)]
        store.add(movie, {"label": label}, staging, groups, {})


def check(root, label="orion", movie="orion"):
    """Begin to add a movie, and stop before a frame is written."""
    with FrameStore(root).run({movie: {"label": label}}, replace=False):
        pass


def table(root):
    with open(root / "frames.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def paths(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_another_movie_is_added_to_the_table(tmp_path):
    add(tmp_path, "orion", "space", [0, 1])
    add(tmp_path, "sintel", "film", [0.5])
    assert [row["path"] for row in table(tmp_path)] == [
        "space/orion_0000.000s.jpg",
        "space/orion_0001.000s.jpg",
        "film/sintel_0000.500s.jpg",
    ]


@pytest.mark.parametrize("label", ["space", "elsewhere"])
def test_the_same_movie_again_is_refused_whatever_its_class(tmp_path, label):
    add(tmp_path, "orion", "space", [0, 1])
    before = (tmp_path / "frames.csv").read_bytes()
    with pytest.raises(DataError, match=r"already holds frames of a movie 'orion'; .* use --replace"):
        add(tmp_path, "orion", label, [0])
    assert (tmp_path / "frames.csv").read_bytes() == before
    assert paths(tmp_path) == {"frames.csv", "space/orion_0000.000s.jpg", "space/orion_0001.000s.jpg"}


def test_frames_that_the_table_does_not_know_are_not_overwritten(tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space/orion_0000.000s.jpg").write_text("mine")
    with pytest.raises(DataError, match="already holds frames of a movie 'orion'"):
        add(tmp_path, "orion", "space", [0])


def test_a_movie_whose_name_begins_like_another_is_another(tmp_path):
    add(tmp_path, "orion", "space", [0])
    add(tmp_path, "orion_2", "space", [0])
    add(tmp_path, "ori", "space", [0])
    assert len(table(tmp_path)) == 3


def test_replacing_a_movie_changes_its_frames_only(tmp_path):
    add(tmp_path, "orion", "space", [0, 1, 2])
    add(tmp_path, "sintel", "space", [0])
    (tmp_path / "space/orion_by_hand.jpg").write_text("mine")
    (tmp_path / "space/orion_0009.000s.jpg").write_text("mine too: no row")
    add(tmp_path, "orion", "space", [0, 1.5], replace=True)
    assert paths(tmp_path) == {
        "frames.csv",
        "space/orion_0000.000s.jpg",
        "space/orion_0001.500s.jpg",
        "space/orion_0009.000s.jpg",
        "space/orion_by_hand.jpg",
        "space/sintel_0000.000s.jpg",
    }
    assert [row["group"] for row in table(tmp_path)] == ["sintel_shot000", "orion_shot000", "orion_shot001"]


def test_replacing_may_change_the_class(tmp_path):
    add(tmp_path, "orion", "space", [0])
    add(tmp_path, "orion", "film", [0], replace=True)
    assert paths(tmp_path) == {"frames.csv", "film/orion_0000.000s.jpg"}


def test_replacing_under_another_label_leaves_a_folder_of_frames(tmp_path):
    def add_pictures(movie, label, seed, replace=False):
        store = FrameStore(tmp_path)
        with store.run({movie: {"label": label}}, replace), store.staging() as staging:
            scene(seed).save(staging / file_name(movie, 0))
            store.add(movie, {"label": label}, staging, [(0, f"{movie}_shot001")], {})

    add_pictures("orion", "space", 0)
    add_pictures("sintel", "film", 1)
    add_pictures("orion", "stars", 0, replace=True)
    assert FrameFolder(tmp_path, size=(24, 32)).classes == ["film", "stars"]
    assert not (tmp_path / "space").exists()
    (tmp_path / "stars/notes.txt").write_text("mine")
    add_pictures("orion", "space", 0, replace=True)
    assert paths(tmp_path / "stars") == {"notes.txt"}


def test_a_forged_table_deletes_no_files_elsewhere(tmp_path):
    root, other = tmp_path / "frames", tmp_path / "other"
    for folder in (root, other, root / "deep/deeper"):
        folder.mkdir(parents=True)
    targets = [other / "orion_0000.000s.jpg", root / "deep/deeper/orion_0000.000s.jpg"]
    lines = ["path,label,group,time_s"]
    for target, written in zip(
        targets, ["../other/orion_0000.000s.jpg", "deep/deeper/orion_0000.000s.jpg"], strict=True
    ):
        target.write_text("mine")
        lines.append(f"{written},x,orion_shot000,0")
    (root / "frames.csv").write_text("\n".join(lines) + "\n")
    add(root, "orion", "space", [0], replace=True)
    assert all(target.exists() for target in targets)


def test_rows_and_columns_of_others_are_kept(tmp_path):
    (tmp_path / "frames.csv").write_bytes(
        b'\xef\xbb\xbfpath,label,group,time_s,note\r\n"a,b/\xe9.jpg","a,b",film_shot1_2,3,"two\nlines"\r\n'
    )
    add(tmp_path, "orion", "space", [0])
    assert (tmp_path / "frames.csv").read_bytes() == (
        b'path,label,group,movie,time_s,note\n"a,b/\xe9.jpg","a,b",film_shot1_2,film,3,"two\nlines"\n'
        b"space/orion_0000.000s.jpg,space,orion_shot000,orion,0.000,\n"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,group\na/b.jpg,a,g\n", "expected .* to have the columns path, label, group, movie, time_s"),
        ("path,label,group,time_s\na/b.jpg,a,g\n", "all of them in every line; correct it"),
        ("path,label,group,time_s\na/b.jpg,a,g,1,2,3\n", "all of them in every line"),
        ('path,label,group,time_s\n"a"b,a,g,1\n', "cannot read .*; correct it or choose another folder"),
    ],
)
def test_an_invalid_table_is_refused_before_any_work(tmp_path, text, message):
    (tmp_path / "frames.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        check(tmp_path)


def test_a_folder_that_is_a_file_or_lies_in_one_is_refused(tmp_path):
    (tmp_path / "movie.mp4").write_text("a movie")
    for root in (tmp_path / "movie.mp4", tmp_path / "movie.mp4/frames/here"):
        with pytest.raises(DataError, match=r"movie\.mp4' is a file, expected a folder to write to; choose another"):
            check(root)
    with pytest.raises(DataError, match="is a file"):
        check(tmp_path, "movie.mp4")


def test_a_table_that_is_a_link_is_refused_and_kept(tmp_path):
    target, root = tmp_path / "shared.csv", tmp_path / "frames"
    target.write_text("path,label,group,time_s\n")
    root.mkdir()
    (root / "frames.csv").symlink_to(target)
    with pytest.raises(
        DataError, match=r"frames\.csv' to be a file of this folder, got a link, which would be replaced"
    ):
        check(root)
    assert (root / "frames.csv").is_symlink()


def test_a_folder_that_cannot_be_made_or_written_to_is_refused(tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"cannot write to the folder '.*' \(File name too long\)"):
        check(tmp_path / ("x" * 300))

    def refuse(dir):
        raise PermissionError(13, "Permission denied", dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        DataError, match=r"cannot write to the folder '.*' \(Permission denied\); choose another folder"
    ):
        check(tmp_path)


def test_staged_files_are_removed_after_an_error(tmp_path):
    def fail():
        with FrameStore(tmp_path).staging() as staging:
            (staging / "frame.jpg").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fail()
    assert list(tmp_path.iterdir()) == []


def hidden(root):
    return {path.name for path in root.rglob(".*")}


def test_a_movie_is_added_completely_or_not_at_all_whatever_fails(tmp_path):
    root = tmp_path / "frames"
    add(root, "sintel", "film", [0])
    states = [{name: (root / name).read_bytes() for name in paths(root)}]
    add(root, "orion", "space", [0, 1])
    states.append({name: (root / name).read_bytes() for name in paths(root)})

    def reset():
        shutil.rmtree(root)
        for name, content in states[0].items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)

    def left():
        return {name: (root / name).read_bytes() for name in paths(root) if not name.startswith(".")}

    def look(error):
        assert left() in states
        assert error is None or "No space" in str(error)

    def again():
        with suppress(DataError):  # the folder is refused before work starts
            add(root, "orion", "space", [0, 1])

    assert every_failure(again, reset, look) > 30


def interrupted(root, jobs, left):
    """Cut movies, interrupted before the last `left` ones, as by Ctrl-C."""
    with pytest.raises(KeyboardInterrupt):
        fill(root, jobs, left, replace=False)


def fill(root, jobs, left=0, replace=False):
    """Add movies of one frame each, and return the names of those that were added, not resumed."""
    cut, store = [], FrameStore(root)
    with store.run(jobs, replace) as done:
        for movie, job in list(jobs.items())[: len(jobs) - left]:
            if movie not in done:
                cut.append(movie)
                with store.staging() as staging:
                    (staging / file_name(movie, 0)).write_text(f"{movie} {job}")
                    store.add(movie, job, staging, [(0, f"{movie}_shot000")], {"movie": movie})
        if left:
            raise KeyboardInterrupt
    return cut


JOBS = {movie: {"label": movie, "every": 1.0} for movie in ("orion", "sintel", "tears")}


def test_an_interrupted_run_is_resumed_and_gives_the_same_bytes(tmp_path):
    interrupted(tmp_path / "a", JOBS, 2)
    assert len(hidden(tmp_path / "a")) == 1
    interrupted(tmp_path / "a", JOBS, 1)
    assert fill(tmp_path / "a", JOBS) == ["tears"]
    assert fill(tmp_path / "b", JOBS) == list(JOBS)
    assert paths(tmp_path / "a") == paths(tmp_path / "b")
    for name in paths(tmp_path / "a"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with pytest.raises(DataError, match="already holds frames of a movie 'orion'"):
        fill(tmp_path / "a", JOBS)


def test_an_interrupted_run_is_not_resumed_with_other_settings(tmp_path):
    interrupted(tmp_path, JOBS, 1)
    other = {movie: job | {"every": 2.0} for movie, job in JOBS.items()}
    message = r"cut 'orion' with different settings \(differs: every\); repeat it with its settings .* or use --replace"
    with pytest.raises(DataError, match=message):
        fill(tmp_path, other)
    assert fill(tmp_path, other, replace=True) == list(JOBS)
    assert hidden(tmp_path) == set()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"movie": [1, 3]}, "the movie file has changed since"),
        ({"framecnn": "0.2.0"}, "with framecnn 0.1.0"),
        ({"replace": []}, "with --replace, or of other movies"),
        ({"every": 2.0, "framecnn": "0.2.0", "block": 1}, "differs: block; differs: every; with framecnn 0.1.0"),
    ],
)
def test_differences_from_an_interrupted_run_are_named(tmp_path, change, words):
    before = JOBS["orion"] | {"movie": [1, 2], "framecnn": "0.1.0", "replace": ["orion"]}
    interrupted(tmp_path, {"orion": before, "sintel": before}, 1)
    with pytest.raises(
        DataError, match=rf"cut 'orion' with different settings \({words}\); repeat it with its settings"
    ):
        fill(tmp_path, {"orion": before | change})


def test_a_record_that_holds_no_version_and_no_replacing_is_of_another_run(tmp_path):
    interrupted(tmp_path, JOBS, 1)
    now = {movie: job | {"framecnn": "0.2.0", "replace": [movie]} for movie, job in JOBS.items()}
    with pytest.raises(DataError, match=r"\(with framecnn of another version; without --replace\)"):
        fill(tmp_path, now)
    assert fill(tmp_path, now, replace=True) == list(JOBS)


def test_other_movies_may_be_added_before_an_interrupted_run_is_resumed(tmp_path):
    interrupted(tmp_path, JOBS, 1)
    add(tmp_path, "gravity", "space", [0])
    assert fill(tmp_path, JOBS) == ["tears"]
    assert hidden(tmp_path) == set()


def test_a_finished_movie_whose_frames_are_gone_is_cut_again(tmp_path):
    interrupted(tmp_path, JOBS, 1)
    (tmp_path / "orion/orion_0000.000s.jpg").unlink()
    assert fill(tmp_path, JOBS) == ["orion", "tears"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 100_000, '{"orion": 1}', '{"orion": {"job": {}, "n_frames": "1", "report": {}}}'],
    ids=range(5),
)
def test_an_invalid_record_is_refused(tmp_path, text):
    interrupted(tmp_path, JOBS, 1)
    (name,) = hidden(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=r"to be the record of an interrupted run, but it is damaged; delete it"):
        fill(tmp_path, JOBS)


def test_a_run_killed_while_it_replaced_a_movie_is_finished_by_the_next(tmp_path):
    add(tmp_path, "orion", "space", [0])

    def die(change):
        if change.staged is None:
            raise SystemExit
        return os.replace(change.staged, change.path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("framecnn.storage.output_set._Change.do", die)
        patch.setattr("framecnn.storage.output_set._Change.undo", die)
        with pytest.raises((SystemExit, FileNotFoundError)):
            add(tmp_path, "orion", "stars", [1], replace=True)
    assert (tmp_path / "space").exists()
    check(tmp_path, movie="sintel")
    assert paths(tmp_path) - hidden(tmp_path) == {"frames.csv", "stars/orion_0001.000s.jpg"}
    assert not (tmp_path / "space").exists()


@pytest.mark.parametrize("path", ["docs/thesis.txt", "docs/me.jpg", "me_0001.000s.jpg", "a/b/me_0001.000s.jpg"])
def test_a_forged_journal_deletes_no_file_but_frames(tmp_path, path):
    mine = tmp_path / path
    mine.parent.mkdir(parents=True, exist_ok=True)
    mine.write_text("mine")
    change = {"path": path, "staged": None, "sha256": None, "backup": None}
    hidden_path(tmp_path / "frames.csv", ".journal").write_text(json.dumps([change]))
    with pytest.raises(DataError, match="an interrupted run was writing"):
        check(tmp_path)
    assert mine.read_text() == "mine"


def test_two_runs_do_not_fill_one_folder(tmp_path):
    with (
        FrameStore(tmp_path).run(JOBS, replace=False),
        pytest.raises(DataError, match=r"frames.csv: expected no other run to write here, but process \d+"),
    ):
        fill(tmp_path, JOBS)


def test_a_full_disk_leaves_the_old_table(tmp_path, monkeypatch):
    add(tmp_path, "orion", "space", [0])
    before = (tmp_path / "frames.csv").read_bytes()

    def fill(path, columns, rows):
        path.write_text("pa")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("framecnn.data.store._write_table", fill)
    with pytest.raises(OSError, match="No space left"):
        add(tmp_path, "sintel", "film", [0])
    assert (tmp_path / "frames.csv").read_bytes() == before
