"""Predictions have the same bits for any number of threads, any batch size, alone and from many threads at once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks import tables
from benchmarks.cases import NETWORKS
from framecnn import num_threads

__all__ = ["markdown", "measure"]

BATCHES, THREADS, CALLERS, FRAMES = (1, 7, 64), (1, 2), 8, 64


def measure(rounds=0, cases=(NETWORKS[1], NETWORKS[2]), n_frames=FRAMES):
    """Give, for every frame size, which ways of predicting gave other bytes than the first."""
    return [{"frame": case.frame, "frames": n_frames, **same_bits(case, n_frames)} for case in cases]


def same_bits(case, n_frames):
    model = case.model()
    x = np.random.default_rng(0).random((n_frames, *case.frame), np.float32)
    ways = {}
    for threads in THREADS:
        with num_threads(threads):
            for batch in BATCHES:
                ways[f"{threads} threads, batch {batch}"] = in_batches(model, x, batch)
    with num_threads(THREADS[-1]), ThreadPoolExecutor(CALLERS) as callers:
        answers = callers.map(lambda _: in_batches(model, x, BATCHES[1]), range(CALLERS))
        ways |= {f"caller {number} of {CALLERS} at once": answer for number, answer in enumerate(answers, 1)}
    expected = next(iter(ways.values()))
    different = [way for way, answer in ways.items() if answer != expected]
    return {"ways": list(ways), "different": different, "equal": not different}


def in_batches(model, x, size):
    """Return the bytes of the predictions, `size` frames a call."""
    return b"".join(model.predict(x[i : i + size], batch_size=size).tobytes() for i in range(0, len(x), size))


def markdown(results):
    rows = [
        (
            f"{result['frames']} x " + "x".join(map(str, result["frame"])),
            "equal" if result["equal"] else f"different: {', '.join(result['different'])}",
        )
        for result in results
    ]
    head = f"bits: {' and '.join(map(str, THREADS))} threads, batch {', '.join(map(str, BATCHES))}, {CALLERS} callers"
    return tables.table(("frames", head), rows)
