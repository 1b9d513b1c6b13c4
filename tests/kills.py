"""Kills commands at random moments and checks the files left: nothing lost, nothing mixed, no rerun refused.

``python tests/kills.py [KILLS [COMMAND ...]]`` (default: 50 of each of Train, Frames, Compare and Fit, some 15 minutes)
prints a table. After each kill the next run starts with the files left. Every fifth run is not killed: it must write
the files of an uninterrupted run.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import training_run
from commands import write_frames
from movies import shots, write_movie

from framecnn.comparison import MODELS

QUICK = (
    "from framecnn.estimators import features\n"
    "features.FILTERS, features.SMALL_FRAME_FILTERS, features.PATCHES = 12, 12, 2000\n"
)
SCRIPTED = (
    "import time\n"
    "from framecnn.cli import compare\n"
    "from functools import partial\n"
    "import test_cli_compare\n"
    "script = test_cli_compare.Script()\n"
    "def slowly(job):\n"
    "    time.sleep(0.02)\n"
    "    return script(job)\n"
    "compare.Comparison = partial(compare.Comparison, run=slowly)\n"
    "compare.compile_kernels = lambda size: None\n"
)
MAIN = "import sys\nfrom framecnn.cli import main\nmain(sys.argv[1:])\n"
COMPLETE = 5  # one run in so many is not killed


def digests(folder):
    """Return the digest of every file below a folder by its name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


