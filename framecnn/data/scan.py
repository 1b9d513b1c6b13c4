"""The scan of a folder of frames: every file is decoded once to find out whether it can be used."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from framecnn.data.decode import FileState, SkippedFrame, decode_with_state
from framecnn.data.loader import map_ahead
from framecnn.data.machine_errors import machine_error
from framecnn.data.near_duplicates import Fingerprint, fingerprint
from framecnn.data.reasons import Skip
from framecnn.execution import check_cancelled, get_executor
from framecnn.thread_count import get_num_threads

__all__ = ["Scanned", "scan"]

_MOST_FILES_AT_ONCE = 16  # that a thread takes
_FILES_PER_TASK = 256  # on a cluster
_SAMPLE = 8  # files that all workers must see


@dataclass(frozen=True)
class Scanned:
    """The facts about a usable file that are kept after the scan.

    Parameters
    ----------
    state : FileState
        The size and time of modification of the file, by which later changes are noticed.
    notes : tuple of str
        The notes of ``decode``.
    fingerprint : Fingerprint
        The hashes by which its near-duplicates are found.
    """

    state: FileState
    notes: tuple[str, ...]
    fingerprint: Fingerprint


def scan(
    root: Path, paths: Sequence[str], size: tuple[int, int], progress: Callable[[int, int], object] | None = None
) -> Iterator[tuple[str, Scanned | Skip]]:
    """Decode every file once, in threads or on a cluster, and yield the result, in the order of the paths.

    Parameters
    ----------
    root : Path
        The folder that holds the class folders.
    paths : sequence of str
        The files, relative to `root`.
    size : (int, int)
        Height and width in pixels to decode to.
    progress : callable, optional
        Called as ``progress(done, total)`` after each file.

    Yields
    ------
    (str, Scanned or Skip)
        The path, and the facts about the file or the reason why it is not used.
    """
    executor = get_executor()
    executor.check_files(os.path.join(root, path) for path in paths[:: 1 + len(paths) // _SAMPLE])
    tasks = ((portion,) for portion in executor.portions(paths, _FILES_PER_TASK))
    looked = chain.from_iterable(executor.map(_look_at, (root, size), tasks))
    for done, (path, seen) in enumerate(zip(paths, looked, strict=True), 1):
        yield path, seen
        if progress is not None:
            progress(done, len(paths))


def _look_at(shared: tuple[Path, tuple[int, int]], paths: Sequence[str]) -> Iterator[Scanned | Skip]:
    """Yield the facts about some files, decoded in threads."""
    root, size = shared

    def look(path: str) -> Scanned | Skip:
        try:
            decoded, state = decode_with_state(os.path.join(root, path), size, enlarge=False)
            return Scanned(state, decoded.notes, fingerprint(decoded.pixels))
        except SkippedFrame as skipped:
            return Skip(path, skipped.reason, skipped.detail)
        except MemoryError as error:
            raise (machine_error(error, path) or error) from error

    threads = get_num_threads()
    n_at_once = min(_MOST_FILES_AT_ONCE, 1 + len(paths) // (8 * threads))
    portions = [paths[start : start + n_at_once] for start in range(0, len(paths), n_at_once)]
    for looked in map_ahead(lambda portion: list(map(look, portion)), portions, threads, 2 * threads):
        check_cancelled()
        yield from looked
