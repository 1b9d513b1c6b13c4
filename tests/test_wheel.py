"""The wheel holds everything: installed in an empty environment, without extras, framecnn trains and predicts."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from commands import write_frames
from packaging.requirements import Requirement

import framecnn

pytest.importorskip("setuptools", minversion="77")

ROOT = Path(framecnn.__file__).parents[1]
EXTRAS = ("av", "jinja2", "keras", "onnx", "hypothesis", "skvideo")
WITHOUT = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}


def run(*command, folder, code=0):
    """Run a command in a folder, without the Python path of this process; return its output."""
    environment = {name: value for name, value in os.environ.items() if name not in WITHOUT}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Return a wheel that is built from a copy of the sources, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "sources").mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "framecnn", folder / "sources" / "framecnn", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "sources")
    options = ("--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--wheel-dir", folder)
    run(sys.executable, "-m", "pip", "wheel", *options, folder / "sources", folder=folder)
    return next(folder.glob("*.whl"))


def needed(requirements):
    """Return the names of the distributions that are needed without extras, with those that they need."""
    found, waiting = {}, [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        if applies and requirement.name not in found:
            found[requirement.name] = metadata.distribution(requirement.name)
            waiting += [Requirement(line) for line in found[requirement.name].requires or ()]
    return found


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """Return the Python of a new environment that has the wheel, and links to the packages that it needs."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    options = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, wheel, folder=folder)
    with zipfile.ZipFile(wheel) as file:
        text = file.read(next(name for name in file.namelist() if name.endswith("/METADATA"))).decode()
    packages = folder / "packages"
    packages.mkdir()
    for distribution in needed(re.findall(r"^Requires-Dist: (.+)$", text, re.MULTILINE)).values():
        for top in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(distribution.locate_file(top))
    site, _ = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", folder=folder)
    Path(site.strip(), "packages.pth").write_text(f"{packages}\n")
    return python


def test_the_wheel_holds_every_file_of_the_package(wheel):
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "framecnn").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as file:
        held = set(file.namelist())
    assert {path for path in files if "__pycache__" not in path} == {path for path in held if "dist-info" not in path}
    assert {"framecnn/py.typed", "framecnn/report/base.html.j2", "framecnn/cli/results.schema.json"} <= held


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right on Windows")
def test_without_extras_it_trains_and_predicts_and_says_how_to_get_a_report(python, tmp_path):
    absent = f"import importlib.util as u; assert not any(map(u.find_spec, {EXTRAS})); import framecnn"
    found, _ = run(python, "-c", f"{absent}; print(framecnn.__file__)", folder=tmp_path)
    assert Path(found).is_relative_to(python.parents[1])
    films = write_frames(tmp_path / "films")
    command = (python, "-m", "framecnn")
    out, err = run(*command, "train", "films", "--out", "made/model.safetensors", "--size", "24x32", folder=tmp_path)
    assert "test accuracy" in out
    assert "no report will be written (framecnn report: the package jinja2 is not installed; run: pip install " in err
    assert "'framecnn[report]'" in err
    picture = next((films / "down").iterdir())
    out, _ = run(*command, "predict", "made/model.safetensors", picture, "film.mp4", folder=tmp_path, code=1)
    assert re.search(rf"{picture} +\w+ +\d+\.\d %", out)
    code = f"from framecnn import load; print(load('made/model.safetensors').predict_files([{str(picture)!r}]))"
    assert run(python, "-c", code, folder=tmp_path)[0].strip() in ("['across']", "['blobs']", "['down']")
    assert "pip install 'framecnn[report]'" in run(*command, "doctor", folder=tmp_path)[0]
