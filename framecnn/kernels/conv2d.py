"""Convolution, activation and pooling: choice of an algorithm, and passes that pool strip by strip."""

import math
from typing import NamedTuple

import numpy as np

from framecnn.errors import ShapeError
from framecnn.geometry import Pair, Ranges, Window
from framecnn.kernels.buffers import empty
from framecnn.kernels.codegen.conv_block import NARROW
from framecnn.kernels.codegen.microkernel import VECTORS, filter_block
from framecnn.kernels.codegen.transforms import TRANSFORMS
from framecnn.kernels.depthwise import conv2d_depthwise, pack_depthwise
from framecnn.kernels.direct import conv2d_direct
from framecnn.kernels.epilogue import PIECEWISE, Epilogue, are_pairs
from framecnn.kernels.matrix import multiply_rows
from framecnn.kernels.packing import pack_bias, pack_conv2d
from framecnn.kernels.pool import locate_maxima, pool2d
from framecnn.kernels.threads import ordered_map
from framecnn.kernels.winograd import conv2d_winograd
from framecnn.kernels.winograd_packing import groups_at_once, merge_groups, merging_cost, pack_winograd
from framecnn.typing import Array

__all__ = ["ALGORITHMS", "PackedConv", "algorithms_for", "choose_algorithm", "conv2d", "conv2d_added", "fits_strip"]

DEPTHWISE = -1
ALGORITHMS = {"direct": 0, "depthwise": DEPTHWISE, "winograd2": 2, "winograd4": 4}
"""By name, the side of Winograd's output tile in pixels, 0 for the direct sum, or DEPTHWISE."""

LARGEST_KERNEL = 16 * 1024 * 1024  # bytes; larger transformed ones do not stay in cache, and reading them takes longer
STRIP_VALUES = 128 * 1024  # in a strip of a map
STRIP_OVERLAPS = 8  # a strip has at least this many times the rows that it shares with the next


