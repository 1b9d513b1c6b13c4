"""Prediction and training of the reference network by framecnn on the CPU, Keras on every device, and PyTorch.

    python -m benchmarks.bench_reference [--device cpu|gpu] [--rounds 9] [--json FILE]

Keras runs plain and compiled by XLA, on the requested devices (by default on all that it finds); PyTorch runs with
channels last, plain and compiled. Training uses Adam; a peer is timed if its loss after an update agrees.
"""

import argparse
import json
import sys
from pathlib import Path

from benchmarks import as_keras, machine, tables
from benchmarks.cases import NETWORKS
from benchmarks.memory import peak_memory
from benchmarks.peers import FRAMECNN, PYTORCH, TRAINING, TRAINING_PEERS, keras_on, training
from benchmarks.timing import compare
from framecnn.errors import MissingExtraError
from framecnn.interop.keras_training import keras_device

__all__ = ["main", "markdown", "measure"]

BATCH, SINGLE, SMALL = NETWORKS
TOLERANCE = 1e-3
"""Tolerance of losses after an update: Adam makes full steps even where gradients are hardly more than rounding."""
DEVICES = ("cpu", "gpu")
PREDICTING = (*keras_on("CPU", as_keras.start_tf_function), *PYTORCH[1:])
PREDICTING_ON_GPU = keras_on("GPU", as_keras.start_tf_function)
TRAINING_ON_GPU = keras_on("GPU", as_keras.start_training, training)


def measure(rounds, devices=DEVICES, batch=BATCH, single=SINGLE, small=SMALL, with_memory=True):
    """Return the comparisons of predictions and of training steps, and the memory of these, as JSON."""
    gpu = gpu_name()
    used = [device for device in devices if device == "cpu" or gpu]
    predicting = [(PREDICTING, PREDICTING_ON_GPU)[device == "gpu"] for device in used]
    learning = [(TRAINING_PEERS, TRAINING_ON_GPU)[device == "gpu"] for device in used]
    compared = [
        compare(f"predict {case.name}", (FRAMECNN, *sum(predicting, ())), case.model(), case.batch(), rounds)
        for case in (single, batch)
    ]
    trained = (TRAINING, *sum(learning, ()))
    steps = [
        compare(f"training step {case.name}", trained, case.model(), case.batch(), rounds, TOLERANCE)
        for case in (batch, small)
    ]
    names = [name for name, timing in steps[0].timings.items() if timing.kind != "gpu"]
    return {
        "devices": {"cpu": machine.describe()["cpu"], "gpu": gpu},
        "asked": list(devices),
        "comparisons": [comparison.as_json() for comparison in (*compared, *steps)],
        "memory": {name: peak_memory("training step", name) for name in names} if with_memory else {},
    }


def gpu_name():
    """Return the name of the GPU that Keras finds; None if there is none, or Keras is not installed."""
    try:
        device = keras_device()
    except MissingExtraError:
        return None
    return device.removeprefix("GPU: ") if device != "CPU" else None


def markdown(result):
    cpu, gpu = result["devices"].values()
    lines = [f"CPU: {cpu}"]
    if "gpu" in result["asked"]:
        lines.append(f"GPU: {gpu}" if gpu else "No GPU: Keras finds none, so nothing was timed on one.")
    parts = ["\n".join(lines), *map(tables.by_peer, result["comparisons"])]
    return "\n\n".join([*parts, tables.memory(result["memory"])] if result["memory"] else parts)


def main(arguments=None):
    """Run the benchmark, print the tables and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=DEVICES, help="the device for Keras (default: all)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="the file for the figures")
    options = parser.parse_args(arguments)
    result = measure(options.rounds, (options.device,) if options.device else DEVICES)
    print(markdown(result))
    if options.json:
        options.json.write_text(
            json.dumps({"machine": machine.describe(), **result}, indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    sys.exit(main())
