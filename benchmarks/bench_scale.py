"""Time and memory of a fit to many frames, which are rendered when they are read.

    python -m benchmarks.bench_scale [--frames 1000 10000 100000] [--size 64x96] [--filters 100]
                                     [--max-memory "1 GiB"] [--workers 2] [--json FILE]

Each number of frames is fitted in a process of its own, so that its peak memory is its own. The marginal time of a
frame is the time of the frames beyond those of the row before, divided by their number. With `--max-memory`, features
that do not fit it go to a temporary folder. With `--workers`, each number of frames is fitted twice, here with as many
threads as workers and on workers of one thread each, and so are the features alone computed.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import machine, tables
from framecnn import FrameClassifier, FrameFeatures, num_threads, working_memory
from framecnn.comparison.model_process import peak_megabytes
from framecnn.distributed import local_cluster, run_on

__all__ = ["RenderedFrames", "against_workers", "fit_in_process", "main", "markdown", "workers_markdown"]

ROOT = Path(__file__).parents[1]
CLASSES, GROUP = 6, 25  # frames of a group look alike
CELL = 4  # pixels


class RenderedFrames:
    """Frames of six classes of textures as a lazily loaded array: a row is drawn from its number when it is read."""

    def __init__(self, n, size, seed=0):
        self.shape, self.dtype, self._seed = (n, *size, 3), np.dtype(np.uint8), seed

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        return np.stack([self.draw(row) for row in np.arange(len(self))[rows].tolist()])

    def draw(self, row):
        """Return a frame (h, w, 3): stripes of the direction and width of its class, and noise of its own."""
        rng = np.random.default_rng((self._seed, row // GROUP))
        height, width = self.shape[1:3]
        label = self.labels[row]
        down, across = np.arange(height)[:, None], np.arange(width)
        phase = (label % 3 - 1) * down + (1 if label % 3 != 1 else 0) * across + (down if label % 3 == 1 else 0)
        stripes = (phase // (CELL * (1 + label // 3)) + int(rng.integers(8))) % 2
        colours = rng.integers(0, 256, (2, 3))
        noise = np.random.default_rng((self._seed, len(self), row)).integers(-40, 41, (height, width, 1))
        return np.clip(colours[stripes] + noise, 0, 255).astype(np.uint8)

    @property
    def labels(self):
        return np.arange(len(self)) // GROUP % CLASSES

    @property
    def groups(self):
        return np.arange(len(self)) // GROUP


def fit_in_process(n, size, filters, max_memory=None):
    """Return what :func:`fit` returns for some frames, in a process of its own."""
    job = {"n": n, "size": size, "filters": filters, "max_memory": max_memory}
    command = [sys.executable, "-m", "benchmarks.bench_scale", "--job", json.dumps(job)]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout)


def fit(n, size, filters, max_memory):
    """Return seconds, peak memory before and after in MB, the grid that was chosen, and the held-out accuracy."""
    small = RenderedFrames(12 * GROUP, size)
    FrameClassifier(features="learned", n_filters=filters, random_state=0).fit(
        small, small.labels, small.groups
    )  # compiles the kernels
    before = peak_megabytes()
    frames = RenderedFrames(n, size)
    classifier = FrameClassifier(features="learned", n_filters=filters, random_state=0)
    start = time.perf_counter()
    with working_memory(max_memory):
        classifier.fit(frames, frames.labels, frames.groups)
    seconds = time.perf_counter() - start
    held_out = classifier.held_out_probabilities_.argmax(axis=1)
    return {
        "frames": n,
        "features": classifier.head_.n_features_in_,
        "grid": list(classifier.chosen_["grid"]),
        "seconds": seconds,
        "before_megabytes": before,
        "peak_megabytes": peak_megabytes(),
        "held_out_accuracy": float((held_out == frames.labels).mean()),
    }


def against_workers(n, size, filters, n_workers):
    """Return seconds of features and of a fit, here on as many threads as workers, and on workers of one thread."""
    small, frames = RenderedFrames(2 * CLASSES * GROUP, size), RenderedFrames(n, size)
    features = FrameFeatures(n_filters=filters, random_state=0).fit(small)
    found = {"frames": n, "workers": n_workers}

    def seconds(function, frames):
        with tempfile.TemporaryDirectory() as folder, working_memory(cache_dir=folder):
            start = time.perf_counter()
            function(frames)
            return time.perf_counter() - start

    def fit(frames):
        classifier = FrameClassifier(features="learned", n_filters=filters, random_state=0)
        return classifier.fit(frames, frames.labels, frames.groups)

    def both(name):
        for key, function in (("features", lambda frames: features.transform_in_shards(frames)), ("fit", fit)):
            seconds(function, small)  # compiles and loads the kernels
            found[f"{key}_{name}"] = seconds(function, frames)

    with num_threads(n_workers):
        both("here")
        with local_cluster(n_workers) as client, run_on(client):
            both("on_workers")
    return found


def workers_markdown(rows):
    """Return the table of :func:`against_workers`."""
    cells = [
        (
            f"{row['frames']:,}",
            f"{row['workers']}",
            *(f"{row[f'{key}_{name}']:.2f}" for key in ("features", "fit") for name in ("here", "on_workers")),
            f"{row['features_here'] / row['features_on_workers']:.2f}",
            f"{100 * (row['fit_on_workers'] / row['fit_here'] - 1):+.1f}",
        )
        for row in rows
    ]
    head = ("frames", "threads or workers", "features here, s", "on workers, s", "fit here, s", "on workers, s")
    return tables.table((*head, "speed of features", "time of fit, %"), cells)


def markdown(rows):
    """Return the table of the results, in ascending order of frames."""
    cells, fewer = [], None
    for row in rows:
        marginal = "" if fewer is None else (row["seconds"] - fewer["seconds"]) / (row["frames"] - fewer["frames"])
        cells.append(
            (
                f"{row['frames']:,}",
                f"{row['features']:,}",
                f"{row['seconds']:.1f}",
                f"{1e3 * row['seconds'] / row['frames']:.2f}",
                "" if fewer is None else f"{1e3 * marginal:.2f}",
                f"{row['peak_megabytes']:.0f}",
                f"{100 * row['held_out_accuracy']:.1f}",
            )
        )
        fewer = row
    head = ("frames", "features", "s", "ms per frame", "ms per further frame", "peak, MB", "held-out accuracy, %")
    return tables.table(head, cells)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--size", default="64x96", help="HEIGHTxWIDTH in pixels (default 64x96)")
    parser.add_argument("--filters", type=int, default=100)
    parser.add_argument("--max-memory", help="such as 1GiB")
    parser.add_argument("--workers", type=int, help="compare this process with so many workers")
    parser.add_argument("--json", type=Path, help="the file for the figures")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        print(json.dumps(fit(**json.loads(options.job))))
        return
    size = [int(side) for side in options.size.split("x")]
    if options.workers:
        rows = [against_workers(n, size, options.filters, options.workers) for n in sorted(options.frames)]
        print(workers_markdown(rows))
        return
    rows = [fit_in_process(n, size, options.filters, options.max_memory) for n in sorted(options.frames)]
    print(markdown(rows))
    if options.json:
        report = {"machine": machine.describe(), "size": size, "filters": options.filters, "results": rows}
        report["max_memory"] = options.max_memory
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
