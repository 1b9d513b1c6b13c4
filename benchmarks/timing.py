"""The timing of peers: interleaved in one process, after their outputs have been compared.

The threads of a library may spin for a while after its work and slow down the next one, so every turn begins with a
pause.
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

QUIET, LONGEST_WAIT = 0.01, 1.0
"""Seconds without CPU use that must pass after the pause, and the longest wait for them in seconds."""

TURN = 0.02
"""Seconds of a turn: as many calls as fit into it, at least one; the result is their mean."""

TOLERANCE = 1e-4
"""Largest allowed difference from framecnn's output, relative to its largest value."""

YARDSTICK, YARDSTICK_SIZE = "a @ b", 1536
"""NumPy's product of two square matrices in float32: the speed of a good library on this machine."""


@dataclass(frozen=True)
class Timing:
    """Seconds per call in every round, the largest relative difference from framecnn, and the kind of peer."""

    seconds: list[float]
    difference: float = 0.0
    kind: str = "own"

    @property
    def median(self):
        return statistics.median(self.seconds)

    def as_json(self):
        first, _, third = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return {
            "median_ms": 1e3 * self.median,
            "quartiles_ms": [1e3 * first, 1e3 * third],
            "difference": self.difference,
            "kind": self.kind,
        }


@dataclass
class Comparison:
    """The timings of one case by peer, and the reasons why peers are missing."""

    case: str
    flops: int = 0
    timings: dict[str, Timing] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def fastest(self, kind):
        """Return name and ratio to framecnn of the fastest peer of a kind; None if none was timed."""
        timed = {name: timing.median for name, timing in self.timings.items() if timing.kind == kind}
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
        kinds = {timing.kind for timing in self.timings.values()} - {"own"}
        fastest = {kind: self.fastest(kind) for kind in sorted(kinds)}
        return {"case": self.case, "peers": peers, "fastest": fastest, "missing": self.missing}


def compare(name, peers, model, x, rounds, tolerance=TOLERANCE, flops=0):
    """Return the timings of framecnn and its peers, after their outputs have been compared.

    Parameters
    ----------
    name : str
        The name of the case.
    peers : sequence of Peer
        The first is framecnn, whose output is the reference for the others.
    model, x
        The inputs of every peer's start function.
    rounds : int
    tolerance : float
        A peer whose output differs by more, relative to the largest value, is not timed.
    flops : int
        Operations of one call; if they are known, the yardstick is timed too.
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
    kinds = {peer.name: peer.kind for peer in peers}
    for name, seconds in interleave(runs, rounds).items():
        comparison.timings[name] = Timing(seconds, differences.get(name, 0.0), kinds.get(name, "own"))
    return comparison


def accepted_difference(y, expected, tolerance):
    """Return the relative difference of an output; raise Missing if it is larger than allowed, or not finite."""
    difference = relative_difference(y, expected)
    if difference > tolerance or math.isinf(difference):
        raise Missing(f"not timed: differs by {difference:.1e}, allowed is {tolerance:.0e}")
    return difference


def relative_difference(y, expected):
    """Return the largest difference relative to the largest value; infinite if shapes differ or a value is NaN."""
    if y.shape != expected.shape:
        return math.inf
    difference = float(np.abs(y - expected).max() / np.abs(expected).max())
    return math.inf if math.isnan(difference) else difference


def interleave(runs, rounds, pause=PAUSE):
    """Return the seconds per call in every round, by name; each round begins with the next peer."""
    for run in runs.values():
        run()
    seconds = {name: [] for name in runs}
    names = list(runs)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(pause)
            wait_until_idle()
            seconds[name].append(turn(runs[name]))
    return seconds


def wait_until_idle():
    """Wait until the threads of the last peer stop spinning: after 100 ms in OpenBLAS, 60 ms in ONNX Runtime."""
    deadline = time.perf_counter() + LONGEST_WAIT
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(QUIET)
        if time.process_time() - before < QUIET / 10:
            return


def turn(run):
    """Return the mean duration of a call in seconds."""
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
