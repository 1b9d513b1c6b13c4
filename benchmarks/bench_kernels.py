"""Single blocks (conv, bias, ReLU, 2x2 max-pool) and the filter bank, against Keras and PyTorch."""

import statistics

from benchmarks import tables
from benchmarks.cases import BLOCKS, FILTER_BANK
from benchmarks.memory import peak_memory
from benchmarks.peers import BLOCK_PEERS, FILTER_BANK_PEERS, FRAMECNN
from benchmarks.timing import compare

__all__ = ["markdown", "measure"]


def measure(rounds, blocks=BLOCKS, bank=FILTER_BANK, block_peers=BLOCK_PEERS, bank_peers=FILTER_BANK_PEERS):
    """Return the comparisons of all blocks and of the filter bank, and the bank's memory by peer, as JSON."""
    compared = [timed(case, block_peers, rounds) for case in blocks]
    ratios = [best["ratio"] for block in compared if (best := block["fastest"].get("direct"))]
    result = {"blocks": compared, "geometric_mean": statistics.geometric_mean(ratios) if ratios else None}
    if bank:
        result["filter_bank"] = timed(bank, bank_peers, rounds)
        timed_names = [FRAMECNN.name, *(peer.name for peer in bank_peers)]
        result["memory"] = {
            name: peak_memory("filter bank", name) for name in timed_names if name in result["filter_bank"]["peers"]
        }
    return result


def timed(case, peers, rounds):
    return compare(case.name, (FRAMECNN, *peers), case.model(), case.batch(), rounds, flops=case.flops).as_json()


def markdown(result):
    parts = [tables.by_case(result["blocks"])]
    if result["geometric_mean"]:
        parts.append(f"Fastest peer, geometric mean: {result['geometric_mean']:.2f} times framecnn's time.")
    if "filter_bank" in result:
        parts += ["Filter bank", tables.by_peer(result["filter_bank"])]
        parts.append(tables.memory(result["memory"]))
    return "\n\n".join(parts)
