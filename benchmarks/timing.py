"""How peers are timed: all in one process, in turns, after their outputs have been compared.

The threads of one library spin on for a while after its work and slow the next one, so every turn begins with a pause.
"""

import math
import statistics
import time
from dataclasses import dataclass, field

import numpy as np
from threadpoolctl import ThreadpoolController

from benchmarks.peers import FRAMECNN, Missing
from framecnn import get_num_threads

__all__ = ["TOLERANCE", "YARDSTICK", "Comparison", "Timing", "compare", "interleave"]

PAUSE = 0.05
"""Seconds before each turn."""

LISTEN, MOST_PATIENCE = 0.01, 1.0
"""Seconds that must pass in silence after the pause, and seconds to wait for that at most."""

TURN = 0.02
"""A turn is as many calls as fit into this, in seconds, and at least one; it counts as their mean."""

TOLERANCE = 1e-4
"""Largest difference to framecnn's output, relative to its largest value; who differs more computes something else."""

YARDSTICK, YARDSTICK_SIZE = "a @ b", 1536
"""NumPy's product of two square matrices in float32: what the machine's arithmetic gives a good library."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call of every round, the largest relative difference to framecnn, and the peer's league."""

    seconds: list[float]
    difference: float = 0.0
    league: str = "own"

    @property
    def median(self):
        return statistics.median(self.seconds)

    def as_json(self):
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return {
            "median_ms": 1e3 * self.median,
            "quartiles_ms": [1e3 * first, 1e3 * third],
            "difference": self.difference,
            "league": self.league,
        }


@dataclass
class Comparison:
    """The timings of one case by peer, and who is missing for what reason."""

    case: str
    flops: int = 0
    timings: dict[str, Timing] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def fastest(self, league):
        """Return name and ratio to framecnn of the fastest of a league; None where nobody was timed."""
        timed = {name: timing.median for name, timing in self.timings.items() if timing.league == league}
        if not timed:
            return None
        name = min(timed, key=timed.__getitem__)
        return {"name": name, "ratio": timed[name] / self.timings[FRAMECNN.name].median}

    def as_json(self):
        ours = self.timings[FRAMECNN.name].median
        peak = 2 * YARDSTICK_SIZE**3 / self.timings[YARDSTICK].median if YARDSTICK in self.timings else math.nan
        peers = {}
        for name, timing in self.timings.items():
            speed = peak if name == YARDSTICK else self.flops / timing.median
            own = {} if name == YARDSTICK else {"ratio": timing.median / ours}
            speeds = {"gflops": speed / 1e9, "share_of_yardstick": speed / peak} if peak > 0 else {}
            peers[name] = {**timing.as_json(), **own, **speeds}
        leagues = {timing.league for timing in self.timings.values()} - {"own"}
        fastest = {league: self.fastest(league) for league in sorted(leagues)}
        return {"case": self.case, "peers": peers, "fastest": fastest, "missing": self.missing}


def compare(name, peers, model, x, rounds, tolerance=TOLERANCE, flops=0):
    """Compare the outputs of framecnn and of all peers that can take part, then time them.

    Parameters
    ----------
    name : str
        What is measured.
    peers : sequence of Peer
        The first is framecnn, whose output the others must give.
    model, x
        What every peer prepares itself for.
    rounds : int
    tolerance : float
        Who differs by more, relative to the largest value, is refused.
    flops : int
        Operations of one call. Where known, the yardstick is timed too.
    """
    own, *peers = peers
    run, expected = own.prepare(model, x)
    comparison, runs, differences = Comparison(name, flops), {own.name: run}, {own.name: 0.0}
    for peer in peers:
        try:
            run, y = peer.prepare(model, x)
            differences[peer.name] = accepted_difference(y, expected, math.inf if peer.may_differ else tolerance)
            runs[peer.name] = run
        except Missing as missing:
            comparison.missing[peer.name] = str(missing)
    if flops:
        runs[YARDSTICK] = yardstick()
    leagues = {peer.name: peer.league for peer in peers}
    for name, seconds in interleave(runs, rounds).items():
        comparison.timings[name] = Timing(seconds, differences.get(name, 0.0), leagues.get(name, "own"))
    return comparison


def accepted_difference(y, expected, tolerance):
    """Return the relative difference of an output; Missing where it is larger than allowed, or no number."""
    difference = relative_difference(y, expected)
    if difference > tolerance or math.isinf(difference):
        raise Missing(f"refused: differs by {difference:.1e}, allowed is {tolerance:.0e}")
    return difference


def relative_difference(y, expected):
    """The largest difference relative to the largest value; infinite where shapes differ or a number is none."""
    if y.shape != expected.shape:
        return math.inf
    difference = float(np.abs(y - expected).max() / np.abs(expected).max())
    return math.inf if math.isnan(difference) else difference


def interleave(runs, rounds, pause=PAUSE):
    """Return seconds per call of every round, by name; each round begins with another peer."""
    for run in runs.values():
        run()
    seconds = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            wait_for_silence()
            seconds[name].append(turn(runs[name]))
    return seconds


def wait_for_silence():
    """Wait until the threads of the last peer spin no more: OpenBLAS's do for 100 ms, ONNX Runtime's for 60."""
    patience = time.perf_counter() + MOST_PATIENCE
    while time.perf_counter() < patience:
        before = time.process_time()
        time.sleep(LISTEN)
        if time.process_time() - before < LISTEN / 10:
            return


def turn(run):
    """Return the mean seconds of a call."""
    calls, start = 0, time.perf_counter()
    while True:
        run()
        calls += 1
        spent = time.perf_counter() - start
        if spent >= TURN:
            return spent / calls


def yardstick():
    """Return NumPy's float32 product with framecnn's number of threads."""
    rng = np.random.default_rng(0)
    a, b = (rng.random((YARDSTICK_SIZE, YARDSTICK_SIZE), np.float32) for _ in range(2))
    controller = ThreadpoolController()

    def run():
        with controller.limit(limits=get_num_threads(), user_api="blas"):
            return a @ b

    return run
