"""Publishing: complete the run of a result, or rebuild it from the files. Publishing twice changes nothing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.tracking import dataset, model, note, provenance, runs, store
from flowers.tracking.result import Point, Result, flattened, read, same_value

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

_TABLES = {"tables/confusion.json": paths.CONFUSION, "tables/per_class.json": paths.PER_CLASS}


@dataclass(frozen=True)
class PublishResult:
    """Where a result was published."""

    run_id: str
    run_name: str
    experiment: str
    store: str
    already_there: bool  # the run was complete; at most a commit or the name of an experiment was added


def publish(params: Params, force: bool = False) -> PublishResult:
    """Publish the result in the current directory to its run.

    A complete run only gets this commit and DVC experiment added; with `force` everything on it is checked and what is
    missing is restored. Raises StoreUnreachable, or UserError if a stage before track has not run or a local store
    cannot be used.
    """
    result = read(params)
    digest = result.digest
    with store.lock("publish"), store.explained("publishing to"):
        with store.patience(*store.SHORT), store.lock():
            client = store.connect()
            run = _run_for(client, result)
            runs.note_origin(client, run)
        already_there = run.data.tags.get(runs.RESULT) == digest
        with store.patience(*store.LONG):
            if force or not already_there:
                _complete(client, run, result)
            runs.end(client, run, "FINISHED")
            run = runs.settle(client, result.key.key, digest)
            experiment = client.get_experiment(run.info.experiment_id).name
    place = store.without_password(store.uri())
    return PublishResult(run.info.run_id, run.info.run_name, experiment, place, already_there)


def _run_for(client: "MlflowClient", result: Result) -> "Run":
    """The run with this result, else an unfinished one of the same key, else a new one."""
    found = runs.with_key(client, result.key.key)
    for run in found:
        if run.data.tags.get(runs.RESULT) == result.digest:
            return runs.obtain(client, result.params, result.key, run)
    chosen = None
    # A complete run with another result came from another kind of processor; it stays beside the new one.
    for run in runs.ours([run for run in found if runs.RESULT not in run.data.tags]):
        if _contradicts(client, run, result):
            runs.orphan(client, run, "its epochs are not those of the published result")
        else:
            chosen = run
    return runs.obtain(client, result.params, result.key, chosen)


def _contradicts(client: "MlflowClient", run: "Run", result: Result) -> bool:
    """Whether a streamed point is missing from the result or has another value there."""
    points = [*result.epochs, (0, result.test_metrics)]
    expected = {(name, step): value for step, values in points for name, value in values.items()}
    names = {name for name, _ in expected} & run.data.metrics.keys()
    logged = [metric for name in names for metric in client.get_metric_history(run.info.run_id, name)]
    places = [((each.key, each.step), each.value) for each in logged]
    return any(place not in expected or not same_value(value, expected[place]) for place, value in places)


def _complete(client: "MlflowClient", run: "Run", result: Result) -> None:
    """Add to the run what it lacks of the result; the tag that marks it as complete comes last."""
    run_id = run.info.run_id
    runs.log_params(client, run, flattened(result.params))  # one that decides nothing may differ: that logged stays
    model_id = model.log(client, run, result)
    with store.lock():  # another process may be streaming the same run
        began = run.info.start_time  # the same on every machine
        # Metric by metric: not every server writes a step in one transaction.
        runs.log_points(client, run_id, _apart(result.epochs), time_ms=began)
        # The test scores belong to the model too, so that models can be compared by them.
        runs.log_points(client, run_id, _apart([(0, result.test_metrics)]), model_id, time_ms=began)
    _log_files(client, run, result)
    if not run.inputs.dataset_inputs:
        client.log_inputs(run_id, datasets=[dataset.described(result.params, result.key)])
    _log_tags(client, run, result)
    client.set_tag(run_id, runs.RESULT, result.digest)


def _apart(points: list[Point]) -> list[Point]:
    return [(step, {name: value}) for step, values in points for name, value in values.items()]


def _log_files(client: "MlflowClient", run: "Run", result: Result) -> None:
    """Log the files that make the result readable by itself; existing ones are overwritten."""
    import pandas as pd

    run_id = run.info.run_id
    for path in (paths.PARAMS, Path("dvc.lock"), paths.SPLIT, paths.SPLIT_REPORT, paths.HISTORY):
        if path.is_file():
            client.log_artifact(run_id, str(path))
    client.log_text(run_id, json.dumps(result.classes, ensure_ascii=False, indent=1) + "\n", "classes.json")
    client.log_artifacts(run_id, str(paths.EVALUATION), "evaluation")
    # Not metrics: the ends of an interval would stand among the scores as columns and charts of their own.
    rows = [(name, value, *result.intervals.get(name, (None, None))) for name, value in result.scores.items()]
    scores = pd.DataFrame(rows, columns=["score", "value", "low", "high"])
    tables = {name: _table(path) for name, path in _TABLES.items()}
    runs.log_tables(client, run, {**tables, "tables/scores.json": scores})


def _table(path: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        return pd.read_csv(path, keep_default_na=False)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path}: damaged ({reason}); `dvc repro` makes it again") from None


def _log_tags(client: "MlflowClient", run: "Run", result: Result) -> None:
    tags = {**result.key.tags, "flowers.model_digest": result.model_digest, "flowers.precision": result.precision}
    # A person may have edited the note; the training has logged its own processor.
    if "mlflow.note.content" not in run.data.tags:
        tags["mlflow.note.content"] = note.text(result)
    if runs.PROCESSOR not in run.data.tags:
        tags[runs.PROCESSOR] = f"{provenance.processor()}, published there from files"
    runs.set_tags(client, run.info.run_id, tags)
