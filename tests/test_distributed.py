"""A Dask cluster: the same bits on any number of workers, whatever is killed, and one line for what cannot work."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from executors import sha256_of_model, three_shards
from worker_frames import LoggedFrames, describe, forever

from framecnn import FrameClassifier, execution, working_memory
from framecnn.data.shards import SHARD_ROWS
from framecnn.distributed import cluster, connected, local_cluster, run_on, worker
from framecnn.errors import MachineError, MissingExtraError, SettingError
from framecnn.estimators import sums
from framecnn.execution import get_executor

pytestmark = pytest.mark.xdist_group("cluster")


@pytest.fixture(scope="module")
def client():
    pytest.importorskip("distributed", reason="needs the extra dask")
    with local_cluster(2) as client:
        yield client


@pytest.fixture(scope="module")
def drawn():
    return three_shards(294)


@pytest.fixture
def many_tasks(monkeypatch):
    """Make a run of one shard, and a tree with a fan-in of two."""
    monkeypatch.setattr(sums, "RUN_SHARDS", 1)
    monkeypatch.setattr(execution, "FAN_IN", 2)


def fit(frames, labels, groups):
    return FrameClassifier(features="learned", n_filters=8, random_state=0).fit(frames, labels, groups)


@pytest.fixture(scope="module")
def local(drawn, tmp_path_factory):
    """Return the SHA-256 of the model, and the probabilities, that this process gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sums, "RUN_SHARDS", 1)
        patch.setattr(execution, "FAN_IN", 2)
        classifier = fit(*drawn)
    return sha256_of_model(classifier, tmp_path_factory.mktemp("local")), classifier.predict_proba(drawn[0])


def test_a_model_has_the_same_bits_on_workers_of_which_one_is_killed_and_no_other_shard_is_repeated(
    client, drawn, local, tmp_path, many_tasks
):
    frames, labels, groups = drawn
    log, killed = tmp_path / "log", []
    log.touch()
    before = {int(pid): 0 for pid in client.run(os.getpid).values()}
    lazy = LoggedFrames(frames, log, seconds=0.05)

    def kill():
        while len(log.read_text().splitlines()) < 1000:  # the filters are learned from 400 rows
            time.sleep(0.01)
        lines = [int(line.split()[0]) for line in log.read_text().splitlines()]
        victim = next(pid for pid in reversed(lines) if pid in before)
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    killer = threading.Thread(target=kill)
    killer.start()
    with run_on(client), working_memory(cache_dir=tmp_path / "cache"):
        classifier = fit(lazy, labels, groups)
    killer.join()
    assert killed
    assert sha256_of_model(classifier, tmp_path) == local[0]
    read = np.array(
        [int(line.split()[1]) for line in log.read_text().splitlines() if int(line.split()[0]) != os.getpid()]
    )
    assert set(read) == set(range(len(frames)))
    assert len(read) <= len(frames) + SHARD_ROWS  # those of the task of the worker that was killed


def test_an_array_in_memory_is_sent_shard_by_shard_and_predictions_have_the_same_bits(client, drawn, local, many_tasks):
    with run_on(client):
        classifier = fit(*drawn)
        found = classifier.predict_proba(LoggedFrames(drawn[0], os.devnull))
    np.testing.assert_array_equal(found, local[1])


