"""Where runs are kept: which MLflow store, whether it answers, and how several processes share it."""

import contextlib
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import Params

if TYPE_CHECKING:
    from mlflow import MlflowClient

_CHECK_SECONDS = 3.0  # for one answer of the health check
_CHECK_SECONDS_IN_ALL = 6.0  # name look-up and slow answers included, which no socket timeout bounds
_LOCK_SECONDS = 600.0

_KIND = {"mlflow.experimentKind": "custom_model_development"}  # else the UI asks, or guesses language models

SHORT = (4, 1)  # seconds for one request to a server, and how often it is tried again: while someone waits
LONG = (60, 2)  # while a model of 100 MB is sent


class StoreUnreachable(UserError):
    """The tracking server does not answer; nothing is lost, and the text says what to run later."""


def root() -> Path:
    """The root that owns the store: the true repository's inside a queued experiment, which runs in a copy of it."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()


def uri() -> str:
    """The store's address: `MLFLOW_TRACKING_URI`, else sqlite in the tracking folder under `root()`.

    A relative sqlite path is taken from `root()`, so that queued experiments do not each make a store of their own.
    """
    given = os.environ.get("MLFLOW_TRACKING_URI")
    if not given:
        return f"sqlite:///{_database().as_posix()}"
    scheme, separator, path = given.partition(":///")
    if separator and scheme.startswith("sqlite") and path and not Path(path).is_absolute():
        return f"{scheme}:///{(root() / path).as_posix()}"
    return given


def _database() -> Path:
    return root() / paths.TRACKING / "mlflow.db"


def exists() -> bool:
    """Whether there is a store: the local one is made when something is published first."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI")) or _database().exists()


def is_server(address: str) -> bool:
    """Whether the store is reached over the network and keeps artifacts itself."""
    return address.startswith(("http://", "https://", "databricks", "uc:"))


def artifact_folder() -> Path:
    """Where artifacts of a store without a server of its own are kept."""
    return root() / paths.TRACKING / "artifacts"


def experiment_name(params: Params) -> str:
    """The experiment of the data set."""
    return experiment_of(params.dataset.name, params.dataset.path)


def experiment_of(dataset: str, path: str) -> str:
    """One experiment a data set: its catalogue name, or for a folder of one's own the folder's name."""
    own = dataset == "local" and path != "data.yaml"
    return f"flowers {(own and Path(path).name) or dataset}"


def check_reachable(address: str) -> None:
    """Raise StoreUnreachable unless the server at `address` answers within seconds; other stores always pass.

    MLflow itself would try again and again for minutes.
    """
    if not address.startswith(("http://", "https://")):
        return
    problem = [f"no answer within {_CHECK_SECONDS_IN_ALL:g} s"]

    def ask() -> None:
        import requests

        try:
            status = requests.get(f"{address.rstrip('/')}/health", timeout=_CHECK_SECONDS, stream=True).status_code
        except requests.exceptions.SSLError:
            problem.clear()  # it is there; MLflow knows which certificates to trust
        except Exception as error:
            problem[:] = [_root_cause(error)]
        else:
            # Any answer but "the server behind me is down" is one: hosted servers may not have this page.
            problem[:] = [f"it answers {status}"] if status in (502, 503, 504) else []

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_CHECK_SECONDS_IN_ALL)
    if reason := problem[:1]:
        raise StoreUnreachable(f"MLFLOW_TRACKING_URI: {without_password(address)} cannot be reached ({reason[0]})")


def _root_cause(error: BaseException) -> str:
    """The text of what went wrong below the layers of an HTTP library."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


def without_password(address: str) -> str:
    """The address as it may be shown: without the user and password it may hold."""
    return re.sub(r"//[^/@\s]*@", "//", address)


@contextlib.contextmanager
def lock(name: str = "store") -> Iterator[None]:
    """One process of this repository at a time. Raises UserError if the tracking folder cannot be written.

    Two processes that create a fresh sqlite store at once would both die, and both would create the same run.
    """
    import filelock

    folder = root() / paths.TRACKING
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = filelock.FileLock(folder / f".{name}.lock", timeout=_LOCK_SECONDS)
        held.acquire()
    except filelock.Timeout:
        raise UserError(f"{folder / f'.{name}.lock'}: held by another process for {_LOCK_SECONDS:g} s") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}); runs are kept there") from None
    try:
        yield
    finally:
        held.release()


def connect() -> "MlflowClient":
    """A client of the store; creates a local one at first use. Call it under `lock`.

    Raises StoreUnreachable, or UserError if MLflow refuses the address or cannot open the store.
    """
    address = uri()
    check_reachable(address)
    silence()
    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        if address.endswith(f"///{_database().as_posix()}") and not _database().exists():
            _create(address)
        client = MlflowClient(tracking_uri=address)
        client.search_experiments(max_results=1)
    except Exception as error:  # MLflow, SQLAlchemy and alembic each have their own
        kind = StoreUnreachable if is_server(address) else UserError
        reason = without_password(" ".join(str(error).split()))[:200]  # MLflow's texts hold the whole address
        raise kind(f"the tracking store {without_password(address)} cannot be opened: {reason}") from error
    return client


@contextlib.contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what MLflow and the network raise into what a person can act on; `doing` is such as "publishing to"."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__name__ not in ("MlflowException", "RestException"):
            raise
        reason = without_password(" ".join(str(error).split()))[:200]
        kind = StoreUnreachable if is_server(uri()) else UserError
        raise kind(f"{doing} {without_password(uri())} failed: {reason}") from error


def _create(address: str) -> None:
    """Lay out a fresh store, with the artifacts of MLflow's own Default experiment in a place that lasts as well."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(address, artifact_folder().as_uri())


def silence() -> None:
    """Keep MLflow from reporting its use to its makers, and from chatting. Must come before its first import."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }.items():
        os.environ[name] = value


@contextlib.contextmanager
def patience(seconds: int, retries: int) -> Iterator[None]:
    """Bound how long MLflow waits for a server, where the user has not set it; its own bounds add up to minutes."""
    bounds = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    }
    ours = [name for name in bounds if name not in os.environ]
    os.environ.update({name: bounds[name] for name in ours})
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def experiment_id(client: "MlflowClient", params: Params) -> str:
    """The experiment of the data set, created if need be. Call it under `lock`."""
    from mlflow.exceptions import MlflowException

    name = experiment_name(params)
    for candidate in (name, *(f"{name} ({number})" for number in range(2, 100))):
        experiment = client.get_experiment_by_name(candidate)
        if experiment is None:
            # Named explicitly, because MLflow would put artifacts under the current directory of whoever came first.
            location = None if is_server(uri()) else (artifact_folder() / _slug(candidate)).as_uri()
            try:
                return str(client.create_experiment(candidate, artifact_location=location, tags=_KIND))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(candidate)  # another machine was first
        # Restoring a deleted experiment would bring back all its runs, so it is left alone.
        if experiment is not None and experiment.lifecycle_stage == "active":
            return str(experiment.experiment_id)
    raise UserError(f"the tracking store holds 99 deleted experiments named '{name}'; clear them with `mlflow gc`")


def _slug(name: str) -> str:
    return re.sub(r"[^\w-]+", "_", name)
