"""Shots of small pictures, and what the shot detector finds in them."""

import numpy as np
from movies import moving

from framecnn.data.shots import ShotDetector
from framecnn.data.small_pictures import SMALL_SIZE

HEIGHT, WIDTH = SMALL_SIZE


def shot(seed, n_frames):
    return [np.array(picture) for picture in moving(seed, n_frames, HEIGHT, WIDTH)]


def detect(pictures, rate=24):
    detector = ShotDetector()
    for i, picture in enumerate(pictures):
        detector.push(i / rate, picture)
    detector.finish()
    return detector


def starts(pictures, rate=24):
    """Return the index of the first frame of each shot."""
    return [round(time * rate) for time in detect(pictures, rate).starts]


BLACK = np.zeros((HEIGHT, WIDTH, 3), np.uint8)


def blend(old, new, share):
    """Return a mix of two pictures in which the new one has this share, everywhere or by pixel."""
    return np.rint(old + (new.astype(float) - old) * share).astype(np.uint8)
