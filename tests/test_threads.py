"""The thread pool: fixed chunks, results in order, no deadlock for any caller, one guard for BLAS."""

import os
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from framecnn import get_num_threads, num_threads, set_num_threads
from framecnn.kernels import threads
from framecnn.kernels.threads import ordered_map, run, single_threaded_blas

only_linux = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux restricts threads to CPUs")
SOON = 30  # seconds, more than anything here needs: a deadlock fails instead of hanging


@pytest.fixture(params=[1, 2, 5])
def n_threads(request):
    """Run a test with several numbers of threads."""
    with num_threads(request.param):
        yield request.param


def test_results_come_in_the_order_of_the_items(n_threads):
    assert ordered_map(lambda n: n * n, iter(range(200))) == [n * n for n in range(200)]
    assert ordered_map(str, []) == []
    assert ordered_map(str, [7]) == ["7"]


def test_as_many_items_run_at_once_as_there_are_threads(n_threads):
    meeting = threading.Barrier(n_threads)
    ordered_map(lambda _: meeting.wait(SOON), range(n_threads))
    assert not meeting.broken


def test_never_more_items_run_at_once_than_there_are_threads(n_threads):
    lock, running, most = threading.Lock(), 0, 0

    def count(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.001)
        with lock:
            running -= 1

    ordered_map(count, range(50))
    assert most <= n_threads


def test_an_exception_of_an_item_reaches_the_caller_and_no_other_item_is_begun(n_threads):
    begun = []

    def fail(number):
        begun.append(number)
        raise OSError(f"item {number}")

    with pytest.raises(OSError, match=r"item \d"):
        ordered_map(fail, range(1000))
    assert len(begun) <= n_threads
    assert ordered_map(abs, [-1, -2]) == [1, 2]


def test_an_exception_in_a_helper_reaches_the_caller_too():
    meeting = threading.Barrier(2)
    caller = threading.get_ident()

    def fail_elsewhere(_):
        meeting.wait(SOON)
        if threading.get_ident() != caller:
            raise KeyError("helper")

    with num_threads(2), pytest.raises(KeyError, match="helper"):
        ordered_map(fail_elsewhere, range(2))


def test_a_call_inside_a_call_returns(n_threads):
    def inner(n):
        return sum(ordered_map(lambda k: ordered_map(abs, [-n * k])[0], range(5)))

    assert ordered_map(inner, range(20)) == [10 * n for n in range(20)]


def test_eight_python_threads_may_call_at_once(n_threads):
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(ordered_map, lambda n: -n, range(start, start + 100)) for start in range(8)]
        results = [call.result(SOON) for call in calls]
    assert results == [[-n for n in range(start, start + 100)] for start in range(8)]


def test_each_item_is_in_one_chunk(n_threads):
    chunks = []
    run(lambda output, start, stop: chunks.append((start, stop)), 10, 1_500_000, np.zeros(1))
    assert [item for start, stop in sorted(chunks) for item in range(start, stop)] == list(range(10))


def test_a_kernel_may_write_to_its_output_only():
    x = np.zeros(3)

    def check(output, given, number, start, stop):
        output[start:stop] = number
        with pytest.raises(ValueError, match="read-only"):
            given[0] = 1

    y = np.zeros(3)
    run(check, 3, 1, y, x, 7)
    assert y.tolist() == [7, 7, 7]
    assert x.flags.writeable


