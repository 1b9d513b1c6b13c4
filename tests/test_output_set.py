"""Sets of outputs: files are all old or all new, whatever fails while they are replaced."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
from failing import every_failure, failing

from framecnn.errors import DataError
from framecnn.storage.atomic import hidden_path, is_temporary, sweep, temporary_path
from framecnn.storage.output_set import settle, switch, write_together

NAMES = ("a.txt", "b.txt", "c.txt")
OLD, NEW = ({name: f"{word} {name}" for name in NAMES} for word in ("old", "new"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    write_old(tmp_path / "set")
    return tmp_path / "set"


def write_old(folder):
    shutil.rmtree(folder)
    folder.mkdir()
    for name, text in OLD.items():
        (folder / name).write_text(text)


def write_new(folder):
    with write_together(folder / "c.txt") as stage:
        for name, text in NEW.items():
            stage(folder / name).write_text(text)


def settle_all(folder):
    settle(folder / "c.txt", [folder / name for name in NAMES])


def state(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_all_are_new_and_nothing_else_is_left(folder):
    write_new(folder)
    assert state(folder) == NEW


def test_files_are_removed_with_the_others_or_kept_with_them(folder):
    def write():
        with write_together(folder / "c.txt", [folder / "a.txt", folder / "gone.txt"]) as stage:
            for name in ("b.txt", "c.txt"):
                stage(folder / name).write_text(NEW[name])

    def check(error):
        left = {name: text for name, text in state(folder).items() if name in NAMES}
        assert left in (OLD, {name: NEW[name] for name in ("b.txt", "c.txt")})

    assert every_failure(write, lambda: write_old(folder), check) > 10
    assert not (folder / "a.txt").exists()
    with pytest.raises(ZeroDivisionError), write_together(folder / "c.txt", [folder / "b.txt"]) as stage:
        stage(folder / "c.txt").write_text(str(1 / 0))
    assert (folder / "b.txt").exists()


def test_after_any_failure_all_are_old_or_all_are_new(folder):
    def check(error):
        assert {name: text for name, text in state(folder).items() if name in NAMES} in (OLD, NEW)
        assert error is None or os.path.basename(error.filename) in NAMES
        settle_all(folder)
        assert {name: text for name, text in state(folder).items() if name in NAMES} in (OLD, NEW)

    assert every_failure(lambda: write_new(folder), lambda: write_old(folder), check) > 20


def test_a_file_that_another_program_holds_open_is_named_and_unchanged(folder, monkeypatch):
    real = os.replace

    def replace(source, target):
        if os.path.basename(target) == "b.txt":  # not a temporary name that ends like it
            raise PermissionError(errno.EACCES, "in use by another process", str(source), str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(PermissionError) as caught:
        write_new(folder)
    assert caught.value.filename == str(folder / "b.txt")
    assert state(folder) == OLD


def test_undoing_does_not_change_a_file_that_was_not_removed_yet(folder, monkeypatch):
    staged, renamed = temporary_path(folder / "a.txt"), []
    staged.write_text("new")
    real = os.replace

    def refuse(change):
        raise PermissionError(errno.EACCES, "in use by another process", str(change.path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", lambda *paths: renamed.append(os.path.basename(paths[1])) or real(*paths))
        patch.setattr("framecnn.storage.output_set._Change.do", refuse)
        with pytest.raises(PermissionError):
            switch(folder / "c.txt", {folder / "a.txt": staged, folder / "b.txt": None})
    staged.unlink()
    assert state(folder) == OLD
    assert renamed == [hidden_path(folder / "c.txt", ".journal").name]


@pytest.mark.parametrize("length", [2, 5, 1000])
def test_after_a_full_disk_the_next_run_finishes_or_has_nothing_to_do(folder, length):
    k, n = 0, 1
    while k <= n:
        k += 1
        write_old(folder)
        try:
            with failing(k, k + length) as operations:
                write_new(folder)
        except OSError:
            n = max(n, operations[0])
        settle_all(folder)
        assert {name: text for name, text in state(folder).items() if name in NAMES} in (OLD, NEW)
    assert k > 20


def test_after_a_kill_between_the_renames_the_next_run_finishes(folder):
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from framecnn.storage.output_set import write_together\n"
        "real, left = os.replace, [int(sys.argv[2])]\n"
        "def replace(*paths):\n"
        "    if not left[0]:\n"
        "        os._exit(9)\n"
        "    left[0] -= 1\n"
        "    real(*paths)\n"
        "os.replace = replace\n"
        "with write_together(Path(sys.argv[1], 'c.txt')) as stage:\n"
        "    for name in ('a.txt', 'b.txt', 'c.txt'):\n"
        "        stage(Path(sys.argv[1], name)).write_text('new ' + name)\n"
    )
    seen = []
    for left in range(4):
        write_old(folder)
        command = [sys.executable, "-c", code, str(folder), str(left)]
        ended = subprocess.run(command, check=False, timeout=120)
        assert ended.returncode == 9
        settle_all(folder)
        assert state(folder) == (NEW if left else OLD)  # the first rename is that of the journal
        seen.append(left)
    assert seen == [0, 1, 2, 3]


def pending(folder):
    """Write the files of a switch that was killed after its first rename, and return the journal's entries."""
    staged = {name: temporary_path(folder / name) for name in NAMES}
    for name, path in staged.items():
        path.write_text(NEW[name])
    real, calls = os.replace, []

    def replace(*paths):
        calls.append(paths)
        if len(calls) > 2:
            raise KeyboardInterrupt
        real(*paths)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            switch(folder / "c.txt", {folder / name: path for name, path in staged.items()})
    return json.loads(hidden_path(folder / "c.txt", ".journal").read_text())


