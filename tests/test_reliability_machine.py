"""Rows about terminals, threads and the network that no other file states; each fails without its guard."""

import os
import socket
import subprocess
import sys
import unicodedata
import warnings
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_info, threadpool_limits

from framecnn import KMeansClassifier, get_num_threads, set_num_threads
from framecnn.cli import console
from framecnn.kernels import jit, threads


def test_nothing_that_controls_or_reorders_text_is_printed_as_it_is():
    directions = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    unsafe = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        or unicodedata.bidirectional(character) in directions
    ]
    unsafe += ["\u061c", "\u200e", "\u200f", "\ufeff"]  # marks of a direction, and of an order of bytes
    assert len(unsafe) > 2000
    assert [character for character in unsafe if console.clean(character) == character] == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("command", "stream", "code", "said"),
    [
        ("--help", "closed stdout", 141, b""),
        ("--help", "full stdout", 2, b"error: [Errno 28] No space left on device; free space there, or write to"),
        ("nonsense", "closed stderr", 2, b""),
        ("nonsense", "full stderr", 2, b""),
    ],
)
def test_what_a_closed_or_full_stream_still_holds_is_not_a_second_error_at_the_end(command, stream, code, said):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    program = [sys.executable, "-c", f"from framecnn.cli import main; main([{command!r}])"]
    reading, writing = os.pipe()
    os.close(reading)
    kind, name = stream.split()
    with open("/dev/full", "wb") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {name: full if kind == "full" else writing}
        run = subprocess.run(program, env=environment, check=False, **streams)
    os.close(writing)
    assert run.returncode == code
    heard = (run.stdout or b"") + (run.stderr or b"")
    assert heard.startswith(said)
    assert heard.count(b"\n") == bool(said)


@pytest.mark.parametrize(
    ("is_terminal", "term", "is_live"),
    [
        (True, "xterm", True),
        (True, "dumb", False),
        (True, "unknown", False),
        (True, None, False),
        (False, "xterm", False),
    ],
)
def test_a_bar_is_for_a_terminal_that_says_what_it_can(monkeypatch, is_terminal, term, is_live):
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    assert console._is_live(SimpleNamespace(isatty=lambda: is_terminal)) == is_live
    assert not console._is_live(None)


def test_without_standard_error_no_complaint_is_printed_elsewhere(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    console.warn("nobody hears")
    assert capsys.readouterr().out == ""


def double(y, x, start, stop):
    for number in range(start, stop):
        y[number] = 2.0 * x[number]


def test_a_kernel_whose_folder_has_vanished_is_compiled_without_it(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path / "file" / "folder")
    y = np.empty(3)
    jit.kernel(double)(y, np.arange(3.0), 0, 3)
    assert y.tolist() == [0, 2, 4]


FORK_OF_A_BUSY_PROCESS = """
import os, signal, threading
from framecnn import set_num_threads
from framecnn.kernels import threads

set_num_threads(2)
held, leave = threading.Event(), threading.Event()

def hold():
    with threads._pool_lock:
        held.set()
        leave.wait()

other = threading.Thread(target=hold)
other.start()
held.wait()
child = os.fork()
if not child:
    signal.alarm(20)  # a deadlock ends the child
    threads.ordered_map(abs, [-1, 2, -3])
    with threads.single_threaded_blas():
        os._exit(0)
leave.set()
other.join()
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_while_another_thread_holds_the_pool_is_not_kept_waiting():
    command = [sys.executable, "-W", "ignore", "-c", FORK_OF_A_BUSY_PROCESS]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (run.stdout, run.stderr) == ("0\n", "")


@pytest.fixture
def two_threads():
    """Give framecnn, BLAS and OpenMP two threads, as on a machine with two cores."""
    before = get_num_threads()
    set_num_threads(2)
    with threadpool_limits(2):
        yield
    set_num_threads(before)


def test_a_call_from_inside_a_busy_call_asks_for_no_helpers(two_threads, monkeypatch):
    asked = []
    monkeypatch.setattr(threads, "_submit", lambda work, times, n_threads: asked.append(times) or [])
    assert threads.ordered_map(lambda n: sum(threads.ordered_map(abs, [-n, n])), range(4)) == [0, 2, 4, 6]
    assert asked == [1]


@pytest.mark.parametrize("projection", ["discriminant", None])
def test_a_head_is_fitted_by_one_thread_of_blas_and_of_openmp(two_threads, monkeypatch, projection):
    seen, fit = set(), KMeans.fit

    def watched(self, *arguments, **settings):
        seen.update((library["user_api"], library["num_threads"]) for library in threadpool_info())
        return fit(self, *arguments, **settings)

    monkeypatch.setattr(KMeans, "fit", watched)
    X = np.random.default_rng(0).normal(size=(30, 4))
    KMeansClassifier(2, projection=projection, random_state=0).fit(X, np.arange(30) % 2)
    assert seen == {("blas", 1), ("openmp", 1)}


def test_of_too_few_distinct_samples_there_is_one_warning_whatever_the_signs_of_their_zeros():
    X = np.array([[0.0], [-0.0], [1.0], [1.0]])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        KMeansClassifier(2, projection=None, random_state=0).fit(X, [0, 0, 1, 1])
    assert [(warning.category, str(warning.message)) for warning in seen] == [
        (ConvergenceWarning, "KMeansClassifier: expected 4 clusters, got 2: too few samples differ")
    ]


def test_the_watch_for_the_network_is_not_deaf(reached):
    outside = ("192.0.2.1", 9)  # of no machine; a datagram socket that connects sends nothing
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking, suppress(OSError):
        asking.connect(outside)
    assert str(outside) in reached[0]
    reached.clear()
