"""Which frames show the same: fingerprints, and clusters of near-duplicates."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from framecnn.typing import Array

__all__ = ["Fingerprint", "fingerprint", "near_duplicate_clusters", "same_pixels_in_two_classes"]

_GRID = 8  # the frame is averaged on a grid of 9 x 9 cells: 8 x 8 differences to the right and as many downwards
_RISE = 2  # grey levels; smaller steps are noise of the camera or of JPEG
_NEAR = 12  # differing bits of 128: on six films, 1 linked pair in 130 then shows two scenes, with 16 bits 1 in 55
_PLAIN = 16  # a frame with fewer rises than this is within reach of any other such frame
_FLAT = 16  # grey levels between the darkest and the brightest pixel


@dataclass(frozen=True)
class Fingerprint:
    """What is kept of a frame to find its duplicates.

    Parameters
    ----------
    bits : bytes
        The difference hash: 128 bits, each telling whether brightness rises from a cell of a coarse grid to the next
        cell on the right or below. Empty for a frame too plain to be compared that way.
    digest : bytes
        A hash of all pixels: equal for frames that are the same pixel by pixel. Empty for a flat frame (black, white,
        one colour), which is a duplicate of nothing.
    """

    bits: bytes
    digest: bytes


def fingerprint(pixels: Array) -> Fingerprint:
    """Compute the difference hash and the digest of one frame.

    Parameters
    ----------
    pixels : array of uint8, shape (height, width, 3)
        The frame.

    Returns
    -------
    Fingerprint
        ``bits`` (16 bytes, or none) and ``digest`` (16 bytes, or none).

    Examples
    --------
    >>> black = np.zeros((24, 32, 3), np.uint8)
    >>> fingerprint(black)
    Fingerprint(bits=b'', digest=b'')
    >>> waves = np.uint8(127 + 100 * np.sin(np.arange(24 * 32 * 3) / 40)).reshape(24, 32, 3)
    >>> len(fingerprint(waves).bits), fingerprint(waves) == fingerprint(waves.copy())
    (16, True)
    """
    grey = Image.fromarray(pixels).convert("L")
    if np.ptp(grey.getextrema()) < _FLAT:
        return Fingerprint(b"", b"")
    cells = np.asarray(grey.resize((_GRID + 1, _GRID + 1), Image.Resampling.BOX)).astype(np.int16)
    corner = cells[:-1, :-1]
    rises = np.stack([cells[:-1, 1:], cells[1:, :-1]]) > corner + _RISE
    bits = np.packbits(rises).tobytes() if rises.sum() >= _PLAIN else b""
    return Fingerprint(bits, hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).digest())


def near_duplicate_clusters(fingerprints: Sequence[Fingerprint]) -> Array:
    """Number the clusters of frames that show the same.

    Two frames are linked when at most 12 of the 128 bits of their difference hashes differ, or when their digests are
    equal; a cluster is all that is linked directly or through others.

    Parameters
    ----------
    fingerprints : sequence of Fingerprint, length n
        One a frame.

    Returns
    -------
    array of int64, shape (n,)
        The cluster of each frame, numbered from 0 in the order of their first frames.

    Notes
    -----
    At most ``n² / 2`` comparisons of two 64-bit words, in memory proportional to n.

    Examples
    --------
    >>> flat = Fingerprint(b"", b"")
    >>> one, other = Fingerprint(b"\\xff" * 16, b"one"), Fingerprint(b"\\xff" * 15 + b"\\xf0", b"other")
    >>> near_duplicate_clusters([flat, one, flat, other]).tolist()
    [0, 1, 2, 1]
    """
    first: dict[bytes, int] = {}
    cluster = np.array([first.setdefault(f.digest, i) if f.digest else i for i, f in enumerate(fingerprints)], np.int64)
    compared = np.array([i for i, f in enumerate(fingerprints) if f.bits and cluster[i] == i], np.int64)
    words = np.frombuffer(b"".join(fingerprints[i].bits for i in compared), np.uint64).reshape(-1, 2)
    low, high = np.ascontiguousarray(words.T)
    leader = np.full(len(compared), -1)
    for start in range(len(compared)):
        if leader[start] >= 0:
            continue
        leader[start] = start
        members = [start]
        while members:
            member = members.pop()
            distance = np.bitwise_count(low[start:] ^ low[member]) + np.bitwise_count(high[start:] ^ high[member])
            near = start + np.flatnonzero(distance <= _NEAR)
            new = near[leader[near] < 0]
            leader[new] = start
            members.extend(new)
    cluster[compared] = compared[leader]
    return np.unique(cluster[cluster], return_inverse=True)[1]


def same_pixels_in_two_classes(
    samples: Sequence[tuple[str, int]], fingerprints: Sequence[Fingerprint]
) -> list[tuple[str, str]]:
    """Find frames that are, pixel by pixel, a frame of another class.

    Parameters
    ----------
    samples : sequence of (str, int), length n
        Path and class of each frame.
    fingerprints : sequence of Fingerprint, length n
        One a frame.

    Returns
    -------
    list of (str, str)
        The first frame with these pixels, and one with the same pixels in another class. Flat frames never count.

    Examples
    --------
    >>> black, face = Fingerprint(b"", b""), Fingerprint(b"", b"face")
    >>> same_pixels_in_two_classes([("a/1", 0), ("a/2", 0), ("b/1", 1), ("b/2", 1)], [black, face, black, face])
    [('a/2', 'b/2')]
    """
    first: dict[bytes, tuple[str, int]] = {}
    pairs = []
    for sample, print_ in zip(samples, fingerprints, strict=True):
        path, target = first.setdefault(print_.digest, sample)
        if print_.digest and target != sample[1]:
            pairs.append((path, sample[0]))
    return pairs
