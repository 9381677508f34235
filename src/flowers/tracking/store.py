"""The MLflow store: its address, whether it can be reached, and a lock for several processes."""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.tracking import local_store

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

_CHECK_SECONDS = 3.0  # for one response to the health check
_CHECK_SECONDS_IN_ALL = 6.0  # with name look-up and slow responses, which no socket timeout bounds
_LOCK_SECONDS = 600.0

SHORT = (4, 1)  # seconds for one request to a server, and number of retries: while someone waits
LONG = (60, 2)  # while a model of 100 MB is sent


class StoreUnreachable(UserError):
    """The tracking server does not respond. Nothing is lost; the text says what to run later."""


def root() -> Path:
    """The root that owns the store; inside a queued experiment, which runs in a copy, the original repository's."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def uri() -> str:
    """The store's address: `MLFLOW_TRACKING_URI`, else sqlite in `root()`, which is MLflow's own default there.

    A relative sqlite path is taken from `root()`, so that queued experiments share one store.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{local_store.DATABASE}"
    scheme, _, path = given.partition(":///")
    if not (scheme.startswith("sqlite") and path):
        return given
    # Only % is quoted: MLflow creates the folder of a quoted path, too, beside the real one.
    return f"{scheme}:///{(root() / unquote(path)).as_posix().replace('%', '%25')}"


def _database(address: str) -> Path | None:
    """The file of an sqlite store."""
    scheme, _, path = address.partition(":///")
    return Path(unquote(path.partition("?")[0])) if scheme.startswith("sqlite") else None


def is_local() -> bool:
    """Whether the store is that of this checkout."""
    return _database(uri()) == root() / local_store.DATABASE


def exists() -> bool:
    """Whether there is a store: the local one is created by the first run."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or local_store.exists(root())


def is_server(address: str) -> bool:
    """Whether the store is reached over the network and keeps artifacts itself."""
    return address.startswith(("http://", "https://", "databricks", "uc:"))


def local_path(location: str, address: str | None = None) -> Path | None:
    """The path of an artifact's location; None if it is on a server.

    A relative one starts from the folder of the database at `address`, by default the store's.
    """
    from mlflow.utils.file_utils import local_file_uri_to_path

    if location.startswith("file:"):
        return Path(local_file_uri_to_path(location))
    if location.startswith("/") or ":" in location:
        return None
    database = _database(address or uri())
    return Path(database.parent if database else root(), local_file_uri_to_path(location))


def artifact_folder() -> Path:
    """The folder of the artifacts of a store without a server."""
    return root() / local_store.ARTIFACTS


def check_reachable(address: str) -> None:
    """Raise StoreUnreachable unless the server at `address` responds within seconds; other stores always pass.

    MLflow's own retries take minutes.
    """
    if not address.startswith(("http://", "https://")):
        return
    problem = [f"no answer within {_CHECK_SECONDS_IN_ALL:g} s"]

    def check() -> None:
        import requests

        try:
            status = requests.get(f"{address.rstrip('/')}/health", timeout=_CHECK_SECONDS, stream=True).status_code
            # Any status but those of a proxy without its server will do: hosted servers may not have this page.
            problem[:] = [f"status {status}"] if status in (502, 503, 504) else []
        except requests.exceptions.SSLError:
            problem.clear()  # the server is there; MLflow has the certificates to trust
        except Exception as error:
            problem[:] = [_root_cause(error)]

    thread = threading.Thread(target=check, daemon=True)
    thread.start()
    thread.join(_CHECK_SECONDS_IN_ALL)
    if found := problem[:1]:
        raise StoreUnreachable(f"MLFLOW_TRACKING_URI: {without_password(address)} cannot be reached ({found[0]})")


def _root_cause(error: BaseException) -> str:
    """The text of the first error below the layers of an HTTP library."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


def without_password(address: str) -> str:
    """The address without the user and password that it may hold."""
    return re.sub(r"//[^/@\s]*@", "//", address)


def reason(error: BaseException) -> str:
    """The start of an error's text in one line; MLflow's texts hold the whole address."""
    return without_password(" ".join(str(error).split()))[:200]


@contextlib.contextmanager
def lock(name: str = "store") -> Iterator[None]:
    """Let one process of this repository in at a time. Raises UserError if the tracking folder cannot be written.

    Two processes that create a fresh sqlite store at once would both fail, and both would create the same run.
    """
    import filelock

    folder = root() / paths.TRACKING
    file = folder / f".{name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(file, timeout=_LOCK_SECONDS)
        held.acquire()
    except filelock.Timeout:
        raise UserError(f"{file}: held by another process for {_LOCK_SECONDS:g} s") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); runs are kept there") from None
    try:
        yield
    finally:
        held.release()


def load() -> None:
    """Import MLflow, silent. Raises nothing for a store that is not there."""
    silence()
    import mlflow  # noqa: F401


def connect() -> "MlflowClient":
    """A client of the store; creates a local one at first use. Call it under `lock`.

    Raises StoreUnreachable, or UserError if MLflow rejects the address or cannot open the store.
    """
    address = uri()
    check_reachable(address)
    silence()
    from mlflow import MlflowClient

    # MLflow logs a database's error with its stack trace, and raises it, too.
    logging.getLogger("mlflow").setLevel(logging.CRITICAL)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        read_relative_locations()
        if is_local():
            local_store.take_over(root())
            if not local_store.exists(root()):
                local_store.create(address, root())
        client = MlflowClient(tracking_uri=address)
        client.search_experiments(max_results=1)
        if is_local():
            local_store.relocate(root())
    except Exception as error:  # MLflow, SQLAlchemy and alembic each have their own
        kind = StoreUnreachable if is_server(address) else UserError
        raise kind(f"the tracking store {without_password(address)} cannot be opened: {reason(error)}") from error
    return client


def read_relative_locations() -> None:
    """Let MLflow take relative locations from the store's folder: a queued experiment runs in another one."""
    from mlflow.store.artifact import artifact_repository_registry as registry
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    def repository(location: str, tracking_uri: str | None = None, *rest: Any, **more: Any) -> LocalArtifactRepository:
        path = local_path(location, tracking_uri)
        return LocalArtifactRepository(path.as_uri() if path else location, tracking_uri, *rest, **more)

    registry._artifact_repository_registry.register("", repository)


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn errors of MLflow and the network into a UserError; `doing` is such as "publishing to"."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__name__ not in ("MlflowException", "RestException"):
            raise
        kind = StoreUnreachable if is_server(uri()) else UserError
        raise kind(f"{doing} {without_password(uri())} failed: {reason(error)}") from error


def found(find: Callable[..., T], *arguments: object, by_name: bool = False) -> T | None:
    """What a method of MLflow's client returns; None if there is no such thing in the store."""
    from mlflow.exceptions import MlflowException

    try:
        return find(*arguments)
    except MlflowException as error:
        # A server with passwords refuses (403) what is not there, so that nobody can find out names.
        missing = error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
        if missing or (by_name and error.get_http_status_code() == 403):
            return None
        raise


def silence() -> None:
    """Switch off MLflow's telemetry and messages. Call it before the first import of MLflow."""
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    # Through the tracking server, which alone can be relied on to reach the bucket behind it: where a client cannot,
    # MLflow's own way of fetching from there hangs for minutes.
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")


@contextlib.contextmanager
def patience(seconds: int, retries: int) -> Iterator[None]:
    """Bound how long MLflow waits for a server, unless the user set it; its own bounds add up to minutes."""
    bounds = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    }
    ours = {name: value for name, value in bounds.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)
