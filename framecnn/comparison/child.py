"""One contestant on one fold in a process of its own: its peak memory is then its own, and so are its threads.

The job is the first line of standard input, the outcome the last line of standard output, both JSON. The input stays
open as long as the parent lives: a child whose input ends has lost its parent, and ends too.
"""

import ctypes
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from framecnn.comparison.models import CONTESTANTS
from framecnn.data.loader import LazyFrames
from framecnn.errors import DataError, MissingExtraError, SettingError, ShapeError
from framecnn.thread_count import get_num_threads

__all__ = ["Outcome", "main", "peak_megabytes", "run", "run_apart"]

TIMED_FRAMES, TIMES = 256, 3
DIGITS = 6

Outcome = dict[str, Any]
"""What a contestant did on a fold, ready for JSON; or why it is ``missing``."""


def run_apart(job: Mapping[str, Any]) -> Outcome:
    """Run a contestant in a process of its own.

    Parameters
    ----------
    job : mapping
        As :func:`run` takes it.

    Returns
    -------
    dict
        What :func:`run` gives; ``{"missing": reason}`` where the contestant needs a package that is not installed.

    Raises
    ------
    DataError
        If frames are lost meanwhile, or the process dies.
    """
    environment = os.environ | {"FRAMECNN_NUM_THREADS": str(get_num_threads())}
    command = [sys.executable, "-c", f"from {__name__} import main; main()"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8", "errors": "replace"}
    with tempfile.TemporaryDirectory() as folder:
        environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)  # so that nothing of a killed child is left
        with subprocess.Popen(command, env=environment, **pipes) as child:  # type: ignore[call-overload]
            try:
                with suppress(BrokenPipeError):  # it died; its exit code says so
                    child.stdin.write(json.dumps(job) + "\n")
                    child.stdin.flush()
                said = child.stdout.read()
            except BaseException:
                child.kill()
                raise
            finally:
                with suppress(BrokenPipeError):
                    child.stdin.close()
    if child.returncode:
        raise DataError(
            f"compare: expected an outcome of the {CONTESTANTS[job['contestant']].title}, but its process ended with "
            f"exit code {child.returncode}; what it printed stands above"
        )
    outcome = json.loads(said.splitlines()[-1])
    if "error" in outcome:
        raise DataError(f"compare: {outcome['error']}")
    return outcome


def run(job: Mapping[str, Any]) -> Outcome:
    """Let a contestant learn, and answer, and measure both.

    Parameters
    ----------
    job : mapping
        ``contestant`` (its key in CONTESTANTS), ``n_classes``, ``seed``; ``train`` and ``test`` (what LazyFrames are
        made of); ``targets`` and ``groups`` of the training frames; ``shown`` (a row of the test frames).

    Returns
    -------
    dict
        ``predictions`` and ``confidences`` of the test frames, ``shown`` (all probabilities of that row),
        ``train_seconds``, ``frames_per_second``, ``peak_megabytes``, ``model_bytes``, ``device``, ``chosen``.
    """
    train, test = LazyFrames(**job["train"]), LazyFrames(**job["test"])
    contestant = CONTESTANTS[job["contestant"]](job["n_classes"], job["seed"])
    start = time.perf_counter()
    chosen = contestant.fit(train, np.array(job["targets"]), np.array(job["groups"]))
    train_seconds = time.perf_counter() - start
    probabilities = np.asarray(contestant.predict_proba(test), np.float64)
    some = test[:TIMED_FRAMES]
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        contestant.predict_proba(some)
        seconds.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        model_bytes = contestant.save(Path(folder)).stat().st_size
    return {
        "predictions": probabilities.argmax(axis=1).tolist(),
        "confidences": probabilities.max(axis=1).round(DIGITS).tolist(),
        "shown": probabilities[job["shown"]].round(DIGITS).tolist(),
        "train_seconds": train_seconds,
        "frames_per_second": len(some) / statistics.median(seconds),
        "peak_megabytes": peak_megabytes(),
        "model_bytes": model_bytes,
        "device": contestant.device,
        "chosen": chosen,
    }


def peak_megabytes() -> float:
    """Return the largest memory that this process has held so far.

    Linux says it as VmHWM. ``resource.getrusage`` would do, were it not that a process starts with the peak of the one
    that called exec.

    Examples
    --------
    >>> 1 < peak_megabytes() < 1e6
    True
    """
    status = Path("/proc/self/status")
    text = status.read_text(encoding="ascii", errors="replace") if status.exists() else ""
    if match := re.search(r"VmHWM:\s+(\d+) kB", text):
        return int(match[1]) / 1e3
    try:
        import resource
    except ImportError:
        return _peak_bytes_on_windows() / 1e6
    units = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units


def _peak_bytes_on_windows() -> int:
    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_uint32),
            ("page_faults", ctypes.c_uint32),
            ("peak_working_set", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 7),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    kernel32: Any = ctypes.windll.kernel32  # type: ignore[attr-defined]
    kernel32.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel32.GetCurrentProcess())
    kernel32.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size)
    return int(counters.peak_working_set)


def main() -> None:
    """Run the job on standard input."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent says that it was interrupted
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = run(job)
    except MissingExtraError as error:
        outcome = {"missing": str(error)}
    except (DataError, SettingError, ShapeError, OSError) as error:
        outcome = {"error": str(error)}
    print(json.dumps(outcome), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin: its lock would be held while Python ends
        pass
    os._exit(1)
