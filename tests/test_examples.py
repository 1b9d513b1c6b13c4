"""Every example runs: the scripts of examples/, and the Python of the README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "examples").glob("[0-9]*.py"))
README_BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def run(arguments, folder):
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_examples():
    assert len(SCRIPTS) >= 4
    assert len(README_BLOCKS) >= 3


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_an_example_runs_and_is_short(script, tmp_path):
    assert run([script], tmp_path)
    assert len(script.read_text().splitlines()) < 60


def test_the_examples_say_what_they_promise(tmp_path):
    stripes = run([ROOT / "examples" / "01_classify_frames.py"], tmp_path)
    assert "accuracy on new shots: 1.0" in stripes
    assert "same after loading: True" in stripes


@pytest.mark.parametrize("number", range(len(README_BLOCKS)))
def test_a_python_block_of_the_readme_runs(number, tmp_path):
    run(["-c", README_BLOCKS[number]], tmp_path)
