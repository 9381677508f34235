"""The storage of studies: a journal file in the tracking folder, or a database that several machines share."""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import sqlalchemy
import sqlalchemy.exc
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from flowers.common import paths
from flowers.common.errors import UserError

_CONNECT_SECONDS = 5  # to a server that does not answer
_LOCK_SECONDS = 300  # after which a database stops waiting for a machine that holds the lock and is gone
_ATTEMPTS = 5  # when two machines create the tables of a fresh database at once, one of them fails
_RACED = re.compile("already exists|UNIQUE|duplicate|locked|no such table")
_MEMORY = ("sqlite://", "sqlite:///", "sqlite:///:memory:")


class StorageTrouble(UserError):
    """The storage cannot be read or written; the command ends, and the study can be resumed later."""


class Storage:
    """An Optuna storage, `optuna`, and a lock between all processes that use it, on any machine."""

    def __init__(self, address: str | None = None) -> None:
        """`address` is a database (postgresql://...) or a journal file. Raises StorageTrouble if it cannot be used."""
        self.address = address or paths.STUDIES.as_posix()
        self.shown = shown(self.address)
        scheme = self.address.partition("://")[0] if "://" in self.address else ""
        if self.address in _MEMORY:
            raise StorageTrouble(f"{self.address}: a study in memory ends with its process; name a file")
        self._is_server = bool(scheme) and not scheme.startswith("sqlite")
        with self.explained():
            self.optuna = self._database(scheme) if scheme else _journal(Path(self.address))

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock. When a process dies, the database or the operating system releases its lock."""
        with self.explained():
            lock = self._row_locked() if self._is_server else self._file_locked()
            lock.__enter__()
        try:
            yield
        finally:
            with self.explained():
                lock.__exit__(None, None, None)

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of Optuna, the database and the disk into StorageTrouble with what to do."""
        try:
            yield
        except ImportError:
            raise StorageTrouble(
                f"{self.shown}: its driver is not installed; PostgreSQL's is: pip install 'psycopg[binary]'"
            ) from None
        except sqlalchemy.exc.ArgumentError as error:
            raise StorageTrouble(f"{self.shown}: not a database address ({self._reason(error)})") from None
        except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
            raise StorageTrouble(f"the study storage {self.shown} cannot be used: {self._reason(error)}") from error
        except json.JSONDecodeError as error:
            raise StorageTrouble(f"{self.shown}: the journal of studies is damaged ({error})") from error
        except OSError as error:
            place = error.filename or self.shown
            raise StorageTrouble(f"{place}: {error.strerror or error}; studies are kept there") from None

    def _database(self, scheme: str) -> BaseStorage:
        if scheme.startswith("sqlite"):
            arguments: dict[str, Any] = {"connect_args": {"timeout": 60}}
        else:
            arguments = {"connect_args": {"connect_timeout": _CONNECT_SECONDS}, "pool_pre_ping": True}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return RDBStorage(self.address, engine_kwargs=arguments)
            except ValueError as error:  # a port that is not a number
                raise StorageTrouble(f"{self.shown}: not a database address ({self._reason(error)})") from None
            except (sqlalchemy.exc.DatabaseError, AssertionError) as error:
                if attempt == _ATTEMPTS or not (isinstance(error, AssertionError) or _RACED.search(str(error))):
                    raise
                time.sleep(0.2 * attempt)
            except RuntimeError as error:  # of Optuna's version check
                upgrade = f"`optuna storage upgrade --storage {self.shown}`" if "upgrade" in str(error) else "update it"
                raise StorageTrouble(
                    f"{self.shown} was made by another version of Optuna: {upgrade}, or name a fresh storage"
                ) from None
        raise AssertionError

    @contextlib.contextmanager
    def _row_locked(self) -> Iterator[None]:
        """Lock the row of a table that Optuna only reads."""
        engine = self.optuna.engine
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                for timeout in ("lock_timeout", "idle_in_transaction_session_timeout"):
                    connection.execute(sqlalchemy.text(f"SET LOCAL {timeout} = '{_LOCK_SECONDS}s'"))
            connection.execute(sqlalchemy.text("SELECT version_info_id FROM version_info FOR UPDATE"))
            yield

    def _file_locked(self) -> contextlib.AbstractContextManager[object]:
        """Lock a file; `<file>.lock` is Optuna's own, which its programs remove when it is old."""
        file = self.address.partition(":///")[2] or self.address
        return filelock.FileLock(f"{file}.turn.lock").acquire(poll_interval=0.02)

    def _reason(self, error: BaseException) -> str:
        """The first line of an error's text, or of its cause if Optuna wraps it, without passwords."""
        cause = error.__cause__ if type(error).__name__ == "StorageInternalError" else None
        lines = str(cause or error).strip().splitlines() or [type(error).__name__]
        text = lines[0][:200]
        user = re.search(r"://([^/].*)@", self.address)  # after three slashes, an @ belongs to a file's name
        secrets = re.split(r"[:/@]", user[1])[1:] if user else []
        for secret in [*secrets, *re.findall(r"password=([^&]+)", self.address)]:
            text = text.replace(secret, "***") if len(secret) > 3 else text  # a shorter one is part of many words
        return text


def shown(address: str) -> str:
    """The address without user and password."""
    return re.sub(r"password=[^&]*", "password=***", re.sub(r"(?<=://)[^/].*@", "", address))


def _journal(file: Path) -> BaseStorage:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.open("ab").close()  # raises OSError if it cannot be written
    with file.open("rb") as stream:
        first = stream.readline(200)
    try:
        if first and not first.startswith(b'{"op_code"'):
            raise ValueError(first.decode(errors="replace").strip()[:40])
        # Optuna's own lock stays for half a minute if its holder died.
        return JournalStorage(JournalFileBackend(str(file), _AppendLock(file)))
    except OSError:
        raise
    except Exception as error:  # anything: the file may hold anything
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise StorageTrouble(
            f"{file}: not a journal of studies that this version of Optuna can read ({reason}); name another storage"
        ) from None


class _AppendLock:
    """The lock for appending to a journal: free at once when its holder dies, whose incomplete line is removed."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._lock = filelock.FileLock(f"{file}.append.lock")

    def acquire(self) -> bool:
        self._lock.acquire(poll_interval=0.005)
        try:
            self._remove_incomplete_line()
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()

    def _remove_incomplete_line(self) -> None:
        """A killed process or a full disk may leave one, which readers ignore; the next line would be lost with it."""
        with self._file.open("r+b") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 1))
            if stream.read() not in (b"", b"\n"):
                stream.seek(0)
                stream.truncate(stream.read().rfind(b"\n") + 1)
