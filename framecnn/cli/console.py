"""Terminal output of all commands: lines, tables, progress, errors in one line, exit codes."""

import os
import re
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO

import typer

from framecnn.errors import DataError, FormatError, MissingExtraError, SettingError, ShapeError, remedy

__all__ = [
    "EXIT_CLOSED",
    "EXIT_ERROR",
    "EXIT_INCOMPLETE",
    "EXIT_INTERRUPTED",
    "Stopped",
    "clean",
    "keep_output_for_json",
    "note",
    "output_is_json",
    "progress",
    "run",
    "say",
    "table",
    "warn",
]

EXIT_INCOMPLETE = 1  # done, but some of the given files could not be used
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_CLOSED = 141

_STOPPING = {"SIGTERM": "terminated", "SIGHUP": "hung up", "SIGBREAK": "interrupted"}
"""Signals that stop a command as Ctrl-C does, if the system has them, and the message."""
# C0 and C1 control characters, marks that reorder text, and lone surrogates (from names that are not UTF-8)
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
_NUMBER = re.compile(r"-?[\d,.]+( (%|s|MB))?|[-–]")
# typer bundles click or uses the installed one; either way, this is the base class of its usage errors
_UsageError: Any = typer.BadParameter.__mro__[2]


def clean(text: object) -> str:
    """Return text as one line that cannot control a terminal.

    Parameters
    ----------
    text : object
        Converted by ``str``.

    Returns
    -------
    str
        The text with escapes for control characters.

    Examples
    --------
    >>> print(clean("red \\x1b[31m and\\ntwo lines"))
    red \\x1b[31m and\\ntwo lines
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


_is_kept = False


def keep_output_for_json() -> None:
    """Print no lines and tables on standard output until :func:`run` ends: it is for the JSON of ``--json -``."""
    global _is_kept
    _is_kept = True


def output_is_json() -> bool:
    """Return whether standard output is for JSON alone."""
    return _is_kept


def say(text: object = "") -> None:
    """Print one cleaned line on standard output, unless that is for JSON alone."""
    _print_line(clean(text))


def warn(text: object) -> None:
    """Print one cleaned line on standard error, as a warning."""
    _print_error_line(f"warning: {clean(text)}")


def note(text: object) -> None:
    """Print one cleaned line on standard error that is neither a warning nor a result."""
    _print_error_line(clean(text))


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> None:
    """Print cleaned cells in columns on standard output; columns of numbers, also with a unit, are right-aligned.

    Parameters
    ----------
    rows : iterable of sequence
        Cells, the same number in each row.
    head : sequence of str, optional
        Titles of the columns.
    """
    from rich.cells import cell_len  # East Asian characters are two columns wide

    rows = [list(row) for row in rows]
    lines = [[clean(cell) for cell in row] for row in ([list(head)] if head else []) + rows]
    right = [all(_NUMBER.fullmatch(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = []
        for cell, width, is_right in zip(line, widths, right or [False] * len(line), strict=True):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if is_right else cell + space)
        _print_line("  ".join(cells).rstrip())


class Update(Protocol):
    """A function that reports progress: the amount done, the total (None if unknown), and a new title."""

    def __call__(self, done: float, total: float | None = None, title: str | None = None) -> None:
        """Report progress."""


@contextmanager
def progress(title: str, show_after: float = 1.0) -> Iterator[Update]:
    """Show the progress of work on standard error, once it has taken some time.

    On a terminal it is a bar that disappears at the end; elsewhere, and with ``TERM=dumb``, a line every ten seconds.

    Parameters
    ----------
    title : str
        The name of the work.
    show_after : float, default 1
        Seconds before progress is shown.

    Yields
    ------
    callable
        ``update(done, total=None, title=None)``; it need not be called.

    Examples
    --------
    >>> with progress("reading") as update:
    ...     for i in range(3):
    ...         update(i + 1, 3)
    """
    view = (_Bar if _is_live(sys.stderr) else _Lines)(title)
    timer = threading.Timer(show_after, view.start)
    timer.daemon = True
    timer.start()
    try:
        yield view.update
    finally:
        timer.cancel()
        view.stop()


class _View(ABC):
    """A display of progress, started by a timer if the work takes long."""

    def __init__(self, title: str):
        self._lock = threading.Lock()
        self._state = "waiting"
        self._title, self._done = title, 0.0
        self._total: float | None = None

    def start(self) -> None:
        with self._lock:
            if self._state == "waiting":
                self._state = "shown"
                self._show()

    def update(self, done: float, total: float | None = None, title: str | None = None) -> None:
        with self._lock:
            self._title, self._done, self._total = title or self._title, done, total
            if self._state == "shown":
                self._refresh()

    def stop(self) -> None:
        with self._lock:
            if self._state == "shown":
                self._hide()
            self._state = "over"

    @abstractmethod
    def _show(self) -> None:
        """Show the display."""

    @abstractmethod
    def _refresh(self) -> None:
        """Show the last update."""

    @abstractmethod
    def _hide(self) -> None:
        """Remove the display."""


class _Lines(_View):
    def __init__(self, title: str, every: float = 10.0):
        super().__init__(title)
        self._every = every  # seconds between two lines

    def _show(self) -> None:
        self._last = time.monotonic()
        part = f": {100 * self._done / self._total:.0f} %" if self._total else " ..."
        _print_error_line(clean(self._title) + part)

    def _refresh(self) -> None:
        if time.monotonic() >= self._last + self._every:
            self._show()

    def _hide(self) -> None:
        pass


class _Bar(_View):
    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            SpinnerColumn("line"),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn("{task.percentage:>3.0f} %"),  # empty if the total is unknown
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=None)
        self._refresh()
        self._progress.start()

    def _refresh(self) -> None:
        self._progress.update(self._task, description=clean(self._title), completed=self._done, total=self._total)

    def _hide(self) -> None:
        self._progress.stop()


class Stopped(KeyboardInterrupt):
    """A signal has asked the command to end.

    Parameters
    ----------
    number : int
        The number of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Raise Stopped on every signal that asks the process to end, so that it cleans up as after Ctrl-C."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in _STOPPING if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:  # set by nohup
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def run(work: Callable[[], None]) -> int:
    """Run a command and return its exit code; print an error as one line on standard error.

    Parameters
    ----------
    work : callable
        The command.

    Returns
    -------
    int
        0, or the exit code of the command, such as `EXIT_INCOMPLETE`; `EXIT_ERROR` after an expected error; 128 plus
        the number of the signal after SIGINT (`EXIT_INTERRUPTED`), SIGTERM or SIGHUP; `EXIT_CLOSED` when standard
        output was closed. Other errors are faults of framecnn and keep their traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # the stream is None or not a text stream
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        with _stopped_by_signals():
            work()
            if sys.stdout is not None:
                sys.stdout.flush()
    except typer.Exit as end:
        return end.exit_code
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "framecnn"
        return _fail(f"{error.format_message()} (see {command} --help)")
    except Stopped as stopped:
        _print_error_line(_STOPPING[signal.Signals(stopped.number).name])
        return 128 + stopped.number
    except (KeyboardInterrupt, typer.Abort):
        _print_error_line("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_CLOSED
    except (DataError, FormatError, ShapeError, SettingError, MissingExtraError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_describe(error))
    finally:
        global _is_kept
        _is_kept = False
        _finish(sys.stdout)
        _finish(sys.stderr)
    return 0


def _describe(error: OSError) -> str:
    """Return the message of an error: its reason, the file, and the remedy if one is known."""
    text = f"{error.strerror}: {error.filename!r}" if error.strerror and error.filename else str(error)
    known = remedy(error)
    return text if known is None or known in text else f"{text}; {known}"


def _fail(message: str) -> int:
    _print_error_line("error: " + "\n".join(map(clean, message.splitlines())))
    return EXIT_ERROR


def _print_line(line: str) -> None:
    if not _is_kept:
        _write(sys.stdout, line)


def _write(stream: TextIO | None, line: str) -> None:
    if stream is not None:
        print(line, file=stream, flush=True)


def _print_error_line(line: str) -> None:
    with suppress(OSError):  # nobody reads standard error; the work continues
        _write(sys.stderr, line)


def _is_live(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _finish(stream: TextIO | None) -> None:
    """Flush a stream; if it is closed, redirect it to the null device, so that Python exits without a message."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        os.close(null)
