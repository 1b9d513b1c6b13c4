"""Accuracy of a residual network trained by back-propagation, by framecnn and by Keras with the same recipe.

    python -m benchmarks.bench_residual cifar10_subset.npz [--by framecnn|keras] [--seeds 1] [--epochs 24] [--json FILE]
    python -m benchmarks.bench_residual --steps [--rounds 9] [--json FILE]

The second form times single updates against Keras and PyTorch, which are timed if their loss after an update agrees.

The archive holds x_train, y_train, x_test and y_test. Both start from the same weights and see the same batches in the
same order, so accuracies differ by rounding, which training amplifies. The test part is used once, after training.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import machine, tables
from benchmarks.peers import TRAINING, TRAINING_PEERS
from benchmarks.timing import compare
from framecnn.data import Augmentation
from framecnn.interop.keras import to_keras
from framecnn.interop.keras_training import fit_keras
from framecnn.networks.residual import residual_network
from framecnn.training.optimizers import Adam
from framecnn.training.schedules import CosineDecay, WarmUp

__all__ = ["main", "measure", "time_steps"]

FILTERS, FILTERS_8 = (16, 64, 128), (16, 32, 64)  # of the network that is trained, and of ResNet-8
TOLERANCE = 1e-3  # of losses after an update: Adam makes full steps even where gradients are hardly more than rounding
BATCH = 64
RATE, WARM_UP = 0.004, 2  # epochs
AUGMENT = Augmentation(flip=True, shift=0.125)
LIBRARIES = ("framecnn", "keras")


def time_steps(rounds, sizes=(FILTERS, FILTERS_8), batches=(32, 128)):
    """Return the timings of updates by framecnn, Keras and PyTorch, as JSON."""
    rng, results = np.random.default_rng(0), []
    for filters in sizes:
        network = residual_network((32, 32, 3), 10, filters=filters, scale=1 / 255).build(0)
        for batch in batches:
            x = rng.integers(0, 256, (batch, 32, 32, 3)).astype(np.float32)
            name = f"training step, filters {', '.join(map(str, filters))}, batch {batch}"
            compared = compare(name, (TRAINING, *TRAINING_PEERS), network, x, rounds, TOLERANCE)
            results.append(compared.as_json())
    return results


def measure(data, library, epochs, seed, filters=FILTERS):
    """Return accuracy on the test part in percent, the seconds of training and the last losses, as JSON."""
    x, y = data["x_train"], data["y_train"].ravel()
    network = residual_network(x.shape[1:], int(y.max()) + 1, filters=filters, scale=1 / 255).build(seed)
    updates = -(-len(y) // BATCH)
    rate = WarmUp(CosineDecay(RATE, max(epochs - WARM_UP, 1) * updates), WARM_UP * updates)
    settings = {"epochs": epochs, "batch_size": BATCH, "augment": AUGMENT, "seed": seed}
    start = time.perf_counter()
    if library == "keras":
        net = to_keras(network)
        history = fit_keras(net, x, y, learning_rate=rate, **settings)
        scores = np.concatenate([net.predict_on_batch(part) for part in np.array_split(data["x_test"], 8)])
    else:
        history = network.fit(x, y, optimizer=Adam(rate), progress=None, **settings)
        scores = network.predict(data["x_test"])
    return {
        "library": library,
        "seed": seed,
        "epochs": epochs,
        "parameters": network.summary().n_params,
        "accuracy": round(100 * float(np.mean(scores.argmax(axis=1) == data["y_test"].ravel())), 2),
        "training_loss": round(history.loss[-1], 4),
        "training_accuracy": round(100 * history.accuracy[-1], 2),
        "seconds": round(time.perf_counter() - start, 1),
    }


def main(arguments=None):
    """Run the benchmark, print a line of JSON for each training and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("npz", type=Path, nargs="?")
    parser.add_argument("--by", choices=LIBRARIES, help="the library that trains (default: both)")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each library, from seed 0 on")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--steps", action="store_true", help="time updates instead")
    parser.add_argument("--rounds", type=int, default=9, help="timings of each update")
    parser.add_argument("--json", type=Path, help="the file for the figures")
    options = parser.parse_args(arguments)
    if bool(options.npz) == options.steps:
        parser.error("expected an archive or --steps")
    result = {"machine": machine.describe()}
    if options.steps:
        result["comparisons"] = time_steps(options.rounds)
        print(*map(tables.by_peer, result["comparisons"]), sep="\n\n")
    else:
        result |= {"source": options.npz.name, "trainings": []}
        data = dict(np.load(options.npz))
        for seed in range(options.seeds):
            for library in [options.by] if options.by else LIBRARIES:
                result["trainings"].append(measure(data, library, options.epochs, seed))
                print(json.dumps(result["trainings"][-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
