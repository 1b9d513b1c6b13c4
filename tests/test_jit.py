"""Compiled kernels are kept in a private folder; kernels run whatever happens to it."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import platformdirs
import pytest

from framecnn.kernels import jit
from framecnn.kernels.jit import cache_directory, current_isa, n_compiled

EVERY_KERNEL = """
import sys
from framecnn.networks.warmup import warm_up

warm_up()
for module in [module for name, module in sys.modules.items() if name.startswith("framecnn.kernels.")]:
    for name, kernel in vars(module).items():
        if hasattr(kernel, "py_func") and kernel.py_func.__module__ == module.__name__:
            print(name, sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values()))
"""
ONE_KERNEL = """
import numpy as np
from framecnn.kernels.pointwise import activate, relu_forward
assert activate(np.array([-1.0, 2.0]), "relu", 0.0).tolist() == [0, 2]
print(sum(relu_forward.stats.cache_hits.values()), sum(relu_forward.stats.cache_misses.values()))
"""
compiled, from_cache = "0 1\n", "1 0\n"


def python(script, **environment):
    """Return the output of a script in a new Python, which uses the caches that the environment names."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=os.path.dirname(__file__),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def folder_now():
    """Return the cache folder that a process with this environment would use."""
    return cache_directory.__wrapped__()


@pytest.fixture
def caches(tmp_path, monkeypatch):
    """Return the folder of the test that caches go to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="session")
def warm(tmp_path_factory):
    """Return a folder of caches with one compiled kernel."""
    caches = tmp_path_factory.mktemp("caches")
    assert python(ONE_KERNEL, XDG_CACHE_HOME=str(caches)) == compiled
    return caches


def test_a_second_process_compiles_nothing():
    python(EVERY_KERNEL)
    seen = dict(line.split(maxsplit=1) for line in python(EVERY_KERNEL).splitlines())
    tiles = {"load_patch", "transform_tiles", "multiply_tiles", "write_tiles"}
    backward = {"transform_gradients", "load_gradients", "accumulate_rows", "items_of_part"}
    depthwise = {"axis_at", "taps_inside", "form_of", "copy_rows", "depthwise_row"}
    inner = {
        *tiles,
        *backward,
        *depthwise,
        "load_rows",
        "convolve_row",
        "multiply_range",
        "respond",
        "add_responses",
        "inverse_deviations",
        "add_sums",
    }
    outer = {name: counts for name, counts in seen.items() if name not in inner}
    assert {
        "conv2d_forward",
        "multiply_forward",
        "expanded_depthwise_forward",
        "matrix_forward",
        "run_calls",
        "merge_forward",
        "depthwise_forward",
        "depthwise_wrt_kernel",
        "filter_bank_average_forward",
        "pool2d_max_forward",
    } < set(outer)
    assert set(outer.values()) <= {f"{hits} 0" for hits in (1, 2, 3)}  # some also in float64, some locate maxima
    assert all(seen[name] == "0 0" for name in inner)


def test_compiled_kernels_lie_in_a_private_folder_and_nowhere_else(warm):
    files = [path for path in warm.rglob("*") if path.is_file()]
    (folder,) = {path.parent for path in files}
    assert {path.suffix for path in files} == {".nbc"}
    assert folder.parent == warm / "framecnn" / "kernels"
    assert folder.name.split("-")[1] == current_isa()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert python(ONE_KERNEL, XDG_CACHE_HOME=str(warm)) == from_cache


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"\x80garbage", lambda data: data[: len(data) // 2]])
def test_a_damaged_entry_is_dropped_and_compiled_again(warm, tmp_path, damage):
    caches = shutil.copytree(warm, tmp_path / "caches")
    (entry,) = caches.rglob("*.nbc")
    sound = entry.read_bytes()
    entry.write_bytes(damage(sound))
    assert python(ONE_KERNEL, XDG_CACHE_HOME=str(caches)) == compiled
    assert len(entry.read_bytes()) == pytest.approx(len(sound), rel=0.1)


def test_kernels_run_when_a_damaged_entry_cannot_be_replaced(warm, tmp_path):
    caches = shutil.copytree(warm, tmp_path / "caches")
    for entry in [*caches.rglob("*.nbc")]:
        entry.unlink()
        entry.mkdir()
    assert python(ONE_KERNEL, XDG_CACHE_HOME=str(caches)) == compiled


def double(y, x, start, stop):
    for number in range(start, stop):
        y[number] = 2.0 * x[number]


def triple(y, x, start, stop):
    for number in range(start, stop):
        y[number] = 3.0 * x[number]


@pytest.fixture
def entries(tmp_path, monkeypatch):
    """Return the folder of the kernels that a test compiles in this process, empty at first."""
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path)
    return tmp_path


def run_afresh(function, dtype=np.float32):
    """Run a kernel as a new process would; return whether it came from the cache."""
    x = np.arange(5, dtype=dtype)
    y = np.empty_like(x)
    compiled_now = jit.kernel(function)
    compiled_now(y, x, 0, 5)
    assert y.tolist() == (x * {double: 2, triple: 3}[function]).tolist()
    return sum(compiled_now.stats.cache_hits.values()) == 1


def test_no_byte_of_an_entry_can_change_unnoticed(entries):
    assert not run_afresh(double)
    (entry,) = entries.iterdir()
    sound, rng = entry.read_bytes(), np.random.default_rng(0)
    dispatcher = jit.kernel(double)
    number = numba.float32[::1]
    signature = (number, number, numba.int64, numba.int64)
    context = dispatcher.targetdescr.target_context
    assert dispatcher._cache.load_overload(signature, context) is not None
    for place in range(0, len(sound), 31):
        damaged = bytearray(sound)
        damaged[place] ^= 1 << rng.integers(8)
        entry.write_bytes(damaged)
        assert dispatcher._cache.load_overload(signature, context) is None, place
    assert not run_afresh(double)
    assert run_afresh(double)


def test_an_entry_under_the_name_of_another_is_not_used(entries):
    for function in (double, triple):
        assert not run_afresh(function)
        assert not run_afresh(function, np.float64)
    assert len([*entries.iterdir()]) == 4
    doubles, triples = (sorted(entries.glob(f"*{name}*")) for name in ("double", "triple"))
    bytes_of = {path: path.read_bytes() for path in entries.iterdir()}
    for here, there in [*zip(doubles, triples, strict=True), doubles, triples[::-1]]:
        there.write_bytes(bytes_of[here])
        seen = [run_afresh(function, dtype) for function in (double, triple) for dtype in (np.float32, np.float64)]
        assert seen.count(False) == 1
        assert all(run_afresh(function, dtype) for function in (double, triple) for dtype in (np.float32, np.float64))


def test_an_entry_of_an_older_source_is_not_used(entries, monkeypatch):
    assert not run_afresh(double)
    monkeypatch.setattr(jit._PrivateLocator, "get_source_stamp", lambda locator: "a minute later")
    assert not run_afresh(double)
    assert run_afresh(double)
    assert len([*entries.iterdir()]) == 1


def test_processes_that_compile_at_once_leave_sound_entries(tmp_path):
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    starts = [[sys.executable, "-c", ONE_KERNEL.replace("2.0])", f"2.0], '{dtype}')")] for dtype in ("f4", "f8", "f4")]
    running = [subprocess.Popen(start, env=environment, stdout=subprocess.PIPE) for start in starts]
    assert {process.communicate()[0] for process in running} <= {compiled.encode(), from_cache.encode()}
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".nbc"}
    both = "".join(start[2] for start in starts[:2])
    assert python(both, XDG_CACHE_HOME=str(tmp_path)) == from_cache + "2 0\n"


def test_old_temporary_files_of_killed_processes_are_deleted(entries):
    run_afresh(double)
    (entry,) = entries.iterdir()
    old, new = (entries / f"{entry.name}.tmp.{name}" for name in ("old", "new"))
    entry.unlink()
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    run_afresh(double)
    assert {*entries.iterdir()} == {entry, new}


def test_compiling_a_kernel_anew_drops_its_own_entries_only(entries):
    run_afresh(double)
    run_afresh(triple)
    dispatcher = jit.kernel(double)
    dispatcher(np.empty(1), np.zeros(1), 0, 1)
    dispatcher._cache.flush()
    assert [path.name.split("-")[0] for path in entries.iterdir()] == ["test_jit.triple"]


def test_kernels_run_without_a_folder_for_caches(tmp_path):
    (tmp_path / "file").touch()
    assert python(ONE_KERNEL, XDG_CACHE_HOME=str(tmp_path / "file")) == compiled


def test_kernels_run_when_the_folder_vanishes_while_they_are_defined(tmp_path):
    script = """
