"""Reading movies: clocks, damage, odd streams, and files that are no movies."""

import os
import subprocess
import sys
import textwrap
from itertools import pairwise

import av
import numpy as np
import pytest
from movies import RATE, cut_off, flip_bits, moving, shots, still, write_movie
from PIL import Image

from framecnn.data.movie import Movie, movie_name
from framecnn.errors import DataError, MissingExtraError


def read(path, **options):
    """Return times and pictures of a movie, and the movie."""
    with Movie(path) as movie:
        frames = [(time, movie.upright(frame)) for time, frame in movie.frames(**options)]
    return [time for time, _ in frames], [picture for _, picture in frames], movie


def distance(a, b):
    return np.abs(a.astype(int) - b).mean()


@pytest.mark.parametrize("name", ["m.mp4", "m.mkv", "m.mov", "m.avi", "m.ts"])
def test_frames_come_with_their_times(tmp_path, name):
    pictures = moving(0, 30)
    times, seen, movie = read(write_movie(tmp_path / name, pictures))
    assert times == pytest.approx([i / RATE for i in range(30)], abs=0.002)
    assert movie.seconds == pytest.approx(30 / RATE, abs=0.05)
    assert movie.duration == pytest.approx(30 / RATE, abs=0.05)
    assert max(map(distance, seen, pictures)) < 8


def test_times_are_those_of_the_file_when_the_frame_rate_varies(tmp_path):
    times = [0, 0.1, 0.15, 1.2, 1.21, 3, 3.7]
    seen, _, movie = read(write_movie(tmp_path / "m.mkv", moving(0, 7), times=times))
    assert seen == pytest.approx(times, abs=0.001)
    assert movie.duration == pytest.approx(3.7, abs=0.1)


def test_times_begin_at_zero_when_the_file_begins_before(tmp_path):
    stamps = [i / RATE - 0.5 for i in range(24)]
    path = write_movie(tmp_path / "m.ts", moving(0, 24), times=stamps, avoid_negative_ts="disabled")
    assert read(path)[0] == pytest.approx([i / RATE for i in range(24)], abs=0.001)


def test_frames_without_a_time_get_the_next_one(tmp_path):
    stamps = [i / RATE - 0.5 for i in range(24)]
    path = write_movie(tmp_path / "m.mkv", moving(0, 24), times=stamps, avoid_negative_ts="disabled")
    with av.open(str(path)) as container:
        assert any(packet.size and packet.pts is None for packet in container.demux())
    assert read(path)[0] == pytest.approx([i / RATE for i in range(24)], abs=0.01)


def test_times_grow_even_when_the_clock_breaks(tmp_path):
    stamps = [i / RATE - 0.5 for i in range(24)]  # Flash video keeps times without a sign
    times, _, _ = read(write_movie(tmp_path / "m.flv", moving(0, 24), times=stamps, avoid_negative_ts="disabled"))
    assert len(times) == 24
    assert all(0 < later - earlier < 1 for earlier, later in pairwise(times))


@pytest.mark.parametrize(("codec", "pixels"), [("libx264", "yuv420p10le"), ("ffv1", "yuv422p16le"), ("ffv1", "gray")])
def test_ten_sixteen_bit_and_grey_pictures_are_eight_bit_rgb(tmp_path, codec, pixels):
    picture = still(3) if pixels != "gray" else np.repeat(still(3).mean(-1, keepdims=True).astype(np.uint8), 3, -1)
    _, pictures, _ = read(write_movie(tmp_path / "m.mkv", [picture] * 4, codec, pixels))
    assert pictures[0].dtype == np.uint8
    assert distance(pictures[0], picture) < 8


def test_small_pictures_are_means(tmp_path):
    path = write_movie(tmp_path / "m.mkv", [still(3, 144, 256)], "ffv1", "bgr0")
    with Movie(path) as movie:
        _, frame = next(movie.frames())
        expected = movie.upright(frame).reshape(36, 4, 64, 4, 3).mean((1, 3))
        assert movie.small(frame).shape == (36, 64, 3)
        assert distance(movie.small(frame), expected) < 2


def test_only_key_frames_are_read_on_request(tmp_path):
    times, _, _ = read(write_movie(tmp_path / "m.mp4", [still(0)] * 48), key_frames_only=True)
    assert times == pytest.approx([0, 0.5, 1, 1.5], abs=0.01)


def test_the_picture_is_the_movie_and_not_its_cover(tmp_path):
    _, pictures, _ = read(write_movie(tmp_path / "m.mp4", moving(0, 12), sound=True, cover=True))
    assert len(pictures) == 12
    assert pictures[0].shape == (48, 64, 3)


@pytest.mark.parametrize("cover", [False, True])
def test_a_sound_file_is_not_a_movie_with_or_without_cover(tmp_path, cover):
    path = write_movie(tmp_path / "m.mp4", [], sound=True, cover=cover)
    with pytest.raises(DataError, match=r"m\.mp4': no video stream; expected a movie with pictures"):
        Movie(path)


