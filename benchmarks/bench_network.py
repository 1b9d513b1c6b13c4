"""The reference network at its three sizes, against every peer."""

from benchmarks import tables
from benchmarks.cases import NETWORKS
from benchmarks.peers import FRAMECNN, NETWORK_PEERS
from benchmarks.timing import compare

__all__ = ["markdown", "measure"]


def measure(rounds, cases=NETWORKS, peers=NETWORK_PEERS):
    """Return the comparisons of all cases as JSON."""
    return [
        compare(case.name, (FRAMECNN, *peers), case.model(), case.batch(), rounds, flops=case.flops).as_json()
        for case in cases
    ]


def markdown(comparisons):
    return "\n\n".join(map(tables.by_peer, comparisons))
