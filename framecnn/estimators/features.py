"""Features of frames by filters that are learned from the frames, without labels."""

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from framecnn.data.stored_shards import ShardStore, StoredShards
from framecnn.errors import SettingError
from framecnn.estimators.checks import as_random_state
from framecnn.estimators.extraction import Extraction, Known, Output, extract_shards
from framecnn.estimators.filter_learning import METHODS, learn_filters, sample_patches
from framecnn.estimators.network_features import FeaturesBeside
from framecnn.estimators.ridge import Choice
from framecnn.estimators.selection import Grid, choose_grid
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

__all__ = ["GRIDS", "FrameFeatures", "default_filters", "scales"]


GRIDS: tuple[Grid, ...] = ((1, 1), (2, 2), (3, 4))
FINE_GRID = (6, 4)  # cells of the first pooling; a coarser grid averages adjacent cells
LARGEST_SIDE, SMALLEST_SIDE, PIXELS_PER_STRIDE = 240, 48, 70
FILTERS, KERNEL, CONTRAST = 1200, 6, 10.0
SMALL_FRAME_FILTERS, SMALL_FRAME_CONTRAST = 3000, 400.0
FIRST_FILTERS, SECOND_KERNEL, SECOND_CONTRAST = 64, 3, 0.01  # second layer: 3 x 3 x 128 values, relative contrast
PATCHES, SOURCE_BLOCK = 60_000, 20


