"""Features of frames by a network that is trained on the frames' labels."""

from typing import Any, Self

import numpy as np

from framecnn.arguments import check_count
from framecnn.data.augment import Augmentation
from framecnn.data.split import assign_parts
from framecnn.estimators.checks import as_random_state, encode_groups, encode_labels
from framecnn.estimators.snapshot import sets_atomically
from framecnn.estimators.transformer import FrameTransformer
from framecnn.layers import InputLayer, Layer, PoolingLayer
from framecnn.networks.reference import REFERENCE_FILTERS, reference_network
from framecnn.networks.sequential import Sequential
from framecnn.storage.model_file import expect
from framecnn.training.history import History
from framecnn.training.loop import fit
from framecnn.typing import Array, Shape

__all__ = ["AUGMENTATION", "NETWORK_SIZE", "TrainedFeatures", "n_blocks"]

NETWORK_SIZE = (96, 144)
"""Height and width to which larger frames are averaged down before they enter the network."""

AUGMENTATION = Augmentation(flip=True, shift=0.1, scale=0.1, brightness=0.1, contrast=0.1)
"""Changes of uint8 frames in training; accuracy on a held-out fold of six films: 88 %, without augmentation 71 %."""

SMALLEST_MAP = 4  # pixels: the smallest side for which a block is added
PATIENCE, BATCH_SIZE = 5, 32
SHARES = (0.8, 0.2, 0.0)  # of groups: training, validation, none for test


