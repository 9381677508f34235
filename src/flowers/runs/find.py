"""Find results by the names people use: runs in MLflow, DVC experiments, git revisions and checkouts."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config import params
from flowers.reporting import measures
from flowers.runs import dvc_lock
from flowers.runs.predictions import Predictions, read
from flowers.tracking import groups, lookup, provenance, run_key, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

WORKSPACE = "workspace"  # DVC's name for the files of this checkout
_PREDICTIONS = f"evaluation/{paths.PREDICTIONS.name}"
_MODEL = paths.MODEL / "model.json"
_PRECISION = "precision of the backbone"


def find(names: list[str]) -> list[Predictions]:
    """The results of these names: `workspace`, the folder of a checkout, or a DVC experiment, git revision or run.

    MLflow comes last, because it takes seconds. Raises UserError where a name fits none or several results, or one has
    no predictions, and StoreUnreachable.
    """
    found = [_find(name) for name in names]
    # Results keep the name that was typed where it tells them apart: two checkouts in folders of one name.
    shown = [result.name for result in found]
    return [
        replace(result, name=name) if shown.count(result.name) > 1 else result
        for name, result in zip(names, found, strict=True)
    ]


def pipeline_run(name: str, elsewhere: str = "; `make ui` shows which there are") -> tuple["MlflowClient", "Run"]:
    """The complete run of the pipeline with this id, name or alias.

    Raises UserError where there is none, or it is not complete; `elsewhere` ends the message for an unknown name.
    """
    return _of_pipeline(*_named(name, elsewhere))


def _named(name: str, elsewhere: str) -> tuple["MlflowClient", "Run"]:
    client, run = lookup.find_anywhere(name, params.load)
    if run is None:
        raise UserError(f"'{name}' is no run in MLflow (id, name or alias){elsewhere}")
    return client, run


def _of_pipeline(client: "MlflowClient", run: "Run") -> tuple["MlflowClient", "Run"]:
    named, tags = f"run {lookup.described(run)}", run.data.tags
    if runs.GROUP in tags:
        raise UserError(f"{named} is of `flowers seeds`, which keeps scores and no model: `flowers compare` takes it")
    if runs.STUDY in tags:
        raise UserError(f"{named} belongs to a study: `flowers tune --apply && dvc repro` makes a result of it")
    if runs.KEY not in tags:
        raise UserError(f"{named} was not made by this project's pipeline: it has no tag {runs.KEY}")
    if runs.RESULT not in tags:
        raise UserError(f"{named} is not complete ({run.info.status}): it was not evaluated")
    return client, run


def artifact(client: "MlflowClient", run: "Run", path: str) -> bytes:
    """The content of an artifact of a run. Raises UserError where the run has lost it."""
    content = lookup.artifact(client, run, path)
    if content is None:
        lost = f"run {lookup.described(run)} has lost its artifact {path}"
        raise UserError(f"{lost}; `flowers track --force` in its checkout puts it back")
    return content


def group(client: "MlflowClient", parent: "Run", name: str) -> Predictions:
    """The result of a group of trainings. Raises UserError where none is finished or one has lost its predictions."""
    trainings = groups.members(client, parent).values()
    if not trainings:
        raise UserError(f"run {lookup.described(parent)} has no finished training; `flowers seeds` resumes it")
    tables = [read(artifact(client, run, groups.PREDICTIONS), name) for run in trainings]
    inputs = {words: parent.data.tags.get(f"flowers.{name}_digest", "") for name, words in run_key.INPUTS.items()}
    inputs |= {
        _PRECISION: parent.data.tags.get(groups.PRECISION, ""),
        "processor": parent.data.tags.get(runs.PROCESSOR, ""),
    }
    versions = json.loads(parent.data.tags.get(groups.VERSIONS, "{}"))
    inputs |= {f"version of {package}": version for package, version in versions.items()}
    place = f"group {parent.info.run_id[:8]}, {measures.count(len(tables), 'training')}"
    return Predictions(name, place, parent.data.params, inputs, tables[0], tables, _commit(parent), parent.info.run_id)


def run_of(result: Predictions) -> tuple["MlflowClient", "Run"]:
    """The run that a result was read from, else the newest one with the same predictions.

    Raises UserError where there is none, and StoreUnreachable.
    """
    with store.lock():
        client = store.connect()
    if result.run_id:
        return client, client.get_run(result.run_id)
    accuracy = float(result.right.mean())
    for run in reversed(runs.search(client, f"tags.`{runs.RESULT}` != ''")):
        # The score, which has four digits, spares reading the predictions of most runs.
        if math.isclose(run.data.metrics.get("test_accuracy", -1), accuracy, abs_tol=1e-4):
            content = lookup.artifact(client, run, _PREDICTIONS)
            if content and read(content, run.info.run_id).equals(result.table):
                return client, run
    raise UserError(f"no run in MLflow has the predictions of '{result.name}' ({result.place})")


def _commit(run: "Run") -> str:
    """The latest commit that a run was made from, "" if it was made without git or with uncommitted changes."""
    commits = provenance.items(run.data.tags.get(runs.COMMITS))
    clean = re.fullmatch(rf"([0-9a-f]{{40}}) {provenance.CLEAN}", commits[-1] if commits else "")
    return clean[1] if clean else ""


def _find(name: str) -> Predictions:
    if name == WORKSPACE:
        return _checkout(name, Path())
    if (Path(name) / paths.PREDICTIONS).exists():
        return _checkout(Path(name).resolve().name, Path(name))
    return _in_git(name) or _in_store(name)


def _in_store(name: str) -> Predictions:
    """The run of this name. Raises UserError where there is none."""
    kinds = "DVC experiment, git revision or folder of a checkout"
    shown = "`make ui`, `dvc exp list` and `git log` show which there are"
    with store.explained("looking for a run in"), store.patience(*store.SHORT):
        client, run = _named(name, f", {kinds}; {shown}")
        if runs.GROUP in run.data.tags and groups.TRAINING not in run.data.tags:
            return group(client, run, name)
        _of_pipeline(client, run)
        content = artifact(client, run, _PREDICTIONS)
        lock = lookup.artifact(client, run, "dvc.lock") or b""
    tags = run.data.tags
    known = {_PRECISION: tags.get("flowers.precision", ""), "processor": tags.get(runs.PROCESSOR, "")}
    _, inputs = _origin(lock, content, known)
    place, table = f"run {run.info.run_id[:8]} in MLflow", read(content, name)
    return Predictions(name, place, run.data.params, inputs, table, commit=_commit(run), run_id=run.info.run_id)


def _in_git(name: str) -> Predictions | None:
    """The result of a DVC experiment or a git revision, from DVC's cache or remote."""
    experiment = _experiment(name)
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    revision = experiment or provenance.git(*verify, f"{name}^{{commit}}")
    if not revision:
        return None
    place = f"DVC experiment {revision[:8]}" if experiment else f"commit {revision[:8]}"
    lock = provenance.file(revision, Path("dvc.lock"))
    if lock is None:
        raise UserError(f"'{name}' ({place}) has no dvc.lock: nothing was run there")
    content, model = (_output(revision, path, f"'{name}' ({place})") for path in (paths.PREDICTIONS, _MODEL))
    return replace(_result(name, place, content, model, lock), commit=revision)


