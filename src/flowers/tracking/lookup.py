"""Find a run by its id or the start of it, the alias of a model version, its name, or its DVC experiment."""

import contextlib
import re
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.tracking import experiments, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

Settings = Callable[[], Params]  # called only where the data set decides: a server's runs are found without a checkout

CHAMPION = "champion"
SHORTEST_ID = 6


def registered_model(dataset: str, path: str) -> str:
    """The registered model of a data set, from dataset.name and .path, such as flowers-local."""
    return re.sub(r"[^\w.-]+", "-", experiments.experiment_of(dataset, path))


def find_anywhere(reference: str, settings: Settings) -> tuple["MlflowClient", "Run | None"]:
    """Connect to the store, and find the run with this id, alias, name or DVC experiment, or None.

    A run of `mlflow run` leads to the run it links to. A reference is also that of a registered model,
    models:/name@alias or models:/name/3. An alias without a model belongs to that of the data set, for which the
    settings are asked. Raises UserError if several runs match, or a deleted one, and StoreUnreachable.
    """
    # A server needs no lock, whose file would lie in whatever folder the command is typed.
    with contextlib.nullcontext() if store.is_server(store.uri()) else store.lock():
        client = store.connect()
    run = (
        _by_id(client, reference)
        or _by_version(client, reference)
        or _by_alias(client, reference, settings)
        or _by_text(client, "attributes.run_name = {}", reference, reference)
        or _by_text(client, f"tags.`{runs.EXPERIMENTS}` LIKE {{}}", f'%"{reference}"%', reference)
    )
    if run is not None and (holder := run.data.tags.get(runs.HOLDER)):
        run = client.get_run(holder)
    return client, run


def artifact(client: "MlflowClient", run: "Run", path: str) -> bytes | None:
    """The content of one of a run's artifacts; None if it is missing. Raises StoreUnreachable if a server fails."""
    from mlflow.exceptions import MlflowException

    place = None if store.is_server(store.uri()) else store.local_path(run.info.artifact_uri)
    if place is not None:  # in a tenth of the time that MLflow takes
        with contextlib.suppress(OSError):
            return (place / path).read_bytes()
        return None
    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run.info.run_id, path, folder)).read_bytes()
        except (OSError, MlflowException) as error:
            if store.is_server(store.uri()) and not _is_missing(client, run, path):
                message = f"the tracking server did not send '{path}': {store.reason(error)}"
                raise store.StoreUnreachable(message) from None
            return None


def _is_missing(client: "MlflowClient", run: "Run", path: str) -> bool:
    """Whether the server says that there is no such artifact: MLflow says the same of one that its bucket withholds."""
    from mlflow.exceptions import MlflowException

    try:
        there = client.list_artifacts(run.info.run_id, str(PurePosixPath(path).parent).strip("."))
    except MlflowException:
        return False
    return all(item.path != path for item in there)


def described(run: "Run") -> str:
    """A run as a message names it."""
    return f"{run.info.run_id[:8]} '{run.info.run_name}'"


def _by_id(client: "MlflowClient", reference: str) -> "Run | None":
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},32}}", reference):
        return None
    found = runs.search(client, f"attributes.run_id LIKE '{reference}%'", deleted=True)
    return _active(_only(found, reference)) if found else None


def _active(run: "Run") -> "Run":
    if run.info.lifecycle_stage != "active":
        raise UserError(
            f"run {described(run)} was deleted; to have it back: mlflow runs restore --run-id {run.info.run_id}"
        )
    return run


def _by_version(client: "MlflowClient", reference: str) -> "Run | None":
    parts = re.fullmatch(r"models:/([^/@]+)/(\d+)", reference)
    version = store.found(client.get_model_version, *parts.groups(), by_name=True) if parts else None
    return _of_version(client, reference, version) if version else None


def _by_alias(client: "MlflowClient", reference: str, settings: Settings) -> "Run | None":
    name, _, alias = reference.removeprefix("models:/").rpartition("@")
    if not re.fullmatch(r"[\w.-]+", alias):
        return None
    if not name:
        dataset = settings().dataset
        name = registered_model(dataset.name, dataset.path)
    version = store.found(client.get_model_version_by_alias, name, alias, by_name=True)
    return _of_version(client, reference, version) if version else None


def _of_version(client: "MlflowClient", reference: str, version: "ModelVersion") -> "Run":
    run = store.found(client.get_run, version.run_id)
    if run is None:
        raise UserError(f"'{reference}' is version {version.version} of a run that is gone for good")
    return _active(run)


def _by_text(client: "MlflowClient", condition: str, text: str, reference: str) -> "Run | None":
    """The run that meets a condition on `text`, which is put into the condition in quotes."""
    quote = "'" if "'" not in text else '"'  # MLflow's filters have no escapes
    if quote in text:
        return None
    found = runs.search(client, condition.format(f"{quote}{text}{quote}"))
    return _only(found, reference) if found else None


def _only(found: list["Run"], reference: str) -> "Run":
    if len(found) > 1:
        listed = console.listed([f"{described(run)} of {_began(run)}" for run in reversed(found)], shown=5)
        hint = f"give {SHORTEST_ID} or more characters of its id"
        raise UserError(f"'{reference}' fits {len(found)} runs: {listed}; {hint}")
    return found[0]


def _began(run: "Run") -> str:
    return f"{datetime.fromtimestamp(run.info.start_time / 1000):%Y-%m-%d %H:%M}"
