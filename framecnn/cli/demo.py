"""``framecnn demo``: all steps on three short clips, from movies to a report."""

from pathlib import Path

from framecnn.cli import console
from framecnn.cli.folder_options import SplitOptions
from framecnn.cli.options import Figures
from framecnn.cli.outputs import check_outputs, check_replaced, json_mark
from framecnn.cli.training_outputs import Job, training_outputs
from framecnn.cli.workflow import train_folder
from framecnn.errors import DataError

__all__ = ["demo"]

CAUTION = (
    "This is a demonstration on three short clips. Two of them are a single shot, which is divided into groups of one "
    "second. Neighbouring groups of a shot look similar, so the accuracy says nothing about other films."
)


def demo(json: Figures = None) -> None:
    """Run all steps on three short clips: frames, split, training, evaluation, report.

    Everything is written to the folder demo in the current folder; see demo/report.html.
    """
    from framecnn.data.cutting import cut_frames
    from framecnn.data.demo_clips import demo_clips

    out = Path("demo")
    frames = out / "frames"
    (json,) = check_outputs([json], [frames])
    check_replaced({json: json_mark("train")})
    if out.is_dir() and any(out.iterdir()) and not frames.is_dir():
        raise DataError("the folder 'demo' exists and holds other files; run the demo in another folder")
    with console.progress("cutting movies") as update:
        reports = cut_frames(demo_clips(), frames, every=0.2, block=1.0, replace=True, progress=update)
    for report in reports:
        console.say(report.describe())
    console.say()
    console.warn(CAUTION)
    console.say()
    source = SplitOptions(frames)
    outputs = training_outputs(out / "model.safetensors", source.inputs, json)
    train_folder(Job(source, outputs, title="demo", caution=CAUTION))
    console.say()
    console.say("Next: open demo/report.html in a browser, or classify a picture of your own:")
    console.say("  framecnn predict demo/model.safetensors PICTURE.jpg")
