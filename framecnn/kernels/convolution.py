"""Convolution with what follows it: the choice of an algorithm, and passes that write no whole map to be pooled."""

from typing import NamedTuple

import numpy as np

from framecnn.geometry import Windows
from framecnn.kernels.conv import conv2d_direct, pack_bias, pack_conv2d
from framecnn.kernels.epilogue import Epilogue, is_square
from framecnn.kernels.pool import pool2d
from framecnn.kernels.threads import ordered_map
from framecnn.kernels.tiles import KERNEL_TRANSFORM
from framecnn.kernels.winograd import conv2d_winograd, pack_winograd
from framecnn.typing import Array

__all__ = ["ALGORITHMS", "PackedConv", "algorithms_for", "choose_algorithm", "conv2d"]

ALGORITHMS = {"direct": 0, "winograd2": 2, "winograd4": 4}  # and the pixels of an output tile along an axis
STRIP_BYTES, STRIP_REACH = 512 * 1024, 8  # of a map, and at least so many times the rows that strips share
Pair = tuple[int, int]


def choose_algorithm(kernel: Array, strides: Pair, dilation: Pair, groups: int, output: Pair) -> str:
    """Return the name of the fastest algorithm, from shapes and dtype alone: a frame has the same bits in any batch.

    Costs are multiply-adds per channel and filter. A transform costs about as much as so many more filters, that of
    the result as so many more channels (measured), so shallow and narrow layers stay direct. float64 is asked for its
    exactness and stays direct too.

    Shapes: kernel (kh, kw, c / groups, f); `output` are rows and columns of the result, in pixels.
    """
    window, (channels, filters) = kernel.shape[0], kernel.shape[2:]
    names = algorithms_for(kernel.shape[:2], strides, dilation, groups) if kernel.dtype == np.float32 else ["direct"]

    def cost(name: str) -> float:
        side = ALGORITHMS[name]
        if not side:
            return float(window**2 * output[0] * output[1])
        tiles = -(-output[0] // side) * -(-output[1] // side)
        return tiles * (side + window - 1) ** 2 * (1 + 10 / filters + 12 / channels)

    return min(names, key=cost)


def algorithms_for(window: Pair, strides: Pair, dilation: Pair, groups: int) -> list[str]:
    """Return the names of the algorithms that fit a window; Winograd's fit a plain 3 x 3 or 5 x 5 one."""
    if {*strides, *dilation, groups} != {1} or window[0] != window[1]:
        return ["direct"]
    return ["direct", *(name for name, side in ALGORITHMS.items() if (side, side + window[0] - 1) in KERNEL_TRANSFORM)]


class PackedConv(NamedTuple):
    """A convolution ready to run: weights in the order in which an algorithm reads them, and its geometry."""

    algorithm: int
    weights: Array
    bias: Array
    filters: int
    window: Pair
    strides: Pair
    dilation: Pair
    groups: int

    @classmethod
    def of(
        cls, algorithm: str, kernel: Array, bias: Array | None, strides: Pair, dilation: Pair, groups: int
    ) -> "PackedConv":
        """Pack a kernel (kh, kw, c / groups, f) and a bias (f,)."""
        side, filters = ALGORITHMS[algorithm], kernel.shape[3]
        weights = pack_winograd(kernel, side) if side else pack_conv2d(kernel, groups)
        packed_bias = pack_bias(np.zeros(filters, kernel.dtype) if bias is None else bias, groups)
        return cls(side, weights, packed_bias, filters, kernel.shape[:2], strides, dilation, groups)


def conv2d(
    x: Array,
    packed: PackedConv,
    corner: Pair,
    output: Pair,
    activation: str = "linear",
    slope: float = 0.0,
    windows: tuple[Windows, Windows] | None = None,
    mode: str = "none",
    where: Array | None = None,
) -> Array:
    """Convolve frames, apply an activation, pool: same bits as one after the other.

    :func:`framecnn.kernels.reference.conv2d` is the definition. Error of a direct convolution at most
    ``(K + 2) eps conv(|x|, |w|)``, K = kh kw c / groups products; of Winograd's as :mod:`framecnn.kernels.winograd`
    states it.

    Shapes: x (n, h, w, c); `corner` is the border at the top and the left, `output` the result before pooling, both in
    pixels; `windows` are those of pooling along rows and columns, as :mod:`framecnn.geometry` gives them; result
    (n, oh, ow, f). Where 2 x 2 pixels are pooled, `where`, of bytes and shaped as the result, is set to the numbers of
    the largest: 2 u + v.
    """
    if windows is None:
        return _convolve(x, packed, corner, output, Epilogue.of(activation, slope))
    square = is_square(windows[0], output[0]) and is_square(windows[1], output[1])
    if square and (mode == "average" or activation != "leaky_relu" or slope >= 0):
        return _convolve(x, packed, corner, output, Epilogue.of(activation, slope, mode), where)
    (starts, stops, step), columns = windows
    y = np.empty((len(x), len(starts), len(columns[0]), packed.filters), x.dtype)
    aligned = max(packed.algorithm, 1)
    shared = int((stops - starts).max()) + aligned  # rows that strips may have to compute twice
    fitting = STRIP_BYTES // (output[1] * packed.filters * x.itemsize)
    height = max(1, max(fitting, STRIP_REACH * shared) * len(starts) // output[0])
    epilogue = Epilogue.of(activation, slope)

    def pool_strip(strip: tuple[int, int]) -> None:
        n, first = strip
        rows = slice(first, first + height)
        above = int(starts[rows].min()) // aligned * aligned
        size = (int(stops[rows].max()) - above, output[1])
        here = (corner[0] - above * packed.strides[0], corner[1])
        part = _convolve(x[n : n + 1], packed, here, size, epilogue)
        y[n, rows] = pool2d(part, (starts[rows] - above, stops[rows] - above, step), columns, mode)[0]

    ordered_map(pool_strip, [(n, first) for n in range(len(x)) for first in range(0, len(starts), height)])
    return y


def _convolve(
    x: Array, packed: PackedConv, corner: Pair, output: Pair, epilogue: Epilogue, where: Array | None = None
) -> Array:
    where = None if where is None else where.reshape(-1)
    algorithm, weights, bias, filters, window, strides, dilation, _ = packed
    if algorithm:
        return conv2d_winograd(x, weights, bias[0], algorithm, filters, corner, output, epilogue, where)
    return conv2d_direct(x, weights, bias, filters, window, strides, corner, output, dilation, epilogue, where)