def helpers():
    """Return the living threads that belong to any pool of framecnn."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("framecnn")]


def wait_for_helpers(number):
    """Return the number of helpers, `number` of them as soon as those that must end have ended."""
    end = time.monotonic() + SOON
    while len(helpers()) != number and time.monotonic() < end:
        time.sleep(0.001)
    return len(helpers())


@pytest.fixture
def restored():
    """Restore the number of threads after a test that sets it."""
    with num_threads(get_num_threads()):
        yield


def test_no_thread_outlives_a_change_of_the_number_of_threads():
    for n in [*range(2, 12), *[2, 5, 1] * 30, 4]:
        with num_threads(n):
            meeting = threading.Barrier(n)
            ordered_map(lambda _, meeting=meeting: meeting.wait(SOON), range(n))
    assert wait_for_helpers(3) == 3
    with num_threads(1):
        ordered_map(abs, [1, 2])
    assert wait_for_helpers(0) == 0


def test_the_number_of_threads_may_change_while_calls_are_running(restored):
    ended = threading.Event()

    def change():
        n = 0
        while not ended.is_set():
            n += 1
            set_num_threads(2 + n % 3)

    def call(start):
        inner = [ordered_map(lambda n: sum(ordered_map(abs, [-n, n])), range(start, start + 9)) for _ in range(100)]
        return {tuple(results) for results in inner}

    changing = threading.Thread(target=change)
    changing.start()
    with ThreadPoolExecutor(4) as callers:
        results = [callers.submit(call, start) for start in range(4)]
        seen = [result.result(SOON) for result in results]
    ended.set()
    changing.join()
    assert seen == [{tuple(2 * n for n in range(start, start + 9))} for start in range(4)]
    set_num_threads(2)
    ordered_map(abs, [1, 2])
    assert wait_for_helpers(1) == 1


@pytest.mark.parametrize("number", [0, -1, 1.0, True, "2", None])
def test_a_number_of_threads_is_a_positive_integer(number):
    before = get_num_threads()
    message = f"set_num_threads: expected n as a positive integer, got {number!r}"
    with pytest.raises(ValueError, match=re.escape(message)):
        set_num_threads(number)
    with pytest.raises(ValueError, match=re.escape(message)), num_threads(number):
        pytest.fail("entered the block")
    assert get_num_threads() == before


def test_the_number_of_threads_of_a_block_ends_with_the_block():
    before = get_num_threads()
    with num_threads(3):
        with suppress(OSError), num_threads(5):
            assert get_num_threads() == 5
            raise OSError("inside")
        assert get_num_threads() == 3
        set_num_threads(7)
    assert get_num_threads() == before


def test_the_number_of_threads_of_a_block_is_that_of_the_whole_process():
    with num_threads(3), ThreadPoolExecutor(1) as elsewhere:
        assert elsewhere.submit(get_num_threads).result(SOON) == 3


def python(script, **environment):
    """Return the finished process of a script."""
    return subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, timeout=10 * SOON
    )


def test_the_environment_sets_the_number_of_threads():
    done = python("import framecnn; print(framecnn.get_num_threads())", FRAMECNN_NUM_THREADS="3")
    assert done.stdout == "3\n"


def test_the_number_of_threads_is_that_of_the_cpus_that_the_quota_of_a_container_leaves():
    script = "import joblib; joblib.cpu_count = lambda: 7; import framecnn; print(framecnn.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "FRAMECNN_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout == "7\n"


@pytest.mark.parametrize("part", ["kernels.threads", "data"])
@pytest.mark.parametrize("number", ["0", "-2", "many", "1.5", ""])
def test_any_other_number_in_the_environment_is_refused(number, part):
    done = python(f"import framecnn.{part}", FRAMECNN_NUM_THREADS=number)
    message = f"FRAMECNN_NUM_THREADS: expected a positive integer, got {number!r}; unset it"
    assert done.stderr.endswith(f"framecnn.errors.SettingError: {message}\n")


FORK = """
import os, signal, threading
import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits
from framecnn import DenseLayer, set_num_threads
from framecnn.kernels.threads import ordered_map, single_threaded_blas

def blas_threads():
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

set_num_threads(3)
np.ones((2, 2)) @ np.ones((2, 2))
threadpool_limits(2, user_api="blas")
before = blas_threads()  # {2}, unless BLAS was built for one thread
layer = DenseLayer(40).build((30,))
x = np.random.default_rng(0).normal(size=(20, 30))
y = layer(x)
meeting = threading.Barrier(3)
ordered_map(lambda _: meeting.wait(), range(3))  # starts helpers, which the child does not inherit
inside, leave = threading.Event(), threading.Event()

def hold_the_guard():
    with single_threaded_blas():
        inside.set()
        leave.wait()

