"""A TIFF of any layout is decoded to its pixels or skipped, never decoded wrongly."""

import itertools
from collections import Counter

import numpy as np
import pytest
from pictures import scene
from tiffs import tiff_of

from framecnn.data import SkippedFrame, decode

SIZE = (40, 56)
COLOUR = np.asarray(scene(3, *SIZE)) / 255.0
OPAQUE = np.ones((*SIZE, 1))
ORDERS, ARRANGEMENTS = ("<", ">"), tuple(itertools.product((False, True), repeat=2))
PACKINGS = {
    "u": ((False, 1), (True, 1), (True, 2)),
    "i": ((False, 1), (True, 1), (True, 2)),
    "f": ((False, 1), (True, 1), (True, 3)),
}
SUPPORTED = {("u1", 1), ("u1", 2), ("u1", 3), ("u1", 4), ("u2", 1), ("u2", 3), ("u2", 4), ("f4", 1)}


def stored(values, kind):
    dtype = np.dtype(kind)
    return values.astype(dtype) if dtype.kind == "f" else np.rint(values * np.iinfo(dtype).max).astype(dtype)


def outcome(tmp_path, data):
    (tmp_path / "x.tif").write_bytes(data)
    try:
        return decode(tmp_path / "x.tif", SIZE).pixels
    except SkippedFrame as skipped:
        return skipped.reason


@pytest.mark.parametrize("n_samples", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"])
def test_every_arrangement_gives_its_pixels_or_is_unsupported(tmp_path, kind, n_samples):
    samples = {1: COLOUR[..., :1], 2: [COLOUR[..., :1], OPAQUE], 3: COLOUR, 4: [COLOUR, OPAQUE]}[n_samples]
    values = np.concatenate(samples, axis=2) if isinstance(samples, list) else samples
    expected = np.rint(255 * np.broadcast_to(values[..., : 3 if n_samples > 2 else 1], COLOUR.shape))
    found = Counter()
    for order, (planar, tiled), (deflate, predictor) in itertools.product(ORDERS, ARRANGEMENTS, PACKINGS[kind[0]]):
        pixels = outcome(tmp_path, tiff_of(stored(values, kind), order, planar, tiled, deflate, predictor))
        found[pixels if isinstance(pixels, str) else int(np.abs(pixels - expected).max() <= 1)] += 1
    assert sum(found.values()) == 24
    assert set(found) <= {1, "unsupported-depth"}
    assert (found[1] >= 8) == ((kind, n_samples) in SUPPORTED)


@pytest.mark.parametrize(("deflate", "order"), list(itertools.product((False, True), ORDERS)))
@pytest.mark.parametrize("kind", ["u1", "u2", "f4"])
def test_a_tiff_that_counts_from_white_is_not_a_negative(tmp_path, kind, deflate, order):
    grey = COLOUR[..., :1]
    pixels = outcome(tmp_path, tiff_of(stored(1 - grey, kind), order, deflate=deflate, photometric=0))
    assert isinstance(pixels, str) == ((kind, order) == ("u2", ">") or (kind, order, deflate) == ("f4", ">", True))
    assert isinstance(pixels, str) or np.abs(pixels - np.rint(255 * grey)).max() <= 1


@pytest.mark.parametrize(("planar", "deflate"), ARRANGEMENTS)
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_inks_and_every_kind_of_opacity_are_seen_as_colours(tmp_path, kind, planar, deflate):
    half = np.full((*SIZE, 1), 0.5)
    files = [(tiff_of(stored(np.concatenate([1 - COLOUR, 0 * OPAQUE], 2), kind), photometric=5, planar=planar), COLOUR)]
    for extra, colour in ((1, COLOUR / 2), (2, COLOUR)):  # multiplied by the opacity, or not
        values = stored(np.concatenate([colour, half], axis=2), kind)
        files.append((tiff_of(values, planar=planar, deflate=deflate, extra=extra), (COLOUR + 128 / 255) / 2))
    for data, expected in files:
        pixels = outcome(tmp_path, data)
        assert pixels == "unsupported-depth" if isinstance(pixels, str) else np.abs(pixels - 255 * expected).max() < 3
        assert planar or not isinstance(pixels, str)
