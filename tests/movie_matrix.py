"""Movies of many kinds whose frames show their number, written by the program ffmpeg if it is installed."""

import shutil
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
from movies import Picture, numbered

FFMPEG, FFPROBE = shutil.which("ffmpeg"), shutil.which("ffprobe")

CODECS = {
    "h264": ["-c:v", "libx264", "-bf", "0"],
    "h264 with B-frames": ["-c:v", "libx264", "-bf", "3"],
    "h264, open groups": ["-c:v", "libx264", "-bf", "3", "-x264-params", "open-gop=1:keyint=12"],
    "hevc with B-frames": ["-c:v", "libx265", "-x265-params", "log-level=none:bframes=3"],
    "mpeg4": ["-c:v", "mpeg4"],
    "mpeg4 with B-frames": ["-c:v", "mpeg4", "-bf", "2"],
    "mpeg2": ["-c:v", "mpeg2video"],
    "mpeg2 with B-frames": ["-c:v", "mpeg2video", "-bf", "2"],
    "mpeg1": ["-c:v", "mpeg1video"],
    "vp8": ["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-deadline", "realtime"],
    "vp9": ["-c:v", "libvpx-vp9", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-deadline", "realtime"],
    "flv1": ["-c:v", "flv1"],
    "ffv1": ["-c:v", "ffv1"],
    "huffyuv": ["-c:v", "huffyuv", "-pix_fmt", "yuv422p"],
    "mjpeg": ["-c:v", "mjpeg", "-pix_fmt", "yuvj420p"],
}
CONTAINERS = ("avi", "mkv", "mp4", "mov", "ts", "webm", "mpg", "flv", "m2ts", "wmv", "nut", "ogv", "mxf")
KINDS = ("constant", "variable", "negative", "joined", "cut in")
N_FRAMES = 40
QUICK = [
    ("h264 with B-frames", "avi", "constant"),
    ("h264 with B-frames", "mp4", "variable"),
    ("h264 with B-frames", "ts", "joined"),
    ("mpeg2 with B-frames", "mpg", "joined"),
]


def ffmpeg(*arguments: object) -> bool:
    """Run ffmpeg, and return whether it succeeded."""
    command = [FFMPEG, "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0


def true_times(kind: str) -> list[float]:
    """Return when each frame is shown, in seconds since the first."""
    if kind == "variable":
        steps = np.tile([1, 1, 1, 5, 2, 12, 1], N_FRAMES)[: N_FRAMES - 1]
        return [0.0, *(np.cumsum(steps) / 24).tolist()]
    return [i / 24 for i in range(N_FRAMES)]


def write(path: Path, codec: str, kind: str) -> bool:
    """Write a movie of a kind, and return whether ffmpeg puts this codec into this container."""
    pictures: list[Picture] = [numbered(i) for i in range(N_FRAMES)]
    height, width = pictures[0].shape[:2]
    times = true_times(kind)
    raw = path.with_suffix(".raw")
    raw.write_bytes(b"".join(picture.tobytes() for picture in pictures))
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "24", "-i", raw]
    out = [*CODECS[codec], "-g", "12", "-q:v", "2"] + (
        ["-pix_fmt", "yuv420p"] if "-pix_fmt" not in CODECS[codec] else []
    )
    if kind == "variable":
        ticks = "+".join(rf"eq(N\,{i})*{round(24 * time)}" for i, time in enumerate(times))
        out = ["-vf", f"settb=1/24,setpts={ticks}", "-vsync", "vfr", *out]
    elif kind == "negative":
        out = ["-vf", "setpts=PTS-0.5/TB", "-avoid_negative_ts", "disabled", *out]
    elif kind == "cut in":
        out = ["-output_ts_offset", "700", *out]
    done = ffmpeg(*source, *out, path)
    raw.unlink()
    if done and kind == "joined":
        path.write_bytes(path.read_bytes() * 2)
    return done


def cases() -> Iterator[tuple[str, str, str]]:
    """Yield codec, container, kind: only broadcast streams can be joined, and no program reads HEVC in AVI."""
    for codec, container, kind in product(CODECS, CONTAINERS, KINDS):
        joins = kind != "joined" or container in ("ts", "mpg", "m2ts")
        if joins and (codec, container) != ("hevc with B-frames", "avi"):
            yield codec, container, kind


def probed(path: Path, *entries: str) -> list[str]:
    """Return what ffprobe says about the first video stream, a value per line."""
    command = [FFPROBE, "-v", "error", "-select_streams", "v:0", *entries, "-of", "default=nw=1:nk=1", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def holds(path: Path, times: list[float]) -> bool:
    """Return whether the sorted stamps of a file's packets are these times: not every container can hold all."""
    for kind in ("pts_time", "dts_time"):
        stamps = sorted(float(stamp) for stamp in probed(path, "-show_entries", f"packet={kind}") if stamp != "N/A")
        if len(stamps) == len(times) and np.allclose(np.subtract(stamps, stamps[0]), times, atol=0.0031):
            return True
    return False


def probed_duration(path: Path) -> float:
    """Return the longer of the durations of video stream and container, by ffprobe.

    A program stream (MPG) declares none, and ffprobe takes its last stamp, which need not be that of the last picture.
    Its duration is that of its packets.
    """
    if path.suffix == ".mpg":
        numbers = probed(path, "-show_entries", "packet=dts_time,duration_time")
        stamps = [float(stamp) for stamp in numbers[::2]]
        return stamps[-1] - stamps[0] + float(numbers[-1])
    numbers = probed(path, "-show_entries", "stream=duration:format=duration")
    return max(float(number) for number in numbers if number != "N/A")
