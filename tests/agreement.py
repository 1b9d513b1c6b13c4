"""The expected output of every layer, by the definitions in kernels/reference.py, and bounds of its rounding errors."""

import math

import numpy as np

from framecnn import geometry
from framecnn.kernels import ALGORITHMS, choose_algorithm, reference
from framecnn.kernels.codegen.transforms import TRANSFORMS, transform_index
from framecnn.layers import (
    ActivationLayer,
    BatchNormLayer,
    ConvLayer,
    DenseLayer,
    DownsamplingLayer,
    DropoutLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    PaddingLayer,
    ParallelLayer,
    PoolingLayer,
    ResizingLayer,
    ScalingLayer,
)
from framecnn.testing.draws import draw_params


def expected(layer, x):
    """Return the output of a built layer in float64, by definition."""
    match layer:
        case InputLayer():
            return layer.scale * np.asarray(x, np.float64)
        case FlatteningLayer():
            return np.asarray(x, np.float64).reshape(len(x), -1)
        case ActivationLayer():
            return reference.activation(x, layer.function, layer.parameter)
        case DenseLayer():
            return reference.dense(x, layer.params["kernel"], layer.params.get("bias", 0))
        case ConvLayer():
            return convolution(layer, x, layer.params["kernel"], layer.params.get("bias", 0))
        case PoolingLayer() | DownsamplingLayer():
            rows, columns, mode = pooled_pixels(layer)
            return reference.pool2d(x, rows, columns, mode)
        case ResizingLayer():
            return reference.resample2d(x, layer.size)
        case DropoutLayer():
            return np.asarray(x, np.float64)
        case BatchNormLayer():
            return reference.batch_norm(x, *layer.params.values(), layer.epsilon)
        case FilterBankLayer():
            kernel, bias = layer.params["kernel"], layer.params["bias"]
            return reference.filter_bank(x, kernel, bias, layer.strides, layer.contrast, layer.thresholds)
        case ScalingLayer():
            return np.asarray(x, np.float64) * layer.params["scale"] + layer.params["offset"]
        case PaddingLayer():
            return np.pad(np.asarray(x, np.float64), ((0, 0), *layer.padding, (0, 0)), constant_values=layer.value)
        case ParallelLayer():
            outputs = []
            for branch in layer.built_branches():
                y = np.asarray(x, np.float64)
                for inner in branch:
                    y = expected(inner, y)
                outputs.append(y)
            return merged(layer, outputs)
    raise NotImplementedError(f"add the expected output of {type(layer).__name__}")


def merged(layer, outputs):
    """Return the outputs of branches added, multiplied or concatenated."""
    merge = {"add": sum, "multiply": math.prod, "concatenate": lambda parts: np.concatenate(parts, axis=-1)}
    return merge[layer.merge](outputs)


def rounding(layer, x):
    """Return bounds of how far each value of a built layer's output is from `expected`, from the eps of its dtype."""
    eps, tiny, x = np.finfo(layer.dtype).eps, np.finfo(layer.dtype).tiny, np.asarray(x, np.float64)
    y = np.abs(expected(layer, x))
    match layer:
        case InputLayer():
            return eps * y
        case FlatteningLayer() | DropoutLayer():
            return 0 * y
        case PaddingLayer():
            return eps * (y == abs(layer.value)) * y  # the value of the border is rounded
        case ScalingLayer():
            scale, offset = (np.abs(value) for value in layer.params.values())
            return 2 * eps * (np.abs(x) * scale + offset)
        case ParallelLayer():
            return merged_spread(layer, x, np.zeros(x.shape))[1]
        case BatchNormLayer():
            gamma, beta, mean, variance = (np.abs(value) for value in layer.params.values())
            return 4 * eps * ((np.abs(x) + mean) * gamma / np.sqrt(variance + layer.epsilon) + beta)
        case ActivationLayer(function="softmax"):
            # x - max is rounded once and enters the exponent; then the exponential, c sums and a division
            return eps * y * (np.abs(x - x.max(axis=-1, keepdims=True)) + x.shape[-1] + 6) + tiny
        case ActivationLayer(function="relu" | "relu6"):
            return 0 * y
        case ActivationLayer(function="gelu"):
            # the argument of erfc is rounded, here and in the definition: its logarithm changes by x^2 times that
            return 2 * eps * y * (np.minimum(x**2, 1500) + 8) + tiny
        case ActivationLayer():
            return 6 * eps * y + tiny  # of exp, tanh, log and sqrt at most two units, then a sum and a division
        case DenseLayer():
            kernel, bias = np.abs(layer.params["kernel"]), np.abs(layer.params.get("bias", 0))
            return (len(kernel) + 2) * eps * reference.dense(np.abs(x), kernel, bias)
        case ConvLayer() if side := winograd_side(layer):
            return winograd_rounding(layer, x, side, eps)
        case ConvLayer():
            kernel, bias = np.abs(layer.params["kernel"]), np.abs(layer.params.get("bias", 0))
            return (kernel[..., 0].size + 2) * eps * convolution(layer, np.abs(x), kernel, bias)
        case PoolingLayer() | DownsamplingLayer():
            rows, columns, mode = pooled_pixels(layer)
            products = max(map(len, rows)) * max(map(len, columns))
            return 0 * y if mode == "max" else (products + 2) * eps * reference.pool2d(np.abs(x), rows, columns, mode)
        case ResizingLayer():
            return resampling_rounding(x, layer.input_shape[:2], layer.size, eps, "iu,jv,nuvk->nijk")
        case FilterBankLayer():
            return filter_bank_rounding(layer, x, eps)
    raise NotImplementedError(f"add the bound of {type(layer).__name__}")


