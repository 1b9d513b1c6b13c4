"""From frames to rows of features, by a network that is trained on the frames' labels."""

from typing import Any, Self

import numpy as np

from framecnn.data.augment import Augmentation
from framecnn.data.split import assign_parts
from framecnn.estimators.checks import as_random_state, encode_groups, encode_labels
from framecnn.estimators.snapshot import set_at_once
from framecnn.estimators.transformer import FrameTransformer
from framecnn.layers import InputLayer, Layer, PoolingLayer
from framecnn.networks.reference import FILTERS, reference_network
from framecnn.networks.sequential import Sequential
from framecnn.storage.model_file import expect
from framecnn.training.history import History
from framecnn.training.loop import fit
from framecnn.typing import Array, Shape

__all__ = ["AUGMENTATION", "NETWORK_SIZE", "TrainedFeatures", "n_blocks"]

NETWORK_SIZE = (96, 144)
"""Height and width that larger frames are averaged down to before they enter the network."""

AUGMENTATION = Augmentation(flip=True, shift=0.1, scale=0.1, brightness=0.1, contrast=0.1)
"""How uint8 frames are changed in training; of a fold of films, 88 % of the frames were right, and 71 % without."""

SMALLEST_MAP = 4  # pixels that a map needs for another block
EPOCHS, PATIENCE, BATCH_SIZE = 25, 5, 32
SHARES = (0.8, 0.2, 0.0)  # of groups: to learn from, to judge the epochs by


class TrainedFeatures(FrameTransformer):
    """Describe frames by the last hidden layer of a convolutional network that has learned to tell their classes.

    Frames are averaged down to at most 96 x 144 pixels, and enter :func:`framecnn.networks.reference_network` with as
    many of its four blocks as find maps of four pixels or more. Adam minimises the cross-entropy in batches of 32
    frames for at most 25 epochs; a fifth of the groups, which teaches nothing, says when to stop and which epoch was
    the best. Frames of uint8 are augmented.

    Training holds all frames in memory at the network's size: 41 kB each. Feature vectors (2-D input without
    `frame_shape`) are only standardised.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    backbones_, networks_ : list of Sequential
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

    history_: History | None = None

    def __init__(self, frame_shape=None, *, random_state=None):
        self.frame_shape = frame_shape
        self.random_state = random_state

    @set_at_once
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
        self.backbones_, self.history_ = [], None
        if self.frame_shape_ is None:
            return
        seed = int(as_random_state(self._who, self.random_state).randint(2**31))
        scale = self._measure_input_scale(frames) / 255
        small = self._shrunk(frames)
        parts = assign_parts(codes, np.arange(len(codes)) if groups is None else groups, SHARES, seed)
        train, validation = ((small[parts == part], codes[parts == part]) for part in (0, 1))
        filters = FILTERS[: n_blocks(small.shape[1:3])]
        network = reference_network(small.shape[1:], codes.max() + 1, filters=filters, output=None, scale=scale)
        judged = len(validation[1]) > 0
        self.history_ = fit(
            network.build(seed),
            *train,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            validation_data=validation if judged else None,
            patience=PATIENCE if judged else None,
            augment=AUGMENTATION if small.dtype == np.uint8 else None,
            seed=seed,
            progress=None,
        )
        hidden = network.layers[1:-1]
        chain = Sequential([InputLayer(self.frame_shape_, scale=scale), *_shrinking(self.frame_shape_), *hidden])
        state = network.parameters()
        self.backbones_ = [chain.load_state_dict({name: state[name] for name in chain.param_specs()})]

    def describe(self, frames: Any) -> Array:
        """Return features (n, 128) of checked frames, before they are standardised."""
        if self.frame_shape_ is None:
            return frames
        network = self.backbones_[0]
        found = np.empty((len(frames), *network.output_shape), np.float32)
        for place, batch in self._batches(frames, np.arange(len(frames))):
            found[place] = network.predict(batch, len(batch))
        return found

    def _check_state(self) -> None:
        shapes = [backbone.output_shape for backbone in self.backbones_]
        expect(len(shapes) < 2, "one network")
        expect(all(len(shape) == 1 for shape in shapes), "networks of the frames")
        super()._check_state()

    @property
    def input_scale_(self) -> float:
        """What frames are multiplied by to span 0..255; 1 for uint8."""
        return self.backbones_[0].layers[0].scale * 255  # type: ignore[attr-defined]

    def _shrunk(self, frames: Any) -> Array:
        """Return all frames at the network's size; uint8 stays uint8."""
        shrink = Sequential([InputLayer(self.frame_shape_), *_shrinking(self.frame_shape_)]).build()
        whole = frames.dtype == np.uint8
        small = np.empty((len(frames), *shrink.output_shape), np.uint8 if whole else np.float32)
        for place, batch in self._batches(frames, np.arange(len(frames))):
            shrunk = shrink.predict(batch, len(batch))
            small[place] = np.rint(shrunk) if whole else shrunk
        return small


def n_blocks(size: tuple[int, int]) -> int:
    """Return how many blocks of convolution and pooling frames of (height, width) have room for.

    Examples
    --------
    >>> n_blocks((96, 144)), n_blocks((8, 8)), n_blocks((3, 40))
    (4, 2, 0)
    """
    return sum(min(size) // 2**block >= SMALLEST_MAP for block in range(len(FILTERS)))


def _shrinking(frame_shape: Shape) -> list[Layer]:
    """Return what averages larger frames down to the network's size."""
    size = min(frame_shape[0], NETWORK_SIZE[0]), min(frame_shape[1], NETWORK_SIZE[1])
    return [] if size == frame_shape[:2] else [PoolingLayer(size, mode="adaptive_average")]
