"""From frames to rows of features, by a network that is trained on the frames' labels."""

from typing import Any, Self

import numpy as np
from sklearn.utils import check_random_state

from framecnn.data.split import assign_parts
from framecnn.estimators.checks import encode_groups, encode_labels
from framecnn.estimators.frames import FrameTransformer
from framecnn.history import History
from framecnn.layers import ActivationLayer, ConvLayer, DenseLayer, FlatteningLayer, InputLayer, Layer, PoolingLayer
from framecnn.model import Sequential
from framecnn.training import fit
from framecnn.typing import Array, Shape

__all__ = ["NETWORK_SIZE", "TrainedFeatures", "hidden_layers"]

NETWORK_SIZE = (96, 144)
"""Height and width that larger frames are averaged down to before they enter the network."""

FILTERS, SMALLEST_MAP, UNITS = (32, 64, 128, 128), 4, 128
EPOCHS, PATIENCE, BATCH_SIZE = 25, 5, 32
SHARES = (0.8, 0.2, 0.0)  # of groups: to learn from, to judge the epochs by


class TrainedFeatures(FrameTransformer):
    """Describe frames by the last hidden layer of a convolutional network that has learned to tell their classes.

    Frames are averaged down to at most 96 x 144 pixels. Up to four blocks of convolution (3 x 3, 32, 64, 128 and 128
    filters), ReLU and max-pooling by two follow, as many as leave maps of four pixels or more to pool; then 128 dense
    units with ReLU, the features. In training a dense layer stands behind them, one unit a class. Adam minimises the
    cross-entropy in batches of 32 frames for at most 25 epochs; a fifth of the groups, which teaches nothing, says when
    to stop and which epoch was the best.

    Training holds all frames in memory at the network's size: 41 kB each. Feature vectors (2-D input without
    `frame_shape`) are only standardised.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    bodies_, networks_ : list of Sequential
        One, from frames (n, h, w, c) to features (n, 128); none for feature vectors.
    history_ : History or None
    frame_shape_ : (int, int, int) or None
    mean_, scale_ : (n_features_out,) float arrays
        What features are standardised by.
    n_features_in_ : int
        Values of a frame, or features of a vector.

    Examples
    --------
    >>> frames = np.random.default_rng(0).integers(0, 256, (12, 16, 24, 3), dtype=np.uint8)
    >>> TrainedFeatures(random_state=0).fit(frames, np.arange(12) % 2).transform(frames).shape
    (12, 128)
    """

    history_: History | None

    def __init__(self, frame_shape=None, *, random_state=None):
        self.frame_shape = frame_shape
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Train the network, and set the mean and scale of every feature.

        Parameters
        ----------
        X : (n, h, w, c) array, flat rows (n, h * w * c) with `frame_shape`, or feature vectors (n, d)
            Also a lazily loaded array: ``shape``, ``dtype``, ``len()``, and an array of rows as its index.
        y : (n,) array of labels
        groups : (n,) array, optional
            Frames of one group are alike: all of them teach, or none; by default every frame is its own.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X, y or groups does not fit, or y holds one class.
        """
        frames = self.accept(X)
        _, codes = encode_labels(self._who, y, len(frames))
        self.learn(frames, codes, encode_groups(self._who, groups, len(frames)))
        self.standardise(self.describe(frames))
        return self

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def learn(self, frames: Any, codes: Array, groups: Array | None) -> None:
        """Train the network on frames that :meth:`accept` gave, their class numbers (n,) and groups (n,)."""
        self.bodies_, self.history_ = [], None
        if self.frame_shape_ is None:
            return
        seed = int(check_random_state(self.random_state).randint(2**31))
        scale = self._measure_gain(frames) / 255
        small = self._shrunk(frames)
        parts = assign_parts(codes, np.arange(len(codes)) if groups is None else groups, SHARES, seed)
        train, judges = ((small[parts == part], codes[parts == part]) for part in (0, 1))
        hidden = hidden_layers(small.shape[1:])
        layers = [InputLayer(small.shape[1:], scale=scale), *hidden, DenseLayer(int(codes.max()) + 1)]
        network = Sequential(layers).build(seed)
        judged = len(judges[1]) > 0
        self.history_ = fit(
            network,
            *train,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            validation_data=judges if judged else None,
            patience=PATIENCE if judged else None,
            seed=seed,
            progress=None,
        )
        chain = Sequential([InputLayer(self.frame_shape_, scale=scale), *_shrinking(self.frame_shape_), *hidden])
        state = network.parameters()
        self.bodies_ = [chain.load_state_dict({name: state[name] for name in chain.param_specs()})]

    def describe(self, frames: Any) -> Array:
        """Give features (n, 128) of checked frames, before they are standardised."""
        if self.frame_shape_ is None:
            return frames
        network = self.bodies_[0]
        found = np.empty((len(frames), *network.output_shape), np.float32)
        for place, batch in self._batches(frames, np.arange(len(frames))):
            found[place] = network.predict(batch, len(batch))
        return found

    @property
    def gain_(self) -> float:
        """What frames are multiplied by to span 0..255; 1 for uint8."""
        return self.bodies_[0].layers[0].scale * 255  # type: ignore[attr-defined]

    def _shrunk(self, frames: Any) -> Array:
        """Give all frames at the network's size; uint8 stays uint8."""
        shrink = Sequential([InputLayer(self.frame_shape_), *_shrinking(self.frame_shape_)]).build()
        whole = frames.dtype == np.uint8
        small = np.empty((len(frames), *shrink.output_shape), np.uint8 if whole else np.float32)
        for place, batch in self._batches(frames, np.arange(len(frames))):
            shrunk = shrink.predict(batch, len(batch))
            small[place] = np.rint(shrunk) if whole else shrunk
        return small


def hidden_layers(frame_shape: Shape) -> list[Layer]:
    """Give the layers between the input and the last one, as many as frames (h, w, c) have room for.

    Examples
    --------
    >>> [layer.filters for layer in hidden_layers((96, 144, 3)) if isinstance(layer, ConvLayer)]
    [32, 64, 128, 128]
    >>> [layer.filters for layer in hidden_layers((8, 8, 1)) if isinstance(layer, ConvLayer)]
    [32, 64]
    """
    layers: list[Layer] = []
    side = min(frame_shape[:2])
    for filters in FILTERS:
        if side >= SMALLEST_MAP:
            layers += [ConvLayer(filters, kernel_size=3, padding="same"), ActivationLayer("relu"), PoolingLayer(2)]
            side //= 2
    return [*layers, FlatteningLayer(), DenseLayer(UNITS), ActivationLayer("relu")]


def _shrinking(frame_shape: Shape) -> list[Layer]:
    """Give what averages larger frames down to the network's size."""
    size = min(frame_shape[0], NETWORK_SIZE[0]), min(frame_shape[1], NETWORK_SIZE[1])
    return [] if size == frame_shape[:2] else [PoolingLayer(size, mode="adaptive_average")]
