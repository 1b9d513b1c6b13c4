"""The outputs of ``framecnn train`` are all of one run, old or new, whatever fails while they are written."""

import errno
import os
import shutil
import subprocess
from contextlib import suppress

import pytest
from commands import framecnn, quick, write_frames
from failing import every_failure

from framecnn.cli import workflow

LONG = "FRAMECNN_LONG_TESTS" in os.environ


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Return what writes the outputs of a second run over the first, their folder, and both sets of outputs."""
    quick(monkeypatch)
    films, out = write_frames(tmp_path / "films"), tmp_path / "out"
    out.mkdir()
    runs, sets = [], []
    real = workflow.write_everything
    monkeypatch.setattr(workflow, "write_everything", lambda run: runs.append(run) or real(run))
    for seed in (0, 1):
        arguments = ("-o", out / "m.safetensors", "--json", out / "f.json", "--size", "24x32", "--seed", seed)
        assert framecnn("train", films, *map(str, arguments)).code == 0
        real(runs[-1])  # the seconds of writing are part of the figures
        sets.append(contents(out))
    return lambda: real(runs[1]), out, sets


def contents(out):
    """Return the visible files of a folder."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name[0] != "."}


def restore(out, old):
    for path in out.iterdir():
        path.unlink()
    for name, content in old.items():
        (out / name).write_bytes(content)


def test_after_any_failure_the_outputs_are_all_old_or_all_new(trained):
    write, out, sets = trained

    def check(error):
        assert contents(out) in sets
        assert error is None or os.path.dirname(error.filename) == str(out)

    assert every_failure(write, lambda: restore(out, sets[0]), check, step=1 if LONG else 3) > 30


def test_on_a_full_disk_the_outputs_are_all_old_or_all_new(trained):
    write, out, sets = trained
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(out)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs to be allowed to mount a tmpfs of 1 MB")
    try:
        seen = set()
        for free in (0, 4, 8, 16, 32, 64, 128, 256):  # kilobytes
            restore(out, sets[0])
            (out / "filler").touch()
            with suppress(OSError), open(out / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            os.truncate(out / "filler", max(0, (out / "filler").stat().st_size - 1024 * free))
            failed = None
            try:
                write()
            except OSError as error:
                failed = error
            assert failed is None or (failed.errno, os.path.dirname(failed.filename)) == (errno.ENOSPC, str(out))
            left = contents(out)
            left.pop("filler")
            seen.add(sets.index(left))
            assert not list(out.glob(".*"))
            (out / "filler").unlink()
        assert seen == {0, 1}
    finally:
        subprocess.run(["umount", str(out)], check=True)