class TrainedFeatures(FrameTransformer):
    """Features by the last hidden layer of a convolutional network that is trained to classify the frames.

    Frames are averaged down to at most 96 x 144 pixels. The network is :func:`framecnn.networks.reference_network` with
    those of its four blocks whose input has at least 4 x 4 pixels. Adam minimises the cross-entropy in batches of 32
    frames. A fifth of the groups is held out for validation, by which training stops and the best epoch is chosen.
    uint8 frames are augmented.

    Training holds all frames in memory at the network's size: 41 kB each. Feature vectors (2-D input without
    `frame_shape`) are only standardised.

    Parameters
    ----------
    frame_shape : (int, int, int) or None, default None
        ``(h, w, c)`` of flat rows.
    epochs : int, default 25
        The largest number of epochs.
    random_state : int, RandomState instance or None, default None

    Attributes
    ----------
    backbones_, networks_ : list of Sequential
        One, from frames (n, h, w, c) to features (n, 128). Empty for feature vectors.
    history_ : History or None
        None for feature vectors, and for features loaded from a file.
    frame_shape_ : (int, int, int) or None
    mean_, scale_ : (n_features_out,) float arrays
        Mean and scale of each feature, by which features are standardised.
    n_features_in_ : int
        Values of a frame, or features of a vector.

    Examples
    --------
    >>> frames = np.random.default_rng(0).integers(0, 256, (12, 16, 24, 3), dtype=np.uint8)
    >>> TrainedFeatures(random_state=0).fit(frames, np.arange(12) % 2).transform(frames).shape
    (12, 128)
    """

    history_: History | None = None

    def __init__(self, frame_shape: Any = None, *, epochs: int = 25, random_state: Any = None):
        self.frame_shape = frame_shape
        self.epochs = epochs
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:  # type: ignore[override]  # labels are required
        """Train the network, then set mean and scale of every feature.

        Parameters
        ----------
        X : (n, h, w, c) array, flat rows (n, h * w * c) with `frame_shape`, or feature vectors (n, d)
            Or a lazily loaded array: it has ``shape``, ``dtype`` and ``len()``, and is indexed by an array of rows.
        y : (n,) array of labels
        groups : (n,) array, optional
            Frames of one group resemble each other and are all used for training, or all for validation. By default
            each frame is its own group.

        Returns
        -------
        self

        Raises
        ------
        SettingError
            If a parameter has an invalid value.
        ShapeError
            If X, y or groups does not fit, or y holds fewer than two classes.
        ValueError
            If X holds NaN or infinity, or scikit-learn refuses feature vectors or labels.
        """
        self.fit_transform(X, y, groups)
        return self

    @sets_atomically
    def fit_transform(self, X: Any, y: Any, groups: Any = None) -> Array:  # type: ignore[override]
        """Fit; return the standardised features of X without computing them again.

        Parameters
        ----------
        X, y, groups
            As in :meth:`fit`.

        Returns
        -------
        (n, n_features_out) array
        """
        frames = self.validate(X)
        _, codes = encode_labels(self._who, y, len(frames))
        self.learn(frames, codes, encode_groups(self._who, groups, len(frames)))
        return self.standardise(self.compute(frames))[:]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    @property
    def uses_labels_(self) -> bool:
        """Whether a network was trained: not for feature vectors."""
        return bool(self.backbones_)

    def learn(self, frames: Any, codes: Array, groups: Array | None) -> None:
        """Train the network on frames that :meth:`validate` returned, their class numbers (n,) and groups (n,)."""
        self.backbones_, self.history_ = [], None
        if self.frame_shape_ is None:
            return
        seed = int(as_random_state(self._who, self.random_state).randint(2**31))
        scale = self._measure_input_scale(frames) / 255
        small = self._shrunk(frames)
        parts = assign_parts(codes, np.arange(len(codes)) if groups is None else groups, SHARES, seed)
        train, validation = ((small[parts == part], codes[parts == part]) for part in (0, 1))
        filters = REFERENCE_FILTERS[: n_blocks(small.shape[1:3])]
        network = reference_network(small.shape[1:], codes.max() + 1, filters=filters, output=None, scale=scale)
        validates = len(validation[1]) > 0
        self.history_ = fit(
            network.build(seed),
            *train,
            epochs=self.epochs,
            batch_size=BATCH_SIZE,
            validation_data=validation if validates else None,
            patience=PATIENCE if validates else None,
            augment=AUGMENTATION if small.dtype == np.uint8 else None,
            seed=seed,
            progress=None,
        )
        hidden = network.layers[1:-1]
        chain = Sequential([InputLayer(self.frame_shape_, scale=scale), *_shrinking(self.frame_shape_), *hidden])
        state = network.parameters()
        self.backbones_ = [chain.load_state_dict({name: state[name] for name in chain.param_specs()})]

    def compute(self, frames: Any) -> Array:
        """Return features (n, 128) of checked frames, before standardisation."""
        return self.compute_by_network(frames)

    def check_parameters(self) -> None:
        """Raise SettingError unless every parameter has a valid value."""
        super().check_parameters()
        check_count("TrainedFeatures", "epochs", self.epochs)

    def _check_state(self) -> None:
        shapes = [backbone.output_shape for backbone in self.backbones_]
        expect(len(shapes) < 2, "at most one network")
        expect(all(len(shape) == 1 for shape in shapes), "a network that maps frames to features")
        super()._check_state()

    @property
    def input_scale_(self) -> float:
        """The factor that scales frames to 0..255; 1 for uint8."""
        return self.backbones_[0].layers[0].scale * 255  # type: ignore[attr-defined]

    def _shrunk(self, frames: Any) -> Array:
        """Return all frames averaged down to the network's size, uint8 as uint8."""
        shrink = Sequential([InputLayer(self.frame_shape_), *_shrinking(self.frame_shape_)]).build()
        is_uint8 = frames.dtype == np.uint8
        small = np.empty((len(frames), *shrink.output_shape), np.uint8 if is_uint8 else np.float32)
        for rows, batch in self.batches(frames):
            shrunk = shrink.predict(batch, len(batch))
            small[rows] = np.rint(shrunk) if is_uint8 else shrunk
        return small


def n_blocks(size: tuple[int, int]) -> int:
    """Return the number of blocks of convolution and pooling for frames of (height, width).

    Examples
    --------
    >>> n_blocks((96, 144)), n_blocks((8, 8)), n_blocks((3, 40))
    (4, 2, 0)
    """
    return sum(min(size) // 2**block >= SMALLEST_MAP for block in range(len(REFERENCE_FILTERS)))


def _shrinking(frame_shape: Shape) -> list[Layer]:
    """Return the layers that average larger frames down to the network's size."""
    size = min(frame_shape[0], NETWORK_SIZE[0]), min(frame_shape[1], NETWORK_SIZE[1])
    return [] if size == frame_shape[:2] else [PoolingLayer(size, mode="adaptive_average")]
