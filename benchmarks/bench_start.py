"""Waiting times at the start: the import, the first prediction, and compiling everything; in fresh processes."""

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import tables

__all__ = ["markdown", "measure"]

ROOT = Path(__file__).parents[1]
REPEATS = 5

IMPORT = "import time; start = time.perf_counter(); import framecnn; print(time.perf_counter() - start)"
PREDICT = """
import time
import framecnn
start = time.perf_counter()
from benchmarks.cases import BLOCKS, FILTER_BANK, NETWORKS
for case in {cases}:
    case.model().predict(case.batch()[:1])
print(time.perf_counter() - start)
"""
ONE_NETWORK = PREDICT.format(cases="[NETWORKS[1]]")
EVERY_CASE = PREDICT.format(cases="[NETWORKS[1], FILTER_BANK, *BLOCKS]")


def measure(rounds=REPEATS, first=ONE_NETWORK, everything=EVERY_CASE):
    """Return the seconds of each kind of start as JSON; the caches are temporary folders."""
    with tempfile.TemporaryDirectory() as cache:
        seconds_of(first, cache)
        lines = {
            "import framecnn": [seconds_of(IMPORT, cache) for _ in range(REPEATS)],
            "first prediction after that, warm cache": [seconds_of(first, cache) for _ in range(REPEATS)],
        }
    lines["every case of the tables, empty cache"] = [with_empty_cache(everything) for _ in range(REPEATS)]
    return {
        line: {"median_s": statistics.median(seconds), "smallest_s": min(seconds), "largest_s": max(seconds)}
        for line, seconds in lines.items()
    }


def with_empty_cache(program):
    with tempfile.TemporaryDirectory() as cache:
        return seconds_of(program, cache)


def seconds_of(program, cache):
    """Return the seconds that a program prints last; its compiled kernels are in the folder `cache`."""
    environment = {**os.environ, "XDG_CACHE_HOME": cache}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, encoding="utf-8")
    return float(done.stdout.split()[-1])


def markdown(result):
    rows = [
        (line, f"{seconds['median_s']:.2f} ({seconds['smallest_s']:.2f} to {seconds['largest_s']:.2f})")
        for line, seconds in result.items()
    ]
    return tables.table(("start", f"s, median of {REPEATS} (range)"), rows)