class FrameFeatures(FrameTransformer):
    """Features that say how often, and where, patterns occur in a frame; the patterns are learned from the frames.

    Each scale is a chain of layers: downsampling, a filter bank of whitened, contrast-normalised k-means patches with
    two thresholds, the mean over the cells of a grid, the square root. The other settings follow from the frame's
    shorter side, in pixels:

    * scales: the frame is averaged down by the integer factor that brings the shorter side closest to 240 (it is never
      enlarged), and by two and four times this factor as long as 48 pixels remain;
    * windows of 6 x 6 pixels at every third pixel where the shorter side is about 240, at every second where it is
      about 120, at every pixel below;
    * 1,200 filters, divided evenly among the scales; 3,000 where the shorter side is below 48 pixels, since
      such frames have few windows;
    * 10 is added to the variance of a window before it is divided by its root, in squared grey levels; 400 where the
      shorter side is below 48 pixels, so that windows of little contrast say less there;
    * small frames, which have one scale: features are the mean over the frame and its horizontally flipped copy.

    uint8 frames are taken as 0..255; frames of other dtypes are multiplied by ``input_scale_``, which maps the largest
    value at fit to 255. Feature vectors (2-D input without `frame_shape`) are only standardised.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows.
    grid : (int, int), default (2, 2)
        Rows and columns of cells; divisors of 6 and 4. ``(1, 1)`` drops the position of a pattern.
    filters : "kmeans" (default), "random" or "pca"
    n_filters : int or None, default None
        The sum over all scales; None is 1,200, or 3,000 where the shorter side is below 48 pixels.
    depth : 1 (default) or 2
        With 2, a second filter bank is applied to the pooled responses of a first one with 64 filters.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    backbones_, networks_ : list of Sequential
        One per scale: `backbones_` from frames (n, h, w, c) to the fine grid of 6 x 4 cells, `networks_` from frames to
        features. Empty for feature vectors.
    frame_shape_ : (int, int, int) or None
    averages_flips_ : bool
        Whether features are the mean over a frame and its horizontally flipped copy.
    input_scale_ : float
        The factor that scales frames to 0..255; 1 for uint8.
    mean_, scale_ : (n_features_out,) float arrays
        Mean and scale of each feature, by which features are standardised.
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

    max_source_frames = 400
    """The largest number of frames from which filters are learned."""

    def __init__(
        self,
        frame_shape: Any = None,
        *,
        grid: Any = (2, 2),
        filters: str = "kmeans",
        n_filters: int | None = None,
        depth: int = 1,
        random_state: Any = None,
    ):
        self.frame_shape = frame_shape
        self.grid = grid
        self.filters = filters
        self.n_filters = n_filters
        self.depth = depth
        self.random_state = random_state

    def learn(self, frames: Any, codes: Array | None = None, groups: Array | None = None) -> None:
        """Learn the filters of every scale from frames that :meth:`validate` returned, without classes and groups."""
        self.backbones_ = []
        self.averages_flips_ = False
        if self.frame_shape_ is None:
            return
        rng = np.random.default_rng(as_random_state(self._who, self.random_state).randint(2**31))
        input_scale = self._measure_input_scale(frames)  # the contrast of a filter bank is in units of 0..255
        source = self._read(frames, np.sort(rng.permutation(len(frames))[: self.max_source_frames]))
        levels = scales(self.frame_shape_)
        self.averages_flips_ = len(levels) == 1
        n_filters = max(1, (self.n_filters or default_filters(self.frame_shape_)) // len(levels))
        self.backbones_ = [self._learn_backbone(source, input_scale, *level, n_filters, rng) for level in levels]

    def compute(self, frames: Any) -> Array:
        """Return features (n, d) of checked frames over the grid, before standardisation."""
        if self.frame_shape_ is None:
            return frames
        grid = tuple(self.grid)
        found = np.empty((len(frames), self.output_over(grid).n_features), np.float32)
        for rows, batch in self.batches(frames):
            found[rows] = self.over_grids(batch, [grid])[0]
        return found

    def over_grids(self, batch: Array, grids: Sequence[Grid]) -> list[Array]:
        """Return the features (n, d) of some frames (n, h, w, c) for each grid, before standardisation."""
        copies = [batch, batch[:, :, ::-1]] if self.averages_flips_ else [batch]
        maps = [[backbone.predict(copy, len(copy)) for backbone in self.backbones_] for copy in copies]
        found = []
        for grid in grids:
            tails = [_tail(backbone.output_shape, grid) for backbone in self.backbones_]
            values = [
                np.hstack([tail.predict(m, len(m)) for tail, m in zip(tails, scales, strict=True)]) for scales in maps
            ]
            found.append(values[0] if len(values) == 1 else (values[0] + values[1]) / 2)
        return found

    @property
    def output(self) -> Output:
        """The number of features before standardisation, and what they depend on."""
        return self.output_over(self.grid)

    def output_over(self, grid: Grid) -> Output:
        """Return the number of features over a grid, and what they depend on."""
        cells = grid[0] * grid[1]
        n_features = sum(cells * backbone.output_shape[2] for backbone in self.backbones_)
        return Output(n_features, self.backbones_, [*grid, self.averages_flips_])

    @property
    def _map_shapes(self) -> tuple[Shape, ...]:
        return tuple(backbone.output_shape for backbone in self.backbones_)

    def compute_beside(
        self,
        frames: Any,
        rows: Array,
        grids: Sequence[Grid],
        beside: FeaturesBeside | None,
        store: ShardStore,
        known: Known | None = None,
    ) -> list[StoredShards]:
        """Return features of the frames `rows`, in ascending order, for each grid, and then those of `beside`.

        They are not standardised; each frame is read once.
        """
        others = [] if beside is None else [beside]

        def function(batch: Array) -> list[Array]:
            return [*self.over_grids(batch, grids), *(other(batch) for other in others)]

        outputs = [*map(self.output_over, grids), *(other.output for other in others)]
        extraction = Extraction(self._who, self.batches, function, beside)
        return extract_shards(extraction, frames, rows, outputs, store, known)

    def choose_grid(
        self,
        frames: Any,
        rows: Array,
        codes: Array,
        groups: Array | None,
        seed: int,
        weights: Array | None,
        beside: FeaturesBeside | None,
        store: ShardStore,
    ) -> tuple[list[StoredShards], dict[Grid, Choice]]:
        """Choose the grid on some rows of the frames and set it; return the features of all frames, and the choices.

        The features are those over the grid, then those of `beside`, before standardisation.

        Shapes: codes (n,), groups (n,) or None; weights (len(rows),) of the samples `rows`, or None.
        """
        found = self.compute_beside(frames, rows, GRIDS, beside, store)
        standardised = {grid: self.standardise(raw) for grid, raw in zip(GRIDS, found, strict=False)}
        own_groups = None if groups is None else groups[rows]
        self.grid, tried = choose_grid(standardised, codes[rows], own_groups, seed, weights)
        chosen = [found[GRIDS.index(self.grid)], *found[len(GRIDS) :]]
        if len(rows) == len(frames):
            return chosen, tried
        del found, standardised
        everything = np.arange(len(frames))
        return self.compute_beside(frames, everything, [self.grid], beside, store, Known(rows, chosen)), tried

    def fitted_state(self) -> State:
        """Return the state of the base class, and whether features are averaged over flips."""
        description, tensors = super().fitted_state()
        return description | {"averages_flips": self.averages_flips_}, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild features from the state that :meth:`fitted_state` returned; errors are those of the base class."""
        features = super().from_fitted_state(description, tensors)
        features.averages_flips_ = description["averages_flips"]
        expect(type(features.averages_flips_) is bool, "averages_flips as true or false")
        return features

    def _check_state(self) -> None:
        shapes = [backbone.output_shape for backbone in self.backbones_]
        expect(all(len(shape) == 3 for shape in shapes), "networks that map these frames to maps")
        cells = f"{FINE_GRID[0]} x {FINE_GRID[1]} cells at every scale"
        expect(all(shape[:2] == FINE_GRID for shape in shapes), cells)
        super()._check_state()

    @property
    def networks_(self) -> list[Sequential]:
        """One network per scale, from frames (n, h, w, c) to features (n, d) before averaging and standardisation."""
        check_is_fitted(self)
        chains = []
        for backbone in self.backbones_:
            layers = [*backbone.layers, *_tail(backbone.output_shape, self.grid).layers[1:]]
            chains.append(Sequential(layers).load_state_dict(backbone.state_dict()))
        return chains

    def _learn_backbone(
        self, source: Array, input_scale: float, factor: int, stride: int, n_filters: int, rng: np.random.Generator
    ) -> Sequential:
        """Return the network of one scale, up to the fine grid, with filters learned from sample frames."""
        layers: list[Layer] = [InputLayer(self.frame_shape_, scale=input_scale)]
        if factor > 1:
            layers.append(DownsamplingLayer(factor))
        state: dict[str, Array] = {}
        for level in range(1, self.depth + 1):
            is_last = level == self.depth
            backbone = Sequential(layers).load_state_dict(state)
            size = min(KERNEL if level == 1 else SECOND_KERNEL, *backbone.output_shape[:2])
            patches = _patches(source, backbone, (size, size), rng)
            first = SMALL_FRAME_CONTRAST if _is_small(self.frame_shape_) else CONTRAST
            contrast = first if level == 1 else SECOND_CONTRAST * float(patches.var(axis=1).mean()) or CONTRAST
            kernel, bias = learn_filters(
                patches, n_filters if is_last else FIRST_FILTERS, (size, size), contrast, self.filters, rng
            )
            state |= {f"filter_bank_{level}/kernel": kernel, f"filter_bank_{level}/bias": bias}
            strides = stride if level == 1 else 1
            bank = FilterBankLayer(len(bias), kernel_size=size, strides=strides, contrast=contrast)
            height, width, _ = bank.infer_shape(backbone.output_shape)
            halves = PoolingLayer((min(2, height), min(2, width)), mode="average")
            layers += [bank, PoolingLayer(FINE_GRID, mode="adaptive_average") if is_last else halves]
        return Sequential(layers).load_state_dict(state)

    @property
    def input_scale_(self) -> float:
        """The factor that scales frames to 0..255; 1 for uint8."""
        return self.backbones_[0].layers[0].scale  # type: ignore[attr-defined]

    def check_parameters(self) -> None:
        """Raise SettingError unless every parameter has a valid value."""
        super().check_parameters()
        grid = tuple(self.grid) if np.iterable(self.grid) else ()
        sizes = len(grid) == len(FINE_GRID) and all(map(is_count, grid))
        if not sizes or any(fine % coarse for fine, coarse in zip(FINE_GRID, grid, strict=True)):
            raise SettingError(
                f"FrameFeatures: expected grid as (rows, columns) that divide {FINE_GRID[0]} and {FINE_GRID[1]}, "
                f"got {self.grid!r}"
            )
        if not isinstance(self.filters, str) or self.filters not in METHODS:
            raise SettingError(f"FrameFeatures: expected filters as one of {', '.join(METHODS)}, got {self.filters!r}")
        if not is_count(self.depth) or self.depth > 2:
            raise SettingError(f"FrameFeatures: expected depth 1 or 2, got {self.depth!r}")
        count = self.n_filters
        if count is not None and not is_count(count):
            raise SettingError(f"FrameFeatures: expected n_filters as None or a positive integer, got {count!r}")
        if count is not None and count > PATCHES:
            raise SettingError(f"FrameFeatures: expected n_filters of at most {PATCHES:,}, got {count!r}")


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
    return [(factor, max(1, round(side // factor / PIXELS_PER_STRIDE))) for factor in factors]


def default_filters(frame_shape: Shape) -> int:
    """Return the number of filters, over all scales, for frames (h, w, c).

    Examples
    --------
    >>> default_filters((240, 360, 3)), default_filters((32, 32, 3))
    (1200, 3000)
    """
    return SMALL_FRAME_FILTERS if _is_small(frame_shape) else FILTERS


def _is_small(frame_shape: Shape) -> bool:
    return min(frame_shape[:2]) < SMALLEST_SIDE


def _tail(fine_shape: Shape, grid: Grid) -> Sequential:
    """Return the network from a fine grid of responses (6, 4, channels) to features over `grid`."""
    cells = fine_shape[0] // grid[0], fine_shape[1] // grid[1]
    return Sequential(
        [InputLayer(fine_shape), PoolingLayer(cells, mode="average"), ActivationLayer("sqrt"), FlatteningLayer()]
    ).build()


def _patches(source: Array, backbone: Sequential, kernel_size: tuple[int, int], rng: np.random.Generator) -> Array:
    """Return random windows of the maps that `backbone` computes, equally many from each source frame."""
    height, width = backbone.output_shape[:2]
    windows = len(source) * (height - kernel_size[0] + 1) * (width - kernel_size[1] + 1)
    edges = np.linspace(0, min(PATCHES, windows), len(source) + 1).astype(int)
    found = []
    for start in range(0, len(source), SOURCE_BLOCK):
        block = source[start : start + SOURCE_BLOCK]
        n_patches = int(edges[start + len(block)] - edges[start])
        found.append(sample_patches(backbone.predict(block), n_patches, kernel_size, rng))
    return np.concatenate(found)
