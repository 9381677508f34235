"""The model registry: which version is the champion, and how another one replaces it in a single step."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flowers.common.errors import UserError
from flowers.tracking import lookup, model, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

DECISION = "flowers.promotion"  # on a version: every decision to promote it, with its reasons
READINGS = "flowers.test_readings"  # on a run: when its test scores were read for a promotion


@dataclass(frozen=True)
class Champion:
    """The version that holds the alias, and its run; None if that was deleted permanently."""

    version: str
    run: "Run | None" = field(compare=False)


def champion(client: "MlflowClient", name: str) -> Champion | None:
    """The champion of a registered model; None before the first one."""
    version = store.found(client.get_model_version_by_alias, name, lookup.CHAMPION, by_name=True)
    return Champion(str(version.version), store.found(client.get_run, version.run_id)) if version else None


def logged_model(client: "MlflowClient", run: "Run") -> str:
    """The id of a run's logged model. Raises UserError if it has none."""
    found = model.logged(client, run)
    if not found:
        raise UserError(f"run {lookup.described(run)} holds no model; `flowers track --force` in its checkout logs it")
    return str(found[0].model_id)


def promote(
    client: "MlflowClient", name: str, run: "Run", before: Champion | None, decision: Mapping[str, object]
) -> str:
    """Register a run's model, unless it is registered, and make it the champion; returns its version.

    Moving the alias is the last step: after an error before it the champion is unchanged. Raises UserError if the
    champion is no longer `before`, because somebody else promoted meanwhile. (MLflow cannot compare and set: of two
    machines that get here within the same moment, the later one wins.)
    """
    version = _registered(client, name, run)
    now = champion(client, name)
    if now != before:
        raise UserError(f"{name}: version {now.version if now else 'none'} became champion meanwhile; promote again")
    kept = json.loads(client.get_model_version(name, version).tags.get(DECISION, "[]"))
    client.set_model_version_tag(name, version, DECISION, json.dumps([*kept, decision], ensure_ascii=False))
    client.set_registered_model_alias(name, lookup.CHAMPION, version)
    return version


def note_reading(client: "MlflowClient", run: "Run", purpose: str) -> None:
    """Note on a run that its test scores were read, when and what for."""
    listed = json.loads(client.get_run(run.info.run_id).data.tags.get(READINGS, "[]"))
    entry = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {purpose}"
    client.set_tag(run.info.run_id, READINGS, json.dumps([*listed, entry], ensure_ascii=False))


def _registered(client: "MlflowClient", name: str, run: "Run") -> str:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(
            name, description="Flower classifiers of one data set; `flowers promote` moves the champion."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in client.search_model_versions(f"name = '{name}' and run_id = '{run.info.run_id}'"):
        if version.status == "READY":
            return str(version.version)
    model_id = logged_model(client, run)
    # Without a server MLflow would look up models:/ in its global store, which is another one.
    in_server = store.is_server(store.uri())
    source = f"models:/{model_id}" if in_server else client.get_logged_model(model_id).artifact_location
    made = client.create_model_version(name, source, run.info.run_id, model_id=model_id)
    return str(made.version)
