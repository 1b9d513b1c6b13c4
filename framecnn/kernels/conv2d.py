"""Convolution, activation and pooling: the choice of an algorithm, and passes that never hold a whole map to pool."""

from typing import NamedTuple

import numpy as np

from framecnn.errors import ShapeError
from framecnn.geometry import Pair, Ranges, Window
from framecnn.kernels.codegen.transforms import TRANSFORMS
from framecnn.kernels.direct import conv2d_direct
from framecnn.kernels.epilogue import Epilogue, is_square
from framecnn.kernels.packing import pack_bias, pack_conv2d
from framecnn.kernels.pool import pool2d
from framecnn.kernels.threads import ordered_map
from framecnn.kernels.winograd import conv2d_winograd, pack_winograd
from framecnn.typing import Array

__all__ = ["ALGORITHMS", "PackedConv", "algorithms_for", "choose_algorithm", "conv2d"]

ALGORITHMS = {"direct": 0, "winograd2": 2, "winograd4": 4}
"""Names, and the pixels of Winograd's output tile along an axis."""

STRIP_BYTES = 512 * 1024  # of a map that is pooled strip by strip
STRIP_OVERLAPS = 8  # a strip has at least so many times the rows that it shares with the next


def choose_algorithm(kernel: Array, window: Window, groups: int) -> str:
    """Return the name of the fastest algorithm, from shapes and dtype alone: a frame has the same bits in any batch.

    Costs are multiply-adds per channel and filter. The transform of the input costs about as much as 10 more filters,
    that of the output as 12 more channels (measured), so shallow and narrow layers stay direct. So does float64, which
    is chosen for its exactness.

    Shapes: kernel (kh, kw, c / groups, f).
    """
    size, (channels, filters) = kernel.shape[0], kernel.shape[2:]
    is_exact = kernel.dtype != np.float32
    names = ["direct"] if is_exact else algorithms_for(window.kernel, window.strides, window.dilation, groups)

    def cost(name: str) -> float:
        tile = ALGORITHMS[name]
        if not tile:
            return float(size**2 * window.output[0] * window.output[1])
        tiles = -(-window.output[0] // tile) * -(-window.output[1] // tile)
        return tiles * (tile + size - 1) ** 2 * (1 + 10 / filters + 12 / channels)

    return min(names, key=cost)


def algorithms_for(kernel_size: Pair, strides: Pair, dilation: Pair, groups: int) -> list[str]:
    """Return the names of the algorithms that fit: Winograd's need a plain 3 x 3 or 5 x 5 kernel."""
    if {*strides, *dilation, groups} != {1} or kernel_size[0] != kernel_size[1]:
        return ["direct"]
    tiles = {transform.tile for transform in TRANSFORMS if transform.window == kernel_size[0]}
    return ["direct", *(name for name, tile in ALGORITHMS.items() if tile in tiles)]


class PackedConv(NamedTuple):
    """The parameters of a convolution in the order in which its algorithm reads them; 0 or Winograd's tile names it."""

    algorithm: int
    weights: Array
    bias: Array
    filters: int
    groups: int

    @classmethod
    def of(cls, algorithm: str, kernel: Array, bias: Array | None, groups: int) -> "PackedConv":
        """Return a kernel (kh, kw, c / groups, f) and a bias (f,) packed for an algorithm."""
        tile, filters = ALGORITHMS[algorithm], kernel.shape[3]
        weights = pack_winograd(kernel, tile) if tile else pack_conv2d(kernel, groups)
        packed_bias = pack_bias(np.zeros(filters, kernel.dtype) if bias is None else bias, groups)
        return cls(tile, weights, packed_bias, filters, groups)


def conv2d(
    x: Array,
    packed: PackedConv,
    window: Window,
    activation: str = "linear",
    slope: float = 0.0,
    windows: tuple[Ranges, Ranges] | None = None,
    mode: str = "none",
    where: Array | None = None,
) -> Array:
    """Return frames convolved, activated and pooled, with the bits of one step after the other.

    :func:`framecnn.kernels.reference.conv2d` is the definition. Error of a direct convolution at most
    ``(K + 2) eps conv(|x|, |w|)``, K = kh kw c / groups products; of Winograd's as :mod:`framecnn.kernels.winograd`
    states it.

    Shapes: x (n, h, w, c); `windows` are those of the pooling along rows and columns of the map, as
    :mod:`framecnn.geometry` defines them; result (n, oh, ow, f). Where 2 x 2 pixels are pooled, the bytes of `where`,
    shaped as the result, become the numbers of the largest: 2 u + v.

    Raises
    ------
    ShapeError
        If `where` is given, and not the maximum over 2 x 2 pixels is taken in registers.
    """
    square = windows is not None and all(map(is_square, windows, window.output))
    in_registers = square and (mode == "average" or activation != "leaky_relu" or slope >= 0)
    if where is not None and not (in_registers and mode == "max"):
        raise ShapeError(
            f"conv2d: expected where only for the maximum over 2 x 2 pixels after an activation that never falls, "
            f"got mode {mode!r} after {activation} of slope {slope}; leave where out"
        )
    if windows is None or in_registers:
        return _convolve(x, packed, window, Epilogue.of(activation, slope, mode if in_registers else "none"), where)
    (starts, stops, step), columns = windows
    y = np.empty((len(x), len(starts), len(columns[0]), packed.filters), x.dtype)
    aligned = max(packed.algorithm, 1)
    shared = int((stops - starts).max()) + aligned  # rows that strips may have to compute twice
    fitting = STRIP_BYTES // (window.output[1] * packed.filters * x.itemsize)
    height = max(1, max(fitting, STRIP_OVERLAPS * shared) * len(starts) // window.output[0])
    epilogue = Epilogue.of(activation, slope)

    def pool_strip(strip: tuple[int, int]) -> None:
        n, first = strip
        rows = slice(first, first + height)
        above = int(starts[rows].min()) // aligned * aligned
        part = _convolve(x[n : n + 1], packed, window.rows(above, int(stops[rows].max())), epilogue)
        y[n, rows] = pool2d(part, (starts[rows] - above, stops[rows] - above, step), columns, mode)[0]

    ordered_map(pool_strip, [(n, first) for n in range(len(x)) for first in range(0, len(starts), height)])
    return y


def _convolve(x: Array, packed: PackedConv, window: Window, epilogue: Epilogue, where: Array | None = None) -> Array:
    y = np.empty((len(x), *(length // epilogue.side for length in window.output), packed.filters), x.dtype)
    algorithm, weights, bias = packed[:3]
    where = None if where is None else where.reshape(-1)
    if algorithm:
        conv2d_winograd(x, weights, bias[0], algorithm, window, y, epilogue, where)
    else:
        conv2d_direct(x, weights, bias, window, y, epilogue, where)
    return y
