"""Features of frames by a network that was trained elsewhere."""

import copy
import time
from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from framecnn.arguments import check_number
from framecnn.errors import SettingError, ShapeError
from framecnn.estimators.transformer import FrameTransformer, is_count
from framecnn.layers import ConvLayer, FlatteningLayer, InputLayer, Layer, PoolingLayer, ResizingLayer, ScalingLayer
from framecnn.networks.sequential import Sequential
from framecnn.storage.model_file import Description, State, expect
from framecnn.typing import Array

__all__ = ["FeaturesBeside", "NetworkFeatures"]


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
    mean, scale : float or sequence of floats, default 0.0 and 1.0
        The network takes ``(values of 0..255 - mean) * scale``. A sequence has a value for each of its channels.
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
    A file holds the network up to the layer that is used, with its shift and scale as a layer of it. This is the
    parameter `network` of a loaded estimator, the others have their defaults: fitted again, it does the same.

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
    mean: Any
    scale: Any

    def __init__(
        self,
        network: Sequential | None = None,
        *,
        frame_shape: Any = None,
        layer: str | None = None,
        size: Any = None,
        mean: Any = 0.0,
        scale: Any = 1.0,
        random_state: Any = None,
    ):
        self.network = network
        self.frame_shape = frame_shape
        self.layer = layer
        self.size = size
        self.mean = mean
        self.scale = scale
        self.random_state = random_state

    def learn(self, frames: Any, codes: Array | None = None, groups: Array | None = None) -> None:
        """Build the network for frames that :meth:`validate` returned, without classes and groups."""
        self.build(1.0 if self.frame_shape_ is None else self._measure_input_scale(frames))

    def build(self, input_scale: float) -> None:
        """Build the network for frames that `input_scale` scales to 0..255; none for feature vectors."""
        self.backbones_ = []
        if self.frame_shape_ is not None:
            self.backbones_ = [self._backbone(self._used_network(), input_scale)]

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
        for name in ("mean", "scale"):
            value = getattr(self, name)
            for number in value if np.iterable(value) and not isinstance(value, str) else [value]:
                check_number(self._who, name, number)

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
        mean, scale = (self._by_channel(name, channels) for name in ("mean", "scale"))
        scale = first.scale * scale
        offset = -scale * mean
        layers: list[Layer] = [InputLayer(self.frame_shape_, scale=input_scale)]
        if size != self.frame_shape_[:2]:
            layers.append(ResizingLayer(size))
        values = {}
        if own_channels != channels:
            values = {"kernel": scale[None, None, None], "bias": offset}
            layers.append(ConvLayer(channels, kernel_size=1))
        elif (scale != 1).any() or (offset != 0).any():
            values = {"scale": scale, "offset": offset}
            layers.append(ScalingLayer())
        chain = Sequential([*layers, *(copy.copy(layer) for layer in network.layers[1:])])
        own = [f"{chain.names[len(layers) - 1]}/{name}" for name in values]
        filled = dict(zip([*own, *_names(chain, len(layers))], [*values.values(), *state.values()], strict=True))
        return chain.load_state_dict(filled)

    def _by_channel(self, name: str, channels: int) -> Array:
        """Return mean or scale of every channel (c,)."""
        value = np.asarray(getattr(self, name), np.float64)
        if value.shape not in ((), (channels,)):
            raise SettingError(
                f"{self._who}: expected {name} as a number, or as {channels}, one for each channel of the network, got "
                f"{getattr(self, name)!r}"
            )
        return np.broadcast_to(value, (channels,))

    def fitted_state(self) -> State:
        """Return the state of the base class; parameters that say how the network is used have their defaults."""
        description, tensors = super().fitted_state()
        if type(self) is NetworkFeatures and self.backbones_:
            defaults = {name: getattr(NetworkFeatures(), name) for name in ("layer", "size", "mean", "scale")}
            description = description | {"parameters": description["parameters"] | defaults}
        return description, tensors

    @classmethod
    def from_fitted_state(cls, description: Description, tensors: Mapping[str, Array]) -> Self:
        """Rebuild features from the state that :meth:`fitted_state` returned; errors are those of the base class."""
        features = super().from_fitted_state(description, tensors)
        if cls is NetworkFeatures and features.backbones_:
            first, *others = features.backbones_[0].layers
            resized = others and isinstance(others[0], ResizingLayer)
            shape = others.pop(0).output_shape if resized else first.output_shape
            features.network = Sequential([InputLayer(shape).build(shape, dtype=first.dtype), *others])
        return features

    def _check_state(self) -> None:
        expect(len(self.backbones_) < 2, "at most one network")
        expect(all(len(network.output_shape) == 1 for network in self.networks_), "a network of maps or features")
        super()._check_state()


class FeaturesBeside:
    """Features by a network of the frames that other features read, so that no frame is decoded twice.

    Attributes
    ----------
    output : Output
        The number of features before standardisation, and what they depend on.
    seconds : float
        How long they took.
    """

    def __init__(self, features: NetworkFeatures):
        self.output = features.output
        (self._network,) = self.output.networks
        self.seconds = 0.0

    def __call__(self, batch: Array) -> Array:
        """Return the features of a batch (n, h, w, c), before standardisation."""
        start = time.perf_counter()
        found = self._network.predict(batch, len(batch))
        self.seconds += time.perf_counter() - start
        return found


def _names(chain: Sequential, start: int) -> list[str]:
    """Return the names of the parameters of the layers from an index on."""
    later = set(chain.names[start:])
    return [name for name in chain.param_specs() if name.partition("/")[0] in later]
