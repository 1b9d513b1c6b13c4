"""Every example runs: the scripts of examples/, and the Python and the commands of the README."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import framecnn, quick
from movies import moving, write_movie

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("[0-9]*.py"))
README = (ROOT / "README.md").read_text()
README_BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
README_COMMANDS = re.findall(
    r"^framecnn (.*)", "".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)), re.MULTILINE
)


QUICKLY = """
from framecnn.estimators import feature_choice, features
features.FILTERS, features.SMALL_FRAME_FILTERS, features.PATCHES = 12, 12, 2000
feature_choice.has_pretrained_weights = lambda: False
"""
PROMISES = {"01_classify_frames.py": ["accuracy on new shots: 1.0", "same after loading: True"]}


def run(code, folder):
    """Return what code prints in a new process; classifiers learn few filters."""
    code = QUICKLY + code if "FrameClassifier" in code else code
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_examples():
    assert len(SCRIPTS) >= 4
    assert len(README_BLOCKS) >= 3
    assert len(README_COMMANDS) >= 7


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_an_example_is_short_and_prints_what_it_promises(script, tmp_path):
    code = script.read_text()
    assert len(code.splitlines()) < 60
    printed = run(code, tmp_path)
    assert printed
    assert all(promise in printed for promise in PROMISES.get(script.name, ()))


@pytest.mark.parametrize("number", range(len(README_BLOCKS)))
def test_a_python_block_of_the_readme_runs(number, tmp_path):
    run(README_BLOCKS[number], tmp_path)


def test_the_commands_of_the_readme_run_one_after_the_other(tmp_path, monkeypatch):
    """On two movies of six shots, under the names that the README gives them."""
    quick(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "movies").mkdir()
    for name, seeds in (("alien.mp4", range(6)), ("brazil.mkv", range(6, 12))):
        write_movie(tmp_path / "movies" / name, [picture for seed in seeds for picture in moving(seed, 48)])
    ran = []
    for line in README_COMMANDS:
        arguments = shlex.split(line, comments=True)
        ended = framecnn(*arguments)
        assert ended.code == 0, (line, ended.err)
        ran.append(arguments[0])
        if arguments[0] == "frames":
            shutil.copytree("films", "others")
            shutil.copy(min(Path("films/alien").iterdir()), "still.jpg")
            shutil.copy("movies/alien.mp4", "film.mp4")
    assert ran == ["frames", "scan", "train", *["predict"] * 3, "evaluate", "export", "summary", "doctor"]
    assert {"model.safetensors", "report.html", "predictions.csv", "manifest.csv"} <= {
        path.name for path in tmp_path.iterdir()
    }
