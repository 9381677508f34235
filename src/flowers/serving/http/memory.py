"""Freed memory back to the system; does nothing where the C library is not glibc."""

import contextlib
import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt, in malloc.h


def configure() -> None:
    """Let the pixels of a large image (Pillow's blocks of 16 MB) leave as they are freed, whatever lies around them."""
    _glibc("mallopt", _MMAP_THRESHOLD, 8 * 2**20)
    _glibc("mallopt", _TRIM_THRESHOLD, 64 * 2**20)


def trim() -> None:
    """Give back what is free now; takes up to 0.2 s."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *arguments: int) -> None:
    with contextlib.suppress(AttributeError, OSError, TypeError):
        getattr(ctypes.CDLL(None), function)(*arguments)
