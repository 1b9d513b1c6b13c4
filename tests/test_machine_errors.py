"""No memory, too many open files, a disk that fails: the run stops with the cause, and no file is skipped for it."""

import errno
import io
import os
import subprocess
import sys

import pytest
from commands import refused, write_frames
from pictures import encoded, film_folder, scene
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from framecnn.data import FrameFolder, SkippedFrame, decode
from framecnn.data import scan as scanning
from framecnn.data.machine_errors import machine_error
from framecnn.errors import MachineError

SIZE = (24, 32)
NUMBERS = [errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN]


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(scene(0), "JPEG"))
    return path


@pytest.mark.parametrize("number", NUMBERS)
def test_an_error_of_the_machine_while_a_file_is_opened_stops_the_run(picture, monkeypatch, number):
    monkeypatch.setattr(os, "open", failing(OSError(number, os.strerror(number))))
    with pytest.raises(MachineError) as error:
        decode(picture)
    assert str(error.value).startswith(f"decode: cannot read {str(picture)!r} (")
    assert "); " in str(error.value)


@pytest.mark.parametrize("number", NUMBERS)
def test_an_error_of_the_machine_while_a_file_is_read_stops_the_run(picture, monkeypatch, number):
    class Failing(io.FileIO):
        def read(self, size=-1):
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fdopen", lambda handle, mode: Failing(handle))
    with pytest.raises(MachineError, match="decode: cannot read"):
        decode(picture)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ELOOP, errno.ENAMETOOLONG])
def test_an_error_of_one_file_skips_it(picture, monkeypatch, number):
    monkeypatch.setattr(os, "open", failing(OSError(number, os.strerror(number))))
    with pytest.raises(SkippedFrame, match="unreadable"):
        decode(picture)


def test_no_memory_in_a_decoder_stops_the_run(picture, monkeypatch):
    monkeypatch.setattr(JpegImageFile, "load", failing(MemoryError()))
    with pytest.raises(MachineError, match=r"x\.jpg' \(no memory left\); free memory, raise its limit \(ulimit -v\)"):
        decode(picture)


def test_no_memory_for_exif_is_not_taken_for_missing_exif(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(encoded(scene(0), "PNG"))
    monkeypatch.setattr(PngImageFile, "getexif", failing(MemoryError()))
    with pytest.raises(MachineError, match="no memory left"):
        decode(tmp_path / "x.png")


def test_damage_that_a_decoder_reports_is_a_lack_of_memory_if_none_is_free(monkeypatch):
    broken = OSError("broken data stream when reading image file")
    assert machine_error(broken, "x.png") is None
    monkeypatch.setattr("framecnn.data.machine_errors.np.empty", failing(MemoryError()))
    assert "(no memory left)" in str(machine_error(broken, "x.png"))


def test_no_memory_for_the_fingerprint_of_a_frame_stops_the_scan(tmp_path, monkeypatch):
    root = film_folder(tmp_path, {"a": 1, "b": 1})
    monkeypatch.setattr(scanning, "fingerprint", failing(MemoryError()))
    with pytest.raises(MachineError, match=r"a/000\.png' \(no memory left\)"):
        FrameFolder(root, size=SIZE)


def test_folders_and_links_that_the_machine_cannot_read_now_stop_the_scan(tmp_path, monkeypatch):
    root = film_folder(tmp_path, {"a": 1, "b": 1})
    (root / "a" / "link.png").symlink_to("000.png")
    error = OSError(errno.EMFILE, "Too many open files")
    monkeypatch.setattr(scanning.os.path, "realpath", lambda path, strict=False: failing(error)() if strict else path)
    with pytest.raises(MachineError, match=r"link\.png' \(Too many open files\); raise the limit of open files"):
        FrameFolder(root, size=SIZE)
    monkeypatch.setattr(os, "scandir", failing(error))
    with pytest.raises(MachineError, match="Too many open files"):
        FrameFolder(root, size=SIZE)


def test_a_command_ends_in_one_line(tmp_path, monkeypatch):
    films = write_frames(tmp_path / "films", n_groups=1)
    monkeypatch.setattr(JpegImageFile, "load", failing(MemoryError()))
    assert refused("scan", films).split("; ")[0].endswith("000.jpg' (no memory left)")


LIMITED = """
import resource, sys
from framecnn.data import SkippedFrame, decode
from framecnn.errors import MachineError
for name in sys.argv[1:]:
    ends = []
    for mebibytes in (1, 2, 4, 8, 16, 64):
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * 2**20, -1))
        try:
            decode(name)
            ends.append("used")
        except MachineError:
            ends.append("stopped")
        except SkippedFrame as skipped:
            ends.append(str(skipped))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
    print(name, *sorted(set(ends)))
"""
LARGE = {
    "x.png": ("PNG", {}),
    "x.jpg": ("JPEG", {"progressive": True}),
    "x.webp": ("WEBP", {}),
    "x.bmp": ("BMP", {}),
    "x.tif": ("TIFF", {}),
    "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}),
    "deflate.tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of memory and /proc")
def test_with_little_memory_a_picture_is_used_or_the_run_stops(tmp_path):
    picture = scene(0, 750, 1000)
    for name, (file_format, options) in LARGE.items():
        (tmp_path / name).write_bytes(encoded(picture, file_format, **options))
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LIMITED, *LARGE]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    assert len(lines) == len(LARGE)
    assert set(" ".join(lines).split()) - set(LARGE) == {"used", "stopped"}
    assert sum("stopped" in line for line in lines) >= 5
