"""Help of every command, and completion in the shell."""

import os
import re
import subprocess
import sys

import pytest
from commands import framecnn

from framecnn.cli import _COMMANDS


@pytest.mark.parametrize("arguments", [[], *([name] for name in _COMMANDS)], ids=str)
def test_h_is_help(arguments):
    short, long = framecnn(*arguments, "-h"), framecnn(*arguments, "--help")
    assert short.code == long.code == 0
    assert short.out == long.out
    assert "-h, --help" in short.out


def complete(words, position):
    """Return what a shell would offer for the word at a position."""
    asked = {"_FRAMECNN_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    command = [sys.executable, "-m", "framecnn"]
    done = subprocess.run(command, env=os.environ | asked, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_shell_completes_commands_and_their_options():
    assert complete("framecnn s", 1) == ["scan", "summary"]
    assert complete("framecnn ", 1) == list(_COMMANDS)
    assert complete("framecnn predict --pred", 2) == ["--predictions"]


def test_completion_is_shown_and_installed(tmp_path):
    command = [sys.executable, "-m", "framecnn"]
    home = os.environ | {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    shown = subprocess.run(
        [*command, "--show-completion", "bash"], env=home, capture_output=True, text=True, check=True
    )
    assert "complete -o default -F _framecnn_completion framecnn" in shown.stdout
    assert list(tmp_path.iterdir()) == []
    subprocess.run([*command, "--install-completion", "bash"], env=home, capture_output=True, text=True, check=True)
    assert "framecnn.sh" in (tmp_path / ".bashrc").read_text()


def test_completing_a_command_loads_no_module_of_a_command():
    code = (
        "import os, sys\n"
        "os.environ |= {'_FRAMECNN_COMPLETE': 'complete_bash', 'COMP_WORDS': 'framecnn tr', 'COMP_CWORD': '1'}\n"
        "from framecnn.cli import main\n"
        "try:\n"
        "    main([])\n"
        "except SystemExit:\n"
        "    sys.exit(', '.join({'numpy', 'framecnn.cli.train'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["train"]), done.stderr


def test_the_help_of_a_command_with_many_options_lists_them_below_titles():
    said = framecnn("train", "-h").out
    titles = ["Arguments", "Options", "Labels and groups", "Parts of a split", "Output", "Limits", "Cluster"]
    assert re.findall(r"^(\w.*):$", said, re.MULTILINE) == titles
    sections = dict(zip(titles, re.split(r"^\w.*:$", said, flags=re.MULTILINE)[1:], strict=True))
    places = {
        "--size": "Options",
        "-h, --help": "Options",
        "--labels": "Labels and groups",
        "--test": "Parts of a split",
    }
    places |= {"--part-column": "Parts of a split", "--report": "Output", "--json": "Output", "--max-bad": "Limits"}
    for option, title in places.items():
        assert [name for name, text in sections.items() if f"  {option}" in text] == [title]
    assert re.findall(r"^(\w.*):$", framecnn("summary", "-h").out, re.MULTILINE) == ["Arguments", "Options", "Output"]