import shutil, sys
from framecnn.kernels import jit
shutil.rmtree(jit.cache_directory())
jit.cache_directory().parent.rmdir()
jit.cache_directory().parent.touch()
"""
    assert python(script + ONE_KERNEL, XDG_CACHE_HOME=str(tmp_path)) == compiled


def test_the_folder_is_made_private(caches):
    folder = folder_now()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    assert folder_now() == folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_is_left_alone(caches, monkeypatch):
    folder = folder_now()
    folder.chmod(0o755)
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    assert folder_now() is None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_entries_that_others_may_have_written_are_deleted_unread(caches):
    folder = folder_now()
    (folder / "conv.nbc").touch()
    folder.chmod(0o755)
    assert [path.name for path in folder_now().iterdir()] == ["conv.nbc"]
    folder.chmod(0o770)
    assert not [*folder_now().iterdir()]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_whose_entries_cannot_be_deleted_is_never_used(caches, monkeypatch):
    folder = folder_now()
    folder.chmod(0o777)
    with monkeypatch.context() as without:
        without.setattr(shutil, "rmtree", lambda folder: os.rmdir(folder / "of somebody else"))
        assert folder_now() is None
        assert folder_now() is None
    assert folder_now() == folder


def test_a_folder_that_cannot_be_made_private_is_not_used(caches, monkeypatch):
    monkeypatch.setattr(stat, "S_IMODE", lambda mode: 0o777)  # a file system without modes
    assert folder_now() is None


def test_a_system_without_owners_of_files_has_the_folder_of_the_user(caches, monkeypatch):
    monkeypatch.delattr(os, "getuid")
    folder = folder_now()
    folder.chmod(0o755)
    assert folder_now() == folder


def test_a_folder_that_cannot_be_written_is_not_used(caches, monkeypatch):
    def refuse(*arguments, **keywords):
        raise PermissionError("read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert folder_now() is None


def test_a_user_without_a_home_has_no_folder(monkeypatch):
    def homeless(*arguments, **keywords):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(platformdirs, "user_cache_dir", homeless)
    assert folder_now() is None


def test_compiled_kernels_are_counted(caches, monkeypatch):
    monkeypatch.setattr("framecnn.kernels.jit.cache_directory", folder_now)
    assert n_compiled() == 0
    (folder_now() / "conv.nbc").touch()
    assert n_compiled() == 1


@pytest.mark.parametrize("edited", ["pool.py", "codegen/tiles.py"])
def test_an_edited_source_means_another_folder(edited, caches, monkeypatch):
    before, read = folder_now(), Path.read_bytes
    source = Path(jit.__file__).parent / edited
    assert source.exists()
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"#" * (path == source))
    assert folder_now() != before
