"""The gradients of layers by the definitions in kernels/reference.py, and bounds of their rounding errors."""

import numpy as np
from agreement import border, pooled_pixels, resampling_rounding, rounding, window, winograd_side
from scipy import special

from framecnn import ActivationLayer, ConvLayer, DenseLayer, PoolingLayer
from framecnn.kernels import reference
from framecnn.kernels.codegen.transforms import TRANSFORMS, transform_index
from framecnn.layers import DownsamplingLayer, ResizingLayer


def gradients_for(y, integers=False):
    """Return drawn gradients of an output: integers from -9 to 9, or floats."""
    rng = np.random.default_rng(3)
    return (rng.integers(-9, 10, y.shape) if integers else rng.normal(size=y.shape)).astype(y.dtype)


def defined(layer, x, dy):
    """Return the gradients of a built layer in float64, by definition: dx and those of its parameters."""
    params = layer.params
    match layer:
        case ActivationLayer():
            return reference.activation_backward(x, dy, layer.function, layer.parameter), {}
        case DenseLayer():
            dx, kernel, bias = reference.dense_backward(x, params["kernel"], dy)
        case ConvLayer():
            steps = (layer.strides, border(layer), layer.dilation_rate, layer.groups)
            dx, kernel, bias = reference.conv2d_backward(x, params["kernel"], dy, *steps)
        case PoolingLayer() | DownsamplingLayer():
            return reference.pool2d_backward(x, dy, *pooled_pixels(layer)), {}
        case ResizingLayer():
            return reference.resample2d_backward(dy, layer.input_shape[:2]), {}
    return dx, {"kernel": kernel} | ({"bias": bias} if layer.use_bias else {})


def rounding_backward(layer, x, dy):
    """Return bounds of how far the gradients of a built layer are from `defined`, in the same form.

    Sums of integers, and of products of integers, are exact: their bound is zero.
    """
    eps = np.finfo(layer.dtype).eps
    match layer:
        case ActivationLayer():
            return activation_rounding(layer, np.asarray(x, np.float64), np.abs(dy, dtype=np.float64), eps), {}
        case PoolingLayer(mode="max" | "adaptive_max") if np.array_equal(dy, np.rint(dy)):
            return 0, {}
        case PoolingLayer() | DownsamplingLayer():
            return pooling_rounding(layer, x, dy, eps), {}
        case ResizingLayer():
            return resampling_rounding(dy, layer.input_shape[:2], layer.size, eps, "iu,jv,nijk->nuvk"), {}
        case ConvLayer() if side := winograd_side(layer):
            is_direct = layer.groups > 1  # the sums for the kernel
            kernel, bias = (0, 0) if is_direct else winograd_rounding_backward(layer, x, dy, side)
            return winograd_rounding_of_input(layer, dy), {"kernel": kernel * eps, "bias": bias * eps}
    return 0, {"kernel": 0, "bias": 0}


def activation_rounding(layer, x, dy, eps):
    """Return the bound from that of the output; dy is positive. A product or a sum rounds once, exp and tanh twice."""
    y, error = reference.activation(x, layer.function, layer.parameter), rounding(layer, x)
    match layer.function:
        case "sigmoid":  # dy y (1 - y)
            return dy * (error * (1 + 2 * y) + 3 * eps * y)
        case "tanh":  # dy (1 - y^2)
            return dy * (3 * error * np.abs(y) + 3 * eps)
        case "silu":  # dy s (1 + x (1 - s))
            s = special.expit(x)
            return 10 * eps * dy * s * (1 + np.abs(x) * (1 - s))
        case "gelu":  # the argument of exp and erfc is rounded
            density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
            return 2 * (np.minimum(x**2, 1500) + 10) * eps * dy * (special.ndtr(x) + np.abs(x) * density)
        case "softmax":  # y (dy - sum y dy)
            total = (y * dy).sum(axis=-1, keepdims=True)
            propagated = error * (dy + total) + y * (error * dy).sum(axis=-1, keepdims=True)
            return propagated + (x.shape[-1] + 4) * eps * y * (dy + total)
    slopes = np.abs(reference.activation_backward(x, dy, layer.function, layer.parameter))
    return 6 * eps * slopes  # the slope of leaky_relu and the root of sqrt are rounded, then a product and a quotient


