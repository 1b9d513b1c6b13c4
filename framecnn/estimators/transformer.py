"""The base of all transformers of frames: checks and reading of input, standardisation of features, fitted state."""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted, validate_data

from framecnn.arguments import channels_first_hint
from framecnn.data.loader import LazyFrames, map_ahead
from framecnn.data.shards import SHARD_ROWS, ComputedShards, Shards, as_shards
from framecnn.data.stored_shards import ShardStore
from framecnn.errors import SettingError, ShapeError
from framecnn.estimators.checks import FLOATS, check_overflow
from framecnn.estimators.extraction import Extraction, Output, extract_shards, is_array
from framecnn.estimators.saved_estimator import SavedEstimator
from framecnn.estimators.snapshot import maps_rows, sets_atomically
from framecnn.estimators.state import as_parameters, describe_parameters
from framecnn.estimators.sums import mean_and_deviation
from framecnn.networks.sequential import Sequential
from framecnn.storage.model_file import Description, State, expect, nested, prefixed
from framecnn.typing import Array, Shape

__all__ = ["FrameTransformer", "is_count"]

LARGEST_CHANNELS = 4  # frames with more, and of a height of 1 or 3, are taken for frames whose channels come first
DARKEST = 1e-30  # frames whose largest value is below it are black
KINDS = {"u": "integer", "i": "integer", "b": "integer", "f": "float"}


