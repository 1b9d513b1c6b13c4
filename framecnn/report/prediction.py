"""A frame and the probabilities that a model gives it, as one picture."""

from collections.abc import Mapping

from PIL import Image, ImageDraw, ImageFont

from framecnn.data.decode import decode_within

__all__ = ["draw_prediction"]

BOX = (405, 720)  # the largest height and width of the frame
PAPER, INK, SOFT, GOOD = "#faf9f6", "#1d1c1a", "#5d5a54", "#148082"
MARGIN, ROW, BARS, TEXT = 24, 34, 300, 17
MAX_CLASSES = 12
MAX_NAME = 40  # characters


def draw_prediction(path: str, title: str, probabilities: Mapping[str, float]) -> Image.Image:
    """Return a drawing of a frame and, beside it, a bar for the probability of each class, the largest first.

    Parameters
    ----------
    path : str
        The frame's file.
    title : str
        The line above the frame.
    probabilities : mapping of str to float
        By class.

    Returns
    -------
    PIL.Image.Image

    Raises
    ------
    SkippedFrame
        If the file cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "night.png")
    >>> Image.new("RGB", (320, 180)).save(path)
    >>> picture = draw_prediction(path, "night", {"day": 0.1, "night": 0.9})
    >>> picture.width > 320
    True
    """
    frame = Image.fromarray(decode_within(path, BOX).pixels)
    best_first = sorted(probabilities.items(), key=lambda item: -item[1])[:MAX_CLASSES]
    height = 3 * MARGIN + TEXT + max(frame.height, ROW * len(best_first))
    picture = Image.new("RGB", (3 * MARGIN + frame.width + 2 * BARS, height), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(TEXT)
    pen.text((MARGIN, MARGIN), title, INK, font)
    top, left = 2 * MARGIN + TEXT, 2 * MARGIN + frame.width
    picture.paste(frame, (MARGIN, top))
    for row, (name, share) in enumerate(best_first):
        y = top + ROW * row
        pen.text((left, y), f"{100 * share:5.1f} %  {_short(name)}", INK if row == 0 else SOFT, font)
        pen.rectangle((left, y + TEXT + 5, left + max(1, round(share * (2 * BARS - MARGIN))), y + TEXT + 9), GOOD)
    return picture


def _short(name: str) -> str:
    return name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
