"""Progress of running training: its position, figures, speed and time left."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Figures", "Progress", "Watch", "print_progress"]

Figures = dict[str, float]
"""The known values among ``loss``, ``accuracy``, ``val_loss`` and ``val_accuracy``."""


@dataclass(frozen=True)
class Progress:
    """The position, speed and figures of running training.

    Parameters
    ----------
    epoch, epochs : int
        The current epoch, from 1, and the largest number of epochs.
    frames, n_frames : int
        Frames of the epoch that were used so far, and all of them.
    frames_per_second : float
    seconds_left : float
        Estimated for all epochs; training that stops early takes less.
    is_over : bool
        Whether the epoch has ended, including its validation.
    figures : dict of str to float
        ``loss`` and ``accuracy``, means over the frames used so far, and, once the epoch has ended, ``val_loss`` and
        ``val_accuracy`` of the validation frames. Accuracy is absent if targets are not labels.
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
    """Print one line at the end of an epoch.

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
    """A stopwatch that reports progress.

    Parameters
    ----------
    report : callable or None
        Called with a :class:`Progress`.
    n_frames : int
        Frames of an epoch.
    epochs : int
    epochs_before : int
        Epochs that an earlier process completed.
    """

    def __init__(self, report: Callable[[Progress], None] | None, n_frames: int, epochs: int, epochs_before: int):
        self._report, self._n_frames, self._epochs, self._before = report, n_frames, epochs, epochs_before
        self._start = time.perf_counter()

    def __call__(self, epoch: int, frames: int, figures: Figures, is_over: bool = False) -> None:
        """Report that the first `frames` frames of an epoch were used."""
        if self._report is None:
            return
        done = (epoch - 1 - self._before) * self._n_frames + frames
        left = (self._epochs - epoch + 1) * self._n_frames - frames
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        state = (epoch, self._epochs, frames, self._n_frames, done / elapsed, left * elapsed / done)
        self._report(Progress(*state, is_over, figures))
