"""Find a run as a person names it: by its id or the start of it, a model's alias, its name, or its DVC experiment."""

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.tracking import runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

CHAMPION = "champion"
SHORTEST_ID = 6
_SHOWN = 5


def registered_model(dataset: str, path: str) -> str:
    """The name under which the models of a data set are registered, from dataset.name and .path: flowers-local."""
    return re.sub(r"[^\w.-]+", "-", store.experiment_of(dataset, path))


def model_of(params: Params) -> str:
    """The registered model of the data set that `params` name: its aliases need no name before them."""
    return registered_model(params.dataset.name, params.dataset.path)


def find(client: "MlflowClient", reference: str, model: str) -> "Run | None":
    """The run that `reference` names, by id, alias, name or DVC experiment, or None.

    `model` is the registered model whose aliases need no name before them. Raises UserError where the reference fits
    several runs, or one that was deleted.
    """
    return (
        _by_id(client, reference)
        or _by_alias(client, reference, model)
        or _by_name(client, "attributes.run_name", "=", reference, reference)
        or _by_name(client, f"tags.`{runs.EXPERIMENTS}`", "LIKE", f'%"{reference}"%', reference)
    )


def find_anywhere(reference: str, params: Params) -> tuple["MlflowClient", "Run | None"]:
    """Connect to the store, and find a run there as `find` does; one of `mlflow run` leads to the run it points to.

    Raises UserError as `find` does, and StoreUnreachable.
    """
    with store.lock():
        client = store.connect()
    run = find(client, reference, model_of(params))
    if run is not None and (holder := run.data.tags.get(runs.HOLDER)):
        run = client.get_run(holder)
    return client, run


def artifact(client: "MlflowClient", run: "Run", path: str) -> bytes | None:
    """The content of one of a run's artifacts; None where it is not there."""
    import tempfile

    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as folder:
        try:
            return Path(client.download_artifacts(run.info.run_id, path, folder)).read_bytes()
        except (MlflowException, OSError) as error:
            # A server that fails is another matter than a file that is not there.
            if (
                isinstance(error, MlflowException)
                and error.get_http_status_code() >= 500
                and store.is_server(store.uri())
            ):
                reason = store.without_password(str(error))[:200]
                raise store.StoreUnreachable(f"the tracking server gave no '{path}': {reason}") from None
            return None


def described(run: "Run") -> str:
    """A run as a message names it."""
    return f"{run.info.run_id[:8]} '{run.info.run_name}'"


def _began(run: "Run") -> str:
    return f"{datetime.fromtimestamp(run.info.start_time / 1000):%Y-%m-%d %H:%M}"


def _by_id(client: "MlflowClient", reference: str) -> "Run | None":
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_ID},32}}", reference):
        return None
    from mlflow.entities import ViewType
    from mlflow.exceptions import MlflowException

    if len(reference) == 32:
        try:
            run = client.get_run(reference)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return _active(run)
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=1000)]
    fitting = [
        run
        for run in client.search_runs(experiments, run_view_type=ViewType.ALL, max_results=50_000)
        if run.info.run_id.startswith(reference)
    ]
    return _active(_only(fitting, reference)) if fitting else None


def _active(run: "Run") -> "Run":
    if run.info.lifecycle_stage != "active":
        raise UserError(
            f"run {described(run)} was deleted; to have it back: mlflow runs restore --run-id {run.info.run_id}"
        )
    return run


def _by_alias(client: "MlflowClient", reference: str, model: str) -> "Run | None":
    from mlflow.exceptions import MlflowException

    name, _, alias = reference.removeprefix("models:/").rpartition("@")
    if not re.fullmatch(r"[\w.-]+", alias):
        return None
    try:
        version = client.get_model_version_by_alias(name or model, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    try:
        return _active(client.get_run(version.run_id))
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise UserError(f"'{reference}' is version {version.version} of a run that is gone for good") from None
        raise


def _by_name(client: "MlflowClient", where: str, how: str, text: str, reference: str) -> "Run | None":
    """The run in which what stands at `where` is, or is like, a text."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=1000)]
    quote = "'" if "'" not in text else '"'  # MLflow knows no way to write both in one text
    if quote in text:
        return None
    wanted = f"{where} {how} {quote}{text}{quote}"
    found = client.search_runs(experiments, wanted, order_by=["attributes.start_time DESC"], max_results=50)
    return _only(list(found), reference) if found else None


def _only(found: list["Run"], reference: str) -> "Run":
    if len(found) > 1:
        named = ", ".join(f"{described(run)} of {_began(run)}" for run in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        hint = f"name one by {SHORTEST_ID} or more signs of its id"
        raise UserError(f"'{reference}' fits {len(found)} runs: {named}{more}; {hint}")
    return found[0]
