"""The frame named t is the one shown at t: over containers, codecs, B-frames, frame rates and joined recordings."""

import os
from fractions import Fraction
from types import SimpleNamespace

import movie_matrix
import numpy as np
import pytest
from movies import RATE, number_of, numbered, write_movie
from PIL import Image

from framecnn.data.clock import FrameClock
from framecnn.data.cutting import cut_frames
from framecnn.data.movie import Movie

B_FRAMES = {"bf": "3", "b_strategy": "0"}
VARIABLE = [0, 0.04, 0.08, 0.3, 0.5, 0.54, 0.58, 1.6, 1.64, 1.68, 1.9, 2.5, 2.54, 2.58, 3.2, 3.24]


def read(path):
    """Return times and numbers of a movie's frames, and the movie."""
    with Movie(path) as movie:
        frames = [(time, number_of(movie.upright(frame))) for time, frame in movie.frames()]
    return [time for time, _ in frames], [number for _, number in frames], movie


def join(path, *parts):
    """Write and return the files joined end to end."""
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_a_number_can_be_read_back():
    assert [number_of(numbered(i)) for i in range(0, 1024, 7)] == list(range(0, 1024, 7))


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("m.avi", "libx264"),
        ("m.mkv", "libx264"),
        ("m.mp4", "libx264"),
        ("m.mov", "libx264"),
        ("m.ts", "libx264"),
        ("m.flv", "libx264"),
        ("m.mp4", "libx265"),
        ("m.avi", "mpeg4"),
        ("m.mkv", "mpeg4"),
        ("m.avi", "mpeg2video"),
        ("m.mpg", "mpeg2video"),
        ("m.avi", "mpeg1video"),
        ("m.wmv", "mpeg2video"),
        ("m.webm", "libvpx"),
        ("m.avi", "libvpx"),
        ("m.webm", "libvpx-vp9"),
        ("m.flv", "flv"),
        ("m.mkv", "ffv1"),
    ],
)
def test_a_frame_has_the_time_at_which_it_is_shown(tmp_path, name, codec):
    extra = {"libx265": {"x265-params": "log-level=none:bframes=3"}, "mpeg1video": {"bf": "0"}, "flv": {"bf": "0"}}
    extra |= {vpx: {"deadline": "realtime", "cpu-used": "8"} for vpx in ("libvpx", "libvpx-vp9")}
    path = write_movie(tmp_path / name, map(numbered, range(40)), codec, codec_options=extra.get(codec, B_FRAMES))
    times, numbers, movie = read(path)
    assert numbers == list(range(40))
    assert times == pytest.approx([i / RATE for i in range(40)], abs=0.002)
    assert movie.seconds == pytest.approx(40 / RATE, abs=0.01)
    assert movie.duration == pytest.approx(40 / RATE, abs=0.1)


@pytest.mark.parametrize("bf", ["0", "3"])
@pytest.mark.parametrize("name", ["m.mkv", "m.mp4", "m.ts"])
def test_frames_of_unequal_duration_have_their_own_times(tmp_path, name, bf):
    options = {"bf": bf, "b_strategy": "0"}
    path = write_movie(tmp_path / name, map(numbered, range(16)), times=VARIABLE, codec_options=options)
    times, numbers, _ = read(path)
    assert numbers == list(range(16))
    assert times == pytest.approx(VARIABLE, abs=0.002)


def test_a_long_last_frame_has_the_duration_in_the_file(tmp_path):
    stamps = [10 * slide + i / 24 for slide in range(3) for i in range(6)]
    movie = read(write_movie(tmp_path / "m.mp4", map(numbered, range(18)), times=stamps))[2]
    assert movie.seconds == pytest.approx(movie.duration, abs=0.05)


@pytest.mark.parametrize(("name", "codec"), [("m.ts", "libx264"), ("m.mpg", "mpeg2video"), ("m.ts", "mpeg2video")])
@pytest.mark.parametrize("starts", [(0, 0), (0, 700), (900, 5), (0, 0, 0)])
def test_recordings_joined_end_to_end_follow_one_another(tmp_path, name, codec, starts):
    parts = [
        write_movie(
            tmp_path / f"{part}{name}",
            map(numbered, range(30 * part, 30 * part + 30)),
            codec,
            times=[start + i / RATE for i in range(30)],
            codec_options=B_FRAMES,
        )
        for part, start in enumerate(starts)
    ]
    times, numbers, movie = read(join(tmp_path / name, *parts))
    n_frames = 30 * len(parts)
    assert numbers == list(range(n_frames))
    assert times == pytest.approx([i / RATE for i in range(n_frames)], abs=0.01)
    assert movie.seconds == pytest.approx(n_frames / RATE, abs=0.02)
    assert movie.duration is None


