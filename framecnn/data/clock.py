"""The times of a movie's frames, from the time stamps of its packets."""

from bisect import bisect_left, insort
from fractions import Fraction
from typing import Any

__all__ = ["FrameClock"]

_JITTER = 0.1  # seconds; stamps that go back further start a new recording, as in FFmpeg's own tools
_MOST_PENDING = 64  # packets; H.264 reorders at most 16 frames, and a decoder holds one more per thread
_B_FRAME = 3  # AV_PICTURE_TYPE_B


class FrameClock:
    """A clock that gives each decoded frame its time in seconds since the first frame, always increasing.

    A packet has up to two time stamps: when to decode it, and when to show its frame. Decoding stamps never decrease
    within a recording. If they go back by more than 0.1 s, or jump ahead too far, a new recording begins there; its
    first frame follows the last frame of the one before.

    B-frames are shown in another order than decoded. If the two stamps still differ by a constant, both are decoding
    stamps: the n-th frame shown then gets the n-th of them.

    Parameters
    ----------
    time_base : Fraction
        Seconds per tick of the stamps.
    interval : float
        Seconds between frames without stamps.
    leap : float
        Longest time in seconds between two frames of one recording.
    decoding_only : bool, default=False
        Whether the container holds decoding stamps only, as AVI and ASF do; FFmpeg then guesses the display stamps.

    Attributes
    ----------
    n_joins : int
        The number of joins between recordings, as far as the stamps show.

    Examples
    --------
    >>> from types import SimpleNamespace as Record
    >>> clock = FrameClock(Fraction(1, 10), interval=0.1, leap=10.0)
    >>> stamps = [70, 72, 0, 2]  # two recordings, one after the other
    >>> packets = [Record(pts=stamp, dts=stamp, duration=2) for stamp in stamps]
    >>> for packet in packets:
    ...     clock.correct(packet)
    >>> [round(clock.time(Record(pts=packet.pts, key_frame=True, pict_type=1), False), 3) for packet in packets]
    [0.0, 0.2, 0.4, 0.6]
    """

    def __init__(self, time_base: Fraction, interval: float, leap: float, decoding_only: bool = False):
        self.n_joins = 0
        self._interval = interval
        self._tick = float(time_base)
        self._jitter, self._leap = _JITTER / self._tick, leap / self._tick
        self._decoding_only = decoding_only
        self._shift = 0
        self._decoded: tuple[int, int] | None = None  # stamp of the last packet, expected stamp of the next
        self._distance: int | None = None
        self._is_shown_known = False
        self._pending: list[int] = []  # stamps of packets whose frames are pending, ascending
        self._start: int | None = None
        self._stamp: int | None = None
        self._late = 0.0  # seconds that the stamps lag behind
        self._time = -interval

    def correct(self, packet: Any) -> None:
        """Change the stamps of a packet so that each recording follows the one before.

        Parameters
        ----------
        packet : av.Packet
            The next packet, not yet decoded. A missing or guessed ``pts`` becomes ``dts``.
        """
        decoded = packet.dts
        shown = None if self._decoding_only else packet.pts
        step = packet.duration or round(self._interval / self._tick)
        if decoded is not None:
            self._join(decoded, step)
            packet.dts = decoded + self._shift
            if shown is not None and shown - decoded > self._leap:
                shown = decoded + step  # FFmpeg guessed it from a packet of the next recording
            if shown is not None:
                distance = shown - decoded
                rounding = min(2, step / 2)
                self._is_shown_known |= self._distance is not None and abs(distance - self._distance) > rounding
                self._distance = distance
        elif self._decoded is not None:
            self._decoded = self._decoded[0], self._decoded[1] + step
        if shown is not None or decoded is not None:
            packet.pts = (decoded if shown is None else shown) + self._shift
            insort(self._pending, packet.pts)
            del self._pending[:-_MOST_PENDING]

    def time(self, frame: Any, is_reordered: bool) -> float:
        """Return the time of the next frame.

        Parameters
        ----------
        frame : av.VideoFrame
            The next frame in the order in which they are shown.
        is_reordered : bool
            Whether the codec decodes frames in an order other than that of showing.

        Returns
        -------
        float
            Seconds since the first frame.
        """
        stamp = frame.pts
        if stamp is not None and is_reordered and not self._is_shown_known:
            stamp = self._first_pending(frame)
        expected = self._time + self._interval
        if stamp is None:
            self._time = expected
            return expected
        self._start = stamp if self._start is None else self._start
        time = (stamp - self._start) * self._tick
        if abs(time - expected) < abs(time + self._late - expected):
            self._late = 0.0
        if time + self._late > self._time:
            self._time = time + self._late
        elif stamp == self._stamp:  # advance by less than an interval, so that the clock soon catches up
            self._time += 0.9 * self._interval
        else:  # FFmpeg guesses stamps of program streams, some too early, until the next stamp in the file
            self._time, self._late = expected, expected - time
        self._stamp = stamp
        return self._time

    def _join(self, decoded: int, step: int) -> None:
        if self._decoded is not None:
            last, expected = self._decoded
            if not last - self._jitter <= decoded + self._shift <= last + self._leap:
                self._shift = expected - decoded
                self._distance = None
                self.n_joins += 1
        self._decoded = decoded + self._shift, decoded + self._shift + step

    def _first_pending(self, frame: Any) -> int:
        """Return and remove the first pending stamp, after dropping the stamps of packets without a frame.

        A frame other than a B-frame is never shown before the decoding time of its packet.
        """
        if frame.key_frame or frame.pict_type != _B_FRAME:
            del self._pending[: bisect_left(self._pending, frame.pts)]
        return self._pending.pop(0) if self._pending else frame.pts
