"""How far training is, how well it goes and how long it will take, for whoever draws it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Figures", "Progress", "Watch", "print_progress"]

Figures = dict[str, float]
"""``loss``, ``accuracy``, ``val_loss`` and ``val_accuracy``, as far as they are known."""


@dataclass(frozen=True)
class Progress:
    """Where training stands.

    Parameters
    ----------
    epoch, epochs : int
        The epoch under way, from 1, and how many there will be at most.
    frames, n_frames : int
        How many frames of the epoch are done, and all of them.
    frames_per_second : float
    seconds_left : float
        For all epochs; less if training stops early.
    is_over : bool
        Whether the epoch is over, validation included.
    figures : dict of str to float
        ``loss`` and ``accuracy``, means over the frames that are done, and ``val_loss`` and ``val_accuracy`` of the
        validation frames once the epoch is over. No accuracy where targets are no labels.
    """

    epoch: int
    epochs: int
    frames: int
    n_frames: int
    frames_per_second: float
    seconds_left: float
    is_over: bool = False
    figures: Figures = field(default_factory=dict)


def print_progress(progress: Progress) -> None:
    """Print a line when an epoch is over.

    Examples
    --------
    >>> print_progress(Progress(2, 9, 64, 64, 1234.5, 67.8, is_over=True, figures={"loss": 0.25, "accuracy": 0.9375}))
    epoch 2/9  loss 0.2500  accuracy 0.9375  1,234 frames/s  1:08 left
    """
    if progress.is_over:
        figures = [f"{name} {value:.4f}" for name, value in progress.figures.items()]
        minutes, seconds = divmod(round(progress.seconds_left), 60)
        speed = f"{progress.frames_per_second:,.0f} frames/s", f"{minutes}:{seconds:02} left"
        print(f"epoch {progress.epoch}/{progress.epochs}", *figures, *speed, sep="  ", flush=True)


class Watch:
    """Measures how fast training goes, and tells it.

    Parameters
    ----------
    tell : callable or None
        Takes a :class:`Progress`; None hears nothing.
    n_frames : int
        Frames of an epoch.
    epochs : int
    epochs_before : int
        How many of them an earlier process has done.
    """

    def __init__(self, tell: Callable[[Progress], None] | None, n_frames: int, epochs: int, epochs_before: int):
        self._tell, self._n_frames, self._epochs, self._before = tell, n_frames, epochs, epochs_before
        self._start = time.perf_counter()

    def __call__(self, epoch: int, frames: int, figures: Figures, is_over: bool = False) -> None:
        """Tell that so many frames of an epoch are done."""
        if self._tell is None:
            return
        done = (epoch - 1 - self._before) * self._n_frames + frames
        left = (self._epochs - epoch + 1) * self._n_frames - frames
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        state = (epoch, self._epochs, frames, self._n_frames, done / elapsed, left * elapsed / done)
        self._tell(Progress(*state, is_over, figures))