def test_tasks_share_the_cpus_and_come_back_in_order(client):
    n_cpus = worker.THREADS
    with run_on(client):
        found = list(get_executor().map(describe, None, ((number,) for number in range(40))))
    assert [number for number, _, _ in found] == list(range(40))
    assert os.getpid() not in {pid for _, pid, _ in found}
    assert {threads for _, _, threads in found} == {max(1, n_cpus // 2)}


def test_a_task_ends_when_its_client_does_not_need_it_any_more(client, tmp_path):
    log = tmp_path / "log"
    log.touch()
    with run_on(client):
        tasks = get_executor().map(forever, None, ((os.fspath(log),) for _ in range(9)))
        threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            next(tasks)
        tasks.close()
    deadline = time.monotonic() + 5
    while (n := log.stat().st_size) != (time.sleep(0.3) or log.stat().st_size):
        assert time.monotonic() < deadline, n
    assert n


def test_a_run_whose_workers_are_gone_does_not_wait_for_ever(client, tmp_path, monkeypatch):
    class Lonely:
        nthreads = dict

        def __getattr__(self, name):
            return getattr(client, name)

    monkeypatch.setattr(cluster, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(cluster, "ALONE_SECONDS", 0.2)
    with run_on(client):
        executor = get_executor()
        executor._client = Lonely()
        message = r"^run_on: expected workers at tcp://127\.0\.0\.1:\d+, got none for 0\.2 s; start some, and repeat"
        with pytest.raises(MachineError, match=message):
            list(executor.map(forever, None, [(os.fspath(tmp_path / "log"),)]))


def test_an_error_of_a_task_is_raised_as_if_it_was_here(client):
    with run_on(client):
        with pytest.raises(TypeError, match=r"unsupported operand type\(s\) for \*\* or pow\(\): 'int' and 'str'"):
            list(get_executor().map(pow, 2, [(3,), ("3",)]))
        with pytest.raises(TypeError):
            get_executor().total(pow, 2, [("3",)] * 30, max)


def test_workers_that_differ_are_named_unless_they_may(client, monkeypatch):
    monkeypatch.setattr(worker, "current_isa", lambda: "abacus")
    message = (
        r"^run_on: expected workers with instruction set abacus as here, got tcp://127\.0\.0\.1:\d+ \(instruction set "
        r"\w+\), tcp://.* \(instruction set \w+\); results would have other bits: use equal machines, or allow_mixed"
    )
    with pytest.raises(SettingError, match=message), run_on(client):
        raise AssertionError("not reached")
    with run_on(client, allow_mixed=True):
        assert list(get_executor().map(pow, 2, [(3,)])) == [8]
        executor = get_executor()
        executor._terms = executor._terms._replace(facts=worker.facts_here())
        with pytest.raises(SettingError, match="expected workers with instruction set abacus"):  # one that joined later
            list(executor.map(pow, 2, [(3,)]))


def test_files_and_folders_that_a_worker_does_not_see_are_named(client, tmp_path):
    own = os.open(tmp_path, os.O_RDONLY)
    with run_on(client):
        executor = get_executor()
        executor.check_folder(tmp_path / "new")
        executor.check_files([__file__, tmp_path / "none"])
        folder = (
            rf"expected all workers to write to '/proc/self/fd/{own}', got no such folder on tcp://\S+, tcp://\S+; "
        )
        with pytest.raises(MachineError, match=folder):
            executor.check_folder(f"/proc/self/fd/{own}")
        with pytest.raises(MachineError, match=r"to see '/proc/self/cmdline' as this .* got another file on tcp://"):
            executor.check_files(["/proc/self/cmdline"])
        (tmp_path / "file").touch()
        with pytest.raises(MachineError, match=r"to see '/proc/self/fd/\d+/file' .* got no such file on tcp://"):
            executor.check_files([f"/proc/self/fd/{own}/file"])
    os.close(own)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "file"}


def test_a_scheduler_without_workers_and_workers_without_framecnn_are_told():
    class Client:
        def __init__(self, found, threads):
            self.run = lambda *_, **__: found
            self.nthreads = lambda: threads

    pytest.importorskip("distributed")
    with pytest.raises(MachineError, match="expected at least one worker, got none; start some: dask worker"):
        run_on(Client({}, {})).__enter__()
    error = ModuleNotFoundError("No module named 'framecnn'")
    message = r"expected workers that can run framecnn, got ModuleNotFoundError\(.*\) on tcp://1"
    with pytest.raises(MachineError, match=message):
        run_on(Client({"tcp://1": error}, {"tcp://1": 1})).__enter__()


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    for use in (lambda: local_cluster(2), lambda: run_on(None), lambda: connected("tcp://127.0.0.1:1")):
        with pytest.raises(MissingExtraError, match=r"package distributed is not installed; .* 'framecnn\[dask\]'"):
            use().__enter__()


def test_a_number_of_workers_that_is_none_is_refused():
    with pytest.raises(SettingError, match="local_cluster: expected n_workers"):
        local_cluster(0).__enter__()
