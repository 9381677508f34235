"""A PostgreSQL server of a test's own: on loopback, with a password, in a folder that goes with it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

USER = "flowers"
PASSWORD = "open sesame/100%@home"  # what must be quoted in an address, is
SECRET = "sesame"  # the part of it that stays the same however it is quoted

_PATIENCE = 60.0  # seconds


class Server:
    """A server that can be stopped and started again, at the same address."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._data, self._log = folder / "data", folder / "log.txt"
        self._as_whom = _somebody(folder) if os.geteuid() == 0 else {}  # PostgreSQL refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0

    def url(self, database: str) -> str:
        """The address of a database, password included."""
        return f"postgresql://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{self.port}/{database}"

    def create(self) -> str:
        """Make an empty database; its address."""
        import psycopg

        self._databases += 1
        database = f"studies{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def start(self) -> None:
        """Start it, and wait until it answers. Raises OSError where it ends instead."""
        self._process = self._run("postgres", "-D", self._data, "-p", self.port)
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise OSError(self._log.read_text(errors="replace"))
            time.sleep(0.05)

    def stop(self) -> None:
        """End it at once, as a failing machine would: connections break, what was committed stays."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def lay_out(self) -> None:
        """Make its files, and start it for the first time."""
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._process = self._run(
            *("initdb", "--pgdata", self._data, "--username", USER, "--pwfile", password, "--auth", "scram-sha-256"),
            *("--no-locale", "--encoding", "UTF8", "--no-sync"),
        )
        assert self._process.wait(_PATIENCE) == 0, self._log.read_text(errors="replace")
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(
                "listen_addresses = '127.0.0.1'\nfsync = off\nfull_page_writes = off\nshared_buffers = 16MB\n"
            )
            settings.write("unix_socket_directories = ''\n")  # the path of a socket must be short
        for attempt in range(5):
            self.port = free_port()
            try:
                self.start()
            except OSError:  # another process was faster at that port
                if attempt == 4:
                    raise
            else:
                return

    def _answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: object) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [self._programs / program, *map(str, arguments)],
                cwd=self._folder,
                env=environment | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._as_whom,
            )


@contextlib.contextmanager
def running() -> Iterator[Server]:
    """A server while the body runs; where PostgreSQL is not installed, the test is skipped."""
    programs = _programs()
    if programs is None:
        pytest.skip("needs PostgreSQL's initdb and postgres, on PATH or in /usr/lib/postgresql/*/bin")
    # Not pytest's folder: that is closed to everybody but its owner.
    folder = Path(tempfile.mkdtemp(prefix="flowers-postgres-"))
    server = Server(programs, folder)
    try:
        server.lay_out()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A loopback port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _programs() -> Path | None:
    """The folder of the newest installed PostgreSQL."""
    found = [Path(file).resolve().parent for file in [shutil.which("initdb")] if file]
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(versions, key=lambda folder: (len(folder.parent.name), folder.parent.name), reverse=True)
    return next((folder for folder in found if all((folder / name).is_file() for name in ("initdb", "postgres"))), None)


def _somebody(folder: Path) -> dict[str, object]:
    """Give a folder to a user without rights; what makes a process one of that user's."""
    import pwd

    names = {user.pw_name: user for user in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
