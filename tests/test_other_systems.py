"""Nothing requires Linux: every call that other systems lack has a fallback, and text is UTF-8 everywhere."""

import ast
import subprocess
import sys
import types
from pathlib import Path

import pytest

from framecnn.comparison import model_process

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for part in ("framecnn", "benchmarks", "examples") for path in (ROOT / part).rglob("*.py"))
PACKAGE = [path for path in SOURCES if path.is_relative_to(ROOT / "framecnn")]
NOT_EVERYWHERE = {
    "chown", "fchmod", "fork", "getegid", "geteuid", "getgid", "getpgid", "getuid", "killpg", "mkfifo", "nice",
    "register_at_fork", "sched_getaffinity", "sched_setaffinity", "setsid", "statvfs", "uname", "O_BINARY",
    "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "alarm",
}  # fmt: skip
NO_MODULE_EVERYWHERE = {"fcntl", "grp", "msvcrt", "posix", "pwd", "resource", "termios", "tty", "winreg"}


def named(path):
    return path.relative_to(ROOT).as_posix()


def is_text(call):
    """Return whether a call opens a text file or a pipe of text, and whether it states the encoding."""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords}
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("read_text", "write_text", "NamedTemporaryFile", "TextIOWrapper"):
        return name != "NamedTemporaryFile" or "w" in ast.dump(call), "encoding" in keywords
    if name in ("run", "Popen", "check_output", "call"):
        return "text" in keywords or "universal_newlines" in keywords, "encoding" in keywords
    if name == "open" and isinstance(call.func, ast.Name):
        mode = keywords.get("mode", call.args[1] if len(call.args) > 1 else ast.Constant("r"))
        return "b" not in getattr(mode, "value", "b"), "encoding" in keywords
    return False, False


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_text_is_opened_with_an_encoding(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            text, says = is_text(node)
            assert says or not text, f"{named(path)}, line {node.lineno}: text without encoding="


@pytest.mark.parametrize("path", PACKAGE, ids=named)
def test_what_some_systems_lack_stands_behind_a_question(path):
    text = path.read_text(encoding="utf-8")
    asked = {node.args[1].value for node in ast.walk(ast.parse(text)) if is_question(node)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") in ("os", "signal"):
            fallback = node.attr in asked or (node.attr == "sched_getaffinity" and "sched_setaffinity" in asked)
            assert node.attr not in NOT_EVERYWHERE or fallback, f"line {node.lineno}: {node.attr} without hasattr"
    tries = [inner for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Try) for inner in node.body]
    tried = {alias.name for node in tries if isinstance(node, ast.Import) for alias in node.names}
    names = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    assert names & NO_MODULE_EVERYWHERE <= tried


def is_question(node):
    """Return whether a call is hasattr(os, "name") or getattr(os, "name", default)."""
    name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    return (name == "hasattr" or (name == "getattr" and len(node.args) == 3)) and isinstance(node.args[1], ast.Constant)


ELSEWHERE = """
import psutil  # whose code for other systems is not there on this one
import os, signal, sys, pathlib
for name in ("fork", "getuid", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "O_NONBLOCK",
             "O_DIRECTORY", "fchmod", "statvfs", "uname", "killpg", "setsid"):
    delattr(os, name) if hasattr(os, name) and name != "uname" else None
for name in ("SIGHUP", "SIGALRM", "SIGQUIT"):
    delattr(signal, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
exists, read_text = pathlib.Path.exists, pathlib.Path.read_text
pathlib.Path.exists = lambda path, **k: False if str(path).startswith("/proc") else exists(path, **k)

import importlib, pkgutil
import numpy as np
import framecnn
for module in pkgutil.walk_packages(framecnn.__path__, "framecnn."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from framecnn.cli import main
from framecnn.kernels.jit import cache_directory
from framecnn.kernels.threads import ordered_map
from PIL import Image

framecnn.set_num_threads(3)
assert ordered_map(abs, [-1, 2, -3, 4]) == [1, 2, 3, 4]
assert cache_directory() is None or cache_directory().is_dir()
here = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(0)
for label in ("night", "day"):
    (here / "films" / label).mkdir(parents=True)
    for number in range(8):
        colours = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8) // (4 if label == "night" else 1)
        picture = Image.fromarray(colours).resize((40, 32), Image.Resampling.BICUBIC)
        picture.save(here / "films" / label / f"{number}.png")

def run(*arguments):
    try:
        main(list(map(str, arguments)))
    except SystemExit as end:
        assert not end.code, (arguments, end.code)

run("doctor")
run("train", here / "films", "--out", here / "model.safetensors", "--size", "32x40")
run("predict", here / "model.safetensors", here / "films" / "day" / "0.png")
print("all ran")
"""


def test_the_commands_run_without_what_only_linux_has(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(tmp_path)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=tmp_path,
    )
    assert done.stdout.endswith("all ran\n"), done.stderr[-3000:]


@pytest.mark.parametrize(("system", "unit"), [("darwin", 1), ("freebsd14", 1024)])
def test_peak_memory_is_in_megabytes_on_every_unix(monkeypatch, system, unit):
    usage = types.SimpleNamespace(ru_maxrss=5_120_000 / unit)
    resource = types.SimpleNamespace(getrusage=lambda who: usage, RUSAGE_SELF=0)
    monkeypatch.setitem(sys.modules, "resource", resource)
    monkeypatch.setattr(model_process.sys, "platform", system)
    assert model_process.peak_megabytes(Path("no such file")) == 5.12


def test_peak_memory_is_that_of_the_working_set_on_windows(monkeypatch):
    process = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(peak_wset=7_000_000))
    monkeypatch.setattr(model_process.psutil, "Process", lambda: process)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert model_process.peak_megabytes(Path("no such file")) == 7


def test_peak_memory_on_linux_is_in_units_of_1024_bytes(tmp_path):
    (tmp_path / "status").write_text("VmPeak:\t 9999 kB\nVmHWM:\t    1000 kB\n")
    assert model_process.peak_megabytes(tmp_path / "status") == 1.024
