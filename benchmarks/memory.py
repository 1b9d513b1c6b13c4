"""Peak memory of the filter bank in a process of its own: ``python -m benchmarks.memory CONTESTANT`` prints JSON.

The peak is Linux's VmHWM. ``resource.getrusage`` would do, were it not that a child starts with the peak of the parent
that called exec, which here has all peers loaded.
"""

import json
import re
import resource
import sys
from pathlib import Path

from benchmarks.cases import FILTER_BANK
from benchmarks.contestants import by_name

__all__ = ["peak_megabytes"]


def peak_megabytes():
    """The largest resident size of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def main():
    contestant = by_name(sys.argv[1])
    run = contestant.start(FILTER_BANK.model(), FILTER_BANK.batch())
    before = peak_megabytes()
    run()
    peak = peak_megabytes()
    print(json.dumps({"before": before, "peak": peak, "more": peak - before}))


if __name__ == "__main__":
    main()
