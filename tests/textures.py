"""Small frames of three textures, in groups of two frames that are nearly the same."""

import numpy as np

CLASSES = ("across", "blobs", "down")


def textures(n_groups=5, shape=(24, 32, 3), seed=0):
    """Return frames (2 * 3 * n_groups, h, w, c) uint8, their labels, and their groups, shuffled."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    sizes = {"across": (height, 1), "blobs": (height // 2, width // 2), "down": (1, width)}
    frames, labels, groups = [], [], []
    for number in range(n_groups):
        for label in CLASSES:
            rows, columns = sizes[label]
            coarse = rng.integers(30, 226, (rows, columns, channels))
            frame = np.repeat(np.repeat(coarse, height // rows, axis=0), width // columns, axis=1)
            for _ in range(2):
                frames.append(frame + rng.integers(-10, 11, frame.shape))
                labels.append(label)
                groups.append(f"{label} {number}")
    order = rng.permutation(len(frames))
    return np.array(frames, np.uint8)[order], np.array(labels)[order], np.array(groups)[order]


class Lazy:
    """An array that is read only when rows are asked for, and by nothing but rows."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.largest_read = 0

    def __len__(self):
        return len(self._array)

    def __getitem__(self, rows):
        taken = self._array[rows]
        self.largest_read = max(self.largest_read, len(taken))
        return taken
