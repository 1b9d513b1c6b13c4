"""``framecnn demo``: the whole way, from three short clips to a page."""

from pathlib import Path

from framecnn.cli import console
from framecnn.cli.outputs import Job
from framecnn.cli.workflow import train_folder
from framecnn.errors import DataError

__all__ = ["demo"]

CAUTION = (
    "This is a demonstration on three short clips. Two of them are one shot, so each is cut into blocks of a second, "
    "and neighbouring blocks of one shot are alike: the accuracy illustrates the way and says nothing of other films."
)


def demo() -> None:
    """Go the whole way on three short clips: movies, frames, split, training, evaluation, demo/report.html."""
    from framecnn.data.demo_clips import demo_clips
    from framecnn.data.video import cut_frames

    out = Path("demo")
    frames = out / "frames"
    if out.is_dir() and any(out.iterdir()) and not frames.is_dir():
        raise DataError("demo: expected to make this folder, got one with other files in it; run it somewhere else")
    with console.progress("cutting movies") as tell:
        reports = cut_frames(demo_clips(), frames, every=0.2, block=1.0, replace=True, progress=tell)
    for report in reports:
        console.say(report.describe())
    console.say()
    console.warn(CAUTION)
    console.say()
    train_folder(Job(frames, out / "model.safetensors", out / "report.html", title="demo", caution=CAUTION))
    console.say()
    console.say("Next: open demo/report.html in a browser; or label a picture of your own:")
    console.say("  framecnn predict demo/model.safetensors PICTURE.jpg")
