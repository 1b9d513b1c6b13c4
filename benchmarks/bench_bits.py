"""Whether predictions are bit-identical for any number of threads, any batch size, and concurrent callers."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks import tables
from benchmarks.cases import NETWORKS
from framecnn import num_threads

__all__ = ["markdown", "measure"]

BATCHES, THREADS, CALLERS, FRAMES = (1, 7, 64), (1, 2), 8, 64


def measure(rounds=0, cases=(NETWORKS[1], NETWORKS[2]), n_frames=FRAMES):
    """Return, for each frame size, the settings whose predictions differ in any byte from those of the first."""
    return [{"frame": case.frame, "frames": n_frames, **same_bits(case, n_frames)} for case in cases]


def same_bits(case, n_frames):
    model = case.model()
    x = np.random.default_rng(0).random((n_frames, *case.frame), np.float32)
    settings = {}
    for threads in THREADS:
        with num_threads(threads):
            for batch in BATCHES:
                settings[f"{threads} threads, batch {batch}"] = in_batches(model, x, batch)
    with num_threads(THREADS[-1]), ThreadPoolExecutor(CALLERS) as callers:
        answers = callers.map(lambda _: in_batches(model, x, BATCHES[1]), range(CALLERS))
        settings |= {f"caller {number} of {CALLERS} at once": answer for number, answer in enumerate(answers, 1)}
    expected = next(iter(settings.values()))
    different = [setting for setting, answer in settings.items() if answer != expected]
    return {"settings": list(settings), "different": different, "equal": not different}


def in_batches(model, x, size):
    """Return the bytes of the predictions, with `size` frames per call."""
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