def pooling_rounding(layer, x, dy, eps):
    """Return the bound: a share is a quotient, and a pixel adds up the shares of all windows that it lies in."""
    rows, columns, mode = pooled_pixels(layer)
    down, across = (np.bincount(np.concatenate(lines).astype(int)).max() for lines in (rows, columns))
    return (down * across + 1) * eps * reference.pool2d_backward(x, np.abs(dy), rows, columns, mode)


def winograd_rounding_of_input(layer, dy):
    """Return the bound of dx: that of the convolution of dy by the flipped kernel."""
    twin = flipped(layer)
    parts = np.split(layer.params["kernel"][::-1, ::-1], layer.groups, axis=3)
    twin.params["kernel"] = np.concatenate([part.swapaxes(2, 3) for part in parts], axis=3)
    return rounding(twin, dy)


def flipped(layer):
    """Return the built convolution, with drawn weights, that maps dy to dx for a layer without strides."""
    back = window(layer, layer.kernel_size).transposed()
    sides = tuple(tuple(max(side, 0) for side in sides) for sides in back.border)  # negative ones are cropped
    settings = {"kernel_size": layer.kernel_size, "dilation_rate": layer.dilation_rate, "groups": layer.groups}
    twin = ConvLayer(layer.input_shape[2], **settings, padding=sides, algorithm=layer.algorithm)
    return twin.build((*back.frame, layer.filters), dtype=layer.dtype)


def input_gradient_by_winograd(layer):
    """Return whether a built convolution computes dx by one of Winograd's algorithms."""
    return layer.strides == (1, 1) and winograd_side(flipped(layer)) > 0


def winograd_rounding_backward(layer, x, dy, side):
    """Return the bounds of kernel and bias in eps: ``|G^T| [sum over tiles (|B^T| |d| |B|) * (|A| |dy| |A^T|)] |G|``.

    Roundings of a value are at most 8 in the transform of d, 8 in that of dy, one for each tile that is added up, 10 in
    the last transform and 2 for products.
    """
    size = layer.kernel_size[0]
    transform = TRANSFORMS[transform_index(side, size)]
    B, G, A = (np.abs(np.array(m, np.float64)) for m in (transform.input, transform.kernel, transform.output))
    tiles = [-(-length // side) for length in layer.output_shape[:2]]
    (top, _), (left, _) = border(layer)
    extent = transform.extent
    pixels = corner_of(np.abs(x), (top, left), [side * (count - 1) + extent for count in tiles])
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (extent, extent), (1, 2))[:, ::side, ::side]
    gradients = corner_of(np.abs(dy), (0, 0), [side * count for count in tiles])
    blocks = np.lib.stride_tricks.sliding_window_view(gradients, (side, side), (1, 2))[:, ::side, ::side]
    sums = np.einsum("ur,nijkrs,vs,pu,nijfpq,qv->uvkf", B, windows, B, A, blocks, A, optimize=True)
    count = len(x) * tiles[0] * tiles[1] + 8 + 8 + 10 + 2
    return count * np.einsum("ur,uvkf,vs->rskf", G, sums, G), count * np.abs(dy).sum(axis=(0, 1, 2), dtype=np.float64)


def corner_of(frames, before, sizes):
    """Return frames with zeros at the top and the left, and cut or filled up with zeros to a size."""
    padded = np.zeros((len(frames), *sizes, frames.shape[3]))
    inside = frames[:, : sizes[0] - before[0], : sizes[1] - before[1]]
    padded[:, before[0] : before[0] + inside.shape[1], before[1] : before[1] + inside.shape[2]] = inside
    return padded
