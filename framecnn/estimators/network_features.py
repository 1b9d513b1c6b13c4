"""Features of frames by a network that was trained elsewhere."""

import copy
from typing import Any, Self

import numpy as np

from framecnn.arguments import check_number
from framecnn.errors import SettingError, ShapeError
from framecnn.estimators.snapshot import sets_atomically
from framecnn.estimators.transformer import FrameTransformer, is_count
from framecnn.layers import ConvLayer, FlatteningLayer, InputLayer, Layer, PoolingLayer, ResizingLayer, ScalingLayer
from framecnn.networks.sequential import Sequential
from framecnn.storage.model_file import expect
from framecnn.typing import Array

__all__ = ["NetworkFeatures"]


class NetworkFeatures(FrameTransformer):
    """Features by a layer of a network: one of ONNX or Keras (:mod:`framecnn.interop`), or one trained here.

    Frames are resized to the size that the network takes, and shifted and scaled as it expects. The features are the
    outputs of a layer, maps averaged over all places. The network is copied at fit and not trained further.

    uint8 frames are taken as 0..255; frames of other dtypes are multiplied by ``input_scale_``, which maps the largest
    value at fit to 255. Grey frames are repeated for a network that takes colours. Feature vectors (2-D input without
    `frame_shape`) are only standardised.

    Parameters
    ----------
    network : Sequential or None, default None
        Built. None is for feature vectors only.
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows.
    layer : str or None, default None
        The name of the layer whose output is used, one of ``network.names``; None is the last one.
    size : (int, int) or None, default None
        Height and width to which frames are resized; None is the size in the network's input shape.
    mean, scale : float, default 0.0 and 1.0
        The network takes ``(values of 0..255 - mean) * scale``.
    random_state : ignored

    Attributes
    ----------
    backbones_ : list of Sequential
        One, from frames (n, h, w, c) to the output of the layer. Empty for feature vectors.
    networks_ : list of Sequential
        One, from frames to features before standardisation.
    frame_shape_ : (int, int, int) or None
    input_scale_ : float
        The factor that scales frames to 0..255; 1 for uint8.
    mean_, scale_ : (n_features_out,) float arrays
        Mean and scale of each feature, by which features are standardised.
    n_features_in_ : int
        Values of a frame, or features of a vector.

    Notes
    -----
    A file holds the parts of the network that are used, not the parameter `network`: a loaded estimator predicts, and
    is fitted again only once its `network` is set.

    Examples
    --------
    >>> network = Sequential([InputLayer((8, 8, 3)), ConvLayer(5, kernel_size=3), FlatteningLayer()]).build(seed=0)
    >>> frames = np.random.default_rng(0).integers(0, 256, (12, 16, 24, 3), dtype=np.uint8)
    >>> NetworkFeatures(network, layer="conv_1", scale=1 / 255).fit(frames).transform(frames).shape
    (12, 5)
    """

    network: Sequential | None
    layer: str | None
    size: Any
    mean: float
    scale: float

    def __init__(
        self,
        network: Sequential | None = None,
        *,
        frame_shape: Any = None,
        layer: str | None = None,
        size: Any = None,
        mean: float = 0.0,
        scale: float = 1.0,
        random_state: Any = None,
    ):
        self.network = network
        self.frame_shape = frame_shape
        self.layer = layer
        self.size = size
        self.mean = mean
        self.scale = scale
        self.random_state = random_state

    @sets_atomically
    def fit(self, X: Any, y: Any = None) -> Self:
        """Build the network for the frames, then set mean and scale of every feature.

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
        frames = self.validate(X)
        self.learn(frames)
        self.standardise(self.compute(frames))
        return self

    def learn(self, frames: Any, codes: Array | None = None, groups: Array | None = None) -> None:
        """Build the network for frames that :meth:`validate` returned, without classes and groups."""
        self.backbones_ = []
        if self.frame_shape_ is None:
            return
        self.backbones_ = [self._backbone(self._used_network(), self._measure_input_scale(frames))]

    def compute(self, frames: Any) -> Array:
        """Return features (n, d) of checked frames, before standardisation."""
        return self.compute_by_network(frames)

    @property
    def networks_(self) -> list[Sequential]:
        """Networks from frames (n, h, w, c) to features (n, d) before standardisation; none for feature vectors."""
        chains = []
        for backbone in super().networks_:
            layers = list(backbone.layers)
            if len(backbone.output_shape) == 3:
                layers.append(PoolingLayer(1, mode="adaptive_average").build(backbone.output_shape))
                layers.append(FlatteningLayer().build(layers[-1].output_shape))
            chains.append(Sequential(layers))
        return chains

    @property
    def network_moments_(self) -> tuple[Array, Array]:
        """Means and scales of all features; none for feature vectors."""
        return (self.mean_, self.scale_) if self.backbones_ else super().network_moments_

    @property
    def averages_maps_(self) -> bool:
        """Whether features are means over the maps of one backbone, so that each place of a frame has a share."""
        return any(len(backbone.output_shape) == 3 for backbone in self.backbones_)

    @property
    def input_scale_(self) -> float:
        """The factor that scales frames to 0..255; 1 for uint8."""
        return self.backbones_[0].layers[0].scale  # type: ignore[attr-defined]

    def check_parameters(self) -> None:
        """Raise SettingError unless every parameter has a valid value."""
        super().check_parameters()
        if self.network is not None and not isinstance(self.network, Sequential):
            kind = type(self.network).__name__
            raise SettingError(f"{self._who}: expected network as a Sequential, got {kind}; from_onnx reads others")
        size = tuple(self.size) if np.iterable(self.size) else ()
        if self.size is not None and not (len(size) == 2 and all(map(is_count, size))):
            raise SettingError(f"{self._who}: expected size as (height, width), got {self.size!r}")
        check_number(self._who, "mean", self.mean)
        check_number(self._who, "scale", self.scale)

    def _used_network(self) -> Sequential:
        """Return the network up to the layer that is used."""
        if self.network is None:
            raise SettingError(f"{self._who}: expected a network for frames, got None; pass network=a built Sequential")
        return self.network if self.layer is None else self.network.up_to(self.layer)

    def _backbone(self, network: Sequential, input_scale: float) -> Sequential:
        """Return the network from frames to the layer that is used, with copies of its parameters."""
        state = network.parameters()
        first = network.layers[0]
        assert isinstance(first, InputLayer)
        if len(first.shape) != 3:
            raise SettingError(f"{self._who}: expected a network that takes frames, got input shape {first.shape}")
        assert self.frame_shape_ is not None
        own_channels, channels = self.frame_shape_[2], first.shape[2]
        if own_channels not in (1, channels):
            raise ShapeError(
                f"{self._who}: expected frames of {channels} channels, or grey ones, for this network, got "
                f"{own_channels}; convert them"
            )
        size = first.shape[:2] if self.size is None else tuple(map(int, self.size))
        scale, offset = first.scale * self.scale, -first.scale * self.scale * self.mean
        layers: list[Layer] = [InputLayer(self.frame_shape_, scale=input_scale)]
        if size != self.frame_shape_[:2]:
            layers.append(ResizingLayer(size))
        values = {}
        if own_channels != channels:
            values = {"kernel": np.full((1, 1, own_channels, channels), scale), "bias": np.full(channels, offset)}
            layers.append(ConvLayer(channels, kernel_size=1))
        elif (scale, offset) != (1, 0):
            values = {"scale": np.full(channels, scale), "offset": np.full(channels, offset)}
            layers.append(ScalingLayer())
        chain = Sequential([*layers, *(copy.copy(layer) for layer in network.layers[1:])])
        own = [f"{chain.names[len(layers) - 1]}/{name}" for name in values]
        filled = dict(zip([*own, *_names(chain, len(layers))], [*values.values(), *state.values()], strict=True))
        return chain.load_state_dict(filled)

    def _check_state(self) -> None:
        expect(len(self.backbones_) < 2, "at most one network")
        expect(all(len(network.output_shape) == 1 for network in self.networks_), "a network of maps or features")
        super()._check_state()


def _names(chain: Sequential, start: int) -> list[str]:
    """Return the names of the parameters of the layers from an index on."""
    later = set(chain.names[start:])
    return [name for name in chain.param_specs() if name.partition("/")[0] in later]
