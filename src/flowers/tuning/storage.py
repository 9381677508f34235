"""Where studies are kept: a journal file in the tracking folder, or a database that several machines share."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers import paths
from flowers.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

_CONNECT_SECONDS = 5  # to a server that does not answer
_ATTEMPTS = 5  # of two machines that lay out the tables of a fresh database at once, one fails


class StorageTrouble(UserError):
    """The storage cannot be read or written (any more): a study ends there, and can be resumed."""


class Storage:
    """An Optuna storage, `optuna`, and a lock between all processes that use it, on any machine."""

    def __init__(self, address: str | None = None) -> None:
        """`address` is a database (postgresql://...) or a journal file. Raises StorageTrouble if it cannot be used."""
        self.address = address or paths.STUDIES.as_posix()
        self.shown = re.sub(r"//[^/@]*@", "//", self.address)  # without user and password
        scheme = self.address.partition("://")[0] if "://" in self.address else ""
        if scheme.startswith("redis"):
            raise StorageTrouble(f"{self.shown}: studies cannot be shared through Redis; a PostgreSQL or MySQL can")
        self._is_server = bool(scheme) and not scheme.startswith("sqlite")
        with self.explained():
            self.optuna = self._database(scheme) if scheme else _journal(Path(self.address))

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the lock. The database, or else the operating system, releases that of a process that died."""
        with self.explained(), self._row_locked() if self._is_server else _file_locked(self._lock_file()):
            yield

    @contextlib.contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what Optuna, the database and the disk raise into what a person can act on."""
        import sqlalchemy.exc

        try:
            yield
        except ImportError:
            raise StorageTrouble(
                f"{self.shown}: its driver is not installed; PostgreSQL's is: pip install 'psycopg[binary]'"
            ) from None
        except sqlalchemy.exc.ArgumentError as error:
            raise StorageTrouble(f"{self.shown}: no address of a database ({_first_line(error)})") from None
        except sqlalchemy.exc.SQLAlchemyError as error:
            raise StorageTrouble(f"the study storage {self.shown} cannot be used: {_first_line(error)}") from error
        except OSError as error:
            place = error.filename or self.shown
            raise StorageTrouble(f"{place}: {error.strerror or error}; studies are kept there") from None

    def _database(self, scheme: str) -> "BaseStorage":
        import sqlalchemy.exc
        from optuna.storages import RDBStorage

        if scheme.startswith("sqlite"):
            arguments: dict[str, Any] = {"connect_args": {"timeout": 60}}
        else:
            arguments = {"connect_args": {"connect_timeout": _CONNECT_SECONDS}, "pool_pre_ping": True}
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return RDBStorage(self.address, engine_kwargs=arguments)
            except (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError, AssertionError):
                if attempt == _ATTEMPTS:
                    raise
            except RuntimeError:  # of Optuna's version check
                upgrade = f"`optuna storage upgrade --storage {self.shown}`, or name a fresh storage"
                raise StorageTrouble(f"{self.shown} was made by another version of Optuna: {upgrade}") from None
        raise AssertionError

    @contextlib.contextmanager
    def _row_locked(self) -> Iterator[None]:
        """Lock the row of a table that Optuna itself only ever reads."""
        import sqlalchemy

        with self.optuna.engine.begin() as connection:  # type: ignore[attr-defined]
            connection.execute(sqlalchemy.text("SELECT version_info_id FROM version_info FOR UPDATE"))
            yield

    def _lock_file(self) -> Path:
        file = self.address.partition(":///")[2] or self.address
        return Path(f"{file}.lock")


def _journal(file: Path) -> "BaseStorage":
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    file.parent.mkdir(parents=True, exist_ok=True)
    file.open("ab").close()  # a folder or disk that cannot be written says so here
    try:
        with warnings.catch_warnings(action="ignore"):
            # Optuna's own lock stays for half a minute where its holder died.
            lock: Any = _JournalLock(Path(f"{file}.append.lock"))
            return JournalStorage(JournalFileBackend(str(file), lock))
    except OSError:
        raise
    except Exception as error:  # whatever comes of reading lines that are none
        reason = f"{type(error).__name__}: {_first_line(error)}"
        raise StorageTrouble(
            f"{file}: no journal of studies that this version of Optuna understands ({reason}); name another storage"
        ) from None


class _JournalLock:
    """One process at a time appends; the dead hold nothing."""

    def __init__(self, file: Path) -> None:
        import filelock

        self._lock = filelock.FileLock(file)

    def acquire(self) -> bool:
        self._lock.acquire(poll_interval=0.005)
        return True

    def release(self) -> None:
        self._lock.release()


@contextlib.contextmanager
def _file_locked(file: Path) -> Iterator[None]:
    import filelock

    with filelock.FileLock(file).acquire(poll_interval=0.02):
        yield


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
