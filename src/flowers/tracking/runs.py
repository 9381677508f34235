"""Runs in the store: found by their key, adopted from `mlflow run`, or made; named and tagged for people."""

import contextlib
import getpass
import json
import os
import re
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.config.params import Params
from flowers.tracking import provenance, run_key, store
from flowers.tracking.result import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY = "flowers.run_key"
RESULT = "flowers.result"  # the hash of what was published; only a run that is complete has it
HOLDER = "flowers.result_run"  # on a run of `mlflow run` whose result another run holds
SET_ASIDE = "flowers.set_aside"
COMMITS = "flowers.commits"
EXPERIMENTS = "flowers.dvc_experiments"
PROCESSOR = "flowers.processor"
STUDY = "flowers.study"  # the id of a study, on its run and on those of its trials

CHANGES = "changes"  # the folder of artifacts with what was changed since a commit

_BATCH = 1000  # metrics at a time, MLflow's limit
_CHANGES_LIMIT = 5_000_000  # bytes


def with_key(client: "MlflowClient", key: str) -> list["Run"]:
    """The runs of a key, oldest first. Deleted runs stay deleted."""
    # Every experiment is searched: `mlflow run` opens runs where its caller says.
    experiments = [experiment.experiment_id for experiment in client.search_experiments(max_results=1000)]
    found = client.search_runs(experiments, f"tags.`{KEY}` = '{key}'", order_by=["attributes.start_time ASC"])
    return list(found)


def obtain(client: "MlflowClient", params: Params, key: run_key.RunKey, found: "Run | None") -> "Run":
    """The run to write to: the one found, else the one `mlflow run` opened, else a new one. Call it under `lock`."""
    if found is not None:
        link(client, found)
        return found
    return create(client, params, run_name(params), {KEY: key.key})


def create(client: "MlflowClient", params: Params, name: str, tags: Mapping[str, str]) -> "Run":
    """The run that `mlflow run` opened, if it is free, else a new one; with these tags. Call it under `lock`."""
    waiting = _opened_by_mlflow_run(client)
    if waiting is None:
        tags = {**_source_tags(), **tags}
        return client.create_run(store.experiment_id(client, params), run_name=name, tags=tags)
    for tag, value in tags.items():
        client.set_tag(waiting.info.run_id, tag, value)
    # MLflow makes names up, such as bold-fox-123; one that the user gave stays.
    if re.fullmatch(r"[a-z]+-[a-z]+-\d+", waiting.info.run_name or ""):
        client.set_tag(waiting.info.run_id, "mlflow.runName", name)
    return client.get_run(waiting.info.run_id)


def link(client: "MlflowClient", holder: "Run") -> None:
    """Where `mlflow run` opened a run for what `holder` holds already, say so on it. Call it under `lock`."""
    waiting = _opened_by_mlflow_run(client)
    if waiting is not None and waiting.info.run_id != holder.info.run_id:
        _link(client, waiting, holder)


def run_name(params: Params) -> str:
    """What a person tells runs apart by, in a line that MLflow's table cuts off after some twenty characters."""
    units = "-".join(str(width) for width in params.head.units)
    parts = [f"{units} dropout {params.head.dropout:g}" if units else "linear"]
    if params.head.initialization == "regression":
        parts.append("from a regression")
    parts.append(f"unfreeze {params.model.unfreeze_blocks}")
    if params.train.epochs:
        parts.append(f"lr {params.train.learning_rate:g}")
    if params.model.unfreeze_blocks:
        parts.append(f"then {params.train.fine_tune_learning_rate:g}")
    if params.train.label_smoothing:
        parts.append(f"smoothing {params.train.label_smoothing:g}")
    if params.train.on != "train":
        parts.append(f"on {params.train.on}")
    if params.train.seed:
        parts.append(f"seed {params.train.seed}")
    return " ".join(parts)


def note_origin(client: "MlflowClient", run: "Run") -> None:
    """Add the commit and the DVC experiment that lead here to the run's lists of them, and keep what was changed."""
    tags, commit = run.data.tags, provenance.commit()
    for name, item in ((COMMITS, commit), (EXPERIMENTS, provenance.experiment())):
        if longer := provenance.extended(tags.get(name), item):
            client.set_tag(run.info.run_id, name, longer)
    if commit and commit.endswith(provenance.CHANGED):
        _keep_changes(client, run.info.run_id, commit)


