"""Runs in the store: found by their key, adopted from `mlflow run`, or created; tagged with their origin."""

import contextlib
import getpass
import hashlib
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.config.params import Params
from flowers.tracking import experiments, provenance, run_key, store
from flowers.tracking.result import Point
from flowers.tracking.run_name import run_name

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KEY = "flowers.run_key"
RESULT = "flowers.result"  # the hash of what was published; only a complete run has it
HOLDER = "flowers.result_run"  # on a run of `mlflow run`: the run that holds its result
ORPHANED = "flowers.set_aside"
COMMITS = "flowers.commits"
EXPERIMENTS = "flowers.dvc_experiments"
PROCESSOR = "flowers.processor"
GROUP = "flowers.group"  # on the run of a group and its children: the key of the first training, folds and precision
STUDY = "flowers.study"  # the id of a study, on its run and on those of its trials

CHECKOUT = "flowers.checkout"  # which checkout on which machine opened the run

CHANGES = "changes"  # the folder of artifacts with the uncommitted changes

_NOTE = "flowers.note_digest"  # of the note that was written last: one that a person edited stays
_MOST_RUNS = 10_000  # of a study, say
_BATCH = 1000  # metrics at a time, MLflow's limit
_CHANGES_LIMIT = 5_000_000  # bytes


def search(client: "MlflowClient", condition: str, deleted: bool = False) -> list["Run"]:
    """The runs of all experiments that meet a condition, oldest first; with `deleted` the deleted ones, too."""
    from mlflow.entities import ViewType

    view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
    # Every experiment is searched: `mlflow run` opens runs in the one that its caller names.
    experiments = [each.experiment_id for each in client.search_experiments(view, max_results=1000)]
    return list(client.search_runs(experiments, condition, view, _MOST_RUNS, ["attributes.start_time ASC"]))


def with_key(client: "MlflowClient", key: str) -> list["Run"]:
    """The runs of a key, oldest first, without deleted ones."""
    return search(client, f"tags.`{KEY}` = '{key}'")


def ours(found: list["Run"]) -> list["Run"]:
    """Those of the runs that this checkout opened; a local store is its own, so there all of them are."""
    if not store.is_server(store.uri()):
        return found
    return [run for run in found if run.data.tags.get(CHECKOUT) == _checkout()]


def settle(client: "MlflowClient", key: str, digest: str) -> "Run":
    """Make one run of those that hold the result `digest`; returns it.

    Several machines may publish a result at once, and MLflow has nothing that only one of them can do. The last one
    sees the runs of all: the oldest stays, with the origins of the others, which are discarded unless a registered
    model is theirs.
    """
    found = sorted(with_key(client, key), key=lambda run: (run.info.start_time, run.info.run_id))
    kept, *others = [run for run in found if run.data.tags.get(RESULT) == digest]
    for other in others:
        for name in (COMMITS, EXPERIMENTS):
            for item in provenance.items(other.data.tags.get(name)):
                if longer := provenance.extended(kept.data.tags.get(name), item):
                    client.set_tag(kept.info.run_id, name, longer)
                    kept.data.tags[name] = longer
    for run in others:
        if not client.search_model_versions(f"run_id = '{run.info.run_id}'"):
            with permitted(gone=True):  # two machines may be here at once
                orphan(client, run, f"run {kept.info.run_id} holds the same result")
                client.delete_run(run.info.run_id)
    return kept


