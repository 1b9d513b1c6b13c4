"""Peak memory of a case in a fresh process: ``python -m benchmarks.memory WHAT PEER`` prints JSON."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.cases import FILTER_BANK, NETWORKS
from benchmarks.peers import FILTER_BANK_PEERS, FRAMECNN, TRAINING, TRAINING_PEERS
from framecnn.comparison.model_process import peak_megabytes

__all__ = ["MEASURED", "peak_memory"]

ROOT = Path(__file__).parents[1]
MEASURED = {
    "filter bank": (FILTER_BANK, (FRAMECNN, *FILTER_BANK_PEERS)),
    "training step": (NETWORKS[0], (TRAINING, *TRAINING_PEERS)),
}
"""The case and its peers, by name."""


def peak_memory(what, name):
    """Return the memory in MB of a fresh process in which a peer runs a case once: before, peak, more."""
    command = [sys.executable, "-m", "benchmarks.memory", what, name]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, encoding="utf-8").stdout)


def main():
    case, peers = MEASURED[sys.argv[1]]
    peer = next(peer for peer in peers if peer.name == sys.argv[2])
    run = peer.start(case.model(), case.batch())
    before = peak_megabytes()
    run()
    peak = peak_megabytes()
    print(json.dumps({"before": before, "peak": peak, "more": peak - before}))


if __name__ == "__main__":
    main()