other = threading.Thread(target=hold_the_guard)
other.start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(30)  # a deadlock ends the child
    meeting = threading.Barrier(3)
    ordered_map(lambda _: meeting.wait(), range(3))
    free = blas_threads() == before
    with single_threaded_blas():
        limited = blas_threads() == {1}
        same = layer(x).tobytes() == y.tobytes()
    os._exit(0 if same and free and limited and blas_threads() == before else 1)
leave.set()
other.join()
print(os.waitpid(child, 0)[1])
with single_threaded_blas():
    child = os.fork()  # by the thread that holds the guard, which the child leaves in its turn
    limited = blas_threads() == {1}
if not child:
    os._exit(0 if limited and blas_threads() == before else 1)
print(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_with_helpers_and_blas_threads_of_its_own():
    done = python(FORK)
    assert (done.stdout, done.stderr) == ("0\n0\n", "")


def blas_threads():
    """Return the numbers of threads that the loaded BLAS libraries may use."""
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture
def two_blas_threads():
    """Give BLAS two threads, as on any machine with two cores."""
    np.ones((2, 2)) @ np.ones((2, 2))
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("needs a BLAS that can use two threads")
        yield


def test_inside_the_guard_blas_has_one_thread_and_afterwards_as_many_as_before(two_blas_threads):
    with single_threaded_blas():
        assert blas_threads() == {1}
        with single_threaded_blas():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}
    with pytest.raises(OSError, match="inside"), single_threaded_blas():
        raise OSError("inside")
    assert blas_threads() == {2}


def test_overlapping_guards_of_two_threads_do_not_undo_each_other(two_blas_threads):
    entered, leave, seen = threading.Event(), threading.Event(), []

    def first():
        with single_threaded_blas():
            seen.append(blas_threads())
            entered.set()
            leave.wait(SOON)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(SOON)
    with single_threaded_blas():
        leave.set()
        thread.join()
        seen.append(blas_threads())
    seen.append(blas_threads())
    assert seen == [{1}, {1}, {2}]


def test_an_inner_call_stays_in_its_thread_where_all_threads_are_busy(n_threads):
    def thread_names(_):
        return {threading.current_thread().name, *ordered_map(lambda _: threading.current_thread().name, range(20))}

    assert {len(names) for names in ordered_map(thread_names, range(20))} == {1}
    chunks = ordered_map(chunks_of_a_run, range(20))
    assert chunks == [[(0, 1000)]] * 20


def chunks_of_a_run(_):
    """Return the chunks that `run` makes of a thousand items of much work each."""
    seen = []
    run(lambda output, start, stop: seen.append((start, stop)), 1000, 1e9, np.zeros(0))
    return seen


def helpers_and_caller():
    """Return the CPUs on which each helper may run, and the CPU of the caller for which that was set."""
    for _ in range(2):  # the first call starts the helpers
        ordered_map(lambda _: time.sleep(0.01), range(20))
    pool = threads._pool
    return ([os.sched_getaffinity(member) for member in pool.members], pool.callers_cpu) if pool else ([], None)


@only_linux
def test_helpers_are_kept_off_the_cpu_of_their_caller(n_threads):
    everywhere = os.sched_getaffinity(0)
    seen, cpu = helpers_and_caller()
    assert seen == [everywhere - {cpu} or everywhere] * (n_threads - 1)
    assert os.sched_getaffinity(0) == everywhere


@only_linux
def test_a_caller_restricted_to_one_cpu_does_not_restrict_its_helpers():
    everywhere = os.sched_getaffinity(0)

    def restricted():
        os.sched_setaffinity(0, {min(everywhere)})  # of this thread alone
        return *helpers_and_caller(), os.sched_getaffinity(0)

    with num_threads(4), ThreadPoolExecutor(1) as callers:
        ordered_map(abs, [1])  # ends the pool of another number of threads
        seen, cpu, own = callers.submit(restricted).result(SOON)
    assert own == {cpu} == {min(everywhere)}
    assert seen == [everywhere - {cpu} or everywhere] * 3