def changes_file(commit: str) -> str:
    """The artifact that holds what was changed since a commit, a patch for `git apply`."""
    return f"{CHANGES}/{commit[:12]}.diff"


def too_large_file(commit: str) -> str:
    """The artifact that stands in its place where the changes were too large to be kept."""
    return f"{CHANGES}/{commit[:12]}.too-large.txt"


def _keep_changes(client: "MlflowClient", run_id: str, commit: str) -> None:
    """Log the changes, once for each commit: trees that lead to one run differ in nothing that decides its result."""
    names = (changes_file(commit), too_large_file(commit))
    if any(item.path in names for item in client.list_artifacts(run_id, CHANGES)):
        return
    patch = provenance.changes()
    if patch is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        if len(patch) > _CHANGES_LIMIT:
            file = Path(folder) / Path(names[1]).name
            file.write_text(f"The changes take {len(patch):,} bytes; up to {_CHANGES_LIMIT:,} are kept.\n")
        else:
            file = Path(folder) / Path(names[0]).name
            file.write_bytes(patch)
        client.log_artifact(run_id, str(file), CHANGES)


def set_aside(client: "MlflowClient", run: "Run") -> None:
    """Take the key from an unfinished run whose points contradict the result: it was something else after all."""
    client.set_tag(run.info.run_id, SET_ASIDE, "its epochs are not those of the published result")
    client.delete_tag(run.info.run_id, KEY)
    end(client, run, "KILLED")


def end(client: "MlflowClient", run: "Run", status: str) -> None:
    """Give a run its final status, unless it has it."""
    if client.get_run(run.info.run_id).info.status != status:
        client.set_terminated(run.info.run_id, status=status)


def log_points(client: "MlflowClient", run_id: str, points: list[Point], model_id: str | None = None) -> None:
    """Write metrics step by step, and wait until they are written."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    batch: list[Metric] = []
    for step, values in points:
        metrics = [Metric(name, value, now, step, model_id=model_id) for name, value in values.items()]
        if len(batch) + len(metrics) > _BATCH:  # a step is never cut in two
            client.log_batch(run_id, metrics=batch, synchronous=True)
            batch = []
        batch += metrics
    if batch:
        client.log_batch(run_id, metrics=batch, synchronous=True)


def log_table(client: "MlflowClient", run_id: str, name: str, table: Any) -> None:
    """Log a DataFrame as the UI shows it. MLflow's own log_table would append the rows once more each time."""
    from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

    client.log_text(run_id, table.to_json(orient="split", index=False), name)
    listed = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    if (entry := {"path": name, "type": "table"}) not in listed:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps([*listed, entry]))


def _opened_by_mlflow_run(client: "MlflowClient") -> "Run | None":
    """The run that `mlflow run` opened for this process, unless it has become somebody's already."""
    from mlflow.exceptions import MlflowException

    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException:  # of another store
        return None
    taken = {KEY, STUDY} & run.data.tags.keys()
    return run if run.info.lifecycle_stage == "active" and not taken else None


def _link(client: "MlflowClient", run: "Run", holder: "Run") -> None:
    client.set_tag(run.info.run_id, HOLDER, holder.info.run_id)
    address = f"#/experiments/{holder.info.experiment_id}/runs/{holder.info.run_id}"
    text = f"Nothing was trained here: the result is held by the run [{holder.info.run_name}]({address})."
    client.set_tag(run.info.run_id, "mlflow.note.content", text)


def _source_tags() -> dict[str, str]:
    tags = {"mlflow.source.name": "dvc.yaml", "mlflow.source.type": "LOCAL"}
    if commit := provenance.commit():
        tags["mlflow.source.git.commit"] = commit.split()[0]
    with contextlib.suppress(KeyError, OSError, ImportError):  # a container's user without a name, or Windows
        tags["mlflow.user"] = getpass.getuser()
    return tags
