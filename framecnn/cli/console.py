"""What all commands share: lines, tables and progress on the terminal, errors in one line, exit codes."""

import errno
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

from framecnn.errors import DataError, FormatError, MissingExtraError, SettingError, ShapeError

__all__ = [
    "EXIT_CLOSED",
    "EXIT_ERROR",
    "EXIT_INTERRUPTED",
    "Stopped",
    "clean",
    "progress",
    "run",
    "say",
    "table",
    "warn",
]

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
EXIT_CLOSED = 141

_STOPPING = {"SIGTERM": "terminated", "SIGHUP": "hung up", "SIGBREAK": "interrupted"}
"""Signals that stop a command as Ctrl-C does, where the system has them, and what is then said."""
_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}

_SHOW_AFTER = 1.0  # seconds before a progress appears
_LINE_EVERY = 10.0  # seconds between two lines of it where there is no terminal
# Controls of the C0 and C1 sets, marks that reorder text, and halves of characters (from names that are not UTF-8)
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
# typer carries a click of its own or uses the installed one: the base of its errors is reached from a public one
_UsageError: Any = typer.BadParameter.__mro__[2]


def clean(text: object) -> str:
    """Make text from anywhere harmless on a terminal, and one line.

    Parameters
    ----------
    text : object
        Its ``str`` is taken.

    Returns
    -------
    str
        With control characters written as escapes.

    Examples
    --------
    >>> print(clean("red \\x1b[31m and\\ntwo lines"))
    red \\x1b[31m and\\ntwo lines
    """
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def say(text: object = "") -> None:
    """Print one cleaned line on standard output."""
    _write(sys.stdout, clean(text))


def warn(text: object) -> None:
    """Print one cleaned line on standard error, as a warning."""
    _complain(f"warning: {clean(text)}")


def table(rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> None:
    """Print cleaned cells in columns on standard output; numbers stand to the right.

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
    right = [all(isinstance(cell, int | float) for cell in column) for column in zip(*rows, strict=True)]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = []
        for cell, width, is_right in zip(line, widths, right or [False] * len(line), strict=True):
            space = " " * (width - cell_len(cell))
            cells.append(space + cell if is_right else cell + space)
        _write(sys.stdout, "  ".join(cells).rstrip())


class Tell(Protocol):
    """How work reports what is done: a number, of how many in all (None: not known), and of what."""

    def __call__(self, done: float, total: float | None = None, title: str | None = None) -> None:
        """Report."""


@contextmanager
def progress(title: str) -> Iterator[Tell]:
    """Show on standard error how work goes on, once it has taken a second.

    A terminal shows a bar that vanishes at the end. Elsewhere, and with ``TERM=dumb``, it is a line every ten seconds.

    Parameters
    ----------
    title : str
        What is being done.

    Yields
    ------
    callable
        ``tell(done, total=None, title=None)``; work that has no numbers need not call it.

    Examples
    --------
    >>> with progress("reading") as tell:
    ...     for i in range(3):
    ...         tell(i + 1, 3)
    """
    view = (_Bar if _is_live(sys.stderr) else _Lines)(title)
    timer = threading.Timer(_SHOW_AFTER, view.start)
    timer.daemon = True
    timer.start()
    try:
        yield view.tell
    finally:
        timer.cancel()
        view.stop()


class _View(ABC):
    """A progress that another thread starts to show, unless it is over before."""

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

    def tell(self, done: float, total: float | None = None, title: str | None = None) -> None:
        with self._lock:
            self._title, self._done, self._total = title or self._title, done, total
            if self._state == "shown":
                self._update()

    def stop(self) -> None:
        with self._lock:
            if self._state == "shown":
                self._hide()
            self._state = "over"

    @abstractmethod
    def _show(self) -> None:
        """Appear."""

    @abstractmethod
    def _update(self) -> None:
        """Show what was told last."""

    @abstractmethod
    def _hide(self) -> None:
        """Vanish."""


class _Lines(_View):
    def _show(self) -> None:
        self._last = time.monotonic()
        part = f": {100 * self._done / self._total:.0f} %" if self._total else " ..."
        _complain(clean(self._title) + part)

    def _update(self) -> None:
        if time.monotonic() >= self._last + _LINE_EVERY:
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
            TaskProgressColumn("{task.percentage:>3.0f} %"),  # nothing where the total is not known
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._progress.add_task("", total=None)
        self._update()
        self._progress.start()

    def _update(self) -> None:
        self._progress.update(self._task, description=clean(self._title), completed=self._done, total=self._total)

    def _hide(self) -> None:
        self._progress.stop()


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end.

    Parameters
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let every signal that asks to end do what Ctrl-C does, so that all that was started ends, and is cleaned up."""

    def stop(number: int, _: object) -> None:
        raise Stopped(number)

    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in (getattr(signal, name) for name in _STOPPING if hasattr(signal, name)):
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def run(work: Callable[[], None]) -> int:
    """Run a command and turn how it ends into an exit code and at most one line on standard error.

    Parameters
    ----------
    work : callable
        The command.

    Returns
    -------
    int
        0, or what the command exits with; `EXIT_ERROR` after an expected error; 128 and the number of the signal
        after SIGINT (`EXIT_INTERRUPTED`), SIGTERM or SIGHUP; `EXIT_CLOSED` when standard output was closed. Other
        errors are ours and keep their traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # None, or something of a test's
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
        _complain(_STOPPING[signal.Signals(stopped.number).name])
        return 128 + stopped.number
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return EXIT_CLOSED
    except (DataError, FormatError, ShapeError, SettingError, MissingExtraError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(_describe(error))
    finally:
        _let_go(sys.stdout)
        _let_go(sys.stderr)
    return 0


def _describe(error: OSError) -> str:
    """Say which file, and what to do where that is known."""
    said = f"{error.strerror}: {error.filename!r}" if error.strerror and error.filename else str(error)
    if error.errno in _FULL:
        return f"{said}; free space there, or write to another place"
    if error.errno == errno.EFBIG:
        return f"{said}; raise the limit of file sizes (ulimit -f), or write to a file system without one"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{said}; change the permissions so that you may read and write there, or choose another place"
    return said


def _fail(message: str) -> int:
    _complain("error: " + "\n".join(map(clean, message.splitlines())))
    return EXIT_ERROR


def _write(stream: TextIO | None, line: str) -> None:
    if stream is not None:
        print(line, file=stream, flush=True)


def _complain(line: str) -> None:
    with suppress(OSError):  # where nobody listens to complaints, work goes on
        _write(sys.stderr, line)


def _is_live(stream: TextIO | None) -> bool:
    return stream is not None and stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _let_go(stream: TextIO | None) -> None:
    """Let what a stream can take no more of go nowhere, so that Python's last flush is quiet."""
    try:
        if stream is not None:
            stream.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)