def test_an_unknown_codec_is_reported_as_the_cause(tmp_path):
    path = write_movie(tmp_path / "m.mp4", moving(0, 4))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz1").replace(b"avcC", b"zzzC"))
    with pytest.raises(DataError, match=r"FFmpeg does not know the codec; convert the movie to H\.264"):
        Movie(path)


@pytest.mark.parametrize("is_emptied", [False, True])
def test_a_stream_that_begins_midway_does_no_harm(tmp_path, is_emptied):
    with Movie(write_movie(tmp_path / "m.ts", moving(0, 24), codec_options={"bf": "3"})) as movie:
        container = movie._container

        class Gaining:
            """Raise as PyAV does at the end of a file whose damage looks like another stream."""

            def demux(self, stream):
                yield from (packet for packet in container.demux(stream) if packet.size or is_emptied)
                raise IndexError("list index out of range")

            def close(self):
                container.close()

        movie._container = Gaining()
        assert len(list(movie.frames())) == 24
        assert movie.damaged == 0


@pytest.mark.parametrize(("name", "options"), [("m.mkv", {}), ("m.mp4", {"movflags": "faststart"})])
def test_a_movie_that_ends_early_gives_what_is_there(tmp_path, capfd, name, options):
    path = write_movie(tmp_path / name, shots(*[24] * 6), **options)
    times, _, movie = read(cut_off(path, 0.6))
    assert movie.duration == pytest.approx(6, abs=0.1)
    assert 0.5 < movie.seconds < 5
    assert movie.seconds == pytest.approx(times[-1] + 1 / RATE, abs=0.01)
    assert capfd.readouterr() == ("", "")


def test_an_mp4_without_its_index_is_refused(tmp_path, capfd):
    path = write_movie(tmp_path / "m.mp4", shots(24, 24))
    with pytest.raises(DataError, match=r"the movie cannot be read .* if the file is truncated, copy it again"):
        Movie(cut_off(path, 0.6))
    assert capfd.readouterr() == ("", "")


def test_wrong_bits_are_counted_and_the_good_frames_kept(tmp_path, capfd):
    path = write_movie(tmp_path / "m.mp4", shots(*[24] * 6), movflags="faststart")
    times, _, movie = read(flip_bits(path, 60, first=0.4))
    assert movie.damaged > 0
    assert 20 < len(times) < 144
    assert capfd.readouterr() == ("", "")


def test_errors_of_the_container_end_the_movie_and_are_counted(tmp_path, monkeypatch):
    path = write_movie(tmp_path / "m.mkv", moving(0, 12))
    with Movie(path) as movie:
        container = movie._container

        class Broken:
            def demux(self, stream):
                raise movie._av.error.InvalidDataError(1, "broken")

            def close(self):
                container.close()

        movie._container = Broken()
        assert list(movie.frames()) == []
        assert movie.damaged == 10


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mp4", b"not a movie at all " * 50),
        ("b.txt", b"a text that libav would show as a picture\n" * 50),
        ("c.mp4", b""),
        ("d.m3u8", b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:10,\nhttp://localhost/a.ts\n#EXT-X-ENDLIST\n"),
    ],
)
def test_files_of_other_kinds_are_not_movies(tmp_path, capfd, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"movie '.*{name}': the movie cannot be read .* expected MP4"):
        Movie(path)
    assert capfd.readouterr() == ("", "")


def test_a_picture_is_not_a_movie(tmp_path):
    Image.fromarray(still(0)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="the movie cannot be read"):
        Movie(tmp_path / "a.png")


def test_anything_but_a_regular_file_is_refused_at_once(tmp_path):
    with pytest.raises(DataError, match="expected a file, got a folder; give the movie files in it"):
        Movie(tmp_path)
    with pytest.raises(DataError, match=r"gone\.mp4': the file does not exist; check the name"):
        Movie(tmp_path / "gone.mp4")
    with pytest.raises(DataError, match="the file does not exist"):
        Movie("http://localhost/movie.mp4")


def in_a_child(code, path):
    """Return what Python code prints about a movie, as ``path``, in a process that must end within a minute."""
    begin = "import sys, av\nfrom framecnn.data.movie import Movie, MovieError\npath = sys.argv[1]\n"
    command = [sys.executable, "-c", begin + textwrap.dedent(code), path]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    code = """
        try:
            Movie(path)
        except MovieError as error:
            print(error)
        """
    assert "expected a regular file; copy the movie to a regular file" in in_a_child(code, tmp_path / "pipe.mp4")


def test_reading_ends_after_ten_errors_in_a_row_of_the_container(tmp_path):
    code = """
        class Failing:
            def demux(self, stream):
                raise av.FFmpegError(5, "Input/output error")

        movie = Movie(path)
        movie._container = Failing()
        print(len(list(movie.frames())), movie.damaged)
        """
    assert in_a_child(code, write_movie(tmp_path / "m.mp4", moving(0, 4))) == "0 10\n"


