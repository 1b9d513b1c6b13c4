"""Settings of Pillow and libtiff while files are decoded: no warnings on the terminal, no truncated files.

Their exceptions say the same.
"""

import contextlib
import ctypes
import functools
import logging
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from PIL import ImageFile, _imaging

__all__ = ["silence_libtiff", "strict_and_quiet"]

# Python prints the errors that a library logs, unless a handler is installed
logging.getLogger("PIL").addHandler(logging.NullHandler())

_guard = threading.Lock()
_n_decoding = 0
_takes_truncated = False
_PILLOW: Any = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextlib.contextmanager
def strict_and_quiet() -> Iterator[None]:
    """Drop Pillow's warnings while any thread decodes, and make it refuse truncated files, whatever other code set.

    Both settings belong to the whole process; warnings.catch_warnings() is not thread-safe.
    """
    global _n_decoding, _takes_truncated
    filters: Any = warnings.filters
    with _guard:
        _n_decoding += 1
        if _n_decoding == 1:
            filters.insert(0, _PILLOW)
            _takes_truncated, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, False
    try:
        yield
    finally:
        with _guard:
            _n_decoding -= 1
            if _n_decoding == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = _takes_truncated
                if _PILLOW in filters:
                    filters.remove(_PILLOW)


@functools.cache
def silence_libtiff() -> None:
    """Silence what libtiff prints about damaged files; Pillow raises an exception as well.

    Without effect if libtiff is linked into Pillow without its symbols (some Windows builds).
    """
    with contextlib.suppress(OSError, AttributeError):
        libtiff = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            set_handler = getattr(libtiff, name)
            set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
            set_handler(None)
