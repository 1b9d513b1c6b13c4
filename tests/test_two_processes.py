"""Two processes write one set of files and may be killed at any rename: the set is always complete, of one writer."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

NAMES = ("a.txt", "b.txt", "main.txt")
LONG = "FRAMECNN_LONG_TESTS" in os.environ
WORKER = """
import json, os, sys
from pathlib import Path
from framecnn.errors import DataError
from framecnn.storage.output_lock import lock_outputs
from framecnn.storage.output_set import settle, write_together
folder, names = Path(sys.argv[1]), sys.argv[2:]
paths = [folder / name for name in names]
real, left = os.replace, -1
def replace(*both):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    real(*both)
os.replace = replace
held = None
for line in sys.stdin:
    text, left, keep = json.loads(line)
    try:
        if held is None:
            held = lock_outputs(paths)
            try:
                held.__enter__()
            except DataError:
                held = None
                raise
        before, left = left, -1
        settle(paths[-1], paths)
        left = before
        with write_together(paths[-1]) as stage:
            for path in paths:
                stage(path).write_text(text)
        if not keep:
            held.__exit__(None, None, None)
            held = None
        print("written", flush=True)
    except DataError:
        print("refused", flush=True)
"""


class TwoProcesses(RuleBasedStateMachine):
    """Writers 0 and 1; each may keep the lock, and may be killed at its n-th rename."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = Path(self.folder.name)
        self.workers, self.holder, self.number = {}, None, 0
        self.allowed = {None}

    def teardown(self):
        for worker in self.workers.values():
            worker.kill()
            worker.communicate()
        self.folder.cleanup()

    def start(self, who):
        if who not in self.workers or self.workers[who].poll() is not None:
            command = [sys.executable, "-c", WORKER, self.root, *NAMES]
            self.workers[who] = subprocess.Popen(command, stdin=-1, stdout=-1, text=True)
        return self.workers[who]

    @rule(who=st.integers(0, 1), dies_at=st.sampled_from([-1, -1, 0, 1, 2, 3]), keep=st.booleans())
    def write(self, who, dies_at, keep):
        worker = self.start(who)
        self.number += 1
        text = str(self.number)
        worker.stdin.write(json.dumps([text, dies_at, keep]) + "\n")
        worker.stdin.flush()
        said = worker.stdout.readline()
        if self.holder not in (None, who):
            assert said == "refused\n"
            return
        if said == "":
            assert worker.wait(30) == 9
            worker.communicate()
            self.holder = None
            self.allowed = {text} if dies_at else self.allowed  # the first rename is the journal's
        else:
            assert said == "written\n"
            self.holder = who if keep else None
            self.allowed = {text}

    @precondition(lambda self: self.holder is not None)
    @rule()
    def kill_the_holder(self):
        self.workers[self.holder].kill()
        self.workers[self.holder].communicate()
        self.holder = None

    @precondition(lambda self: self.holder is None)
    @rule(who=st.integers(0, 1))
    def the_next_run_finds_one_set_and_nothing_else(self, who):
        code = (
            "import sys\nfrom pathlib import Path\nfrom framecnn.storage.output_set import settle\n"
            "paths = [Path(sys.argv[1], name) for name in sys.argv[2:]]\nsettle(paths[-1], paths)"
        )
        subprocess.run([sys.executable, "-c", code, self.root, *NAMES], check=True)
        found = {path.name: path.read_text() for path in self.root.iterdir() if not path.name.endswith(".lock")}
        assert set(found) in (set(), set(NAMES))
        assert set(found.values()) <= self.allowed
        assert len(set(found.values())) <= 1

    @invariant()
    def every_file_is_complete(self):
        for name in NAMES:
            if (self.root / name).exists():
                assert (self.root / name).read_text().isdigit()


TestTwoProcesses = TwoProcesses.TestCase
TestTwoProcesses.settings = settings(
    max_examples=200 if LONG else 3, stateful_step_count=20 if LONG else 8, deadline=None
)