def test_a_picture_of_too_many_pixels_is_refused(tmp_path):
    path = write_movie(tmp_path / "m.mp4", moving(0, 2))
    with pytest.raises(DataError, match="expected at most 3,071 pixels per frame, got 64 x 48; scale the movie down"):
        Movie(path, max_pixels=3071)


@pytest.mark.parametrize("name", ["película 日本 🎬.mkv", "with\nnewline'\".mkv", "-o.mkv", "100%d:file.mkv"])
def test_any_file_name_can_be_read(tmp_path, name):
    plain = write_movie(tmp_path / "m.mkv", moving(0, 4))
    assert len(read(plain.rename(tmp_path / name))[0]) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names of any bytes")
def test_a_file_name_of_any_bytes_can_be_read(tmp_path):
    plain = write_movie(tmp_path / "m.mkv", moving(0, 4))
    path = plain.rename(tmp_path / os.fsdecode(b"caf\xe9.mkv"))
    times, _, movie = read(path)
    assert len(times) == 4
    assert movie.name == "caf"


def test_names_of_movies_are_valid_in_file_names():
    assert movie_name("a/tears_of_steel.webm") == "tears_of_steel"
    assert movie_name("Nosferatu: eine Symphonie.mp4") == "Nosferatu_eine_Symphonie"
    assert movie_name("日本.mp4") == "日本"
    assert movie_name(".hidden.mp4") == "hidden"
    assert movie_name("___.mp4") == "movie"
    assert movie_name("../..\\<script>.mp4") == "script"
    assert len(movie_name("日" * 200 + ".mp4").encode()) <= 80


def test_without_pyav_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MissingExtraError, match=r"the package av is not installed; run: pip install 'framecnn\[video\]'"
    ):
        Movie("m.mp4")


def test_unequal_times_that_begin_before_zero_keep_their_distances(tmp_path):
    stamps = [-0.5, -0.4, 0.1, 0.15, 1.0]
    path = write_movie(tmp_path / "m.ts", moving(0, 5), times=stamps, avoid_negative_ts="disabled")
    assert read(path)[0] == pytest.approx([0, 0.1, 0.6, 0.65, 1.5], abs=0.001)


def test_a_movie_is_as_long_as_its_pictures_and_not_as_its_sound(tmp_path):
    movie = read(write_movie(tmp_path / "m.mkv", moving(0, 12), sound=True))[2]
    assert movie.duration == pytest.approx(12 / RATE, abs=0.05)


def test_every_packet_that_the_decoder_refuses_is_counted(tmp_path):
    with Movie(write_movie(tmp_path / "m.mkv", moving(0, 12))) as movie:
        stream, container = movie._stream, movie._container

        class Refusing:
            def __getattr__(self, name):
                return getattr(stream, name)

            def decode(self, packet):
                raise movie._av.error.InvalidDataError(1, "broken")

        class Container:
            def demux(self, _):
                yield from container.demux(stream)

            def close(self):
                container.close()

        movie._stream, movie._container = Refusing(), Container()
        assert list(movie.frames()) == []
        assert movie.damaged >= 12


def test_frames_that_the_decoder_marks_as_damaged_are_counted_and_left_out(tmp_path):
    with Movie(write_movie(tmp_path / "m.mkv", moving(0, 12))) as movie:
        decode = movie._frames_of

        class Marked:
            def __init__(self, frame):
                self._frame, self.is_corrupt = frame, frame.pts < 200  # thousandths of a second: five of twelve

            def __getattr__(self, name):
                return getattr(self._frame, name)

        movie._frames_of = lambda packet: [Marked(frame) for frame in decode(packet)]
        times = [time for time, _ in movie.frames()]
        assert times == pytest.approx([i / RATE for i in range(5, 12)], abs=0.002)
        assert movie.damaged == 5


def test_pictures_that_grow_too_large_midway_are_not_decoded(tmp_path):
    small, large = (write_movie(tmp_path / f"{n}.ts", moving(0, 12, n, n)) for n in (64, 128))
    (tmp_path / "m.ts").write_bytes(small.read_bytes() + large.read_bytes())
    with Movie(tmp_path / "m.ts", max_pixels=5000) as movie:
        assert {movie.upright(frame).shape for _, frame in movie.frames()} == {(64, 64, 3)}
        assert movie.damaged > 0


@pytest.mark.parametrize("name", ["http:film.mkv", "concat:film.mkv"])
def test_a_name_that_looks_like_an_address_is_that_of_a_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write_movie(tmp_path / "film.mkv", moving(0, 4)).rename(name)
    assert len(read(name)[0]) == 4


def test_nothing_but_files_is_opened_whatever_a_movie_refers_to(tmp_path, monkeypatch):
    path, asked, real = write_movie(tmp_path / "m.mkv", moving(0, 4)), [], av.open
    monkeypatch.setattr(av, "open", lambda *arguments, **options: asked.append(options) or real(*arguments, **options))
    read(path)
    assert [options["options"]["protocol_whitelist"] for options in asked] == ["file"]
