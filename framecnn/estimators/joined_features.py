"""Learned and pretrained features side by side, each kind with its share of the variance."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, Self

import numpy as np

from framecnn.data.shards import Shards, as_shards
from framecnn.errors import SettingError
from framecnn.estimators.features import FINE_GRID, FrameFeatures
from framecnn.estimators.pretrained_features import PretrainedFeatures
from framecnn.estimators.sums import varies
from framecnn.estimators.transformer import FrameTransformer
from framecnn.networks.sequential import Sequential
from framecnn.storage.model_file import Description, State, expect
from framecnn.typing import Array

__all__ = ["JoinedFeatures"]


class JoinedFeatures(FrameTransformer):
    """The features of :class:`FrameFeatures` and :class:`PretrainedFeatures`, scaled to given shares of the variance.

    The summed variance of all features is their number, as if each was standardised, so a ridge penalty has the same
    unit. The larger the share of a kind, the less its coefficients are shrunk. Feature vectors (2-D input without
    `frame_shape`) are only standardised.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows.
    grid, filters, n_filters, depth
        Of the learned features, as of :class:`FrameFeatures`.
    learned_share : float, default 0.5
        The share of the learned features in the summed variance, above 0 and below 1.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    learned_ : FrameFeatures
    pretrained_ : PretrainedFeatures
    backbones_, networks_ : list of Sequential
        Those of the learned features, then that of the pretrained ones.
    frame_shape_ : (int, int, int) or None
    mean_, scale_ : (n_features_out,) float arrays
        Mean and scale of each feature, by which features are standardised and weighted.
    n_features_in_ : int
        Values of a frame, or features of a vector.

    Examples
    --------
    >>> JoinedFeatures(n_filters=400, random_state=0)
    JoinedFeatures(n_filters=400, random_state=0)
    """

    def __init__(
        self,
        frame_shape: Any = None,
        *,
        grid: Any = (2, 2),
        filters: str = "kmeans",
        n_filters: int | None = None,
        depth: int = 1,
        learned_share: float = 0.5,
        random_state: Any = None,
    ):
        self.frame_shape = frame_shape
        self.grid = grid
        self.filters = filters
        self.n_filters = n_filters
        self.depth = depth
        self.learned_share = learned_share
        self.random_state = random_state

    def learn(self, frames: Any, codes: Array | None = None, groups: Array | None = None) -> None:
        """Learn the filters, and build the network, for frames that :meth:`validate` returned."""
        learned, pretrained = self._new_parts()
        for part in (learned, pretrained):
            part.validate(frames)
        learned.learn(frames)
        pretrained.build(1.0 if self.frame_shape_ is None else learned.input_scale_)
        self.join(learned, pretrained)

    def join(self, learned: FrameFeatures, pretrained: PretrainedFeatures) -> Self:
        """Take over features that have been fitted to, or have learned from, the same frames."""
        self.learned_, self.pretrained_, self.grid = learned, pretrained, learned.grid
        self.frame_shape_, self.n_features_in_ = learned.frame_shape_, learned.n_features_in_
        if self.frame_shape_ is not None:
            self.dtype_kind_ = learned.dtype_kind_
        self.backbones_ = [*learned.backbones_, *pretrained.backbones_]
        return self

    def compute(self, frames: Any) -> Array:
        """Return features (n, d) of checked frames, before standardisation."""
        if self.frame_shape_ is None:
            return frames
        learned, (network,) = self.learned_, self.pretrained_.networks_
        parts = [
            np.hstack([*learned.over_grids(batch, [self.grid]), network.predict(batch, len(batch))])
            for _, batch in learned.batches(frames)
        ]
        return np.concatenate(parts)

    def standardise(self, raw: Shards | Array) -> Shards:
        """Set mean and scale from features (n, d), so that each kind has its share; return the features."""
        raw = as_shards(raw)
        super().standardise(raw)
        if self.frame_shape_ is not None:
            start, varied = raw.shape[1] - self._n_pretrained, varies(raw)
            shares = (slice(0, start), self.learned_share), (slice(start, None), 1 - self.learned_share)
            for part, share in shares:
                self.scale_[part] *= np.sqrt((int(varied[part].sum()) or 1) / (share * raw.shape[1]))
        return self.standardised(raw)

    def fitted_state(self) -> State:
        """Return the state of the base class, and whether learned features are averaged over flips."""
        description, tensors = super().fitted_state()
        flips = bool(self.backbones_) and self.learned_.averages_flips_
        return description | {"averages_flips": flips}, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild features from the state that :meth:`fitted_state` returned; errors are those of the base class."""
        features = super().from_fitted_state(description, tensors)
        features.learned_.averages_flips_ = description["averages_flips"]
        expect(type(features.learned_.averages_flips_) is bool, "averages_flips as true or false")
        return features

    def _set_frames(self, frames: Description | None) -> None:
        super()._set_frames(frames)
        self.learned_, self.pretrained_ = self._new_parts()
        self.learned_.backbones_, self.pretrained_.backbones_ = self.backbones_[:-1], self.backbones_[-1:]
        for part in (self.learned_, self.pretrained_):
            part.frame_shape_, part.n_features_in_ = self.frame_shape_, self.n_features_in_
            if frames is not None:
                part.dtype_kind_ = self.dtype_kind_

    def _check_state(self) -> None:
        shapes = [backbone.output_shape for backbone in self.backbones_]
        expect(len(shapes) != 1, "learned and pretrained networks")
        expect(all(shape[:-1] == FINE_GRID for shape in shapes[:-1]), "learned networks to the fine grid")
        expect(all(len(shape) == 3 for shape in shapes), "networks that map frames to maps")
        super()._check_state()

    @property
    def networks_(self) -> list[Sequential]:
        """Networks from frames to features before standardisation: the learned ones, then the pretrained one."""
        chains = super().networks_
        return [*self.learned_.networks_, *self.pretrained_.networks_] if chains else []

    @property
    def network_moments_(self) -> tuple[Array, Array]:
        """Means and weighted scales of the pretrained features; none for feature vectors."""
        start = len(self.mean_) - self._n_pretrained
        return self.mean_[start:], self.scale_[start:]

    @property
    def _n_pretrained(self) -> int:
        return self.pretrained_.networks_[0].output_shape[0] if self.backbones_ else 0

    @property
    def parts_(self) -> list[FrameTransformer]:
        """The learned and the pretrained features."""
        return [self.learned_, self.pretrained_]

    @property
    def input_scale_(self) -> float:
        """The factor that scales frames to 0..255; 1 for uint8."""
        return self.learned_.input_scale_

    def check_parameters(self) -> None:
        """Raise SettingError unless every parameter has a valid value."""
        share = self.learned_share
        if not (isinstance(share, Real) and 0 < share < 1):
            raise SettingError(f"JoinedFeatures: expected learned_share above 0 and below 1, got {share!r}")
        for part in self._new_parts():
            part.check_parameters()

    def _new_parts(self) -> tuple[FrameFeatures, PretrainedFeatures]:
        settings = {name: value for name, value in self.get_params().items() if name != "learned_share"}
        return FrameFeatures(**settings), PretrainedFeatures(self.frame_shape)