@pytest.mark.parametrize("rate", [Fraction(1, 20), 1, 120])
def test_slow_and_fast_broadcasts_are_not_joined_recordings(tmp_path, rate):
    times, numbers, movie = read(write_movie(tmp_path / "m.ts", map(numbered, range(8)), rate=rate))
    assert numbers == list(range(8))
    assert times == pytest.approx([i / rate for i in range(8)], abs=0.001)
    assert movie.duration is not None


def test_recordings_of_two_sizes_joined_are_both_read(tmp_path):
    parts = [write_movie(tmp_path / f"{size}.ts", [numbered(5, size, 2 * size)] * 12) for size in (48, 96)]
    with Movie(join(tmp_path / "m.ts", *parts)) as movie:
        shapes = [movie.upright(frame).shape for _, frame in movie.frames()]
    assert shapes == [(48, 96, 3)] * 12 + [(96, 192, 3)] * 12


@pytest.mark.parametrize(("name", "codec"), [("m.h264", "libx264"), ("m.m2v", "mpeg2video"), ("m.hevc", "libx265")])
def test_a_stream_without_any_times_runs_at_its_frame_rate(tmp_path, name, codec):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else B_FRAMES
    times, numbers, movie = read(write_movie(tmp_path / name, map(numbered, range(30)), codec, codec_options=options))
    assert numbers == list(range(30))
    assert times == pytest.approx([i / RATE for i in range(30)], abs=0.01)
    assert movie.duration is None


def test_saved_frames_are_those_of_the_seconds_in_their_names(tmp_path):
    path = write_movie(tmp_path / "m.avi", map(numbered, range(120)), codec_options=B_FRAMES)
    cut_frames([path], tmp_path / "frames", every=0.5)
    files = sorted((tmp_path / "frames/m").iterdir())
    assert len(files) == 10
    for file in files:
        assert number_of(np.asarray(Image.open(file))) == round(RATE * float(file.name[2:10]))


def packet(pts, dts, duration=2):
    return SimpleNamespace(pts=pts, dts=dts, duration=duration)


def clock_times(packets, shown, is_reordered=True, **options):
    """Return the times of frames that are shown in this order of packets, all of which are read before."""
    clock = FrameClock(Fraction(1, 10), interval=0.2, leap=10.0, **options)
    for each in packets:
        clock.correct(each)
    frames = [SimpleNamespace(pts=packets[i].pts, key_frame=i == 0, pict_type=3) for i in shown]
    return [round(clock.time(frame, is_reordered), 3) for frame in frames]


@pytest.mark.parametrize("decoding_only", [False, True])
@pytest.mark.parametrize("pts", [lambda dts: dts, lambda dts: dts + 2, lambda dts: None])
def test_times_of_decoding_are_put_in_the_order_of_showing(pts, decoding_only):
    packets = [packet(pts(dts), dts) for dts in (0, 2, 4, 6, 8)]
    assert clock_times(packets, [0, 2, 3, 1, 4], decoding_only=decoding_only) == [0, 0.2, 0.4, 0.6, 0.8]


def test_rounded_times_of_decoding_are_put_in_the_order_of_showing():
    packets = [packet(round(41.67 * i) + 42, int(41.67 * i), 42) for i in range(6)]  # distances of 42 and 43 ticks
    assert len({each.pts - each.dts for each in packets}) == 2
    times = clock_times(packets, [0, 2, 3, 1, 5, 4])
    assert times == pytest.approx([4.2 * i for i in range(6)], abs=0.21)


def test_decoding_times_are_recognised_after_recordings_of_other_encoders_are_joined():
    packets = [packet(dts + 2, dts) for dts in (500, 502, 504, 506)]
    packets += [packet(dts, dts) for dts in (0, 2, 4, 6, 8, 10)]
    times = clock_times(packets, [0, 2, 3, 1, 4, 9, 8, 7, 6, 5])
    assert times == pytest.approx([0.2 * i for i in range(10)], abs=0.21)


def test_packets_without_stamps_count_before_another_recording():
    clock = FrameClock(Fraction(1, 10), interval=0.2, leap=10.0)
    packets = [packet(500, 500), packet(None, None), packet(None, None), packet(0, 0)]
    for each in packets:
        clock.correct(each)
    assert [each.pts for each in packets] == [500, None, None, 506]


