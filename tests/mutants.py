"""Mutation tests: small changes of kernels and layers, one at a time, each of which some test must notice.

``python tests/mutants.py [WORD]`` copies the package to a temporary folder, makes there each change of whose row a
field holds the word, runs the tests that should fail, and prints the table of tests/mutants.md. All of them take
about 15 minutes: a changed kernel is compiled again, so every mutant names the tests that are run.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from branch_mutants import BRANCH_MUTANTS
from depthwise_mutants import DEPTHWISE_MUTANTS
from mutant import Mutant
from training_mutants import TRAINING_MUTANTS

ROOT = Path(__file__).parents[1]
LAYERS, KERNELS, GRADIENTS, SIZES = "test_layers.py", "test_kernels.py", "test_gradients.py", "test_every_size.py"
SECONDS = 600  # that the tests of one mutant may take


MUTANTS = [
    Mutant(
        "the odd pixel of the border goes to the top and left", "geometry.py", "_same_border",
        "test_geometry.py", "",
        "(total // 2, total - total // 2)",
        "(total - total // 2, total // 2)",
    ),
    Mutant(
        "one output too many", "geometry.py", "Window.output",
        "test_geometry.py", "",
        "- extent) // stride + 1",
        "- extent + stride - 1) // stride + 1",
    ),
    Mutant(
        "a window loses its last pixel", "geometry.py", "window_pixels",
        LAYERS, "PoolingLayer-1",
        "(kernel - 1) * dilation + 1",
        "(kernel - 1) * dilation",
    ),
    Mutant(
        "adaptive cells do not overlap", "geometry.py", "adaptive_cells",
        LAYERS, "PoolingLayer-4",
        "-((index + 1) * -length // cells)",
        "(index + 1) * length // cells",
    ),
    Mutant(
        "strides swapped", "kernels/direct.py", "_row_plan",
        LAYERS, "integers and float32 and ConvLayer-2",
        "down, across = (",
        "across, down = (",
    ),
    Mutant(
        "dilation swapped", "kernels/direct.py", "_row_plan",
        LAYERS, "integers and float32 and ConvLayer-3",
        "u * dilation_h",
        "u * dilation_w",
    ),
    Mutant(
        "every group sees the first channels", "kernels/direct.py", "_row_plan",
        LAYERS, "integers and float32 and ConvLayer-3",
        "tap + group * group_channels for",
        "tap for",
    ),
    Mutant(
        "rows begin a pixel early", "kernels/direct.py", "load_rows",
        LAYERS, "integers and float32 and ConvLayer-0",
        "first_row + r,",
        "first_row + r - 1,",
    ),
    Mutant(
        "the row below the frame is not zero", "kernels/direct.py", "load_rows",
        LAYERS, "integers and float32 and ConvLayer-4",
        "row < height",
        "row <= height",
    ),
    Mutant(
        "a convolution forgets its bias", "kernels/conv2d.py", "PackedConv.of",
        LAYERS, "integers and float32 and ConvLayer-0",
        "if bias is None else bias",
        "if True else bias",
    ),
    Mutant(
        "a dense layer forgets its bias", "kernels/dense.py", "PackedDense.of",
        LAYERS, "integers and float32 and DenseLayer-0",
        "if bias is None else bias",
        "if True else bias",
    ),
    Mutant(
        "the last sample is skipped", "kernels/matrix.py", "multiply_range",
        LAYERS, "DenseLayer-0",
        "while n < last:",
        "while n < last - 1:",
    ),
    Mutant(
        "a coefficient of the kernel's transform", "kernels/codegen/transforms.py", "TRANSFORMS",
        LAYERS, "bound and float32 and ConvLayer-7",
        "(1 / 24, 1 / 12, 1 / 6),",
        "(1 / 24, 1 / 12, 1 / 3),",
    ),
    Mutant(
        "tiles begin on the wrong side of the border", "kernels/winograd.py", "transform_tiles",
        LAYERS, "bound and float32 and ConvLayer-7",
        "- plan.left",
        "+ plan.left",
    ),
    Mutant(
        "tiles lose the last column", "kernels/winograd.py", "write_tiles",
        LAYERS, "bound and float32 and ConvLayer-6",
        "columns - left",
        "columns - left - 1",
    ),
    Mutant(
        "the last of equal maxima counts", "kernels/pool.py", "pool2d_argmax",
        GRADIENTS, "integers and float32 and PoolingLayer",
        "value > maximum[k]",
        "value >= maximum[k]",
    ),
    Mutant(
        "a maximum loses NaN", "kernels/codegen/pooling.py", "maximum_window",
        LAYERS, "nan_shows and PoolingLayer-0",
        "b.or_(b.fcmp_ordered('>', value, so_far), b.fcmp_unordered('uno', value, value))",
        "b.fcmp_ordered('>', value, so_far)",
    ),
    Mutant(
        "a mean miscounts the rows of a dilated window", "kernels/pool.py", "pool2d_average_forward",
        KERNELS, "PoolingLayer",
        "(row_stops[i] - row_starts[i] + row_step - 1) // row_step",
        "row_stops[i] - row_starts[i]",
    ),
    Mutant(
        "the gradient of a mean is not shared", "kernels/pool.py", "pool2d_average_backward",
        GRADIENTS, "integers and float32 and PoolingLayer-2",
        "dy[n, i, j, k] / size",
        "dy[n, i, j, k]",
    ),
    Mutant(
        "a pooled gradient goes to the transposed position", "kernels/pool.py", "pool2d_max_backward",
        GRADIENTS, "integers and float32 and PoolingLayer-0",
        "u, v = (argmax",
        "v, u = (argmax",
    ),
    Mutant(
        "relu turns NaN into zero", "kernels/pointwise.py", "relu_forward",
        LAYERS, "ActivationLayer-0",
        "0 if x[i] < 0 else x[i]",
        "x[i] if x[i] > 0 else 0",
    ),
    Mutant(
        "relu passes gradients below zero", "kernels/pointwise.py", "relu_backward",
        LAYERS, "ActivationLayer-0",
        "x[i] > 0",
        "x[i] != 0",
    ),
    Mutant(
        "softmax overflows", "kernels/pointwise.py", "softmax_forward",
        LAYERS, "ActivationLayer-8",
        "x[i, k] - highest",
        "x[i, k]",
    ),
    Mutant(
        "the gradient of softmax forgets its sum", "kernels/pointwise.py", "softmax_backward",
        LAYERS, "ActivationLayer-8",
        "dy[i, k] - total",
        "dy[i, k]",
    ),
    Mutant(
        "a sign in the gradient of the sigmoid", "kernels/pointwise.py", "sigmoid_backward",
        LAYERS, "ActivationLayer-4",
        "one - y[i]",
        "one + y[i]",
    ),
    Mutant(
        "the variance of a window is that of a sample", "kernels/filter_bank.py", "inverse_deviations",
        LAYERS, "bound and float32 and FilterBankLayer-0",
        "square / count",
        "square / (count - 1)",
    ),
    Mutant(
        "responses are ordered filter by filter", "kernels/filter_bank.py", "filter_bank_forward",
        LAYERS, "bound and float32 and FilterBankLayer-0",
        "t * filters + f",
        "f * thresholds + t",
    ),
    Mutant(
        "cells take a row of their neighbours", "kernels/filter_bank.py", "filter_bank_average_forward",
        KERNELS, "filter_bank_pooled",
        "i < row_stops[p]",
        "i <= row_stops[p]",
    ),
    Mutant(
        "the kernel is flipped along one axis only", "kernels/strided_backward.py", "flip_forward",
        GRADIENTS, "integers and float32 and ConvLayer-0",
        "rows - 1 - item // columns",
        "item // columns",
    ),
    Mutant(
        "sums of parts are lost", "kernels/direct_backward.py", "direct_gradients_forward",
        GRADIENTS, "integers and float32 and ConvLayer-0",
        "range(1, parts)",
        "range(1, 1)",
    ),
    Mutant(
        "sums of parts of tiles are lost", "kernels/winograd_backward.py", "winograd_gradients_forward",
        GRADIENTS, "integers and float32 and ConvLayer-6",
        "sums[part, tap, b, k]",
        "sums[0, tap, b, k]",
    ),
    Mutant(
        "gradients are summed in as many parts as threads", "kernels/conv2d_backward.py", "conv2d_backward",
        LAYERS, "ConvLayer-0-number_of_threads",
        "FEWEST_PARTS",
        "__import__('framecnn').get_num_threads()",
    ),
    Mutant(
        "the bias is read from another tap of the tiles", "kernels/winograd_backward.py", "winograd_backward",
        GRADIENTS, "integers and float32 and ConvLayer-6",
        "(extent + 1) * blocks",
        "extent * blocks",
    ),
    Mutant(
        "a packed kernel outlives its parameter", "layers/params.py", "Params.replace",
        LAYERS, "ConvLayer-0-gradient",
        "dict[str, Any]()",
        "self.__dict__.get('_derived', {})",
    ),
    Mutant(
        "moving averages swap the batch and the past", "kernels/batch_norm.py", "moving_forward",
        GRADIENTS, "batch_norm",
        "momentum * moving_mean[k] + (1 - momentum) * mean[k]",
        "(1 - momentum) * moving_mean[k] + momentum * mean[k]",
    ),
    Mutant(
        "dropout loses the mean", "layers/dropout.py", "DropoutLayer.vjp",
        GRADIENTS, "dropout",
        "x.dtype.type(1 - self.rate)",
        "x.dtype.type(1)",
    ),
    Mutant(
        "a fused pass forgets the slope", "networks/fusion.py", "_activation",
        KERNELS, "one_pass",
        "layer.negative_slope",
        "0.0",
    ),
    Mutant(
        "fans swapped", "layers/initializers.py", "_DRAW",
        "test_initializers.py", "",
        "rng.normal(0, np.sqrt(2 / _fans(shape)[0])",
        "rng.normal(0, np.sqrt(2 / _fans(shape)[1])",
    ),
    Mutant(
        "all gradients of a network bear the first layer's name", "networks/passes.py", "vjp_through",
        GRADIENTS, "trained_together",
        "names[step.first]",
        "names[0]",
    ),
    Mutant(
        "a cell forgets a column that the next one shares", "kernels/filter_bank.py", "add_responses",
        SIZES, "filter_bank and widths",
        "while stops[first] <= j:",
        "while first + 1 < grid and starts[first + 1] <= j:",
    ),
    Mutant(
        "a block of columns counts in the first of its cells only", "kernels/filter_bank.py", "add_responses",
        SIZES, "filter_bank and widths",
        "starts[first + 1] >= j + PIXELS",
        "True",
    ),
    Mutant(
        "the last block of columns counts some twice", "kernels/filter_bank.py", "add_responses",
        SIZES, "constant_frame and widths",
        "range(j, min(at + PIXELS, width))",
        "range(at, min(at + PIXELS, width))",
    ),
    Mutant(
        "a strip of a pooled map begins inside a tile", "kernels/conv2d.py", "conv2d",
        SIZES, "strip_by_strip",
        "int(starts[rows].min()) // aligned * aligned",
        "int(starts[rows].min())",
    ),
    Mutant(
        "a lone pixel after the last register block is not convolved", "kernels/direct.py", "convolve_row",
        SIZES, "integers and widths",
        "range(0, width, step)",
        "range(0, max(width - 1, 1), step)",
    ),
    Mutant(
        "a lone tile after the last register block is not multiplied", "kernels/winograd.py", "multiply_tiles",
        SIZES, "activated_and_pooled and winograd4",
        "range(0, n_tiles, PIXELS)",
        "range(0, max(n_tiles - 1, 1), PIXELS)",
    ),
    Mutant(
        "tiles of the second round are read from the first", "kernels/winograd.py", "transform_forward",
        KERNELS, "read_once",
        "first + start, stop - start",
        "start, stop - start",
    ),
    Mutant(
        "a lone tile after the last register block is lost when weights are read once", "kernels/winograd.py",
        "multiply_forward",
        KERNELS, "read_once",
        "range(0, n_tiles, PIXELS)",
        "range(0, max(n_tiles - 1, 1), PIXELS)",
    ),
    Mutant(
        "the last channel gets no gradient of a pooled map", "kernels/pool.py", "unpool2d_forward",
        SIZES, "training_pass and heights-direct",
        "range(aligned, channels)",
        "range(aligned, channels - 1)",
    ),
    *BRANCH_MUTANTS, *DEPTHWISE_MUTANTS, *TRAINING_MUTANTS,
]  # fmt: skip


def mutated(source, mutant):
    """Return the source with the change; ValueError unless the definition and the code in it are there just once."""
    body, found = ast.parse(source).body, []
    for name in mutant.definition.split("."):
        found = [node for node in body if name in names(node)]
        body = [inner for node in found for inner in getattr(node, "body", [])]
    if len(found) != 1:
        raise ValueError(f"{mutant.name}: expected one {mutant.definition} in {mutant.file}, got {len(found)}")
    (node,) = found
    code, lines = ast.unparse(node), source.splitlines(keepends=True)
    if code.count(mutant.before) != 1:
        raise ValueError(f"{mutant.name}: expected {mutant.before!r} once in {mutant.definition}, got\n{code}")
    first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
    changed = textwrap.indent(code.replace(mutant.before, mutant.after), " " * node.col_offset) + "\n"
    return "".join([*lines[: first - 1], changed, *lines[node.end_lineno :]])


def names(node):
    """Return the names that a statement defines."""
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=targets):
            return [target.id for target in targets if isinstance(target, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
    return []


def run(folder, tests, words):
    """Run tests on a copy of the package; return pytest's exit code and the name of the first test that failed."""
    command = [sys.executable, "-m", "pytest", f"tests/{tests}", "-x", "-q", "-p", "no:cacheprovider", "-k", words]
    own = {"PYTHONPATH": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "HYPOTHESIS_STORAGE_DIRECTORY": "off"}
    try:
        done = subprocess.run(
            command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return 1, f"{tests}, which does not end"
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return done.returncode, failed[1].removeprefix("tests/") if failed else f"{tests}, exit code {done.returncode}"


def main(word):
    """Print a row for each mutant; end with the number of those that survived."""
    folder = Path(tempfile.mkdtemp())
    for name in ("framecnn", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "setup.cfg", folder)
    chosen = [mutant for mutant in MUTANTS if word in " ".join(mutant)]
    print("| mutant | file | killed by |\n| --- | --- | --- |", flush=True)
    survived, passing = 0, set()
    for mutant in chosen:
        if (mutant.tests, mutant.words) not in passing:
            code, failed = run(folder, mutant.tests, mutant.words)
            if code:
                sys.exit(f"{mutant.tests} -k {mutant.words!r} fails without a change: {failed}")
            passing.add((mutant.tests, mutant.words))
        path = folder / "framecnn" / mutant.file
        original = path.read_text()
        path.write_text(mutated(original, mutant))
        code, failed = run(folder, mutant.tests, mutant.words)
        path.write_text(original)
        survived += code == 0
        killer = f"`{failed}`" if code else "**survived**"
        print(f"| {mutant.name} | {mutant.file} | {killer} |", flush=True)
    shutil.rmtree(folder)
    sys.exit(f"{survived} of {len(chosen)} survived" if survived else 0)


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
