"""One process at a time, between all processes of a machine."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flowers.common import console


@contextlib.contextmanager
def held(path: Path, waiting: str) -> Iterator[None]:
    """Hold the lock file at `path`; where another process does, say `waiting` and wait. The dead hold nothing."""
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
