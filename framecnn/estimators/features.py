"""From frames to rows of features, by filters learned without labels."""

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from framecnn.data.loader import map_ahead
from framecnn.filters import METHODS, learn_filters, sample_patches
from framecnn.layers import (
    ActivationLayer,
    DownsamplingLayer,
    FilterBankLayer,
    FlatteningLayer,
    InputLayer,
    PoolingLayer,
)
from framecnn.model import Sequential

__all__ = ["GRIDS", "FrameFeatures", "scales"]

GRIDS = ((1, 1), (2, 2), (3, 4))
FINE_GRID = (6, 4)  # cells of the first pooling; every coarser grid is a mean over whole cells of it
LARGEST_SIDE, SMALLEST_SIDE, PIXELS_A_STRIDE = 240, 48, 70
FILTERS, KERNEL, CONTRAST = 1200, 6, 10.0
FIRST_FILTERS, SECOND_KERNEL, SECOND_CONTRAST = 64, 3, 0.01  # of a second layer: 3 x 3 x 128 values, relative contrast
PATCHES, SOURCE_FRAMES, SOURCE_BLOCK = 60_000, 400, 20
BATCH_VALUES = 8_000_000  # 32 frames of 240 x 360
KINDS = {"u": "whole", "i": "whole", "b": "whole", "f": "float"}


class FrameFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Describe frames by how often, and where, patterns learned from the frames themselves occur in them.

    For each scale a chain of layers: downsampling, a filter bank of whitened, contrast-normalised k-means patches with
    two thresholds, the mean over the cells of a grid, the square root. One rule gives the rest from the frame's
    shorter side, in pixels:

    * scales: the frame shrunk by the whole factor that brings the shorter side to about 240 (never enlarged), and by
      two and four times as much while 48 pixels are left;
    * windows of 6 x 6 pixels, every third pixel where the shorter side is about 240, every second at 120, all below;
    * 1,200 filters, shared evenly by the scales;
    * mirrored copies (the mean over a frame and its mirror image) where there is one scale, that is for small frames.

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
    bodies_, networks_ : list of Sequential
        One a scale, from frames (n, h, w, c) to the fine grid of 6 x 4 cells, and on to the features. Empty for
        feature vectors.
    frame_shape_ : (int, int, int) or None
    mirrored_ : bool
    mean_, scale_ : (n_features_out,) float arrays
        What features are standardised by.
    n_features_in_ : int

    Raises
    ------
    ValueError
        At fit or transform, if frames do not fit: rank, shape, kind of dtype, NaN.

    References
    ----------
    Coates, Lee & Ng, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", AISTATS 2011.

    Examples
    --------
    >>> frames = np.random.default_rng(0).integers(0, 256, (12, 32, 48, 3), dtype=np.uint8)
    >>> FrameFeatures(grid=(1, 1), n_filters=20, random_state=0).fit_transform(frames).shape
    (12, 40)
    """

    def __init__(
        self, frame_shape=None, *, grid=(2, 2), filters="kmeans", n_filters=None, depth=1, random_state=None
    ):
        self.frame_shape = frame_shape
        self.grid = grid
        self.filters = filters
        self.n_filters = n_filters
        self.depth = depth
        self.random_state = random_state

    def fit(self, X, y=None):
        """Learn filters, without labels, and the mean and scale of every feature.

        Parameters
        ----------
        X : (n, h, w, c) array or lazily loaded array, flat rows (n, h * w * c) with `frame_shape`, or feature vectors
        y : ignored

        Returns
        -------
        self
        """
        self.fit_transform(X)
        return self

    def fit_transform(self, X, y=None):
        """Fit, and give the standardised features of X, (n, n_features_out)."""
        frames = self.learn(X)
        return self.standardise(self.extract(frames, [self.grid])[self.grid])

    def transform(self, X):
        """Give the standardised features of frames, (n, n_features_out) float32; feature vectors keep their dtype.

        A frame's features have the same bits alone and in any batch.
        """
        check_is_fitted(self)
        return self._scaled(self.extract(self._check(X, reset=False), [self.grid])[self.grid])

    def learn(self, X):
        """Check X and learn the filters of every scale; give X as :meth:`extract` takes it."""
        self._check_parameters()
        frames = self._check(X, reset=True)
        self.bodies_ = []
        self.mirrored_ = False
        if self.frame_shape_ is not None:
            rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
            gain = self._gain(frames)
            source = frames[np.sort(rng.permutation(len(frames))[:SOURCE_FRAMES])]
            levels = scales(self.frame_shape_)
            self.mirrored_ = len(levels) == 1
            n_filters = max(1, (self.n_filters or FILTERS) // len(levels))
            self.bodies_ = [self._learn_body(source, gain, *level, n_filters, rng) for level in levels]
        return frames

    def extract(self, frames, grids, rows=None):
        """Give features of frames, or of some rows of them, by grid: ``{(rows, columns): (n, d) array}``."""
        rows = np.arange(len(frames)) if rows is None else rows
        if self.frame_shape_ is None:
            return {tuple(grid): frames[rows] for grid in grids}
        tails = {tuple(grid): [_tail(body.output_shape, grid) for body in self.bodies_] for grid in grids}
        found = {
            grid: np.empty((len(rows), sum(tail.output_shape[0] for tail in parts)), np.float32)
            for grid, parts in tails.items()
        }
        for place, batch in self._batches(frames, rows):
            sides = [batch, batch[:, :, ::-1]] if self.mirrored_ else [batch]
            maps = [[body.predict(side, len(side)) for body in self.bodies_] for side in sides]
            for grid, parts in tails.items():
                copies = [np.hstack([tail.predict(m, len(m)) for tail, m in zip(parts, side)]) for side in maps]
                found[grid][place] = copies[0] if len(copies) == 1 else (copies[0] + copies[1]) / 2
        return found

    def standardise(self, raw):
        """Set mean and scale from features (n, d) and give them standardised."""
        self.mean_ = raw.mean(axis=0, dtype=np.float64).astype(raw.dtype)
        deviation = raw.std(axis=0, dtype=np.float64)
        flat = deviation <= np.finfo(raw.dtype).eps * np.abs(self.mean_)  # features that never vary stay at zero
        self.scale_ = np.where(flat, 1, deviation).astype(raw.dtype)
        self._n_features_out = raw.shape[1]
        return self._scaled(raw)

    @property
    def networks_(self):
        """One Sequential a scale, from frames (n, h, w, c) to features (n, d) before mirroring and scaling."""
        check_is_fitted(self)
        chains = []
        for body in self.bodies_:
            layers = [*body.layers, *_tail(body.output_shape, self.grid).layers[1:]]
            chains.append(Sequential(layers).load_state_dict(body.state_dict()))
        return chains

    def _scaled(self, raw):
        return (raw - self.mean_) / self.scale_

    def _learn_body(self, source, gain, factor, stride, n_filters, rng):
        """Learn the chain of one scale from sample frames, up to the fine grid."""
        layers = [InputLayer(self.frame_shape_, scale=gain)]
        if factor > 1:
            layers.append(DownsamplingLayer(factor))
        state = {}
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
            layers.append(FilterBankLayer(len(bias), kernel_size=size, strides=strides, contrast=contrast))
            layers.append(PoolingLayer(FINE_GRID, mode="adaptive_average") if last else PoolingLayer(2, mode="average"))
        return Sequential(layers).load_state_dict(state)

    def _gain(self, frames):
        """Bring float frames to 0..255, where the filter bank's contrast is at home."""
        if self.dtype_kind_ != "float":
            return 1.0
        largest = max(float(np.abs(batch).max()) for _, batch in self._batches(frames, np.arange(len(frames))))
        return 255 / largest if largest else 1.0

    def _batches(self, frames, rows):
        """Yield (places, frames of rows[places]), read ahead; a ValueError for numbers that are not finite."""
        size = max(1, BATCH_VALUES // int(np.prod(self.frame_shape_)))
        places = [slice(start, start + size) for start in range(0, len(rows), size)]
        for place, batch in zip(places, map_ahead(lambda place: frames[rows[place]], places, 1, 1), strict=True):
            if self.dtype_kind_ == "float" and not np.isfinite(batch).all():
                raise ValueError("FrameFeatures: expected finite frames, got NaN or infinity; clean X first")
            yield place, batch

    def _check_parameters(self):
        grid = tuple(self.grid) if np.iterable(self.grid) else ()
        fits = len(grid) == 2 and all(n in range(1, cells + 1) and cells % n == 0 for n, cells in zip(grid, FINE_GRID))
        if not fits:
            raise ValueError(
                f"FrameFeatures: expected grid as (rows, columns) that divide {FINE_GRID[0]} and {FINE_GRID[1]}, "
                f"got {self.grid!r}"
            )
        if self.filters not in METHODS:
            raise ValueError(f"FrameFeatures: expected filters as one of {', '.join(METHODS)}, got {self.filters!r}")
        if self.depth not in (1, 2):
            raise ValueError(f"FrameFeatures: expected depth 1 or 2, got {self.depth!r}")
        count = self.n_filters
        if count is not None and (isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1):
            raise ValueError(f"FrameFeatures: expected n_filters as None or a positive whole number, got {count!r}")

    def _check(self, X, reset):
        """Give frames (n, h, w, c), or checked feature vectors."""
        X = X if hasattr(X, "shape") and hasattr(X, "dtype") else np.asarray(X)
        if self.frame_shape is None and len(X.shape) != 4:
            if not reset and self.frame_shape_ is not None:
                raise ValueError(f"FrameFeatures: expected frames of shape (n, {_sizes(self.frame_shape_)}), got {X.shape}")
            if reset:
                self.frame_shape_ = None
            return validate_data(self, X, dtype=(np.float64, np.float32), reset=reset)
        shape = tuple(X.shape[1:]) if self.frame_shape is None else tuple(self.frame_shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"FrameFeatures: expected frame_shape as (height, width, channels), got {self.frame_shape!r}")
        if tuple(X.shape[1:]) == (int(np.prod(shape)),):
            X = X.reshape(-1, *shape)
        if tuple(X.shape[1:]) != shape or (not reset and shape != self.frame_shape_):
            expected = shape if reset else self.frame_shape_
            raise ValueError(f"FrameFeatures: expected frames of shape (n, {_sizes(expected)}), got {tuple(X.shape)}")
        kind = KINDS.get(X.dtype.kind)
        if kind is None or (not reset and kind != self.dtype_kind_):
            expected = "whole or float" if reset else self.dtype_kind_
            raise ValueError(f"FrameFeatures: expected frames of {expected} numbers, got dtype {X.dtype}")
        if not len(X):
            raise ValueError("FrameFeatures: expected at least one frame, got 0 samples")
        if reset:
            self.frame_shape_, self.dtype_kind_ = shape, kind
            self.n_features_in_ = int(np.prod(shape))
        return X


def scales(frame_shape):
    """Give ``(factor, stride)`` of every scale for frames (h, w, c), the finest first.

    Examples
    --------
    >>> scales((240, 360, 3)), scales((32, 32, 3))
    ([(1, 3), (2, 2), (4, 1)], [(1, 1)])
    """
    side = min(frame_shape[:2])
    finest = max(1, round(side / LARGEST_SIDE))
    factors = [finest, *(finest * m for m in (2, 4) if side / (finest * m) >= SMALLEST_SIDE)]
    return [(factor, max(1, round(side // factor / PIXELS_A_STRIDE))) for factor in factors]


def _tail(fine_shape, grid):
    """From a fine grid of responses (6, 4, channels) to features over `grid`."""
    cells = tuple(fine // coarse for fine, coarse in zip(fine_shape[:2], grid))
    return Sequential(
        [InputLayer(fine_shape), PoolingLayer(cells, mode="average"), ActivationLayer("sqrt"), FlatteningLayer()]
    ).build()


def _patches(source, body, kernel_size, rng):
    """Sample windows evenly from what `body` makes of the source frames."""
    edges = np.linspace(0, PATCHES, len(source) + 1).astype(int)
    blocks = range(0, len(source), SOURCE_BLOCK)
    return np.concatenate(
        [
            sample_patches(
                body.predict(source[start : start + SOURCE_BLOCK]),
                int(edges[min(start + SOURCE_BLOCK, len(source))] - edges[start]),
                kernel_size,
                rng,
            )
            for start in blocks
        ]
    )


def _sizes(shape):
    return ", ".join(map(str, shape))