def resampling_rounding(values, frame, size, eps, sums):
    """Return the bound of resampling values, or gradients (`sums` in the other direction), between two frame sizes.

    Weights are rounded to a unit of at most 2 eps times the largest of an output pixel, which takes up what is left: in
    sum at most one unit for each of its pixels. The sums round as any others.
    """
    matrices, errors, products = [], [], 4
    for length, pixels in zip(frame, size, strict=True):
        matrix = reference.resample2d(np.eye(length)[None, :, :, None], (pixels, length))[0, :, :, 0]
        matrices.append(matrix)
        errors.append(2 * eps * matrix.max(axis=1, keepdims=True) * (matrix > 0))
        products += max((matrix > 0).sum(axis=0).max(), (matrix > 0).sum(axis=1).max())
    values = np.abs(values, dtype=np.float64)
    (rows, columns), (row_errors, column_errors) = matrices, errors
    parts = [(row_errors, columns + column_errors), (rows, column_errors), (products * eps * rows, columns)]
    return sum(np.einsum(sums, *pair, values) for pair in parts)


def merged_spread(layer, x, error):
    """Return the output of a built ParallelLayer in float64, and its bound if the input is off by at most `error`."""
    from spreading import exact_and_spread  # which imports this module

    eps, steps = np.finfo(layer.dtype).eps, len(layer.branches)
    outputs, errors = zip(*(exact_and_spread(branch, x, error) for branch in layer.built_branches()), strict=True)
    largest = merged(layer, [np.abs(y) + off for y, off in zip(outputs, errors, strict=True)])
    y = merged(layer, outputs)
    if layer.merge == "multiply":
        return y, largest - np.abs(y) + steps * eps * largest
    return y, merged(layer, errors) + (steps * eps * largest if layer.merge == "add" else 0)


def filter_bank_rounding(layer, x, eps):
    """Return the bound of a filter bank: of a convolution, its scale, bias and threshold, and of the variance."""
    kernel, bias = layer.params["kernel"].astype(np.float64), np.abs(layer.params["bias"])
    centred = np.abs(kernel - kernel.mean(axis=(0, 1, 2)))
    exact, products = np.finfo(np.float64).eps, kernel[..., 0].size

    def windows(values, weights):
        return reference.conv2d(values, weights, 0, layer.strides, ((0, 0), (0, 0)), (1, 1), 1)

    mean = np.full((*kernel.shape[:3], 1), 1 / products)
    squares = windows(x**2, mean)
    variance = squares - windows(x, mean) ** 2 + layer.contrast
    scaling = products * exact * squares / variance  # the variance is a difference of squares, in float64
    centring = products * exact * windows(np.abs(x), np.abs(kernel))
    response = (windows(np.abs(x), centred) * ((products + 6) * eps + scaling) + centring) / np.sqrt(variance)
    return np.concatenate([response + 3 * eps * (bias + abs(t)) for t in layer.thresholds], axis=-1)


def winograd_side(layer):
    """Return the side of the output tiles of a built layer that convolves by Winograd, 0 for all others."""
    if not isinstance(layer, ConvLayer):
        return 0
    chosen = choose_algorithm(layer.params["kernel"], window(layer, layer.kernel_size), layer.groups)
    return max(ALGORITHMS[chosen if layer.algorithm == "auto" else layer.algorithm], 0)