@contextlib.contextmanager
def permitted(gone: bool = False) -> Iterator[None]:
    """Ignore that the server does not permit something: who may edit runs may not delete them.

    With `gone` also that another machine has deleted the run.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        deleted = gone and error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE", "INVALID_STATE")
        if error.get_http_status_code() != 403 and not deleted:
            raise


def obtain(client: "MlflowClient", params: Params, key: run_key.RunKey, found: "Run | None") -> "Run":
    """The run to write to: the one found, else the one `mlflow run` opened, else a new one. Call it under `lock`."""
    if found is not None:
        link(client, found)
        return found
    return create(client, params, run_name(params), {KEY: key.key})


def create(client: "MlflowClient", params: Params, name: str, tags: Mapping[str, str]) -> "Run":
    """The run that `mlflow run` opened, if it is free, else a new one; with these tags. Call it under `lock`."""
    opened = _opened_by_mlflow_run(client)
    if opened is None:
        tags = {**_source_tags(), **tags}
        return client.create_run(experiments.experiment_id(client, params), run_name=name, tags=tags)
    set_tags(client, opened.info.run_id, {CHECKOUT: _checkout(), **tags})
    # MLflow generates names such as bold-fox-123; one that the user gave stays.
    if re.fullmatch(r"[a-z]+-[a-z]+-\d+", opened.info.run_name or ""):
        client.set_tag(opened.info.run_id, "mlflow.runName", name)
    return client.get_run(opened.info.run_id)


def link(client: "MlflowClient", holder: "Run") -> None:
    """If `mlflow run` opened a run for a result that `holder` has, link it to `holder`. Call it under `lock`."""
    opened = _opened_by_mlflow_run(client)
    if opened is None or opened.info.run_id == holder.info.run_id:
        return
    client.set_tag(opened.info.run_id, HOLDER, holder.info.run_id)
    address = f"#/experiments/{holder.info.experiment_id}/runs/{holder.info.run_id}"
    text = f"This run trained nothing: the run [{holder.info.run_name}]({address}) holds the result."
    client.set_tag(opened.info.run_id, "mlflow.note.content", text)


def note_origin(client: "MlflowClient", run: "Run") -> None:
    """Add this commit and DVC experiment to the run's lists, and log the uncommitted changes."""
    commit = provenance.commit()
    for name, item in ((COMMITS, commit), (EXPERIMENTS, provenance.experiment())):
        if longer := provenance.extended(run.data.tags.get(name), item):
            client.set_tag(run.info.run_id, name, longer)
    if commit and commit.endswith(provenance.CHANGED):
        _log_changes(client, run.info.run_id, commit)


def changes_file(commit: str) -> str:
    """The artifact that holds the uncommitted changes on top of a commit, a patch for `git apply`."""
    return f"{CHANGES}/{commit[:12]}.diff"


def _log_changes(client: "MlflowClient", run_id: str, commit: str) -> None:
    """Log the changes once for each commit: trees that lead to one run differ in nothing that decides its result."""
    kept, too_large = changes_file(commit), changes_file(commit).replace(".diff", ".too-large.txt")
    if any(item.path in (kept, too_large) for item in client.list_artifacts(run_id, CHANGES)):
        return
    patch = provenance.changes()
    if patch is None:
        return
    name = kept
    if len(patch) > _CHANGES_LIMIT:
        name = too_large
        patch = f"The changes take {len(patch):,} bytes; the limit is {_CHANGES_LIMIT:,} bytes.\n".encode()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / Path(name).name
        file.write_bytes(patch)
        client.log_artifact(run_id, str(file), CHANGES)


def write_note(client: "MlflowClient", run_id: str, text: str) -> None:
    """Write the note on a run (Markdown), unless a person edited the one before."""
    digest, tags = _digest(text), client.get_run(run_id).data.tags
    if (before := tags.get("mlflow.note.content")) is None or _digest(before) == tags.get(_NOTE):
        client.set_tag(run_id, "mlflow.note.content", text)
        client.set_tag(run_id, _NOTE, digest)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def orphan(client: "MlflowClient", run: "Run", reason: str) -> None:
    """Take the key, and the mark of a result, from a run, and end it."""
    client.set_tag(run.info.run_id, ORPHANED, reason)
    for name in {KEY, RESULT} & run.data.tags.keys():
        client.delete_tag(run.info.run_id, name)
    end(client, run, "KILLED")


def end(client: "MlflowClient", run: "Run", status: str) -> None:
    """End a run with its final status, unless it has that status."""
    if client.get_run(run.info.run_id).info.status != status:
        client.set_terminated(run.info.run_id, status=status)


