"""One model on one fold in a process of its own, to measure its memory alone.

The job is the first line of standard input and the outcome the last line of standard output, both JSON. The input stays
open as long as the parent process lives: a child ends when its input ends.
"""

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
import psutil

import framecnn
from framecnn.comparison.models import MODELS
from framecnn.data.loader import FrameLost, LazyFrames
from framecnn.errors import DataError, MissingExtraError
from framecnn.thread_count import get_num_threads

__all__ = ["Outcome", "main", "peak_megabytes", "run", "run_in_process"]

TIMED_FRAMES, TIMES = 256, 3
DIGITS = 6  # of probabilities, significant ones: a logarithm of a small one is as exact as that of a large one
PROGRAM = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("framecnn", sys.argv[1])
sys.modules["framecnn"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["framecnn"])
from {__name__} import main
main()
"""  # imports the framecnn of the parent, wherever it is installed

Outcome = dict[str, Any]
"""What a model did on a fold, ready for JSON; or the reason why it is ``missing`` or has ``failed``."""


def run_in_process(job: Mapping[str, Any], python: str = sys.executable) -> Outcome:
    """Return what :func:`run` returns for a job, run in a process of its own.

    The process imports nothing from the working directory.

    Parameters
    ----------
    job : mapping
        As :func:`run` takes it.
    python : str, optional
        The Python interpreter to start.

    Returns
    -------
    dict
        The outcome; ``{"missing": reason}`` if the model needs a package that is not installed; ``{"failed": reason}``
        if it cannot be fitted to these frames, its training diverges, or its process dies.

    Raises
    ------
    DataError
        If frames are lost meanwhile, or the system refuses something, such as to write to a full disk.
    """
    command = [python, "-P", "-c", PROGRAM, framecnn.__file__]
    environment = os.environ | {"FRAMECNN_NUM_THREADS": str(get_num_threads())}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "encoding": "utf-8", "errors": "replace"}
    with tempfile.TemporaryDirectory() as folder:
        environment |= dict.fromkeys(("TMPDIR", "TEMP", "TMP"), folder)  # removed even if the child is killed
        with subprocess.Popen(command, env=environment, **pipes) as child:  # type: ignore[call-overload]
            try:
                with suppress(BrokenPipeError):  # the child died; its exit code is reported
                    child.stdin.write(json.dumps(job) + "\n")
                    child.stdin.flush()
                printed = child.stdout.read()
            except BaseException:
                child.kill()
                raise
            finally:
                with suppress(BrokenPipeError):
                    child.stdin.close()
    if child.returncode:
        return {"failed": f"its process ended with exit code {child.returncode}"}
    outcome = json.loads(printed.splitlines()[-1])
    if "error" in outcome:
        raise DataError(f"compare: {outcome['error']}")
    return outcome


def run(job: Mapping[str, Any]) -> Outcome:
    """Fit a model, predict the test frames, and return what was measured.

    Parameters
    ----------
    job : mapping
        ``model`` (its key in MODELS), ``n_classes``, ``seed``; ``settings`` (further arguments of the model, may be
        missing); ``train`` and ``test`` (arguments of LazyFrames); ``targets`` and ``groups`` of the training frames.

    Returns
    -------
    dict
        ``probabilities`` of the test frames (6 significant digits), ``train_seconds``, ``frames_per_second``,
        ``peak_megabytes``, ``model_bytes``, ``device``, ``chosen``.
    """
    train, test = LazyFrames(**job["train"]), LazyFrames(**job["test"])
    model = MODELS[job["model"]](job["n_classes"], job["seed"], **job.get("settings", {}))
    start = time.perf_counter()
    chosen = model.fit(train, np.array(job["targets"]), np.array(job["groups"]))
    train_seconds = time.perf_counter() - start
    probabilities = np.asarray(model.predict_proba(test), np.float64)
    some = test[:TIMED_FRAMES]
    seconds = []
    for _ in range(TIMES):
        start = time.perf_counter()
        model.predict_proba(some)
        seconds.append(time.perf_counter() - start)
    with tempfile.TemporaryDirectory() as folder:
        model_bytes = model.save(Path(folder)).stat().st_size
    return {
        "probabilities": [[float(f"{share:.{DIGITS}g}") for share in row] for row in probabilities.tolist()],
        "train_seconds": train_seconds,
        "frames_per_second": len(some) / statistics.median(seconds),
        "peak_megabytes": peak_megabytes(),
        "model_bytes": model_bytes,
        "device": model.device,
        "chosen": chosen,
    }


def peak_megabytes(status: Path = Path("/proc/self/status")) -> float:
    """Return the largest memory that this process has held so far, in MB (1e6 bytes).

    On Linux it is VmHWM of `status`: ``resource.getrusage`` starts from the peak of the parent.

    Examples
    --------
    >>> 1 < peak_megabytes() < 1e6
    True
    """
    text = status.read_text(encoding="ascii", errors="replace") if status.exists() else ""
    if match := re.search(r"VmHWM:\s+(\d+) kB", text):  # kB means KiB there
        return 1024 * int(match[1]) / 1e6
    try:
        import resource
    except ImportError:
        return int(psutil.Process().memory_info().peak_wset) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Run the job on standard input and print its outcome."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the parent reports the interruption
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        outcome = run(job)
    except MissingExtraError as error:
        outcome = {"missing": str(error)}
    except (FrameLost, OSError) as error:
        outcome = {"error": str(error)}
    except (ValueError, FloatingPointError) as error:
        outcome = {"failed": str(error)}
    except MemoryError:
        outcome = {"failed": "the machine has too little memory"}
    print(json.dumps(outcome), flush=True)


def _end_with_parent() -> None:
    while os.read(0, 1):  # not sys.stdin, whose lock would be held while Python ends
        pass
    os._exit(1)
