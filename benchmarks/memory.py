"""Peak memory in a process of its own: ``python -m benchmarks.memory WHAT CONTESTANT`` prints JSON."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.cases import FILTER_BANK, NETWORKS
from benchmarks.contestants import FILTER_BANK_PEERS, FRAMECNN, TRAINING, TRAINING_PEERS
from framecnn.comparison.child import peak_megabytes

__all__ = ["MEASURED", "peak_memory"]

ROOT = Path(__file__).parents[1]
MEASURED = {
    "filter bank": (FILTER_BANK, (FRAMECNN, *FILTER_BANK_PEERS)),
    "training step": (NETWORKS[0], (TRAINING, *TRAINING_PEERS)),
}
"""The case, and who runs it."""


def peak_memory(what, name):
    """Give the megabytes of a fresh process in which a contestant runs what is measured once: before, peak, more."""
    command = [sys.executable, "-m", "benchmarks.memory", what, name]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout)


def main():
    case, contestants = MEASURED[sys.argv[1]]
    contestant = next(contestant for contestant in contestants if contestant.name == sys.argv[2])
    run = contestant.start(case.model(), case.batch())
    before = peak_megabytes()
    run()
    peak = peak_megabytes()
    print(json.dumps({"before": before, "peak": peak, "more": peak - before}))


if __name__ == "__main__":
    main()