def log_points(
    client: "MlflowClient",
    run_id: str,
    points: list[Point],
    model_id: str | None = None,
    new: bool = False,
    by_value: bool = False,
    time_ms: int | None = None,
) -> None:
    """Write the metrics of the steps that the run lacks, or of `new` steps, and wait until they are written.

    With `by_value` also those of a step that has another value: the later point counts.

    MLflow keeps a point that is logged twice as two points, unless both have the same time: two machines that may log
    the same points at once give `time_ms`, the earliest. Databases write a step in one transaction, so its first metric
    tells whether it is there.
    """
    from mlflow.entities import Metric

    first = {next(iter(values)) for _, values in points if values and not new}
    if len(first) > 1:  # else to ask for its history takes no longer
        first &= client.get_run(run_id).data.metrics.keys()
    logged = [metric for name in first for metric in client.get_metric_history(run_id, name)]
    there = {(metric.key, metric.step, metric.value if by_value else None) for metric in logged}
    now = int(time.time() * 1000)
    if time_ms is not None:  # but not before those that are there
        now = max([time_ms, *(metric.timestamp for metric in logged)])
    batch: list[Metric] = []
    for step, values in points:
        if not values:
            continue
        name, value = next(iter(values.items()))
        if (name, step, value if by_value else None) in there:
            continue
        metrics = [Metric(name, value, now, step, model_id=model_id) for name, value in values.items()]
        if len(batch) + len(metrics) > _BATCH:  # all metrics of a step are in one batch
            client.log_batch(run_id, metrics=batch, synchronous=True)
            batch = []
        batch += metrics
    if batch:
        client.log_batch(run_id, metrics=batch, synchronous=True)


def log_params(client: "MlflowClient", run: "Run", values: Mapping[str, str]) -> None:
    """Log the parameters that a run lacks; logged ones stay."""
    from mlflow.entities import Param

    missing = [Param(name, value) for name, value in values.items() if name not in run.data.params]
    if missing:
        client.log_batch(run.info.run_id, params=missing, synchronous=True)


def log_tables(client: "MlflowClient", run: "Run", tables: Mapping[str, Any]) -> None:
    """Log DataFrames by the names of their artifacts, as the UI shows them. MLflow's own way would append the rows."""
    from mlflow.utils.mlflow_tags import MLFLOW_LOGGED_ARTIFACTS

    run_id = run.info.run_id
    for name, table in tables.items():
        client.log_text(run_id, table.to_json(orient="split", index=False), name)
    listed = json.loads(client.get_run(run_id).data.tags.get(MLFLOW_LOGGED_ARTIFACTS, "[]"))
    new = [entry for name in tables if (entry := {"path": name, "type": "table"}) not in listed]
    if new:
        client.set_tag(run_id, MLFLOW_LOGGED_ARTIFACTS, json.dumps(listed + new))


def set_tags(client: "MlflowClient", run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags in one request."""
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()], synchronous=True)


def _opened_by_mlflow_run(client: "MlflowClient") -> "Run | None":
    """The run that `mlflow run` opened for this process, unless a result or a study has it already."""
    from mlflow.exceptions import MlflowException

    run_id = os.environ.get("MLFLOW_RUN_ID")
    if not run_id:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException:  # of another store, or not permitted
        return None
    taken = {KEY, STUDY, GROUP} & run.data.tags.keys()
    return run if run.info.lifecycle_stage == "active" and not taken else None


def _checkout() -> str:
    """Names this checkout, without its path or the name of the machine."""
    return _digest(f"{socket.gethostname()}:{store.root()}")[:12]


def _source_tags() -> dict[str, str]:
    tags = {"mlflow.source.name": "dvc.yaml", "mlflow.source.type": "LOCAL", CHECKOUT: _checkout()}
    if commit := provenance.commit():
        tags["mlflow.source.git.commit"] = commit.split()[0]
    with contextlib.suppress(KeyError, OSError, ImportError):  # a container's user without a name, or Windows
        tags["mlflow.user"] = getpass.getuser()
    return tags
