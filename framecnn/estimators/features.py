"""From frames to rows of features, by filters learned without labels."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from framecnn.estimators.checks import as_random_state
from framecnn.estimators.filter_learning import METHODS, learn_filters, sample_patches
from framecnn.estimators.selection import Grid
from framecnn.estimators.snapshot import set_at_once
from framecnn.estimators.transformer import FrameTransformer, is_count
from framecnn.layers import (
    ActivationLayer,
    DownsamplingLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    Layer,
    PoolingLayer,
)
from framecnn.networks.sequential import Sequential
from framecnn.storage.model_file import Description, State, expect
from framecnn.typing import Array, Shape

__all__ = ["GRIDS", "FrameFeatures", "scales"]


GRIDS: tuple[Grid, ...] = ((1, 1), (2, 2), (3, 4))
FINE_GRID = (6, 4)  # cells of the first pooling; every coarser grid is a mean over whole cells of it
LARGEST_SIDE, SMALLEST_SIDE, PIXELS_A_STRIDE = 240, 48, 70
FILTERS, KERNEL, CONTRAST = 1200, 6, 10.0
FIRST_FILTERS, SECOND_KERNEL, SECOND_CONTRAST = 64, 3, 0.01  # of a second layer: 3 x 3 x 128 values, relative contrast
PATCHES, SOURCE_FRAMES, SOURCE_BLOCK = 60_000, 400, 20


class FrameFeatures(FrameTransformer):
    """Describe frames by how often, and where, patterns learned from the frames themselves occur in them.

    For each scale a chain of layers: downsampling, a filter bank of whitened, contrast-normalised k-means patches with
    two thresholds, the mean over the cells of a grid, the square root. One rule gives the rest from the frame's
    shorter side, in pixels:

    * scales: the frame shrunk by the whole factor that brings the shorter side to about 240 (never enlarged), and by
      two and four times as much while 48 pixels are left;
    * windows of 6 x 6 pixels, every third pixel where the shorter side is about 240, every second at 120, all below;
    * 1,200 filters, shared evenly by the scales;
    * mirrored copies (the mean over a frame and its mirror image) where there is one scale, that is for small frames.

    uint8 frames are taken as 0..255; frames of any other dtype are brought there by their largest value at fit.
    Feature vectors (2-D input without `frame_shape`) are only standardised.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows.
    grid : (int, int), default (2, 2)
        Rows and columns of cells; divisors of 6 and 4. ``(1, 1)`` forgets where in the frame a pattern was.
    filters : "kmeans" (default), "random" or "pca"
    n_filters : int or None, default None
        Filters of all scales together; None is 1,200.
    depth : 1 (default) or 2
        With 2, a second filter bank looks at the pooled responses of a first one with 64 filters.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    backbones_, networks_ : list of Sequential
        One a scale, from frames (n, h, w, c) to the fine grid of 6 x 4 cells, and on to the features. Empty for
        feature vectors.
    frame_shape_ : (int, int, int) or None
    averages_flips_ : bool
    mean_, scale_ : (n_features_out,) float arrays
        What features are standardised by.
    n_features_in_ : int
        Values of a frame, or features of a vector.

    References
    ----------
    Coates, Lee & Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.

    Examples
    --------
    >>> frames = np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), dtype=np.uint8)
    >>> FrameFeatures(grid=(1, 1), n_filters=20, random_state=0).fit_transform(frames).shape
    (12, 40)
    """

    def __init__(self, frame_shape=None, *, grid=(2, 2), filters="kmeans", n_filters=None, depth=1, random_state=None):
        self.frame_shape = frame_shape
        self.grid = grid
        self.filters = filters
        self.n_filters = n_filters
        self.depth = depth
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn filters, without labels, and the mean and scale of every feature.

        Parameters
        ----------
        X : (n, h, w, c) array, flat rows (n, h * w * c) with `frame_shape`, or feature vectors (n, d)
            Also a lazily loaded array: ``shape``, ``dtype``, ``len()``, and an array of rows as its index.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter does not fit, or X: rank, dtype, no frame, NaN or infinity.
        """
        self.fit_transform(X)
        return self

    @set_at_once
    def fit_transform(self, X: Any, y: Any = None) -> Array:
        """Fit, and give the standardised features of X without reading it again.

        Parameters
        ----------
        X, y
            As in :meth:`fit`.

        Returns
        -------
        (n, n_features_out) array
        """
        frames = self.accept(X)
        self.learn(frames)
        return self.standardise(self.describe(frames))

    def learn(self, frames: Any, codes: Array | None = None, groups: Array | None = None) -> None:
        """Learn the filters of every scale from frames that :meth:`accept` gave; classes and groups do not matter."""
        self.backbones_ = []
        self.averages_flips_ = False
        if self.frame_shape_ is None:
            return
        rng = np.random.default_rng(as_random_state(self._who, self.random_state).randint(2**31))
        gain = self._measure_input_scale(frames)  # to where the filter bank's contrast is at home
        source = self._read(frames, np.sort(rng.permutation(len(frames))[:SOURCE_FRAMES]))
        levels = scales(self.frame_shape_)
        self.averages_flips_ = len(levels) == 1
        n_filters = max(1, (self.n_filters or FILTERS) // len(levels))
        self.backbones_ = [self._learn_backbone(source, gain, *level, n_filters, rng) for level in levels]

    def describe(self, frames: Any) -> Array:
        """Return features (n, d) of checked frames over the grid, before they are standardised."""
        return self.extract(frames, [self.grid])[tuple(self.grid)]

    def extract(self, frames: Any, grids: Iterable[Grid], rows: Array | None = None) -> dict[Grid, Array]:
        """Return features of frames, or of some rows of them, by grid: ``{(rows, columns): (n, d) array}``."""
        rows = np.arange(len(frames)) if rows is None else rows
        pairs = [(n_rows, n_columns) for n_rows, n_columns in grids]
        if self.frame_shape_ is None:
            return dict.fromkeys(pairs, frames[rows])
        tails = {grid: [_tail(body.output_shape, grid) for body in self.backbones_] for grid in pairs}
        found = {
            grid: np.empty((len(rows), sum(tail.output_shape[0] for tail in parts)), np.float32)
            for grid, parts in tails.items()
        }
        maps_of_backbones = tuple(body.output_shape for body in self.backbones_)
        for place, batch in self._batches(frames, rows, maps_of_backbones):
            sides = [batch, batch[:, :, ::-1]] if self.averages_flips_ else [batch]
            maps = [[body.predict(side, len(side)) for body in self.backbones_] for side in sides]
            for grid, parts in tails.items():
                copies = [
                    np.hstack([tail.predict(m, len(m)) for tail, m in zip(parts, side, strict=True)]) for side in maps
                ]
                found[grid][place] = copies[0] if len(copies) == 1 else (copies[0] + copies[1]) / 2
        return found

    def fitted_state(self) -> State:
        """Return the state of all transformers, and whether features are averaged over flips."""
        description, tensors = super().fitted_state()
        return description | {"averages_flips": self.averages_flips_}, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Return features of the state that :meth:`fitted_state` gave; raises as that of all transformers does."""
        features = super().from_fitted_state(description, tensors)
        features.averages_flips_ = description["averages_flips"]
        expect(type(features.averages_flips_) is bool, "averages_flips as true or false")
        return features

    def _check_state(self) -> None:
        shapes = [backbone.output_shape for backbone in self.backbones_]
        expect(all(len(shape) == 3 for shape in shapes), "networks of the frames")
        cells = f"every scale to make {FINE_GRID[0]} x {FINE_GRID[1]} cells of the frames"
        expect(all(shape[:2] == FINE_GRID for shape in shapes), cells)
        super()._check_state()

    @property
    def networks_(self) -> list[Sequential]:
        """One Sequential a scale, from frames (n, h, w, c) to features (n, d) before mirroring and scaling."""
        check_is_fitted(self)
        chains = []
        for body in self.backbones_:
            layers = [*body.layers, *_tail(body.output_shape, self.grid).layers[1:]]
            chains.append(Sequential(layers).load_state_dict(body.state_dict()))
        return chains

    def _learn_backbone(
        self, source: Array, gain: float, factor: int, stride: int, n_filters: int, rng: np.random.Generator
    ) -> Sequential:
        """Learn the chain of one scale from sample frames, up to the fine grid."""
        layers: list[Layer] = [InputLayer(self.frame_shape_, scale=gain)]
        if factor > 1:
            layers.append(DownsamplingLayer(factor))
        state: dict[str, Array] = {}
        for level in range(1, self.depth + 1):
            last = level == self.depth
            body = Sequential(layers).load_state_dict(state)
            size = min(KERNEL if level == 1 else SECOND_KERNEL, *body.output_shape[:2])
            patches = _patches(source, body, (size, size), rng)
            contrast = CONTRAST if level == 1 else SECOND_CONTRAST * float(patches.var(axis=1).mean()) or CONTRAST
            kernel, bias = learn_filters(
                patches, n_filters if last else FIRST_FILTERS, (size, size), contrast, self.filters, rng
            )
            state |= {f"filter_bank_{level}/kernel": kernel, f"filter_bank_{level}/bias": bias}
            strides = stride if level == 1 else 1
            bank = FilterBankLayer(len(bias), kernel_size=size, strides=strides, contrast=contrast)
            height, width, _ = bank.infer_shape(body.output_shape)
            halves = PoolingLayer((min(2, height), min(2, width)), mode="average")
            layers += [bank, PoolingLayer(FINE_GRID, mode="adaptive_average") if last else halves]
        return Sequential(layers).load_state_dict(state)

    @property
    def input_scale_(self) -> float:
        """What frames are multiplied by to span 0..255; 1 for uint8."""
        return self.backbones_[0].layers[0].scale  # type: ignore[attr-defined]

    def check_parameters(self) -> None:
        """Raise ValueError unless every parameter has a value that it can have."""
        super().check_parameters()
        grid = tuple(self.grid) if np.iterable(self.grid) else ()
        whole = len(grid) == len(FINE_GRID) and all(map(is_count, grid))
        if not whole or any(fine % coarse for fine, coarse in zip(FINE_GRID, grid, strict=True)):
            raise ValueError(
                f"FrameFeatures: expected grid as (rows, columns) that divide {FINE_GRID[0]} and {FINE_GRID[1]}, "
                f"got {self.grid!r}"
            )
        if not isinstance(self.filters, str) or self.filters not in METHODS:
            raise ValueError(f"FrameFeatures: expected filters as one of {', '.join(METHODS)}, got {self.filters!r}")
        if not is_count(self.depth) or self.depth > 2:
            raise ValueError(f"FrameFeatures: expected depth 1 or 2, got {self.depth!r}")
        count = self.n_filters
        if count is not None and not is_count(count):
            raise ValueError(f"FrameFeatures: expected n_filters as None or a positive whole number, got {count!r}")
        if count is not None and count > PATCHES:
            raise ValueError(f"FrameFeatures: expected n_filters of at most {PATCHES:,}, got {count!r}")


def scales(frame_shape: Shape) -> list[tuple[int, int]]:
    """Return ``(factor, stride)`` of every scale for frames (h, w, c), the finest first.

    Examples
    --------
    >>> scales((240, 360, 3)), scales((32, 32, 3))
    ([(1, 3), (2, 2), (4, 1)], [(1, 1)])
    """
    side = min(frame_shape[:2])
    finest = max(1, round(side / LARGEST_SIDE))
    factors = [finest, *(finest * m for m in (2, 4) if side / (finest * m) >= SMALLEST_SIDE)]
    return [(factor, max(1, round(side // factor / PIXELS_A_STRIDE))) for factor in factors]


def _tail(fine_shape: Shape, grid: Grid) -> Sequential:
    """From a fine grid of responses (6, 4, channels) to features over `grid`."""
    cells = fine_shape[0] // grid[0], fine_shape[1] // grid[1]
    return Sequential(
        [InputLayer(fine_shape), PoolingLayer(cells, mode="average"), ActivationLayer("sqrt"), FlatteningLayer()]
    ).build()


def _patches(source: Array, body: Sequential, kernel_size: tuple[int, int], rng: np.random.Generator) -> Array:
    """Sample windows evenly from what `body` makes of the source frames, no more than there are."""
    height, width = body.output_shape[:2]
    windows = len(source) * (height - kernel_size[0] + 1) * (width - kernel_size[1] + 1)
    edges = np.linspace(0, min(PATCHES, windows), len(source) + 1).astype(int)
    found = []
    for start in range(0, len(source), SOURCE_BLOCK):
        block = source[start : start + SOURCE_BLOCK]
        n_patches = int(edges[start + len(block)] - edges[start])
        found.append(sample_patches(body.predict(block), n_patches, kernel_size, rng))
    return np.concatenate(found)
