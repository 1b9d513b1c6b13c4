"""Commands on a cluster: the same files as in one process; a cluster of `dask scheduler` and `dask worker`; signals."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from commands import framecnn, quick, refused, write_frames
from executors import sha256_of_model, three_shards
from worker_frames import LoggedFrames

from framecnn import FrameClassifier, working_memory
from framecnn.distributed import connected, run_on
from framecnn.errors import MachineError

pytest.importorskip("distributed", reason="needs the extra dask")
pytestmark = pytest.mark.xdist_group("cluster")
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    root = write_frames(tmp_path_factory.mktemp("films") / "films", n_groups=6)
    broken = next(root.glob("*/*.jpg"))
    broken.write_bytes(broken.read_bytes()[:300])
    return root


def dask(*arguments, log):
    """Return a process of the command line of Dask."""
    command = [sys.executable, "-m", "dask", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """Return the process of a scheduler on the loopback address, and its address; one worker has connected."""
    folder = tmp_path_factory.mktemp("cluster")
    contact = folder / "scheduler.json"
    with open(folder / "log", "w") as log:
        here = ("--host", "127.0.0.1", "--scheduler-file", contact)
        first = dask("scheduler", *here, "--port", 0, "--no-dashboard", log=log)
        worker = dask("worker", *here, "--nthreads", 1, "--no-dashboard", "--local-directory", folder, log=log)
        try:
            while not contact.exists():
                assert first.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            address = contact.read_text().partition('"address": "')[2].partition('"')[0]
            yield first, address
        finally:
            for process in (worker, first):
                process.terminate()
                process.wait()


def test_training_scan_and_prediction_on_a_cluster_write_what_one_process_writes(
    films, scheduler, tmp_path, monkeypatch
):
    quick(monkeypatch)
    files = {}
    for name, options in (("here", ()), ("there", ("--scheduler", scheduler[1]))):
        folder = tmp_path / name
        folder.mkdir()
        steps = [
            ("train", films, "-o", folder / "model.safetensors", "--size", "24x32", "--cache-dir", folder / "cache"),
            ("scan", films, "--size", "24x32", "--manifest", folder / "scan.csv", "--json", folder / "scan.json"),
            ("predict", folder / "model.safetensors", films, "--predictions", folder / "new.csv"),
        ]
        for arguments in steps:
            ended = framecnn(*arguments, *options)
            assert ended.code == 0, ended.err
        names = ("model.safetensors", "predictions.csv", "manifest.csv", "scan.csv", "scan.json", "new.csv")
        files[name] = [(folder / file).read_bytes() for file in names]
        cached = sorted(path.relative_to(folder) for path in (folder / "cache").rglob("*.safetensors"))
        files[name].append(cached)
    assert files["here"] == files["there"]
    with open(tmp_path / "there" / "manifest.csv", newline="") as table:
        skipped = [row["reason"] for row in csv.DictReader(table) if row["status"] == "skipped"]
    assert skipped == ["truncated"]


def test_a_lost_scheduler_is_one_line_and_the_next_run_resumes_from_the_folder(scheduler, tmp_path):
    first, address = scheduler
    frames, labels, groups = three_shards(294)
    log = tmp_path / "log"
    log.touch()
    lazy = LoggedFrames(frames, log, seconds=0.05)
    classifier = FrameClassifier(features="learned", n_filters=8, grid=(1, 1), random_state=0)

    def kill():
        while len(log.read_text().splitlines()) < 400 + 700:
            time.sleep(0.01)
        first.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    message = rf"^run_on: lost the connection to the scheduler at {address}; start it again, and repeat the run: it res"
    with working_memory(cache_dir=tmp_path / "cache"):
        with pytest.raises(MachineError, match=message), connected(address) as client, run_on(client):
            classifier.fit(lazy, labels, groups)
        killer.join()
        n_read = len(log.read_text().splitlines())
        n_kept = len(list((tmp_path / "cache").rglob("*.safetensors")))
        assert n_kept >= 1
        classifier.fit(lazy, labels, groups)
        read_again = len(log.read_text().splitlines()) - n_read
    assert read_again <= 400 + len(frames) - 512 * n_kept
    resumed = sha256_of_model(classifier, tmp_path)
    assert resumed == sha256_of_model(classifier.fit(frames, labels, groups), tmp_path)


PROGRAM = """
import sys
from executors import three_shards
from worker_frames import LoggedFrames
from framecnn import FrameClassifier
from framecnn.cli import console
from framecnn.distributed import local_cluster, run_on

def work():
    frames, labels, groups = three_shards(294)
    with local_cluster(2) as client, run_on(client):
        FrameClassifier(features="learned", n_filters=8).fit(LoggedFrames(frames, sys.argv[1], 60), labels, groups)

if __name__ == "__main__":
    sys.exit(console.run(work))
"""


def test_an_interrupted_run_ends_its_workers_within_seconds(tmp_path):
    log = tmp_path / "log"
    log.touch()
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])}
    command = [sys.executable, tmp_path / "program.py", log]
    pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
        while len({line.split()[0] for line in log.read_text().splitlines()}) < 2:  # a worker has read frames
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        started = time.monotonic()
        _, said = process.communicate(timeout=30)
    assert (said, process.returncode) == ("interrupted\n", 130)
    assert len(workers) >= 2
    assert not psutil.wait_procs(workers, timeout=5)[1]
    assert time.monotonic() - started < 15


def test_options_that_exclude_each_other_and_schedulers_that_do_not_answer(films, tmp_path, monkeypatch):
    out = ("-o", tmp_path / "m.safetensors")
    told = refused("train", films, *out, "--workers", "2", "--scheduler", "tcp://127.0.0.1:1")
    assert told.startswith("Invalid value: expected --workers or --scheduler, got both (see")
    assert "expected --allow-mixed with --workers or --scheduler" in refused("train", films, *out, "--allow-mixed")
    monkeypatch.setattr("framecnn.distributed.clients.ANSWER_SECONDS", 0.5)
    told = refused("train", films, *out, "--scheduler", "tcp://127.0.0.1:1")
    assert told.startswith("distributed: expected a scheduler at tcp://127.0.0.1:1, got no answer (")
    assert told.endswith("start one: dask scheduler")
    assert "expected a scheduler at nonsense://x, got no answer" in refused(
        "scan", films, "--scheduler", "nonsense://x"
    )
