"""Locks of outputs: one run at a time writes an output, and the lock of a dead process is taken over."""

import errno
import json
import os
import platform
import subprocess
import sys

import pytest
from commands import refused, write_frames
from filelock import FileLock

from framecnn.errors import DataError
from framecnn.storage import atomic
from framecnn.storage.atomic import hidden_path
from framecnn.storage.output_lock import lock_outputs

HOLD = (
    "import sys\n"
    "from pathlib import Path\n"
    "from framecnn.storage.output_lock import lock_outputs\n"
    "with lock_outputs([Path(sys.argv[1])]):\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


@pytest.fixture
def holder(tmp_path):
    """Return a process that holds the lock of m.safetensors."""
    command = [sys.executable, "-c", HOLD, tmp_path / "m.safetensors"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_with_the_owner_of_the_lock(holder, tmp_path):
    owner = f"process {holder.pid} on host {platform.node()!r} does; wait until it has ended, end it, or choose"
    with pytest.raises(DataError, match="m.safetensors: expected no other run to write here, but " + owner):
        lock_outputs([tmp_path / "m.safetensors"]).__enter__()
    with lock_outputs([tmp_path / "other.safetensors"]):
        pass


@pytest.mark.parametrize("command", ["train", "compare"])
def test_two_commands_do_not_write_one_file(holder, tmp_path, command):
    films = write_frames(tmp_path / "films")
    option = {"train": "--out", "compare": "--json"}[command]
    assert f"process {holder.pid} on host" in refused(command, films, option, tmp_path / "m.safetensors")
    assert f"process {holder.pid} on host" in refused(command, films, "--report", tmp_path / "M.safetensors") or (
        command == "train"
    )


def test_the_lock_of_a_killed_run_is_taken_over(holder, tmp_path):
    holder.kill()
    holder.wait()
    assert hidden_path(tmp_path / "m.safetensors", ".lock").exists()
    with lock_outputs([tmp_path / "m.safetensors"]):
        lock = hidden_path(tmp_path / "m.safetensors", ".lock").read_bytes()
        assert json.loads(lock[1:])["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_link_and_its_target_have_one_lock(tmp_path):
    (tmp_path / "m").touch()
    (tmp_path / "link").symlink_to("m")
    with lock_outputs([tmp_path / "m", tmp_path / "m", None]):
        with pytest.raises(DataError, match="expected no other run to write here"):
            lock_outputs([tmp_path / "link"]).__enter__()
        assert len(list(tmp_path.glob(".*"))) == 1


@pytest.mark.parametrize(
    "text",
    [b"", b" [1]", b"1\n\xff\n", b"1\n", b" {}", b' {"pid":' + b"[" * 4000, b' {"pid": "x", "host": 1}', b" \xff"],
)
def test_a_lock_without_a_readable_owner_still_holds(tmp_path, text):
    path = tmp_path / "m"
    with lock_outputs([path]):
        hidden_path(path, ".lock").write_bytes(text)
        with pytest.raises(DataError, match="but another process does"):
            lock_outputs([path]).__enter__()


WITHOUT_LOCKS = (
    "import errno, fcntl, sys\n"
    "def refuse(*arguments):\n"
    "    raise OSError(getattr(errno, sys.argv[2]), 'no locks')\n"
    "fcntl.flock = refuse\n"
)


@pytest.mark.parametrize("code", ["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_has_one_writer_and_the_lock_of_a_killed_run_is_taken_over(
    tmp_path, monkeypatch, code
):
    fcntl = pytest.importorskip("fcntl")
    path = tmp_path / "m.safetensors"

    def refuse(*arguments):
        raise OSError(getattr(errno, code), "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    command = [sys.executable, "-c", WITHOUT_LOCKS + HOLD, path, code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        message = rf"but process {process.pid} on host {platform.node()!r} does; .* is gone, delete '.*\.pid'"
        with pytest.raises(DataError, match=message):
            lock_outputs([path]).__enter__()
        process.kill()
    for _ in range(3):
        with lock_outputs([path]):
            assert [name.suffix for name in tmp_path.iterdir()] == [".pid"]
            with pytest.raises(DataError, match=f"but process {os.getpid()} on"):
                lock_outputs([path]).__enter__()
        assert list(tmp_path.iterdir()) == []


def test_another_error_of_the_disk_is_raised(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        lock_outputs([tmp_path / "m"]).__enter__()


def test_the_lock_of_another_user_is_named_with_its_process_and_what_to_delete(tmp_path, monkeypatch):
    lock = hidden_path(tmp_path / "m", ".lock")

    def refuse(holding, **options):
        raise PermissionError(errno.EACCES, "Permission denied", holding.lock_file)

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(PermissionError):  # of the folder
        lock_outputs([tmp_path / "m"]).__enter__()
    for text, process in ((b' {"pid": 123, "host": "vm"}', "process 123 on host 'vm'"), (b"", "another process")):
        for owner, user in ((lambda path: "mary", "user 'mary'"), (lambda path: {}[1], "another user")):
            lock.write_bytes(text)
            monkeypatch.setattr(type(lock), "owner", owner)
            message = f"m: expected a lock of this user or none, but {process} of {user} writes here, or was killed; "
            with pytest.raises(DataError, match=message + ".* if that process is gone, delete '.*lock'"):
                lock_outputs([tmp_path / "m"]).__enter__()


def test_temporary_paths_do_not_need_proc(monkeypatch):
    def refuse(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "readlink", refuse)
    assert atomic.is_temporary(atomic.temporary_path(atomic.Path("a")).name)