def test_a_half_finished_switch_whose_files_are_lost_is_undone(folder):
    entries = pending(folder)
    assert (folder / "a.txt").read_text() == NEW["a.txt"]
    (folder / entries[2]["staged"]).unlink()
    settle_all(folder)
    assert state(folder) == OLD


def test_undoing_removes_a_new_file(folder):
    (folder / "a.txt").unlink()
    entries = pending(folder)
    (folder / entries[2]["staged"]).unlink()
    settle_all(folder)
    assert state(folder) == {name: text for name, text in OLD.items() if name != "a.txt"}


def test_a_half_finished_switch_is_finished(folder):
    pending(folder)
    settle_all(folder)
    assert state(folder) == NEW


def entry(path, staged=None, sha256=None, backup=None):
    return json.dumps([{"path": path, "staged": staged, "sha256": sha256, "backup": backup}])


TEMPORARY = ".framecnn-0123456789ab-01234567-1-01234567"


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[1]", "[" * 100_000, entry(5), entry("a\0b"), entry("\ud800/a"), entry("a.txt", "a.txt/b")),
        entry("a.txt", TEMPORARY + ".\0"),
        entry("a.txt", None, None, TEMPORARY + "." + "x" * 300),
    ],
    ids=range(10),
)
def test_a_damaged_journal_is_refused(folder, text):
    hidden_path(folder / "c.txt", ".journal").write_text(text)
    with pytest.raises(
        DataError, match=r"\.journal: (expected the journal .*, got something else|an interrupted run was)"
    ):
        settle_all(folder)
    assert (folder / "a.txt").read_text() == OLD["a.txt"]


def test_a_journal_that_is_not_a_file_of_this_user_is_refused(folder, monkeypatch):
    journal, elsewhere = hidden_path(folder / "c.txt", ".journal"), folder.parent / "journal"
    elsewhere.write_text("[]")
    for make in (journal.mkdir, lambda: journal.symlink_to(elsewhere), lambda: journal.symlink_to("nowhere")):
        make()
        with pytest.raises(DataError, match=r"\.journal: .* got a link, a folder or another user's file; look at"):
            settle_all(folder)
        journal.unlink() if journal.is_symlink() else journal.rmdir()
    journal.write_text("[]")
    monkeypatch.setattr(os, "getuid", lambda: journal.stat().st_uid + 1, raising=False)
    with pytest.raises(DataError, match="another user's file"):
        settle_all(folder)
    monkeypatch.delattr(os, "getuid")
    assert settle(folder / "c.txt") == []


@pytest.mark.parametrize(
    "path", ["docs/thesis.txt", "docs/me_0001.000s.jpg", "thesis.txt", "../set/a.txt/../thesis.txt"]
)
def test_a_journal_cannot_delete_files_that_this_run_does_not_write(folder, path):
    for mine in ("docs/thesis.txt", "docs/me_0001.000s.jpg", "thesis.txt"):
        (folder / mine).parent.mkdir(exist_ok=True)
        (folder / mine).write_text("years")
    hidden_path(folder / "c.txt", ".journal").write_text(entry(path))
    with pytest.raises(DataError, match=r"an interrupted run was writing .*, which this run does not write"):
        settle_all(folder)
    assert {name for path in folder.rglob("*.*") if (name := path.name)[0] != "."} >= {"thesis.txt", "me_0001.000s.jpg"}