def winograd_rounding(layer, x, side, eps):
    """Return the bound of Winograd: the transforms of absolute values, times the number of roundings of a value."""
    kernel, bias = np.abs(without_groups(layer.params["kernel"], layer.groups)), np.abs(layer.params.get("bias", 0))
    transform = TRANSFORMS[transform_index(side, len(kernel))]
    extent = transform.extent
    matrices = transform.kernel, transform.input, transform.output
    G, B, A = (np.abs(np.array(matrix, np.float64)) for matrix in matrices)
    rows, columns, filters = layer.output_shape
    tiles = [-(-length // side) for length in (rows, columns)]
    (top, _), (left, _) = window(layer, layer.kernel_size).border
    padded = np.zeros((len(x), *(side * (count - 1) + extent for count in tiles), x.shape[3]))
    inside = np.abs(x)[:, : padded.shape[1] - top, : padded.shape[2] - left]
    padded[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
    windows = np.lib.stride_tricks.sliding_window_view(padded, (extent, extent), (1, 2))[:, ::side, ::side]
    transformed = np.einsum("ur,nijkrs,vs->nijkuv", B, windows, B)
    products = np.einsum("nijkuv,uvkf->nijuvf", transformed, np.einsum("ur,rskf,vs->uvkf", G, kernel, G))
    sums = np.einsum("pu,nijuvf,qv->nipjqf", A, products, A).reshape(len(x), side * tiles[0], side * tiles[1], filters)
    return (x.shape[3] + 8 + 10 + 2) * eps * (sums[:, :rows, :columns] + bias)


def without_groups(kernel, groups):
    """Return the kernel (kh, kw, c, f) of one group that does the same: zeros between channels and other filters."""
    parts = np.split(kernel, groups, axis=3)
    lines = [[part if i == j else np.zeros_like(part) for j, part in enumerate(parts)] for i in range(groups)]
    return np.concatenate([np.concatenate(line, axis=3) for line in lines], axis=2)


def window(layer, size):
    """Return the window of a built layer; its kernel or pool has `size` rows and columns."""
    settings = (size, layer.strides, layer.dilation_rate, layer.padding, "test")
    return geometry.sliding_window(layer.input_shape[:2], *settings)


def border(layer):
    """Return the border of a built convolution."""
    return window(layer, layer.kernel_size).border


def convolution(layer, x, kernel, bias):
    """Return the reference convolution with a layer's geometry."""
    return reference.conv2d(x, kernel, bias, layer.strides, border(layer), layer.dilation_rate, layer.groups)


def pooled_pixels(layer):
    """Return the pixels of every window along rows and columns, counted out one by one, and the mode."""
    frame, output = layer.input_shape[:2], layer.output_shape[:2]
    if isinstance(layer, DownsamplingLayer):
        size = layer.factor if layer.mode == "mean" else (1, 1)
        lines = [
            [range(i * step, i * step + k) for i in range(n)]
            for n, step, k in zip(output, layer.factor, size, strict=True)
        ]
        return *map(as_lists, lines), "average"
    if layer.mode.startswith("adaptive"):
        lines = [
            [range(i * n // m, -(-(i + 1) * n // m)) for i in range(m)] for n, m in zip(frame, output, strict=True)
        ]
        return *map(as_lists, lines), layer.mode.removeprefix("adaptive_")
    sides = window(layer, layer.pool_size).border
    lines = [
        [[p for u in range(k) if 0 <= (p := i * s + u * d - before) < n] for i in range(m)]
        for n, m, k, s, d, (before, _) in zip(
            frame, output, layer.pool_size, layer.strides, layer.dilation_rate, sides, strict=True
        )
    ]
    return *lines, layer.mode


def as_lists(ranges):
    """Return ranges as lists, which NumPy can index by."""
    return [list(pixels) for pixels in ranges]


def is_exact(layer):
    """Return whether a layer's output is exact for integers: sums of products, maxima, choices."""
    if isinstance(layer, PoolingLayer):
        return layer.mode.endswith("max")
    if isinstance(layer, DownsamplingLayer):
        return layer.mode == "stride"
    if isinstance(layer, ActivationLayer):
        return layer.function in ("relu", "relu6")
    return isinstance(
        layer, ConvLayer | DenseLayer | DropoutLayer | FlatteningLayer | InputLayer | ScalingLayer
    ) and not winograd_side(layer)


def built(case_of, dtype=np.float32, integers=False):
    """Return the built layer of a case with drawn parameters, bias included: integers below 16, or floats."""
    kind, case = case_of
    return draw_params(kind(**case.settings).build(case.input_shape, dtype=dtype), integers)


OURS = [kind for _, kind in sorted(Layer.registry.items()) if kind.__module__.startswith("framecnn.")]
CASES = {f"{kind.__name__}-{number}": (kind, case) for kind in OURS for number, case in enumerate(kind.cases)}
