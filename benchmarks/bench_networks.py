"""ResNet-18, MobileNetV2 and EfficientNet-Lite0, one frame and sixteen, against every peer."""

from benchmarks import tables
from benchmarks.cases import KNOWN_NETWORKS
from benchmarks.peers import FRAMECNN, KNOWN_NETWORK_PEERS
from benchmarks.timing import compare

__all__ = ["markdown", "measure"]


def measure(rounds, cases=KNOWN_NETWORKS, peers=KNOWN_NETWORK_PEERS):
    """Return the comparisons of all cases as JSON."""
    return [
        compare(case.name, (FRAMECNN, *peers), case.model(), case.batch(), rounds, flops=case.flops).as_json()
        for case in cases
    ]


def markdown(comparisons):
    return "\n\n".join(map(tables.by_peer, comparisons))
