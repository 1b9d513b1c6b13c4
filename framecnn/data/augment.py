"""Augmentation: random changes of frames, drawn from a separate generator for each frame."""

from dataclasses import KW_ONLY, dataclass, fields
from typing import NamedTuple

import numpy as np
from PIL import Image

from framecnn.arguments import check_number
from framecnn.errors import SettingError, ShapeError
from framecnn.typing import Array

__all__ = ["Augmentation"]

LARGEST = {"rotation": 180, "crop": 0.99}  # the largest value of a setting, if it is not 1


class _Draws(NamedTuple):
    """A random number in [0, 1) for each choice.

    All are always drawn: changing one setting leaves the random numbers of the others as they are.
    """

    flip: float
    shift_down: float
    shift_right: float
    crop_height: float
    crop_width: float
    crop_down: float
    crop_right: float
    scale: float
    rotation: float
    brightness: float
    contrast: float
    cutout_down: float
    cutout_right: float

    def around(self, name: str, largest: float) -> float:
        """Return a drawn number between -`largest` and `largest`."""
        return (2 * getattr(self, name) - 1) * largest


@dataclass(frozen=True)
class Augmentation:
    """Random changes of frames, different in every epoch.

    The steps are, in this order: crop, scale, rotation and shift as one bilinear resampling, which mirrors the frame at
    its edges; flip; contrast; brightness; cutout. A setting of 0 turns its step off, and a frame that no step changes
    is returned unchanged.

    Parameters
    ----------
    flip : bool, default False
        Swap left and right in half of the frames, chosen at random.
    shift : float, default 0
        Move by up to this share of the height and width of the frame, in whole pixels.
    crop : float, default 0
        Cut off up to this share of the height and of the width, and stretch the rest to the size of the frame.
    scale : float, default 0
        Enlarge or shrink by a factor of up to ``1 + scale``.
    rotation : float, default 0
        Rotate by up to this number of degrees.
    brightness : float, default 0
        Add or subtract up to this share of 255.
    contrast : float, default 0
        Multiply the difference from the mean of the frame by 1 plus or minus up to this share.
    cutout : float, default 0
        Cover a rectangle of this share of the height and of the width with the mean of the frame.

    Shapes
    ------
    frames (n, h, w, c) uint8, rows (n,) -> (n, h, w, c) uint8

    Raises
    ------
    SettingError
        ``Augmentation: expected ..., got ...`` for a setting outside its range.

    Notes
    -----
    The change of a frame depends on its row, the seed and the epoch alone, not on its batch or the number of threads.
    Keras: ``RandomFlip("horizontal")``, ``RandomTranslation``, ``RandomZoom``, ``RandomRotation``,
    ``RandomBrightness``, ``RandomContrast``.

    References
    ----------
    DeVries & Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017.

    Examples
    --------
    >>> frames = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    >>> augment = Augmentation(flip=True, brightness=0.1)
    >>> both = augment(frames, [7, 8], seed=0, epoch=1)
    >>> (augment(frames[1:], [8], seed=0, epoch=1) == both[1:]).all()
    np.True_
    """

    _: KW_ONLY
    flip: bool = False
    shift: float = 0.0
    crop: float = 0.0
    scale: float = 0.0
    rotation: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    cutout: float = 0.0

    def __post_init__(self) -> None:
        if self.flip not in (True, False):
            raise SettingError(f"Augmentation: expected flip as True or False, got {self.flip!r}")
        for field in fields(self)[1:]:
            value = check_number("Augmentation", field.name, getattr(self, field.name))
            largest = LARGEST.get(field.name, 1)
            if not 0 <= value <= largest:
                raise SettingError(f"Augmentation: expected {field.name} from 0 to {largest}, got {value!r}")

    def __call__(self, frames: Array, rows: Array, *, seed: int, epoch: int) -> Array:
        """Return changed copies of frames.

        Parameters
        ----------
        frames : (n, h, w, c) uint8 array
        rows : (n,) array of int
            The row of each frame among all training frames.
        seed : int
        epoch : int

        Returns
        -------
        (n, h, w, c) uint8 array

        Raises
        ------
        ShapeError
            If `frames` or `rows` does not fit.
        """
        if frames.ndim != 4 or frames.dtype != np.uint8:
            raise ShapeError(
                f"Augmentation: expected uint8 frames (n, height, width, channels), got {frames.dtype} {frames.shape}"
            )
        if len(rows) != len(frames):
            raise ShapeError(f"Augmentation: expected one row per frame, got {len(frames)} frames, {len(rows)} rows")
        changed = np.empty_like(frames)
        for place, row in enumerate(rows):
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, int(row))))
            changed[place] = self._change(frames[place], _Draws(*rng.random(len(_Draws._fields))))
        return changed

    def _change(self, frame: Array, draws: _Draws) -> Array:
        if self.shift or self.crop or self.scale or self.rotation:
            frame = _resampled(frame, *self._place(frame.shape[0], frame.shape[1], draws))
        if self.flip and draws.flip < 0.5:
            frame = frame[:, ::-1]
        if self.contrast or self.brightness:
            frame = self._light(frame, draws)
        return self._cover(frame, draws) if self.cutout else frame

    def _place(self, height: int, width: int, draws: _Draws) -> tuple[Array, Array]:
        """Return the matrix (2, 2) and offset (2,) that map (x, y) in the new frame to (x, y) in the old frame."""
        factor = (1 + self.scale) ** draws.around("scale", 1)
        angle = np.deg2rad(draws.around("rotation", self.rotation))
        kept = 1 - self.crop * np.array([draws.crop_width, draws.crop_height])
        rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        size = np.array([width, height])
        start = (1 - kept) * size * [draws.crop_right, draws.crop_down]
        moved = np.round([draws.around("shift_right", self.shift), draws.around("shift_down", self.shift)] * size)
        matrix = kept[:, None] * rotation / factor
        return matrix, start + kept * size / 2 - matrix @ (size / 2 + moved)

    def _light(self, frame: Array, draws: _Draws) -> Array:
        mean = frame.mean()
        values = (np.arange(256) - mean) * (1 + draws.around("contrast", self.contrast)) + mean
        values += 255 * draws.around("brightness", self.brightness)
        return np.clip(np.rint(values), 0, 255).astype(np.uint8).take(frame)

    def _cover(self, frame: Array, draws: _Draws) -> Array:
        height, width = (round(self.cutout * side) for side in frame.shape[:2])
        top = int(draws.cutout_down * (frame.shape[0] - height + 1))
        left = int(draws.cutout_right * (frame.shape[1] - width + 1))
        covered = frame.copy()
        covered[top : top + height, left : left + width] = np.rint(frame.mean())
        return covered


def _resampled(frame: Array, matrix: Array, offset: Array) -> Array:
    """Return the frame whose pixel at (x, y) is that of `frame` at ``matrix @ (x, y) + offset``."""
    height, width, channels = frame.shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ matrix.T + offset
    before = np.maximum(np.ceil(1 - corners.min(axis=0)), 0).astype(int)
    after = np.maximum(np.ceil(1 + corners.max(axis=0) - [width, height]), 0).astype(int)
    (left, top), (right, bottom) = before, after
    wide = np.pad(frame, ((top, bottom), (left, right), (0, 0)), "symmetric")
    (a, b), (d, e) = matrix
    c, f = offset + before
    settings = (width, height), Image.Transform.AFFINE, (a, b, c, d, e, f), Image.Resampling.BILINEAR
    maps = [np.asarray(Image.fromarray(wide[..., k]).transform(*settings)) for k in range(channels)]
    return np.stack(maps, axis=-1)
