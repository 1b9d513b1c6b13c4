"""Pictures inside an HTML file: thumbnails of frames, tiles of learned filters."""

import base64
import io
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from PIL import Image

from framecnn.data.decode import SkippedFrame, decode_within
from framecnn.data.loader import map_ahead
from framecnn.errors import MachineError, ShapeError
from framecnn.thread_count import get_num_threads
from framecnn.typing import Array

__all__ = ["MAX_FILTERS", "PICTURE_BUDGET", "Missing", "Picture", "filter_tiles", "thumbnails"]

BOX = (126, 224)  # the largest height and width of a thumbnail
JPEG_QUALITY = 70
TILE = 24  # smaller filters are enlarged by a whole factor, up to this side in pixels
GAP = 3
COLUMNS = 20
MAX_FILTERS = 400
"""The largest number of filters that are drawn."""
PICTURE_BUDGET = 3_600_000
"""The largest number of characters of all thumbnails in a report; with text and filters it stays under 5 MB."""


@dataclass(frozen=True)
class Picture:
    """A picture file as text.

    Parameters
    ----------
    uri : str
        A ``data:`` URI that holds the whole file.
    width, height : int
        Its size in pixels.
    """

    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Missing:
    """A frame whose file can no longer be read.

    Parameters
    ----------
    reason : str
        The reason code of the decoder, such as ``"vanished"``.
    """

    reason: str


def thumbnails(paths: Sequence[str], budget: int) -> dict[str, Picture | Missing]:
    """Return thumbnails, made in the given order until they fill the budget.

    Each is a JPEG in the proportions of its file, at most 224 pixels wide and 126 high, never enlarged.

    Parameters
    ----------
    paths : sequence of str
        Files, the most wanted first, each once.
    budget : int
        How many characters all thumbnails together may take.

    Returns
    -------
    dict
        The thumbnail of each path, or the reason why there is none; paths beyond the budget are missing.

    Examples
    --------
    >>> thumbnails(["no/such/frame.jpg"], budget=1000)
    {'no/such/frame.jpg': Missing(reason='vanished')}
    """
    made: dict[str, Picture | Missing] = {}
    used = 0
    workers = get_num_threads()
    with closing(map_ahead(_thumbnail, paths, workers, 8 * workers)) as thumbs:
        for path, picture in zip(paths, thumbs, strict=True):
            used += len(picture.uri) if isinstance(picture, Picture) else 0
            if used > budget:
                break
            made[path] = picture
    return made


def filter_tiles(filters: Array) -> Picture:
    """Return filters drawn side by side, each scaled to its own range of values.

    Parameters
    ----------
    filters : array, shape (n, height, width, channels)
        Three channels are red, green and blue; any other number is drawn as the mean over channels, in grey.

    Returns
    -------
    Picture
        A PNG, transparent between the tiles, with 20 filters per row, from grey to coloured. Of more than 400 filters,
        400 are drawn, evenly chosen in that order.

    Raises
    ------
    ShapeError
        When `filters` has no filter or not four dimensions.

    Examples
    --------
    >>> tiles = filter_tiles(np.eye(27).reshape(27, 3, 3, 3))
    >>> tiles.width, tiles.height
    (537, 51)
    """
    if filters.ndim != 4 or filters.size == 0:
        raise ShapeError(f"filter_tiles: expected filters (n, height, width, channels), got shape {filters.shape}")
    tiles = _stretched(np.nan_to_num(np.asarray(filters, np.float64)))
    colourfulness = np.ptp(tiles.astype(int), axis=3).mean(axis=(1, 2))
    grey_first = np.argsort(colourfulness, kind="stable")
    tiles = tiles[grey_first[np.linspace(0, len(tiles) - 1, min(len(tiles), MAX_FILTERS)).round().astype(int)]]
    zoom = max(1, TILE // max(tiles.shape[1:3]))
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    n_filters, height, width, _ = tiles.shape
    n_columns = min(n_filters, COLUMNS)
    n_rows = -(-n_filters // n_columns)
    canvas = np.zeros((n_rows * (height + GAP) - GAP, n_columns * (width + GAP) - GAP, 4), np.uint8)
    for index, tile in enumerate(tiles):
        top, left = index // n_columns * (height + GAP), index % n_columns * (width + GAP)
        canvas[top : top + height, left : left + width, :3] = tile
        canvas[top : top + height, left : left + width, 3] = 255
    return _picture(Image.fromarray(canvas), "png", optimize=True)


def _thumbnail(path: str) -> Picture | Missing:
    try:
        pixels = decode_within(path, BOX).pixels
    except SkippedFrame as skipped:
        return Missing(skipped.reason)
    except MachineError:  # a report without a thumbnail is better than a model that is lost
        return Missing("unreadable")
    return _picture(Image.fromarray(pixels), "jpeg", quality=JPEG_QUALITY, optimize=True, progressive=True)


def _stretched(filters: Array) -> Array:
    if filters.shape[3] != 3:
        filters = filters.mean(axis=3, keepdims=True)
    low = filters.min(axis=(1, 2, 3), keepdims=True)
    span = filters.max(axis=(1, 2, 3), keepdims=True) - low
    unit = np.where(span > 0, (filters - low) / np.where(span > 0, span, 1), 0.5)
    return np.rint(255 * unit).astype(np.uint8)


def _picture(image: Image.Image, kind: str, **options: int) -> Picture:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    uri = f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
    return Picture(uri, *image.size)
