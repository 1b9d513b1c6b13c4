"""Atomic writes: a file is complete or absent, whatever happens while it is written."""

import os
import stat
import threading

import pytest

from framecnn.storage.atomic import atomic_write


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_becomes_the_file_when_the_block_ends(tmp_path):
    with atomic_write(tmp_path / "note.txt") as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".txt"
        assert not (tmp_path / "note.txt").exists()
    assert names(tmp_path) == ["note.txt"]
    assert (tmp_path / "note.txt").read_text() == "new"


def test_an_older_file_is_replaced(tmp_path):
    (tmp_path / "note.txt").write_text("old and longer")
    with atomic_write(str(tmp_path / "note.txt")) as temporary:
        temporary.write_text("new")
        assert (tmp_path / "note.txt").read_text() == "old and longer"
    assert (tmp_path / "note.txt").read_text() == "new"


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_after_an_interruption_only_the_older_file_is_left(tmp_path, interruption):
    (tmp_path / "note.txt").write_text("old")

    def write_half():
        with atomic_write(tmp_path / "note.txt") as temporary:
            temporary.write_text("half")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert names(tmp_path) == ["note.txt"]
    assert (tmp_path / "note.txt").read_text() == "old"


def test_after_a_failed_rename_nothing_is_left_behind(tmp_path):
    (tmp_path / "note.txt").mkdir()
    with pytest.raises(OSError), atomic_write(tmp_path / "note.txt"):  # noqa: PT011, the class differs by system
        pass
    assert names(tmp_path) == ["note.txt"]


def test_a_folder_that_does_not_exist_is_not_made(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "absent" / "note.txt"):
        pytest.fail("nothing can be written")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["a" * 255, "é" * 120 + ".safetensors", "🎬" * 60 + ".txt", ".hidden", "no suffix"], ids=len
)
def test_a_file_may_have_any_name_that_the_file_system_accepts(tmp_path, name):
    with atomic_write(tmp_path / name) as temporary:
        temporary.write_bytes(b"x")
    assert names(tmp_path) == [name]


@pytest.mark.skipif(os.name == "nt", reason="needs file modes")
def test_the_file_has_the_mode_of_any_new_file_and_the_umask_is_unchanged(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "note.txt"):
            pass
        assert stat.S_IMODE((tmp_path / "note.txt").stat().st_mode) == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    meeting = threading.Barrier(2)

    def write(letter):
        with atomic_write(tmp_path / "note.txt") as temporary:
            meeting.wait(30)
            temporary.write_text(letter * 1000)

    writers = [threading.Thread(target=write, args=letter) for letter in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "note.txt").read_text() in ("a" * 1000, "b" * 1000)
    assert names(tmp_path) == ["note.txt"]


def test_errors_name_the_file_and_not_the_temporary_one(tmp_path):
    def fill(written):
        with atomic_write(tmp_path / "note.txt") as temporary:
            raise OSError(28, "No space left on device", *([temporary] if written else []))

    for written in (False, True):
        with pytest.raises(OSError, match="No space left") as full:
            fill(written)
        assert full.value.filename == str(tmp_path / "note.txt")
    with pytest.raises(FileNotFoundError) as gone:
        atomic_write(tmp_path / "absent" / "note.txt").__enter__()
    assert gone.value.filename == str(tmp_path / "absent" / "note.txt")
    assert names(tmp_path) == []


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    def read():
        with atomic_write(tmp_path / "note.txt"):
            (tmp_path / "source.txt").read_text()

    with pytest.raises(FileNotFoundError) as gone:
        read()
    assert gone.value.filename == str(tmp_path / "source.txt")


def test_who_has_the_old_file_open_keeps_reading_the_old_one(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with open(tmp_path / "a.txt") as reader:
        with atomic_write(tmp_path / "a.txt") as temporary:
            temporary.write_text("new")
        assert reader.read() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


def test_what_takes_the_place_of_a_file_is_on_the_disk_before(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: done.append(os.fstat(file).st_size) or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: done.append("in its place") or replace(*paths))
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert done == [3, "in its place"]
