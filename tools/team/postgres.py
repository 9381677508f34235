"""A PostgreSQL server on loopback, with a password, in a folder."""

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

from team.process import NotStarted, Process, free_port, write_secret

USER = "flowers"

# Data that goes away needs no protection against a power failure.
_SETTINGS = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
full_page_writes = off
shared_buffers = 16MB
"""


def programs() -> Path | None:
    """The folder of the newest installed PostgreSQL."""
    found = [Path(file).resolve().parent for file in [shutil.which("initdb")] if file]
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(versions, key=lambda folder: (len(folder.parent.name), folder.parent.name), reverse=True)
    return next((folder for folder in found if all((folder / name).is_file() for name in ("initdb", "postgres"))), None)


class Postgres:
    """A server that can be stopped and started again, at the same address. Creating it starts it."""

    def __init__(self, folder: Path, password: str) -> None:
        """Make its files in `folder`, which PostgreSQL's own user must be able to enter, and start it."""
        installed = programs()
        if installed is None:
            raise NotStarted("needs PostgreSQL's initdb and postgres (Debian: apt install postgresql)")
        self._programs, self._folder, self._password = installed, folder, password
        self._process = Process("postgres", folder)
        self._as_whom = _somebody(folder) if os.geteuid() == 0 else {}  # PostgreSQL refuses to run as root
        self._databases = 0
        self._lay_out()
        for attempt in range(5):
            self.port = free_port()
            try:
                self.start()
            except NotStarted:  # another process was faster at that port
                if attempt == 4:
                    raise
            else:
                return

    def url(self, database: str) -> str:
        """The address of a database, password included."""
        return f"postgresql://{USER}:{quote(self._password, safe='')}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str | None = None) -> str:
        """Make an empty database, of this name or of a new one; its address, password included."""
        import psycopg
        from psycopg import sql

        self._databases += 1
        database = database or f"studies{self._databases}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        return self.url(database)

    def start(self) -> None:
        """Start it, and wait until it responds."""
        command: list[str | Path] = [self._programs / "postgres", "-D", self._folder / "data", "-p", str(self.port)]
        self._process.start(command, _environment(), self._responds, **self._as_whom)

    def stop(self) -> None:
        """End it at once, as a failing machine would: connections break, what was committed stays."""
        self._process.stop(signal.SIGQUIT)

    def _lay_out(self) -> None:
        password = self._folder / "password"
        write_secret(password, self._password)
        if self._as_whom:
            shutil.chown(password, self._as_whom["user"], self._as_whom["group"])
        options = ("--auth", "scram-sha-256", "--no-locale", "--encoding", "UTF8", "--no-sync")
        where = ("--pgdata", self._folder / "data", "--username", USER, "--pwfile", password)
        made = subprocess.run(
            [self._programs / "initdb", *where, *options],
            cwd=self._folder,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
            **self._as_whom,
        )
        password.unlink()
        if made.returncode:
            raise NotStarted(made.stdout + made.stderr)
        with (self._folder / "data" / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)

    def _responds(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self.url("postgres"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {"LC_ALL": "C"}


def _somebody(folder: Path) -> dict[str, Any]:
    """Give a folder to a user without rights; what makes a process one of that user's."""
    names = {user.pw_name: user for user in pwd.getpwall()}
    user = names.get("postgres") or names["nobody"]
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
