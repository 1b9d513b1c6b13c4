"""Which frames show the same: fingerprints, and clusters of near-duplicates."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from framecnn.typing import Array

__all__ = ["Fingerprint", "fingerprint", "near_duplicate_clusters", "same_pixels_in_two_classes"]

_GRID = 8  # the frame is averaged on a grid of 9 x 9 cells: 8 x 8 differences to the right and as many downwards
_RISE = 2  # grey levels; smaller steps are noise of the camera or of JPEG
_NEAR = 12  # differing bits of 128: on six films, 1 linked pair in 130 then shows two scenes, with 16 bits 1 in 55
_BITS = 2 * _GRID * _GRID
_WORDS = _NEAR // 2 + 1  # with two differing bits in each there would be more than _NEAR
_AT_ONCE = 100_000  # pairs that are compared at a time
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
    if np.ptp(np.asarray(grey)) < _FLAT:
        return Fingerprint(b"", b"")
    cells = np.asarray(grey.resize((_GRID + 1, _GRID + 1), Image.Resampling.BOX)).astype(np.int16)
    corner = cells[:-1, :-1]
    rises = np.stack([cells[:-1, 1:], cells[1:, :-1]]) > corner + _RISE
    bits = np.packbits(rises).tobytes() if rises.sum() >= _PLAIN else b""
    digest = hashlib.sha256(repr(pixels.shape).encode())  # several times as fast as blake2b where a CPU has it
    digest.update(np.ascontiguousarray(pixels).data)
    return Fingerprint(bits, digest.digest()[:16])


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
    Hashes are cut into 7 words. Where at most 12 bits of two differ, at most one bit of some word does, so that only
    hashes are compared that have a word in common but for one bit (multi-index hashing: Norouzi, Punjani and Fleet,
    "Fast search in Hamming space with multi-index hashing", CVPR 2012).

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
    if len(compared):
        hashes = np.frombuffer(b"".join(fingerprints[i].bits for i in compared), np.uint8).reshape(-1, _BITS // 8)
        parts = _connected_parts(hashes)
        cluster[compared] = compared[np.unique(parts, return_index=True)[1][parts]]
    return np.unique(cluster[cluster], return_inverse=True)[1]


def _connected_parts(hashes: Array) -> Array:
    """Number the connected parts of the links between hashes, uint8 of shape (n, 16)."""
    bits = np.unpackbits(hashes, axis=1).astype(np.int64)
    words = [bits[:, word::_WORDS] for word in range(_WORDS)]
    keys = np.stack([word @ (1 << np.arange(word.shape[1])) for word in words])
    halves = np.ascontiguousarray(hashes.view(np.uint64).T)
    parts = np.arange(len(hashes))
    for word in range(_WORDS):  # neighbours in a sorted list join most frames of a shot, so that few pairs are left
        order = np.lexsort(np.roll(keys, word, axis=0))
        parts = _join(parts, *_near(halves, order[:-1], order[1:]))
    for key in keys:
        links = [_near(halves, *pair) for pair in _pairs(key, parts)]
        parts = _join(parts, *np.concatenate(links, axis=1))
    return parts


def _pairs(key: Array, parts: Array) -> Iterator[tuple[Array, Array]]:
    """Yield, some at a time, all pairs of hashes of two parts of which one word differs in at most one bit."""
    n = len(key)
    order = np.argsort(key * n + parts).astype(np.int32)
    places = (key * n + parts)[order]
    flips = np.array([0, *(1 << np.arange(-(-_BITS // _WORDS)))])[:, None]
    wanted = (key[order] ^ flips) * n
    stop = np.searchsorted(places, wanted + parts[order]).ravel()
    counts = stop - np.searchsorted(places, wanted).ravel()
    some = np.flatnonzero(counts)
    for rows in np.split(some, np.flatnonzero(np.diff(np.cumsum(counts[some]) // _AT_ONCE)) + 1):
        others = np.repeat(stop[rows] - np.cumsum(counts[rows]), counts[rows])
        others += np.arange(len(others))
        yield np.repeat(order[rows % n], counts[rows]), order.take(others)


def _near(halves: Array, one: Array, other: Array) -> Array:
    """Return those of the pairs that are linked, shape (2, m)."""
    low, high = (np.bitwise_count(half.take(one) ^ half.take(other)) for half in halves)
    linked = np.flatnonzero(low + high <= _NEAR)
    return np.stack([one[linked], other[linked]])


def _join(parts: Array, one: Array, other: Array) -> Array:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(parts)
    links = coo_array((np.ones(len(one), bool), (parts[one], parts[other])), shape=(n, n))
    return connected_components(links, directed=False)[1].astype(np.int64)[parts]


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