def choose_algorithm(kernel: Array, window: Window, groups: int) -> str:
    """Return the name of the fastest algorithm, from shapes and dtype alone.

    A frame therefore has the same bits in any batch. Costs are multiply-adds per channel and filter of a group.
    Measured: transforming the input costs as much as 10 extra filters, transforming the output as 12 extra channels, so
    shallow and narrow layers stay direct, and a kernel that does not fit the cache once it is transformed is read for
    every frame. float64, which users choose for its accuracy, stays direct too. A group of one channel is depthwise,
    unless it is the only one.

    Shapes: kernel (kh, kw, c / groups, f).
    """
    if groups > 1 and kernel.shape[2] == 1:
        return "depthwise"
    size, block = kernel.shape[0], filter_block(kernel.dtype)
    channels, filters = kernel.shape[2], kernel.shape[3] // groups
    merged = groups_at_once(channels, filters, groups, kernel.dtype)
    is_exact = kernel.dtype != np.float32
    names = ["direct"] if is_exact else algorithms_for(window.kernel, window.strides, window.dilation)

    def cost(name: str) -> float:
        tile = ALGORITHMS[name]
        if not tile:
            narrow = block * NARROW // VECTORS
            used = narrow if filters <= narrow else -(-filters // block) * block
            return size**2 * window.output[0] * window.output[1] * used / filters
        if (tile + size - 1) ** 2 * channels * kernel.shape[3] * merged * kernel.itemsize > LARGEST_KERNEL:
            return math.inf
        tiles = -(-window.output[0] // tile) * -(-window.output[1] // tile)
        return tiles * (tile + size - 1) ** 2 * merging_cost(channels, filters, groups, merged, kernel.dtype)

    return min(names, key=cost)


def algorithms_for(kernel_size: Pair, strides: Pair, dilation: Pair) -> list[str]:
    """Return the names of the algorithms that fit, "depthwise" apart: Winograd's need a plain 3 x 3 or 5 x 5 kernel."""
    if {*strides, *dilation} != {1} or kernel_size[0] != kernel_size[1]:
        return ["direct"]
    tiles = {transform.tile for transform in TRANSFORMS if transform.window == kernel_size[0]}
    return ["direct", *(name for name, tile in ALGORITHMS.items() if tile in tiles)]


class PackedConv(NamedTuple):
    """The parameters of a convolution in the order in which its algorithm reads them.

    `algorithm` is a value of ALGORITHMS.
    """

    algorithm: int
    weights: Array
    bias: Array
    filters: int
    groups: int

    @classmethod
    def of(cls, algorithm: str, kernel: Array, bias: Array | None, groups: int) -> "PackedConv":
        """Return a kernel (kh, kw, c / groups, f) and a bias (f,) packed for an algorithm."""
        tile, filters = ALGORITHMS[algorithm], kernel.shape[3]
        shift = np.zeros(filters, kernel.dtype) if bias is None else bias
        if tile == DEPTHWISE:
            return cls(tile, pack_depthwise(kernel), pack_depthwise(shift[None, None, None])[0, 0], filters, groups)
        if not tile:
            return cls(tile, pack_conv2d(kernel, groups), pack_bias(shift, groups), filters, groups)
        merged = groups_at_once(kernel.shape[2], filters // groups, groups, kernel.dtype)
        together = merge_groups(kernel, groups, merged) if merged > 1 else kernel  # a kernel's values are not copied
        weights = pack_winograd(together, tile, groups // merged)
        return cls(tile, weights, pack_bias(shift, groups // merged), filters, groups)


def conv2d(
    x: Array,
    packed: PackedConv,
    window: Window,
    activation: str = "linear",
    negative_slope: float = 0.0,
    windows: tuple[Ranges, Ranges] | None = None,
    mode: str = "none",
    argmax: Array | None = None,
) -> Array:
    """Return frames convolved, activated and pooled; the bits equal those of three separate steps.

    :func:`framecnn.kernels.reference.conv2d` is the definition. The error of a direct convolution is at most
    ``(K + 2) eps conv(|x|, |w|)``, K = kh kw c / groups products; for Winograd's see :mod:`framecnn.kernels.winograd`.

    Shapes: x (n, h, w, c); `windows` are the pooling windows along rows and columns of the map, as
    :mod:`framecnn.geometry` defines them; result (n, oh, ow, f). `argmax`, in the shape of the result, receives the
    indices of the maxima, as :mod:`framecnn.kernels.epilogue` defines them.

    Raises
    ------
    ShapeError
        If `argmax` is given but the pooling is no 2 x 2 maximum after a non-decreasing activation.
    """
    are_2x2 = windows is not None and all(map(are_pairs, windows, window.output))
    is_increasing = activation in PIECEWISE and (activation != "leaky_relu" or negative_slope >= 0)
    is_exchangeable = are_2x2 and (is_increasing or (mode == "average" and activation in PIECEWISE))
    in_registers = is_exchangeable and packed.algorithm != DEPTHWISE
    if argmax is not None and not (is_exchangeable and mode == "max"):
        raise ShapeError(
            f"conv2d: expected argmax only with 2 x 2 max pooling after a non-decreasing activation, "
            f"got mode {mode!r} after {activation} of slope {negative_slope}; leave argmax out"
        )
    if windows is None or in_registers:
        epilogue = Epilogue.of(activation, negative_slope, mode if in_registers else "none")
        return _convolve(x, packed, window, epilogue, argmax)
    epilogue = Epilogue.of(activation, negative_slope)
    if fits_strip(window.output, packed.filters) and argmax is None:
        return pool2d(_convolve(x, packed, window, epilogue), *windows, mode)
    (starts, stops, step), columns = windows
    y = empty((len(x), len(starts), len(columns[0]), packed.filters), x.dtype)
    aligned = max(packed.algorithm, 1)
    shared = int((stops - starts).max()) + aligned  # rows that strips may have to compute twice
    fitting = STRIP_VALUES // (window.output[1] * packed.filters)
    height = max(1, max(fitting, STRIP_OVERLAPS * shared) * len(starts) // window.output[0])

    def pool_strip(strip: tuple[int, int]) -> None:
        n, first = strip
        rows = slice(first, first + height)
        above = int(starts[rows].min()) // aligned * aligned
        part = _convolve(x[n : n + 1], packed, window.rows(above, int(stops[rows].max())), epilogue)
        lines = (starts[rows] - above, stops[rows] - above, step)
        y[n, rows] = pool2d(part, lines, columns, mode)[0]
        if argmax is not None:
            argmax[n, rows] = locate_maxima(part, lines, columns)[0]

    ordered_map(pool_strip, [(n, first) for n in range(len(x)) for first in range(0, len(starts), height)])
    return y


def conv2d_added(
    x: Array,
    packed: PackedConv,
    window: Window,
    residual: Array,
    activation: str = "linear",
    negative_slope: float = 0.0,
) -> Array:
    """Return ``activation(conv(x) + bias + residual)``; the bits equal those of three separate steps.

    Shapes: as for :func:`conv2d`, residual as the result. A depthwise convolution cannot add a residual.
    """
    return _convolve(x, packed, window, Epilogue.of(activation, negative_slope), residual=residual)


def fits_strip(output: Pair, filters: int) -> bool:
    """Return whether a map is so small that it is pooled as a whole; larger ones are pooled strip by strip."""
    return math.prod(output) * filters <= STRIP_VALUES


def _convolve(
    x: Array,
    packed: PackedConv,
    window: Window,
    epilogue: Epilogue,
    argmax: Array | None = None,
    residual: Array | None = None,
) -> Array:
    y = empty((len(x), *(length // epilogue.side for length in window.output), packed.filters), x.dtype)
    algorithm, weights, bias = packed[:3]
    argmax = None if argmax is None else argmax.reshape(-1)
    if algorithm == DEPTHWISE:
        conv2d_depthwise(x, weights, bias, window, y, epilogue)
    elif algorithm:
        conv2d_winograd(x, weights, bias.reshape(-1, bias.shape[2]), window, y, epilogue, argmax, residual)
    elif epilogue.side == 1 and packed.groups == 1 and _is_matrix(window):
        rows = x.reshape(-1, x.shape[3])
        multiply_rows(rows, weights[0], bias[0], y.reshape(-1, packed.filters), epilogue, residual)
    else:
        conv2d_direct(x, weights, bias, window, y, epilogue, argmax, residual)
    return y


def _is_matrix(window: Window) -> bool:
    """Return whether every window is one pixel, in order: the frame is then a matrix with a row for each pixel."""
    return window.kernel == (1, 1) == window.strides and window.border == ((0, 0), (0, 0))