def test_a_journal_cannot_delete_an_output_that_has_no_backup(folder):
    hidden_path(folder / "c.txt", ".journal").write_text(entry("a.txt"))
    settle_all(folder)
    assert state(folder) == OLD


@pytest.mark.parametrize("path", ["a.txt", "public.txt"])
def test_a_journal_cannot_copy_files_through_a_link(folder, path):
    secret = folder.parent / "secret"
    secret.mkdir()
    (secret / "id_rsa").write_text("KEY")
    (folder / TEMPORARY).symlink_to(secret)
    hidden_path(folder / "c.txt", ".journal").write_text(
        entry(path, f"{TEMPORARY}/nothing", "x", f"{TEMPORARY}/id_rsa")
    )
    with pytest.raises(DataError, match="an interrupted run was writing"):
        settle_all(folder)
    assert (secret / "id_rsa").read_text() == "KEY"


def test_undoing_does_not_change_a_file_that_was_written_since(folder):
    entries = pending(folder)
    (folder / entries[2]["staged"]).unlink()
    (folder / "a.txt").write_text("mine")
    settle_all(folder)
    assert state(folder) == OLD | {"a.txt": "mine"}


@pytest.mark.parametrize("path", ["../mine.txt", "{}/mine.txt"])
@pytest.mark.parametrize("staged", [None, "evil.txt", "../.framecnn-0123456789ab-01234567-1-01234567.txt"])
def test_a_journal_cannot_change_files_elsewhere(folder, path, staged):
    mine = folder.parent / "mine.txt"
    mine.write_text("mine")
    hidden_path(folder / "c.txt", ".journal").write_text(entry(path.format(folder.parent), staged))
    (folder / "evil.txt").write_text("evil")
    with pytest.raises(DataError, match=r"an interrupted run was writing .*, which this run does not write; repeat"):
        settle_all(folder)
    assert mine.read_text() == "mine"


def test_a_journal_cannot_replace_one_file_of_the_user_by_another(folder):
    hidden_path(folder / "c.txt", ".journal").write_text(entry("a.txt", "b.txt"))
    with pytest.raises(DataError, match="an interrupted run was writing"):
        settle_all(folder)
    assert (folder / "a.txt").read_text() == OLD["a.txt"]


def test_files_elsewhere_that_the_same_run_writes_are_finished(folder):
    other = folder.parent / "other.txt"
    staged = temporary_path(other)
    staged.write_text("new")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("framecnn.storage.output_set._Change.do", lambda change: os._exit)
        patch.setattr("framecnn.storage.output_set._remove", lambda path: None)
        switch(folder / "c.txt", {other: staged})
    with pytest.raises(DataError, match="an interrupted run was writing"):
        settle_all(folder)
    settle(folder / "c.txt", [other])
    assert other.read_text() == "new"


def test_where_files_cannot_be_linked_they_are_copied(folder, monkeypatch):
    def refuse(*paths):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    pending(folder)
    settle_all(folder)
    assert state(folder) == NEW
    write_old(folder)
    entries = pending(folder)
    (folder / entries[1]["staged"]).unlink()
    settle_all(folder)
    assert state(folder) == OLD


def test_only_files_of_dead_processes_of_this_host_are_swept(folder):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    ours = temporary_path(folder / "a.txt").name
    assert is_temporary(ours)
    pid = f"-{os.getpid()}-"
    kept = [
        ours,  # of a running process
        ours.replace(ours.split("-")[2], "01234567").replace(pid, f"-{ended.pid}-"),  # of another host
        temporary_path(folder / "b.txt").name.replace(pid, f"-{ended.pid}-"),  # of another file
        ".framecnn-mine.txt",
        ".0123456789abcdef.txt",
    ]
    for name in kept:
        (folder / name).write_text("")
    dead = folder / ours.replace(pid, f"-{ended.pid}-")
    dead.write_text("")
    (folder / temporary_path(folder / "a.txt").name.replace(pid, f"-{ended.pid}-")).mkdir()
    sweep(folder / "a.txt")
    assert set(state(folder)) == {*NAMES, *kept}