def test_packets_that_never_give_a_frame_are_forgotten():
    packets = [packet(None, 2 * i) for i in range(1000)]
    times = clock_times(packets, [998, 999])
    assert times == [0, 0.2]
    clock = FrameClock(Fraction(1, 10), interval=0.2, leap=10.0)
    for i in range(1000):
        clock.correct(packet(None, 2 * i))
    assert len(clock._pending) == 64


def test_after_a_lost_frame_the_clock_is_right_from_the_next_frame_that_is_not_a_b_frame():
    clock = FrameClock(Fraction(1, 10), interval=0.2, leap=10.0)
    packets = [packet(None, 2 * i) for i in range(6)]
    for each in packets:
        clock.correct(each)
    frames = [
        SimpleNamespace(pts=packets[i].pts, key_frame=False, pict_type=kind) for i, kind in ((0, 1), (3, 3), (4, 2))
    ]
    assert [round(clock.time(frame, True), 3) for frame in frames] == [0, 0.2, 0.8]


def test_a_repeated_stamp_neither_stops_nor_shifts_the_clock():
    packets = [packet(stamp, stamp) for stamp in (0, 2, 2, 4, 6)]
    assert clock_times(packets, range(5), is_reordered=False) == [0, 0.2, 0.38, 0.4, 0.6]


def test_stamps_that_lag_for_a_while_do_not_slow_the_clock():
    packets = [packet(stamp, stamp) for stamp in (0, 2, 4, 6, 5, 7, 9, 14, 16)]
    times = clock_times(packets, range(9), is_reordered=False)
    assert times == [0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6]


def test_without_any_stamp_the_clock_runs_at_the_frame_rate():
    packets = [packet(None, None) for _ in range(3)]
    assert clock_times(packets, [0, 2, 1]) == [0, 0.2, 0.4]


def test_stamps_that_go_back_less_than_a_tenth_of_a_second_join_nothing():
    clock = FrameClock(Fraction(1, 100), interval=0.04, leap=10.0)
    for dts in (0, 4, 3, 8, 0):
        clock.correct(packet(dts, dts))
    assert clock.n_joins == 0
    clock.correct(packet(-15, -15))
    assert clock.n_joins == 1


@pytest.mark.skipif(not movie_matrix.FFMPEG, reason="needs the program ffmpeg")
def test_a_matroska_file_that_begins_late_is_as_long_as_its_pictures(tmp_path):
    assert movie_matrix.write(tmp_path / "m.mkv", "h264", "cut in")
    _, _, movie = read(tmp_path / "m.mkv")
    assert abs(movie.duration - movie.seconds) < 0.1


def matrix_cases():
    if not movie_matrix.FFMPEG or not movie_matrix.FFPROBE:
        return []
    return list(movie_matrix.cases()) if os.environ.get("FRAMECNN_LONG_TESTS") == "1" else movie_matrix.QUICK


@pytest.mark.skipif(not matrix_cases(), reason="needs the programs ffmpeg and ffprobe")
def test_the_times_of_movies_by_ffmpeg_are_right_in_every_container(tmp_path):
    wrong, n_compared = [], 0
    for codec, container, kind in matrix_cases():
        path = tmp_path / f"m.{container}"
        written = movie_matrix.write(path, codec, kind)
        if not written or movie_matrix.probed(path, "-show_entries", "stream=codec_name") in ([], ["unknown"]):
            continue  # the container does not take the codec, or loses its name
        times, numbers, movie = read(path)
        true = np.array(movie_matrix.true_times(kind))
        expected = true[numbers[0] :] - true[numbers[0]]
        if kind == "joined":
            expected = np.concatenate([expected, expected + len(true) / RATE])
        elif not movie_matrix.holds(path, expected):
            continue
        right = len(times) == len(expected) and np.allclose(times, expected, atol=0.0031)
        if kind == "cut in":  # ffprobe counts the time before the first frame in some containers
            right &= abs(movie.seconds - len(expected) / RATE) < 0.1
        elif kind != "joined":
            right &= abs(movie.seconds - movie_matrix.probed_duration(path)) < 0.1 + (container == "flv")
        n_compared += 1
        if not right:
            wrong.append((codec, container, kind, times[:4], movie.seconds, movie.duration))
    assert not wrong
    assert n_compared >= min(4, len(matrix_cases()))
    print(f"{n_compared} movies compared")
