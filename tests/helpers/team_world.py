"""The servers of a team for one module of tests, behind proxies that can fail."""

import contextlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fault_proxy import FaultProxy

from team import postgres, servers

DRIVERS = ("moto", "s3fs", "dvc_s3", "flask_wtf", "psycopg")


@contextlib.contextmanager
def running(bucket_faults: FaultProxy | None = None) -> Iterator[servers.Servers]:
    """The servers; MLflow's reaches the bucket through the proxy, if there is one. Skips where something is missing."""
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL's initdb and postgres, on PATH or in /usr/lib/postgresql/*/bin")
    if missing := [name for name in DRIVERS if importlib.util.find_spec(name) is None]:
        pytest.skip(f"needs `make extras` ({', '.join(missing)})")
    above = Path(tempfile.mkdtemp(prefix="flowers-team-"))
    above.chmod(0o711)  # PostgreSQL's user passes through it
    made = None
    try:
        made = servers.Servers(above / "servers", bucket_faults.address if bucket_faults else None)
        if bucket_faults:
            bucket_faults.port = made.s3.port
        yield made
    finally:
        if made is not None:
            made.down()
        shutil.rmtree(above, ignore_errors=True)


def command_lines() -> str:
    """The command lines of all processes of this machine."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.append(" ".join(process.cmdline()))
    return "\n".join(found)
