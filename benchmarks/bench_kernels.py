"""Single blocks (conv, bias, ReLU, 2x2 max-pool) and the filter bank, against Keras and PyTorch."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks import tables
from benchmarks.cases import BLOCKS, FILTER_BANK
from benchmarks.contestants import BLOCK_PEERS, FILTER_BANK_PEERS, FRAMECNN
from benchmarks.timing import compare

__all__ = ["markdown", "measure"]

ROOT = Path(__file__).parents[1]


def measure(rounds, blocks=BLOCKS, bank=FILTER_BANK, block_peers=BLOCK_PEERS, bank_peers=FILTER_BANK_PEERS):
    """Give the comparisons of all blocks and of the filter bank, and the bank's memory by contestant, as JSON."""
    compared = [timed(case, block_peers, rounds) for case in blocks]
    ratios = [best["ratio"] for block in compared if (best := block["fastest"].get("direct"))]
    result = {"blocks": compared, "geometric_mean": statistics.geometric_mean(ratios) if ratios else None}
    if bank:
        result["filter_bank"] = timed(bank, bank_peers, rounds)
        timed_names = [FRAMECNN.name, *(peer.name for peer in bank_peers)]
        result["memory"] = {
            name: peak_memory(name) for name in timed_names if name in result["filter_bank"]["contestants"]
        }
    return result


def timed(case, peers, rounds):
    return compare(case.name, (FRAMECNN, *peers), case.model(), case.batch(), rounds, flops=case.flops).as_json()


def peak_memory(name):
    """Give the megabytes of a fresh process that runs the filter bank once with the contestant of that name."""
    command = [sys.executable, "-m", "benchmarks.memory", name]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def markdown(result):
    parts = [tables.by_case(result["blocks"])]
    if result["geometric_mean"]:
        parts.append(f"Fastest peer, geometric mean: {result['geometric_mean']:.2f} times framecnn's time.")
    if "filter_bank" in result:
        parts += ["Filter bank", tables.by_contestant(result["filter_bank"])]
        rows = [
            (name, *(f"{value:.0f}" for value in megabytes.values())) for name, megabytes in result["memory"].items()
        ]
        parts.append(tables.table(("contestant", "before, MB", "peak, MB", "more, MB"), rows))
    return "\n\n".join(parts)
