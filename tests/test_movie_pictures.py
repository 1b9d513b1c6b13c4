"""Frames as a player shows them: orientation, aspect, interlacing, colours."""

from fractions import Fraction
from itertools import product

import av
import movie_matrix
import numpy as np
import pytest
from movies import moving, number_of, numbered, still, write_movie
from PIL import Image

from framecnn.data.cutting import cut_frames
from framecnn.data.movie import Movie

UNIT = 1 << 16  # of a display matrix
BT709, BT601, BT2020 = (0.2126, 0.0722), (0.299, 0.114), (0.2627, 0.0593)  # weights of red and blue in luma


def read(path, **settings):
    """Return the pictures of a movie, and the movie."""
    with Movie(path, **settings) as movie:
        return [movie.upright(frame) for _, frame in movie.frames()], movie


def distance(a, b):
    return np.abs(a.astype(int) - b).mean()


def moved(picture, a, b, c, d):
    """Return a picture with each pixel where a display matrix puts it: (x, y) at (a x + c y, b x + d y)."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    columns, rows = a * x + c * y, b * x + d * y
    columns, rows = columns - columns.min(), rows - rows.min()
    result = np.zeros((rows.max() + 1, columns.max() + 1, 3), np.uint8)
    result[rows, columns] = picture
    return result


SIGNS = list(product((1, -1), repeat=2))
ORIENTATIONS = [*((a, 0, 0, d) for a, d in SIGNS), *((0, b, c, 0) for b, c in SIGNS)]


def write_turned(path, turn):
    a, b, c, d = (UNIT * value for value in turn)
    return write_movie(path, [still(3)] * 2, matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])


@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_all_eight_orientations_of_the_display_matrix_are_read_upright(tmp_path, turn):
    pictures, _ = read(write_turned(tmp_path / "m.mp4", turn))
    expected = moved(still(3), *turn)
    assert pictures[0].shape == expected.shape
    assert distance(pictures[0], expected) < 8


@pytest.mark.skipif(not movie_matrix.FFMPEG, reason="needs the program ffmpeg")
@pytest.mark.parametrize("turn", ORIENTATIONS)
def test_orientations_are_those_of_ffmpeg(tmp_path, turn):
    path = write_turned(tmp_path / "m.mov", turn)
    assert movie_matrix.ffmpeg("-i", path, "-frames:v", 1, tmp_path / "m.png")
    assert distance(read(path)[0][0], np.asarray(Image.open(tmp_path / "m.png"))) < 3


@pytest.mark.parametrize(("degrees", "nearest"), [(3, 0), (93, 90), (-84, -90), (44, 0)])
def test_other_angles_are_read_at_the_nearest_right_angle(tmp_path, degrees, nearest):
    cosine, sine = UNIT * np.cos(np.radians(degrees)), UNIT * np.sin(np.radians(degrees))
    matrix = [*map(int, (cosine, sine, 0, -sine, cosine, 0, 0, 0, 1 << 30))]
    pictures, _ = read(write_movie(tmp_path / "m.mp4", [still(3)] * 2, matrix=matrix))
    assert distance(pictures[0], np.rot90(still(3), -nearest // 90)) < 8


@pytest.mark.parametrize(
    ("aspect", "shape", "said"),
    [
        (Fraction(64, 45), (72, 128), "stretched from 90x72 to 128x72"),
        (Fraction(16, 15), (72, 96), "stretched from 90x72 to 96x72"),
        (Fraction(8, 9), (81, 90), "stretched from 90x72 to 90x81"),
        (Fraction(101, 100), (72, 90), ""),
        (Fraction(1, 1), (72, 90), None),
        (Fraction(100, 1), (72, 90), None),
    ],
)
@pytest.mark.parametrize("name", ["m.mp4", "m.mkv", "m.ts"])
def test_frames_have_the_aspect_in_which_they_are_shown_and_no_fewer_pixels(tmp_path, name, aspect, shape, said):
    picture = numbered(341, 72, 90)
    pictures, movie = read(write_movie(tmp_path / name, [picture] * 12, settings={"sample_aspect_ratio": aspect}))
    assert pictures[0].shape == (*shape, 3)
    assert number_of(pictures[0]) == 341
    assert list(movie.processing) == ([said] if said else [])


def test_an_aspect_that_would_make_too_many_pixels_is_ignored(tmp_path):
    path = write_movie(tmp_path / "m.mp4", [numbered(1, 72, 90)] * 2, settings={"sample_aspect_ratio": Fraction(9)})
    assert read(path, max_pixels=9 * 72 * 90 - 1)[0][0].shape == (72, 90, 3)


def test_an_aspect_that_changes_midway_is_followed(tmp_path):
    parts = [
        write_movie(tmp_path / f"{i}.ts", [numbered(i, 72, 90)] * 24, settings={"sample_aspect_ratio": aspect})
        for i, aspect in enumerate((Fraction(64, 45), Fraction(16, 15)))
    ]
    path = tmp_path / "m.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    shapes = [picture.shape[:2] for picture in read(path)[0]]
    assert shapes == [(72, 128)] * 24 + [(72, 96)] * 24
    with Movie(path) as movie:
        held = [frame for _, frame in movie.frames()]
        assert [movie.upright(frame).shape[:2] for frame in held] == shapes


def line_difference(pictures):
    return np.mean([np.abs(np.diff(picture.astype(int), axis=0)).mean() for picture in pictures])


def striped(n_frames, height=96, width=128):
    """Return frames of a gliding picture with fine upright lines, which interlacing tears."""
    pictures = moving(0, n_frames, height, width)
    stripes = 60 * (np.arange(width + n_frames) // 3 % 2).astype(np.uint8)
    return [np.minimum(picture, 190) + stripes[i : i + width, None] for i, picture in enumerate(pictures)]


def woven(pictures, order):
    """Return interlaced frames: every second picture fills the field that is shown later, the top or bottom one."""
    graph = av.filter.Graph()
    height, width = pictures[0].shape[:2]
    source = graph.add_buffer(width=width, height=height, format="rgb24", time_base=Fraction(1, 24))
    graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
    later = 1 if order == "tff" else 0
    for early, late in zip(pictures[::2], pictures[1::2], strict=True):
        frame = early.copy()
        frame[later::2] = late[later::2]
        graph.vpush(av.VideoFrame.from_ndarray(frame, "rgb24"))
        yield graph.vpull()


FINE = {
    "libx264": {"crf": "8"},
    "mpeg2video": {"b": "8000000"},
}


@pytest.mark.parametrize("order", ["tff", "bff"])
@pytest.mark.parametrize(("codec", "name"), [("libx264", "m.mp4"), ("libx264", "m.ts"), ("mpeg2video", "m.mpg")])
def test_interlaced_movies_are_deinterlaced(tmp_path, codec, name, order):
    pictures, options = striped(48), {**FINE[codec], "flags": "+ildct+ilme"}
    torn = list(woven(pictures, order))
    seen, movie = read(write_movie(tmp_path / name, torn, codec, codec_options=options))
    plain, _ = read(write_movie(tmp_path / f"plain_{name}", pictures[::2], codec, codec_options=FINE[codec]))
    assert list(movie.processing) == ["deinterlaced"]
    assert line_difference([frame.to_ndarray() for frame in torn]) > 2 * line_difference(plain)
    assert line_difference(seen) == pytest.approx(line_difference(plain), rel=0.1)
    assert len(seen) == 24
    assert max(map(distance, seen, pictures[::2])) < 8


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_a_short_interlaced_movie_keeps_all_frames_and_their_times(tmp_path, n_frames):
    torn = list(woven(striped(2 * n_frames), "tff"))
    with Movie(write_movie(tmp_path / "m.mp4", torn, codec_options={"flags": "+ildct+ilme"})) as movie:
        assert [time for time, _ in movie.frames()] == pytest.approx([i / 24 for i in range(n_frames)])


def test_progressive_frames_before_interlaced_ones_are_untouched(tmp_path):
    parts = [
        write_movie(tmp_path / "0.ts", [numbered(i, 96, 128) for i in range(24)]),
        write_movie(tmp_path / "1.ts", woven(striped(48), "tff"), codec_options={"flags": "+ildct+ilme"}),
        write_movie(tmp_path / "2.ts", woven(striped(48, 48, 64), "tff"), codec_options={"flags": "+ildct+ilme"}),
    ]
    path = tmp_path / "m.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    pictures, movie = read(path)
    assert [picture.shape[0] for picture in pictures] == [96] * 48 + [48] * 24
    assert [number_of(picture) for picture in pictures[:24]] == list(range(24))
    assert line_difference(pictures[24:48]) < 2 * line_difference(striped(48))  # 6 times without
    assert line_difference(pictures[48:]) < 2 * line_difference(striped(48, 48, 64))
    assert list(movie.processing) == ["deinterlaced"]


def test_key_frames_alone_are_not_deinterlaced(tmp_path):
    path = write_movie(tmp_path / "m.mp4", woven(striped(48), "tff"), codec_options={"flags": "+ildct+ilme"})
    with Movie(path) as movie:
        assert len(list(movie.frames(key_frames_only=True))) == 2
        assert not movie.processing


def flat(colour, weights, full_range=False, bits=8, height=48, width=64):
    """Return a frame of one colour (RGB signal from 0 to 1) in YUV by these weights of red and blue."""
    red, green, blue = colour
    luma = weights[0] * red + (1 - sum(weights)) * green + weights[1] * blue
    chroma = (blue - luma) / (2 - 2 * weights[1]), (red - luma) / (2 - 2 * weights[0])
    scale = 1 << (bits - 8)
    top = (1 << bits) - 1
    levels = [top * luma if full_range else scale * (16 + 219 * luma)]
    levels += [128 * scale + (top if full_range else 224 * scale) * value for value in chroma]
    planes = np.empty((height * 3 // 2, width), np.uint8 if bits == 8 else np.uint16)
    starts = (0, height, height + height // 4, height * 3 // 2)
    for level, start, stop in zip(levels, starts, starts[1:], strict=False):
        planes[start:stop] = round(level)
    frame = av.VideoFrame.from_ndarray(planes, "yuv420p" if bits == 8 else "yuv420p10le")
    frame.color_range = 2 if full_range else 1
    return frame


COLOURS = [(0.8, 0.25, 0.1), (0.1, 0.7, 0.3), (0.2, 0.2, 0.9), (0.5, 0.5, 0.5)]


def read_colour(path, colour, weights, matrix, full_range=False, size=(48, 64)):
    """Return the colour in the middle of a movie of one colour, from 0 to 255."""
    frame = flat(colour, weights, full_range, 8, *size)
    frame.colorspace = matrix
    settings = {"colorspace": matrix, "color_range": 2 if full_range else 1}
    pictures, movie = read(write_movie(path, [frame], "ffv1", settings=settings))
    assert not movie.processing
    return pictures[0][24, 32]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(("weights", "matrix"), [(BT709, 1), (BT601, 6), (BT601, 5), (BT601, 2)])
def test_colours_are_those_of_the_movies_matrix_and_range(tmp_path, weights, matrix, full_range, colour):
    seen = read_colour(tmp_path / "m.mkv", colour, weights, matrix, full_range)
    assert np.abs(seen - 255 * np.array(colour)).max() < 3


@pytest.mark.parametrize(
    ("weights", "matrix", "size"), [(BT601, 6, (720, 1280)), (BT709, 2, (720, 1280)), (BT709, 2, (578, 720))]
)
def test_a_large_movie_without_a_matrix_has_that_of_hd(tmp_path, weights, matrix, size):
    seen = read_colour(tmp_path / "m.mkv", COLOURS[0], weights, matrix, size=size)
    assert np.abs(seen - 255 * np.array(COLOURS[0])).max() < 3


PQ_100_NITS, PQ_203_NITS = 0.5081, 0.5807
HDR = {"colorspace": 9, "color_primaries": 9, "color_range": 1}


def read_hdr(tmp_path, colours, transfer, primaries=9, **frame_options):
    settings = {**HDR, "color_trc": transfer, "color_primaries": primaries}
    frames = [flat(colour, BT2020, bits=10, **frame_options) for colour in colours]
    for frame in frames:
        frame.colorspace, frame.color_trc, frame.color_primaries = 9, transfer, primaries
    path = write_movie(tmp_path / "m.mkv", frames, "ffv1", "yuv420p10le", settings=settings)
    with Movie(path) as movie:
        both = [(movie.upright(frame)[24, 32], movie.small(frame)[18, 32]) for _, frame in movie.frames()]
    for upright, small in both:
        assert np.abs(upright.astype(int) - small).max() <= 1
    return np.array([upright for upright, _ in both]).astype(int), movie


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_greys_are_tone_mapped_evenly_and_stay_grey(tmp_path, transfer, name):
    levels, movie = read_hdr(tmp_path, [(i / 40,) * 3 for i in range(41)], transfer)
    assert list(movie.processing) == [f"tone-mapped from {name}"]
    assert (np.ptp(levels, axis=1) <= 1).all()
    assert (np.diff(levels[:, 0]) >= 0).all()
    assert levels[0, 0] == 0
    assert levels[-1, 0] >= 254
    assert (np.diff(levels[1:20, 0]) > 0).all()


def test_white_of_an_sdr_display_comes_out_bright(tmp_path):
    (white, diffuse), _ = read_hdr(tmp_path, [(PQ_100_NITS,) * 3, (PQ_203_NITS,) * 3], 16)
    assert 200 < white[0] < diffuse[0] < 250
    (diffuse,), _ = read_hdr(tmp_path, [(0.75,) * 3], 18)  # the reference level of white in HLG, BT.2408
    assert 230 < diffuse[0] < 250


def test_light_below_28_nits_is_unchanged_by_tone_mapping(tmp_path):
    (grey,), _ = read_hdr(tmp_path, [(0.3023,) * 3], 16)  # 10 cd/m2
    assert grey[0] == pytest.approx(255 * 0.1 ** (1 / 2.4), abs=2)


def test_wide_colours_of_sdr_are_converted_and_greys_kept(tmp_path):
    (grey, red), movie = read_hdr(tmp_path, [(0.5, 0.5, 0.5), (0.6, 0.3, 0.3)], 14)
    assert list(movie.processing) == ["converted from BT.2020"]
    assert np.abs(grey - 128).max() <= 1
    assert red[0] > 0.6 * 255 + 5  # the same red lies further out in the smaller gamut
    (grey,), movie = read_hdr(tmp_path, [(0.5, 0.5, 0.5)], 1, primaries=1)
    assert not movie.processing


def test_rotation_aspect_interlacing_and_hdr_together_are_handled(tmp_path):
    turn = [0, UNIT, 0, -UNIT, 0, 0, 0, 0, 1 << 30]
    settings = {"sample_aspect_ratio": Fraction(4, 3), **HDR, "color_trc": 16}
    path = write_movie(
        tmp_path / "m.mp4",
        woven(striped(48), "tff"),
        pixels="yuv420p10le",
        matrix=turn,
        settings=settings,
        codec_options={"flags": "+ildct+ilme", "bf": "3"},
    )
    (report,) = cut_frames([path], tmp_path / "frames", every=0.5)
    done = ("deinterlaced", "stretched from 128x96 to 171x96", "tone-mapped from PQ")
    assert report.processing == done
    assert report.describe() == "m: 2 frames; 1 shot found; 1.0 s; " + "; ".join(done)
    assert Image.open(tmp_path / "frames/m/m_0000.500s.jpg").size == (96, 171)