def _checkout(name: str, folder: Path) -> Predictions:
    """The result in this checkout, or in the folder of another one."""
    try:
        content, model = ((folder / path).read_bytes() for path in (paths.PREDICTIONS, _MODEL))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read; `dvc repro` makes it") from None
    lock = folder / "dvc.lock"
    place = "this checkout" if folder == Path() else "another checkout"
    found = _result(name, place, content, model, lock.read_bytes() if lock.exists() else b"")
    dvc_lock.warn_if_changed(name, found.params, folder)
    return found


def _result(name: str, place: str, content: bytes, model: bytes, lock: bytes) -> Predictions:
    """A result from its predictions.csv, model.json and dvc.lock. Raises UserError where one is damaged."""
    table = read(content, name)
    try:
        precision = str(json.loads(model).get("precision"))
    except ValueError:
        raise UserError(f"'{name}': {_MODEL} is damaged; `dvc repro --force` makes it anew") from None
    params, inputs = _origin(lock, content, {_PRECISION: precision})
    return Predictions(name, place, params, inputs, table)


def _origin(lock: bytes, predictions: bytes, known: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Parameters and other inputs of a result by its dvc.lock, with the inputs that are `known` otherwise.

    Both are empty where the lock is of another result: params.yaml may have been edited since, so it proves nothing.
    """
    found = dvc_lock.read(lock)
    md5 = hashlib.md5(predictions, usedforsecurity=False).hexdigest()
    if found.outputs.get(paths.PREDICTIONS.as_posix()) != md5:
        return {}, {}  # the stage was run by hand
    shown = found.inputs.keys() - {paths.IMAGES.as_posix(), paths.SPLIT_REPORT.as_posix()}
    versions = {f"version of {package}": version for package, version in found.versions.items()}
    return found.params, {**known, **{path: found.inputs[path] for path in shown}, **versions}


def _experiment(name: str) -> str | None:
    """The commit of a DVC experiment. Raises UserError where several have that name."""
    listed = (provenance.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps") or "").splitlines()
    found = {line.split()[0] for line in listed if line.count("/") == 4 and line.rpartition("/")[2] == name}
    if len(found) > 1:
        commits = console.listed(sorted(found))
        raise UserError(f"'{name}' is the name of {len(found)} DVC experiments: name the commit of one ({commits})")
    return next(iter(found), None)


def _output(revision: str, path: Path, named: str) -> bytes:
    """An output of the pipeline as it was at a revision. Raises UserError where DVC does not have it any more."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        content: bytes = dvc.api.read(path.as_posix(), rev=revision, mode="rb")
        return content
    except (DvcException, OSError):
        raise UserError(
            f"{named}: {path} is not in the DVC cache or a remote; `git checkout` it and `dvc repro` make it"
        ) from None
