"""What the local store still keeps of deleted runs: found here, removed for good by `mlflow gc`.

Deleting a run on MLflow's pages only hides it, and leaves its model, which is nearly all of it, where it is.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers import paths
from flowers.errors import UserError
from flowers.tracking import model, store

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class Deleted:
    """Deleted runs, deleted models, the models of deleted runs (by id), and the files of all of them."""

    runs: int
    models: int
    models_left: list[str]
    files: list[Path]


def find() -> Deleted:
    """What is left of deleted runs in this project's own store.

    Raises UserError where `MLFLOW_TRACKING_URI` names another one, or files of a deleted run lie outside of it.
    """
    database = store.root() / paths.TRACKING / "mlflow.db"
    if store.uri() != f"sqlite:///{database.as_posix()}":
        raise UserError(f"{store.without_password(store.uri())} is not this project's own; `mlflow gc` cleans it")
    if not database.exists():
        return Deleted(0, 0, [], [])
    with store.lock():
        return _find(store.connect())


def remove() -> None:
    """Remove it for good; a run that was restored in the meantime stays. Raises UserError if MLflow fails."""
    with store.lock("publish"), store.lock():
        client = store.connect()
        for model_id in _find(client).models_left:
            client.delete_logged_model(model_id)
        command = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", store.uri()]
        environment = os.environ | {"MLFLOW_TRACKING_URI": store.uri()}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"mlflow gc failed: {' '.join(done.stderr.split())[-300:]}")


def _find(client: "MlflowClient") -> Deleted:
    from mlflow.entities import ViewType
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.file_utils import local_file_uri_to_path

    # The client has no word for a model that was deleted; `mlflow gc` asks the store in this way.
    backend = SqlAlchemyStore(store.uri(), store.artifact_folder().as_uri())
    models = [backend.get_logged_model(name, allow_deleted=True) for name in backend._get_deleted_logged_models()]
    already = len(models)

    experiments = [each.experiment_id for each in _pages(client.search_experiments, view_type=ViewType.ALL)]
    runs = list(_pages(client.search_runs, experiments, run_view_type=ViewType.DELETED_ONLY))
    alive = {run.info.run_id for run in _pages(client.search_runs, experiments)}
    registered = [version.source or "" for version in _pages(client.search_model_versions)]
    for each in _pages(client.search_logged_models, experiments):
        ours = model.DIGEST in each.tags and each.source_run_id not in alive
        if ours and not any(each.model_id in source for source in registered):
            models.append(each)

    places = [run.info.artifact_uri for run in runs] + [each.artifact_location for each in models]
    folders = [Path(local_file_uri_to_path(place)) for place in places]
    for folder in folders:
        # A copied project's store names the original's files, which are not its own to remove.
        if not folder.is_relative_to(store.artifact_folder()):
            raise UserError(f"{folder}, of a deleted run, is not in {store.artifact_folder()}; `mlflow gc` removes it")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return Deleted(len(runs), len(models), [each.model_id for each in models[already:]], files)


def _pages(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """Every result of one of the client's searches."""
    token = None
    while True:
        page = search(*arguments, **options, page_token=token)
        yield from page
        if not (token := page.token):
            return
