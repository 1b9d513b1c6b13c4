"""Near-duplicates among frames: fingerprints, and clusters of similar frames."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from framecnn.typing import Array

__all__ = ["LABEL_CONFLICT", "Fingerprint", "fingerprint", "near_duplicate_clusters", "same_pixels_in_two_classes"]

LABEL_CONFLICT = "label conflict: frames with the same pixels as a frame of another class"
"""How a warning about :func:`same_pixels_in_two_classes` begins."""

_GRID = 8  # the frame is averaged on a grid of 9 x 9 cells: 8 x 8 differences to the right and as many downwards
_RISE = 2  # grey levels; smaller steps are noise of the camera or of JPEG
_NEAR = 12  # differing bits of 128; on six films 1 linked pair in 130 shows two scenes, with 16 bits 1 in 55
_BITS = 2 * _GRID * _GRID
_WORDS = _NEAR // 2 + 1  # enough that hashes with _NEAR differing bits have a word with at most one of them
_PAIRS_AT_ONCE = 100_000
_FEWEST_RISES = 16  # frames with fewer rises would all be linked to one another
_LEAST_RANGE = 16  # grey levels between the darkest and the brightest pixel; frames with less are flat


@dataclass(frozen=True)
class Fingerprint:
    """The hashes of a frame by which its duplicates are found.

    Parameters
    ----------
    bits : bytes
        The difference hash: each of 128 bits is 1 if the brightness rises from a cell of a coarse grid to the next cell
        on the right or below. Empty if the frame has too little structure to be compared like this.
    digest : bytes
        A hash of all pixels, equal for frames with the same pixels. Empty for a flat frame (black, white, one colour),
        which is not a duplicate of any frame.
    """

    bits: bytes
    digest: bytes


def fingerprint(pixels: Array) -> Fingerprint:
    """Return the difference hash and the digest of one frame.

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
    darkest, brightest = np.asarray(grey.getextrema(), int)
    if brightest - darkest < _LEAST_RANGE:
        return Fingerprint(b"", b"")
    averages = grey.resize((_GRID + 1, _GRID + 1), Image.Resampling.BOX).tobytes()
    cells = np.frombuffer(averages, np.uint8).astype(np.int16).reshape(_GRID + 1, _GRID + 1)
    origin = cells[:-1, :-1]
    rises = np.stack([cells[:-1, 1:], cells[1:, :-1]]) > origin + _RISE
    bits = np.packbits(rises).tobytes() if rises.sum() >= _FEWEST_RISES else b""
    digest = hashlib.sha256(repr(pixels.shape).encode())  # faster than blake2b on CPUs with SHA instructions
    digest.update(np.ascontiguousarray(pixels).data)
    return Fingerprint(bits, digest.digest()[:16])


def near_duplicate_clusters(fingerprints: Sequence[Fingerprint]) -> Array:
    """Return the number of each frame's cluster of near-duplicates.

    Two frames are linked if at most 12 of the 128 bits of their difference hashes differ, or if their digests are
    equal; a cluster is a connected component of these links.

    Parameters
    ----------
    fingerprints : sequence of Fingerprint, length n
        One per frame.

    Returns
    -------
    array of int64, shape (n,)
        The cluster of each frame, numbered from 0 in the order of their first frames.

    Notes
    -----
    Hashes are divided into 7 words. If at most 12 bits of two hashes differ, at most one bit of some word does, so only
    hashes that agree in a word, except for one bit, are compared (multi-index hashing: Norouzi, Punjani and Fleet,
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
        components = _components(hashes)
        cluster[compared] = compared[np.unique(components, return_index=True)[1][components]]
    return np.unique(cluster[cluster], return_inverse=True)[1]


def _components(hashes: Array) -> Array:
    """Return the number of the connected component of each hash, for hashes (n, 16) of uint8."""
    bits = np.unpackbits(hashes, axis=1).astype(np.int64)
    words = [bits[:, word::_WORDS] for word in range(_WORDS)]
    keys = np.stack([word @ (1 << np.arange(word.shape[1])) for word in words])
    halves = np.ascontiguousarray(hashes.view(np.uint64).T)
    components = np.arange(len(hashes))
    for word in range(_WORDS):  # neighbours in sorted order link most frames of a shot, so that few pairs remain
        order = np.lexsort(np.roll(keys, word, axis=0))
        components = _join(components, *_near(halves, order[:-1], order[1:]))
    for key in keys:
        links = [_near(halves, *pair) for pair in _pairs(key, components)]
        components = _join(components, *np.concatenate(links, axis=1))
    return components


def _pairs(key: Array, components: Array) -> Iterator[tuple[Array, Array]]:
    """Yield batches of pairs of hashes, not yet linked, whose words in `key` differ in at most one bit."""
    n = len(key)
    order = np.argsort(key * n + components).astype(np.int32)
    places = (key * n + components)[order]
    flips = np.array([0, *(1 << np.arange(-(-_BITS // _WORDS)))])[:, None]
    wanted = (key[order] ^ flips) * n
    stop = np.searchsorted(places, wanted + components[order]).ravel()
    counts = stop - np.searchsorted(places, wanted).ravel()
    some = np.flatnonzero(counts)
    for rows in np.split(some, np.flatnonzero(np.diff(np.cumsum(counts[some]) // _PAIRS_AT_ONCE)) + 1):
        others = np.repeat(stop[rows] - np.cumsum(counts[rows]), counts[rows])
        others += np.arange(len(others))
        yield np.repeat(order[rows % n], counts[rows]), order.take(others)


def _near(halves: Array, one: Array, other: Array) -> Array:
    """Return the pairs that are linked, shape (2, m)."""
    low, high = (np.bitwise_count(half.take(one) ^ half.take(other)) for half in halves)
    linked = np.flatnonzero(low + high <= _NEAR)
    return np.stack([one[linked], other[linked]])


def _join(components: Array, one: Array, other: Array) -> Array:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(components)
    links = coo_array((np.ones(len(one), bool), (components[one], components[other])), shape=(n, n))
    return connected_components(links, directed=False)[1].astype(np.int64)[components]


def same_pixels_in_two_classes(
    samples: Sequence[tuple[str, int]], fingerprints: Sequence[Fingerprint]
) -> list[tuple[str, str]]:
    """Return frames whose pixels are exactly those of a frame of another class.

    Parameters
    ----------
    samples : sequence of (str, int), length n
        Path and class of each frame.
    fingerprints : sequence of Fingerprint, length n
        One per frame.

    Returns
    -------
    list of (str, str)
        The first frame with these pixels, and one with the same pixels in another class. Flat frames do not count.

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
