"""Locks between the processes of a machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flowers.common import console


@contextlib.contextmanager
def held(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock file at `path`; while another process holds it, print `waiting` and wait.

    The operating system releases the lock of a process that ends.
    """
    import filelock

    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        console.say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