class Frames:
    """``framecnn frames`` of two movies."""

    last_words = b"frames written to"

    def __init__(self, root):
        self.out = root / "frames"
        self.movies = [write_movie(root / f"m{i}.mp4", shots(48, 24, 24)) for i in range(2)]
        self.seconds = ended_seconds(self.start())
        self.whole = digests(self.out)
        self.renew()

    def renew(self):
        for path in sorted(self.out.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()

    def start(self):
        return start(MAIN, "frames", *self.movies, "-o", self.out, "--every", "0.2s")

    def state(self):
        """Return "lost" if no uninterrupted run writes one of the files, "mixed" if the table does not list one."""
        left = {name: digest for name, digest in digests(self.out).items() if not name.startswith(".framecnn")}
        listed = (self.out / "frames.csv").read_text() if "frames.csv" in left else ""
        pictures = {name for name in left if name != "frames.csv"}
        if {line.split(",")[0] for line in listed.splitlines()[1:]} != pictures:
            return "mixed"
        return "" if all(self.whole[name] == left[name] for name in pictures) else "lost"

    def check_complete(self):
        left = digests(self.out)
        self.renew()
        return "" if left == self.whole else "lost"


class Train:
    """``framecnn train`` that replaces the outputs of one folder of frames and seed by those of another, in turn."""

    last_words = b"all files, used or skipped"

    def __init__(self, root):
        self.out = root / "out"
        self.out.mkdir()
        self.films = [write_frames(root / name / "films") for name in ("even", "odd")]
        (self.films[1] / "across" / "broken.jpg").write_text("broken")
        self.turn, self.sets = 0, []
        for self.turn in (0, 1):
            self.seconds = ended_seconds(self.start())
            self.sets.append(digests(self.out))
        self.turn = 0

    def start(self):
        arguments = ["--size", "24x32", "--seed", self.turn, "--max-bad", "50", "--json", self.out / "figures.json"]
        return start(QUICK + MAIN, "train", self.films[self.turn], "-o", self.out / "model.safetensors", *arguments)

    def sides(self):
        names = ("manifest.csv", "report.html", "figures.json")
        found = {name: int("broken.jpg" in (self.out / name).read_text(errors="replace")) for name in names}
        left = digests(self.out)
        for name in ("model.safetensors", "predictions.csv"):
            found[name] = [own[name] for own in self.sets].index(left[name])
        return found

    def state(self):
        try:
            return "mixed" if len(set(self.sides().values())) > 1 else ""
        except (OSError, ValueError):
            return "lost"

    def check_complete(self):
        hidden = any(path.name.startswith(".") for path in self.out.iterdir())
        wrong = self.state() or ("lost" if hidden or self.sides()["model.safetensors"] != self.turn else "")
        self.turn = 1 - self.turn
        return wrong


class Fit:
    """`Sequential.fit` with a checkpoint, resumed."""

    last_words = b"\0"  # prints nothing; the next run checks its files

    def __init__(self, root):
        self.out, self.path = root, root / "run.safetensors"
        self.seconds = ended_seconds(self.start())
        self.whole = digests(root)
        self.path.unlink()

    def start(self):
        return subprocess.Popen(
            [sys.executable, training_run.__file__, self.path], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def state(self):
        return ""  # a damaged checkpoint is refused by the next run

    def check_complete(self):
        left = digests(self.out)
        self.path.unlink()
        return "" if left == self.whole else "lost"


class Compare:
    """``framecnn compare`` with models that are replaced by a script, so that a run is short."""

    last_words = b"the report; open it"

    def __init__(self, root):
        self.out = root / "out"
        self.out.mkdir()
        self.films = write_frames(root / "films")
        self.seconds = ended_seconds(self.start())
        self.kept = 0
        self.renew()

    def renew(self):
        for path in self.out.iterdir():
            path.unlink()
        self.kept = 0

    def start(self):
        arguments = ["--folds", "3", "--size", "24x32", "--network-size", "16x16", "--resume"]
        files = ["--json", self.out / "figures.json", "--report", self.out / "report.html"]
        return start(SCRIPTED + MAIN, "compare", self.films, *arguments, *files)

    def state(self):
        before, path = self.kept, self.out / "figures.json"
        folds = json.loads(path.read_text())["folds"] if path.exists() else []
        self.kept = sum(len(fold["outcomes"]) for fold in folds)
        if self.kept < before:
            return "lost"
        return "mixed" if (self.out / "report.html").exists() != (self.kept == 3 * len(MODELS)) else ""

    def check_complete(self):
        left, wrong = digests(self.out), self.state()
        self.renew()
        return wrong or ("" if set(left) == {"figures.json", "report.html"} else "lost")


def start(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path[:1], str(Path(__file__).parents[1])])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def ended_seconds(process):
    """Wait for a run that must succeed; return its seconds."""
    begin = time.perf_counter()
    error = process.communicate()[1]
    assert process.returncode == 0, error.decode()
    return time.perf_counter() - begin


def writes(subject):
    """Return whether a run has staged files."""
    return any(path.name.count("-") > 2 for path in subject.out.glob(".framecnn-*"))


def attack(subject, kills, rng):
    """Kill runs of a subject; return the number of kills and of each kind of failure."""
    found = {"kills": 0, "while writing": 0, "lost": 0, "mixed": 0, "refused": 0}
    run = 0
    while found["kills"] < kills:
        run += 1
        process = subject.start()
        if run % COMPLETE:
            at_writing = rng.random() < 0.6
            end = time.perf_counter() + (60 if at_writing else rng.uniform(0, 1.1 * subject.seconds))
            while process.poll() is None and time.perf_counter() < end and not (at_writing and writes(subject)):
                time.sleep(0.0005)
            if at_writing:
                time.sleep(rng.uniform(0, 0.05))
            found["while writing"] += writes(subject)
            process.kill()
        said, error = process.communicate()
        found["kills"] += process.returncode == -9
        if process.returncode == 0 or subject.last_words in said:  # finished, but for the exit of Python
            wrong = subject.check_complete()
        elif process.returncode == -9:
            wrong = subject.state()
        else:
            wrong = "refused"
        if wrong:
            found[wrong] += 1
            print(type(subject).__name__, run, wrong, error.decode(), file=sys.stderr)
    return found


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    rng = np.random.default_rng()
    asked = sys.argv[2:] or ["Train", "Frames", "Compare", "Fit"]
    for kind in (globals()[name] for name in asked):
        with tempfile.TemporaryDirectory() as folder:
            print(f"{kind.__name__:8}", attack(kind(Path(folder)), kills, rng), flush=True)


if __name__ == "__main__":
    main()
