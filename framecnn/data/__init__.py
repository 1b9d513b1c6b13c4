"""From files to arrays: decoding, folders of frames, groups, splits, batches, and cutting frames from movies."""

from framecnn.data.augment import Augmentation
from framecnn.data.decode import BACKGROUND, DEFAULT_SIZE, MAX_PIXELS, Decoded, SkippedFrame, decode
from framecnn.data.folder import FrameFolder
from framecnn.data.labels import Labels
from framecnn.data.loader import BatchLoader, FrameLost, LazyFrames
from framecnn.data.reasons import Skip
from framecnn.data.subset import FrameSubset

__all__ = [
    "BACKGROUND",
    "DEFAULT_SIZE",
    "MAX_PIXELS",
    "Augmentation",
    "BatchLoader",
    "Decoded",
    "FrameFolder",
    "FrameLost",
    "FrameSubset",
    "Labels",
    "LazyFrames",
    "Skip",
    "SkippedFrame",
    "decode",
]
