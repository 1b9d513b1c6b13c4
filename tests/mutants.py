"""Plants small faults in kernels and layers, one at a time, and shows which test finds each.

``python tests/mutants.py [WORD]`` copies the package to a temporary folder, plants there every fault whose line
holds the word, runs the tests that should find it, and prints the table of tests/README.md. Some
12 minutes for all: a changed kernel is compiled anew, so every fault names the tests that are run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LAYERS, KERNELS, GRADIENTS = "test_layers.py", "test_kernels.py", "test_gradients.py"
PATIENCE = 600  # seconds


class Fault(NamedTuple):
    """What is wrong, in which file; the tests that are run, by file and by words; the text and what it becomes."""

    what: str
    file: str
    tests: str
    words: str
    right: str
    wrong: str


MUTANTS = [
    Fault(
        "the odd pixel of the border goes to the top and left", "geometry.py",
        "test_geometry.py", "",
        "(total // 2, total - total // 2)",
        "(total - total // 2, total // 2)",
    ),
    Fault(
        "an output too many", "geometry.py",
        "test_geometry.py", "",
        "- reach) // stride + 1",
        "- reach + stride - 1) // stride + 1",
    ),
    Fault(
        "a window loses its last pixel", "geometry.py",
        LAYERS, "PoolingLayer-1",
        "(window - 1) * dilation + 1, length)",
        "(window - 1) * dilation, length)",
    ),
    Fault(
        "adaptive cells do not overlap", "geometry.py",
        LAYERS, "PoolingLayer-4",
        "-((index + 1) * -length // cells)",
        "(index + 1) * length // cells",
    ),
    Fault(
        "strides swapped", "kernels/conv.py",
        LAYERS, "whole and float32 and ConvLayer-2",
        "down, across = (step if size",
        "across, down = (step if size",
    ),
    Fault(
        "dilation swapped", "kernels/conv.py",
        LAYERS, "whole and float32 and ConvLayer-3",
        "u * dilation[0] * row_width",
        "u * dilation[1] * row_width",
    ),
    Fault(
        "every group sees the first channels", "kernels/conv.py",
        LAYERS, "whole and float32 and ConvLayer-3",
        "tap + group * own for tap",
        "tap for tap",
    ),
    Fault(
        "rows begin a pixel early", "kernels/conv.py",
        LAYERS, "whole and float32 and ConvLayer-0",
        "row, to = first_row + r, r * row_size",
        "row, to = first_row + r - 1, r * row_size",
    ),
    Fault(
        "the row below the frame is not zero", "kernels/conv.py",
        LAYERS, "whole and float32 and ConvLayer-4",
        "if 0 <= row < height:",
        "if 0 <= row <= height:",
    ),
    Fault(
        "a convolution forgets its bias", "kernels/convolution.py",
        LAYERS, "whole and float32 and ConvLayer-0",
        "np.zeros(filters, kernel.dtype) if bias is None else bias, groups",
        "np.zeros(filters, kernel.dtype), groups",
    ),
    Fault(
        "a dense layer forgets its bias", "kernels/dense.py",
        LAYERS, "whole and float32 and DenseLayer-0",
        "np.zeros(units, weights.dtype) if bias is None else bias",
        "np.zeros(units, weights.dtype)",
    ),
    Fault(
        "the last sample is left out", "kernels/dense.py",
        LAYERS, "DenseLayer-0",
        "range(whole, last)",
        "range(whole, last - 1)",
    ),
    Fault(
        "a coefficient of the kernel's transform", "kernels/tiles.py",
        LAYERS, "bound and float32 and ConvLayer-7",
        "(1 / 24, 1 / 12, 1 / 6),",
        "(1 / 24, 1 / 12, 1 / 3),",
    ),
    Fault(
        "tiles begin at the wrong side of the border", "kernels/winograd.py",
        LAYERS, "bound and float32 and ConvLayer-7",
        "% plan.across * side - plan.left",
        "% plan.across * side + plan.left",
    ),
    Fault(
        "tiles lose the last column", "kernels/winograd.py",
        LAYERS, "bound and float32 and ConvLayer-6",
        "range(min(windows, columns - left))",
        "range(min(windows, columns - left - 1))",
    ),
    Fault(
        "of equal values the last is the largest", "kernels/pool.py",
        GRADIENTS, "whole and float32 and PoolingLayer",
        "wins = (value > largest[k])",
        "wins = (value >= largest[k])",
    ),
    Fault(
        "a maximum loses NaN", "kernels/pool.py",
        LAYERS, "nan_shows and PoolingLayer-0",
        "value if (value > best) | (value != value) else best",
        "value if value > best else best",
    ),
    Fault(
        "a mean counts the lines of a dilated window wrongly", "kernels/pool.py",
        KERNELS, "PoolingLayer",
        "lines = (row_stops[i] - row_starts[i] + row_step - 1) // row_step",
        "lines = row_stops[i] - row_starts[i]",
    ),
    Fault(
        "the gradient of a mean is not shared", "kernels/pool.py",
        GRADIENTS, "whole and float32 and PoolingLayer-2",
        "+= dy[n, i, j, k] / size",
        "+= dy[n, i, j, k]",
    ),
    Fault(
        "a pooled gradient goes to the transposed place", "kernels/pool.py",
        GRADIENTS, "whole and float32 and PoolingLayer-0",
        "where[n, i, j, k] // across, where[n, i, j, k] % across",
        "where[n, i, j, k] % across, where[n, i, j, k] // across",
    ),
    Fault(
        "relu turns NaN into zero", "kernels/pointwise.py",
        LAYERS, "ActivationLayer-0",
        "y[i] = 0 if x[i] < 0 else x[i]",
        "y[i] = x[i] if x[i] > 0 else 0",
    ),
    Fault(
        "relu passes gradients below zero", "kernels/pointwise.py",
        LAYERS, "ActivationLayer-0",
        "dx[i] = dy[i] if x[i] > 0 else 0",
        "dx[i] = dy[i] if x[i] != 0 else 0",
    ),
    Fault(
        "softmax overflows", "kernels/pointwise.py",
        LAYERS, "ActivationLayer-8",
        "np.exp(x[i, k] - highest)",
        "np.exp(x[i, k])",
    ),
    Fault(
        "the gradient of softmax forgets its sum", "kernels/pointwise.py",
        LAYERS, "ActivationLayer-8",
        "y[i, k] * (dy[i, k] - total)",
        "y[i, k] * dy[i, k]",
    ),
    Fault(
        "a sign in the gradient of the sigmoid", "kernels/pointwise.py",
        LAYERS, "ActivationLayer-4",
        "dy[i] * y[i] * (one - y[i])",
        "dy[i] * y[i] * (one + y[i])",
    ),
    Fault(
        "the variance of a window is that of a sample", "kernels/filter_bank.py",
        LAYERS, "bound and float32 and FilterBankLayer-0",
        "max(square / count - mean",
        "max(square / (count - 1) - mean",
    ),
    Fault(
        "responses filter by filter", "kernels/filter_bank.py",
        LAYERS, "bound and float32 and FilterBankLayer-0",
        "y[n, i, j, t * filters + f]",
        "y[n, i, j, f * len(thresholds) + t]",
    ),
    Fault(
        "cells take a row of their neighbours", "kernels/filter_bank.py",
        KERNELS, "filter_bank_pooled",
        "if row_starts[p] <= i < row_stops[p]:",
        "if row_starts[p] <= i <= row_stops[p]:",
    ),
    Fault(
        "the kernel is not turned around", "kernels/conv_backward.py",
        GRADIENTS, "whole and float32 and ConvLayer-0",
        "kernel[::-1, ::-1]",
        "kernel[:, ::-1]",
    ),
    Fault(
        "the gradient of a stride lands a pixel off", "kernels/conv_backward.py",
        GRADIENTS, "whole and float32 and ConvLayer-2",
        "spread[:, :: strides[0], :: strides[1]] = dy",
        "spread[:, :: strides[0], ::-1][:, :, :: strides[1]] = dy",
    ),
    Fault(
        "sums of parts are lost", "kernels/conv_backward.py",
        GRADIENTS, "whole and float32 and ConvLayer-0",
        "total = sums.sum(axis=0)",
        "total = sums[0]",
    ),
    Fault(
        "sums of parts of tiles are lost", "kernels/winograd_backward.py",
        GRADIENTS, "whole and float32 and ConvLayer-6",
        "for part in range(parts):",
        "for part in range(1):",
    ),
    Fault(
        "gradients are summed in as many parts as threads", "kernels/conv_backward.py",
        LAYERS, "ConvLayer-0-number_of_threads",
        "FEWEST_PARTS))",
        "__import__('framecnn').get_num_threads()))",
    ),
    Fault(
        "the bias looks at another tap of the tiles", "kernels/winograd_backward.py",
        GRADIENTS, "whole and float32 and ConvLayer-6",
        "middle = (reach + 1) * blocks",
        "middle = reach * blocks",
    ),
    Fault(
        "a packed kernel outlives its parameter", "layers/params.py",
        LAYERS, "ConvLayer-0-gradient",
        "self.data, self._derived = {**self.data, **checked}, dict[str, Any]()",
        "self.data, self._derived = {**self.data, **checked}, self.__dict__.get('_derived', {})",
    ),
    Fault(
        "the gradient of batch normalisation forgets the variance", "layers/normalization.py",
        LAYERS, "BatchNormLayer",
        " - normal * (dgamma / count))",
        ")",
    ),
    Fault(
        "moving averages hold the batch for the past", "layers/normalization.py",
        GRADIENTS, "batch_norm",
        "self.momentum * moving_mean + (1 - self.momentum) * mean",
        "(1 - self.momentum) * moving_mean + self.momentum * mean",
    ),
    Fault(
        "dropout loses the mean", "layers/dropout.py",
        GRADIENTS, "dropout",
        " / x.dtype.type(1 - self.rate)",
        " / x.dtype.type(1)",
    ),
    Fault(
        "a fused pass forgets the slope", "networks/fusion.py",
        KERNELS, "one_pass",
        '"slope": layer.negative_slope',
        '"slope": 0.0',
    ),
    Fault(
        "fans swapped", "layers/initializers.py",
        "test_initializers.py", "",
        '"he_normal": lambda rng, shape: rng.normal(0, np.sqrt(2 / _fans(shape)[0])',
        '"he_normal": lambda rng, shape: rng.normal(0, np.sqrt(2 / _fans(shape)[1])',
    ),
    Fault(
        "the depth of a network's names is lost", "networks/sequential.py",
        GRADIENTS, "trained_together",
        'grads |= {f"{self.names[number]}/{key}"',
        'grads |= {f"{self.names[0]}/{key}"',
    ),
    Fault(
        "a cell forgets a column that the next one shares", "kernels/filter_bank.py",
        "test_every_size.py", "filter_bank and widths",
        "while stops[first] <= j:",
        "while first + 1 < grid and starts[first + 1] <= j:",
    ),
    Fault(
        "a block of columns counts in the first of its cells only", "kernels/filter_bank.py",
        "test_every_size.py", "filter_bank and widths",
        "alone = first + 1 == grid or starts[first + 1] >= j + PIXELS",
        "alone = True",
    ),
    Fault(
        "the last block of columns counts some twice", "kernels/filter_bank.py",
        "test_every_size.py", "constant_frame and widths",
        "for place in range(j, min(at + PIXELS, width)):",
        "for place in range(at, min(at + PIXELS, width)):",
    ),
    Fault(
        "a strip of a pooled map begins inside a tile", "kernels/convolution.py",
        "test_every_size.py", "strip_by_strip",
        "above = int(starts[rows].min()) // aligned * aligned",
        "above = int(starts[rows].min())",
    ),
    Fault(
        "a lone pixel after the last register block is not convolved", "kernels/conv.py",
        "test_every_size.py", "integers and widths",
        "for j in range(0, width, step):",
        "for j in range(0, max(width - 1, 1), step):",
    ),
    Fault(
        "a lone tile after the last register block is not multiplied", "kernels/winograd.py",
        "test_every_size.py", "activated_and_pooled and winograd4",
        "for p in range(0, present, PIXELS):",
        "for p in range(0, max(present - 1, 1), PIXELS):",
    ),
    Fault(
        "the last channel gets no gradient of a pooled map", "kernels/pool.py",
        "test_every_size.py", "training_pass and heights-direct",
        "for k in range(whole, channels):",
        "for k in range(whole, channels - 1):",
    ),
]  # fmt: skip


def run(folder, tests, words):
    """Run tests on a copy of the package; give pytest's return code and the name of the first that failed."""
    command = [sys.executable, "-m", "pytest", f"tests/{tests}", "-x", "-q", "-p", "no:cacheprovider", "-k", words]
    own = {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "HYPOTHESIS_STORAGE_DIRECTORY": "off"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return 1, f"{tests}, which does not end"
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return done.returncode, failed[1].removeprefix("tests/") if failed else f"{tests}, exit code {done.returncode}"


def main(word):
    """Print a row for each fault; end with how many survived."""
    folder = Path(tempfile.mkdtemp())
    for name in ("framecnn", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", folder)
    faults = [fault for fault in MUTANTS if word in " ".join(fault)]
    for tests, words in sorted({(fault.tests, fault.words) for fault in faults}):
        code, failed = run(folder, tests, words)
        if code:
            sys.exit(f"{tests} -k {words!r} fails without a fault: {failed}")
    print("| fault | file | found by |\n| --- | --- | --- |", flush=True)
    survived = 0
    for fault in faults:
        path = folder / "framecnn" / fault.file
        sound = path.read_text()
        path.write_text(sound.replace(fault.right, fault.wrong))
        code, failed = run(folder, fault.tests, fault.words)
        path.write_text(sound)
        survived += code == 0
        found = f"`{failed}`" if code else "**nothing**"
        print(f"| {fault.what} | {fault.file} | {found} |", flush=True)
    shutil.rmtree(folder)
    sys.exit(f"{survived} of {len(faults)} survived" if survived else 0)


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
