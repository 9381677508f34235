"""The experiments of the MLflow store: one for each data set."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.tracking import local_store, store, view

if TYPE_CHECKING:
    from mlflow import MlflowClient


def experiment_name(params: Params) -> str:
    """The experiment of the data set."""
    return experiment_of(params.dataset.name, params.dataset.path)


def experiment_of(dataset: str, path: str) -> str:
    """One experiment for each data set: its catalogue name, or the name of the user's own folder."""
    own = dataset == "local" and path != "data.yaml"
    return f"flowers {(own and Path(path).name) or dataset}"


def experiment_id(client: "MlflowClient", params: Params) -> str:
    """The experiment of the data set, created if need be. Call it under `lock`."""
    from mlflow.exceptions import MlflowException

    name = experiment_name(params)
    for candidate in (name, *(f"{name} ({number})" for number in range(2, 100))):
        experiment = client.get_experiment_by_name(candidate)
        if experiment is None:
            # Explicit, because MLflow would put artifacts under the current directory of the first process.
            folder = store.artifact_folder() / re.sub(r"[^\w-]+", "_", candidate)
            location = None if store.is_server(store.uri()) else folder.as_uri()
            try:
                made = client.create_experiment(candidate, artifact_location=location, tags=view.TAGS)
                if store.is_local():
                    local_store.relocate(store.root())
                return str(made)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(candidate)  # another machine was first
        # A deleted experiment stays deleted: restoring it would restore all its runs.
        if experiment is not None and experiment.lifecycle_stage == "active":
            return str(experiment.experiment_id)
    raise UserError(f"the tracking store holds 99 deleted experiments named '{name}'; clear them with `mlflow gc`")
