"""A PostgreSQL server of a test's own: on loopback, with a password, in a folder that goes with it."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from team.postgres import Postgres, programs
from team.process import free_port

__all__ = ["PASSWORD", "SECRET", "Postgres", "free_port", "running"]

PASSWORD = "open sesame/100%@home"  # what must be quoted in an address, is
SECRET = "sesame"  # the part of it that stays the same however it is quoted


@contextlib.contextmanager
def running() -> Iterator[Postgres]:
    """A server while the body runs; where PostgreSQL is not installed, the test is skipped."""
    if programs() is None:
        pytest.skip("needs PostgreSQL's initdb and postgres, on PATH or in /usr/lib/postgresql/*/bin")
    # Not pytest's folder: that is closed to everybody but its owner.
    folder = Path(tempfile.mkdtemp(prefix="flowers-postgres-"))
    server = None
    try:
        server = Postgres(folder, PASSWORD)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