class FrameTransformer(SavedEstimator):
    """A transformer of frames, or feature vectors, to standardised features.

    A subclass has a parameter ``frame_shape`` and implements :meth:`learn`, which sets ``backbones_``, and
    :meth:`compute`.
    """

    frame_shape: Any
    frame_shape_: Any
    dtype_kind_: str
    backbones_: list[Sequential]
    input_scale_: Any
    grid: Any = None
    averages_flips_ = False
    batch_values = 8_000_000
    """The largest number of values in the frames, or in a layer's maps, of a batch: 30 colour frames of 240 x 360."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn what the features need, without labels, then set mean and scale of every feature.

        Parameters
        ----------
        X : (n, h, w, c) array, flat rows (n, h * w * c) with `frame_shape`, or feature vectors (n, d)
            Or a lazily loaded array: it has ``shape``, ``dtype`` and ``len()``, and is indexed by an array of rows.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        SettingError
            If a parameter has an invalid value.
        ShapeError
            If the shape or dtype of X does not fit, or X is empty.
        ValueError
            If X holds NaN or infinity, or scikit-learn refuses feature vectors.
        """
        self.fit_transform(X)
        return self

    @sets_atomically
    def fit_transform(self, X: Any, y: Any = None) -> Array:
        """Fit; return the standardised features of X without computing them again.

        Parameters
        ----------
        X, y
            As in :meth:`fit`.

        Returns
        -------
        (n, n_features_out) array
        """
        frames = self.validate(X)
        self.learn(frames, None, None)
        return self.standardise(self.compute(frames))[:]

    def validate(self, X: Any) -> Any:
        """Check parameters and X before fitting; return X in the form that :meth:`learn` and :meth:`compute` expect."""
        self.check_parameters()
        return self._check(X, reset=True)

    def learn(self, frames: Any, codes: Any, groups: Array | None) -> None:
        """Learn what :meth:`compute` needs from frames that :meth:`validate` returned, their classes and groups."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method learn, got none; define it")

    def compute(self, frames: Any) -> Array:
        """Return features (n, d) of checked frames, before standardisation."""
        raise NotImplementedError(f"{type(self).__name__}: expected a method compute, got none; define it")

    def compute_in_shards(self, frames: Any, store: ShardStore) -> Shards:
        """Return features (n, d) of checked frames, before standardisation, in shards that a store keeps."""
        if self.frame_shape_ is None:
            return as_shards(frames)
        extraction = Extraction(self._who, self.batches, lambda batch: [self.compute(batch)])
        (found,) = extract_shards(extraction, frames, np.arange(len(frames)), [self.output], store)
        return found

    def transform_in_shards(self, X: Any) -> Shards:
        """Return what :meth:`transform` returns, in shards: in memory as long as it lasts, else in files.

        See :func:`framecnn.working_memory`; parameters and errors are those of :meth:`transform`.
        """
        check_is_fitted(self)
        return self.standardised(self.compute_in_shards(self._check(X, reset=False), ShardStore()))

    @property
    def output(self) -> Output:
        """The number of features before standardisation, and what they depend on."""
        networks = self.networks_
        flips = [part.averages_flips_ for part in self.parts_]
        return Output(sum(network.output_shape[0] for network in networks), networks, flips)

    def compute_by_network(self, frames: Any) -> Array:
        """Return the output (n, d) of the only network for checked frames; feature vectors unchanged."""
        if self.frame_shape_ is None:
            return frames
        (network,) = self.networks_
        found = np.empty((len(frames), *network.output_shape), np.float32)
        for rows, batch in self.batches(frames):
            found[rows] = network.predict(batch, len(batch))
        return found

    @property
    def parts_(self) -> "list[FrameTransformer]":
        """The transformers whose features stand side by side, before standardisation: this one, unless it joins some.

        Each says by its own ``averages_flips_`` how its features come from its ``networks_``.
        """
        return [self]

    @property
    def uses_labels_(self) -> bool:
        """Whether the features were learned with labels, so that they say more of training frames than of others."""
        return False

    @property
    def network_moments_(self) -> tuple[Array, Array]:
        """Means and scales (p,) of the last p features: those by a network that was trained elsewhere."""
        return self.mean_[:0], self.scale_[:0]

    @property
    def networks_(self) -> list[Sequential]:
        """Networks from frames (n, h, w, c) to features (n, d) before standardisation; none for feature vectors."""
        check_is_fitted(self)
        return self.backbones_

    @maps_rows
    def transform(self, X: Any) -> Array:
        """Return the standardised features of frames; a frame has the same bits alone and in any batch.

        Parameters
        ----------
        X : as in :meth:`fit`
            Frames of the same shape, integers or floats, as at fit.

        Returns
        -------
        (n, n_features_out) array
            float32; feature vectors keep their dtype.

        Raises
        ------
        ShapeError
            If shape or dtype of X differ from those at fit.
        ValueError
            If X holds NaN or infinity, or scikit-learn refuses feature vectors.
        FormatError
            If features are not finite: X is too large, or the model comes from a forged file with too large weights.
        """
        check_is_fitted(self)
        return self._transformed(self._check(X, reset=False))

    def transform_when_read(self, X: Any) -> Shards | Array:
        """Return what :meth:`transform` returns, of more than 512 frames as shards that are computed when read.

        Parameters and errors are those of :meth:`transform`.
        """
        check_is_fitted(self)
        frames = self._check(X, reset=False)
        if self.frame_shape_ is None or len(frames) <= SHARD_ROWS:
            return self._transformed(frames)
        of_now = copy.copy(self)

        def of_rows(rows: slice) -> Array:
            batches = of_now.batches(frames, np.arange(rows.start, rows.stop))
            return np.concatenate([of_now._transformed(batch) for _, batch in batches])

        return ComputedShards(len(frames), len(self.mean_), self.mean_.dtype, of_rows, not is_array(frames))

    def _transformed(self, frames: Any) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            found = _scaled(self.compute(frames), self.mean_, self.scale_)
        check_overflow(self._who, "features", found)
        return found

    def standardise(self, raw: Shards | Array) -> Shards:
        """Set mean and scale from features (n, d); return the standardised features."""
        raw = as_shards(raw)
        mean, deviation = mean_and_deviation(raw)
        self.mean_ = mean.astype(raw.dtype)
        flat = deviation <= np.finfo(raw.dtype).eps * np.abs(self.mean_)  # constant features become zero
        self.scale_ = np.where(flat, 1, deviation).astype(raw.dtype)
        self._n_features_out = raw.shape[1]
        return self.standardised(raw)

    def standardised(self, raw: Shards) -> Shards:
        """Return features (n, d) that are standardised by the present mean and scale when they are read."""
        mean, scale = self.mean_, self.scale_
        return raw.map(lambda block, _: _scaled(block, mean, scale))

    def blank_frames(self, dtype: Any) -> Array:
        """Return a black, a white, a noise and a grey noise frame, (4, h, w, c), in the range of the frames at fit."""
        height, width, channels = self.frame_shape_
        rng = np.random.default_rng(0)
        noises = [rng.random((height, width, n)) for n in (channels, 1)]
        parts = [np.zeros(1), np.ones(1), *noises]
        shares = np.stack([np.broadcast_to(part, self.frame_shape_) for part in parts])
        return (shares * (255 / self.input_scale_)).astype(dtype)

    def _measure_input_scale(self, frames: Any) -> float:
        """Return the factor that scales frames to 0..255; 1 for uint8."""
        if frames.dtype == np.uint8:
            return 1.0
        batches = self.batches(frames)
        largest = max(float(np.abs(batch, dtype=np.float64).max()) for _, batch in batches)
        return 255 / largest if largest > DARKEST else 1.0

    def _read(self, frames: Any, rows: Array) -> Array:
        """Return some frames, (n, h, w, c); raise ValueError if they are not finite."""
        batch = np.asarray(frames[rows]).reshape(len(rows), *self.frame_shape_)
        if self.dtype_kind_ == "float":
            with np.errstate(over="ignore"):
                batch = batch.astype(np.float32)
            if not np.isfinite(batch).all():
                raise ValueError(f"{self._who}: expected finite float32 frames, got NaN or infinity; clean X first")
        return batch

    def batches(self, frames: Any, rows: Array | None = None) -> Iterator[tuple[slice, Array]]:
        """Yield (part, frames of rows[part]), read ahead: of all frames, or of some rows of them."""
        rows = np.arange(len(frames)) if rows is None else rows
        largest = max(int(np.prod(shape)) for shape in (self.frame_shape_, *self._map_shapes))
        size = min(SHARD_ROWS, max(1, self.batch_values // largest))
        parts = [slice(start, start + size) for start in range(0, len(rows), size)]
        yield from zip(parts, map_ahead(lambda part: self._read(frames, rows[part]), parts, 1, 1), strict=True)

    @property
    def _map_shapes(self) -> tuple[Shape, ...]:
        """Shapes of a frame's maps that are held beside it; batches are smaller if they are larger than the frame."""
        return ()

    def fitted_state(self) -> State:
        """Return parameters, shape and type of the frames at fit, and the tensors of backbones, means and scales."""
        check_is_fitted(self, "mean_")
        frames = None
        if self.frame_shape_ is not None:
            frames = {"shape": self.frame_shape_, "resize": "stretched", "values": self.dtype_kind_}
        tensors = {"mean": self.mean_, "scale": self.scale_}
        backbones = []
        for number, backbone in enumerate(self.backbones_, start=1):
            description, backbone_tensors = backbone.fitted_state()
            backbones.append(description)
            tensors |= prefixed(f"backbone_{number}", backbone_tensors)
        facts = {"frames": frames, "n_features_in": self.n_features_in_, "backbones": backbones}
        return {"parameters": describe_parameters(self)} | facts, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild a transformer from the state that :meth:`fitted_state` returned.

        Raises
        ------
        FormatError, ValueError
            If the parts do not fit together.
        """
        features = cls(**as_parameters(description["parameters"]))
        features.check_parameters()
        rest, features.backbones_ = dict(tensors), []
        for number, backbone in enumerate(description["backbones"], start=1):
            own = nested(f"backbone_{number}", rest)
            features.backbones_.append(Sequential.from_fitted_state(backbone, own))
            rest = {name: tensor for name, tensor in rest.items() if not name.startswith(f"backbone_{number}/")}
        features.mean_, features.scale_ = rest.pop("mean"), rest.pop("scale")
        expect(not rest, "no tensors beside those of backbones, mean and scale")
        features.n_features_in_, features._n_features_out = description["n_features_in"], len(features.mean_)
        features._set_frames(description["frames"])
        features._check_state()
        return features

    def _set_frames(self, frames: Description | None) -> None:
        self.frame_shape_ = self.backbones_[0].input_shape if self.backbones_ else None
        expect((frames is None) == (self.frame_shape_ is None), "backbones for frames, and none for feature vectors")
        expect(self.frame_shape in (None, self.frame_shape_), "the same frame shape in all parts")
        if frames is not None:
            expect(frames["shape"] == list(self.frame_shape_), "the same frame shape in all parts")
            known = frames["resize"] == "stretched" and frames["values"] in KINDS.values()
            expect(known, "resize 'stretched' and values 'integer' or 'float'")
            self.dtype_kind_ = frames["values"]

    def _check_state(self) -> None:
        """Raise FormatError unless backbones and arrays fit the frames and each other; subclasses check more."""
        expect(
            all(backbone.input_shape == self.frame_shape_ for backbone in self.backbones_),
            "networks that take these frames",
        )
        shape, count = self.frame_shape_, self.n_features_in_
        expect(
            type(count) is int and (shape is None or count == math.prod(shape)),
            "n_features_in as the number of values of a frame",
        )
        n_features = sum(network.output_shape[0] for network in self.networks_) if self.backbones_ else count
        expect(self.mean_.shape == self.scale_.shape == (n_features,), "one mean and one scale per feature")
        floats = self.mean_.dtype == self.scale_.dtype and self.mean_.dtype.kind == "f"
        expect(floats, "mean and scale of the same float dtype")
        expect(bool((self.scale_ > 0).all()), "positive scales")

    @property
    def _who(self) -> str:
        return type(self).__name__

    def check_parameters(self) -> None:
        """Raise SettingError unless every parameter has a valid value."""
        shape = self.frame_shape
        sizes = tuple(shape) if np.iterable(shape) else ()
        if shape is not None and not (len(sizes) == 3 and all(map(is_count, sizes))):
            raise SettingError(f"{self._who}: expected frame_shape as (height, width, channels), got {shape!r}")

    def _check(self, X: Any, reset: bool) -> Any:
        """Return frames unchanged, as an array or lazily loaded, or feature vectors (n, d), once they are checked."""
        if isinstance(getattr(X, "frames", None), LazyFrames):
            raise ShapeError(
                f"{self._who}: expected frames, got {type(X).__name__}; pass its frames, labels and groups"
            )
        frames = X if isinstance(getattr(X, "dtype", None), np.dtype) else np.asarray(X)
        received = tuple(frames.shape)
        vectors = self.frame_shape is None and len(received) != 4 if reset else self.frame_shape_ is None
        if vectors and len(received) > 2:
            expected = "frames (n, height, width, channels) or vectors (n, d)" if reset else "vectors (n, d)"
            raise ShapeError(f"{self._who}: expected {expected}, got shape {received}; grey frames have 1 channel")
        if vectors or issparse(frames):
            if reset:
                self.frame_shape_ = None
            return validate_data(self, X, dtype=FLOATS, reset=reset)
        shape = tuple(map(int, self.frame_shape or received[1:])) if reset else self.frame_shape_
        flat = self.frame_shape is not None and received[1:] == (np.prod(shape),)
        if not flat and received[1:] != shape:
            expected = ", ".join(map(str, shape))
            hint = channels_first_hint(received, shape)
            raise ShapeError(f"{self._who}: expected frames of shape (n, {expected}), got {received}{hint}")
        if reset and self.frame_shape is None and shape[0] in (1, 3) and min(shape[1:]) > LARGEST_CHANNELS:
            raise ShapeError(
                f"{self._who}: expected frames (n, height, width, channels), got shape {received}, whose channels seem "
                f"to come first; pass X.transpose(0, 2, 3, 1), or frame_shape={shape} if it is right"
            )
        kind = KINDS.get(frames.dtype.kind)
        if kind is None or (not reset and kind != self.dtype_kind_):
            expected = "integers or floats" if reset else f"{self.dtype_kind_}s"
            raise ShapeError(f"{self._who}: expected frames of {expected}, got dtype {frames.dtype}")
        if not all(received):
            raise ShapeError(f"{self._who}: expected at least one frame and pixel, got shape {received}")
        if reset:
            self.frame_shape_, self.dtype_kind_ = shape, kind
            self.n_features_in_ = int(np.prod(shape))
        return frames


def _scaled(raw: Array, mean: Array, scale: Array) -> Array:
    centred = raw - mean
    return np.divide(centred, scale, out=centred)


def is_count(value: Any) -> bool:
    """Return whether a value is a positive integer."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)
