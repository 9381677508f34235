"""Find results as people name them: runs in MLflow, DVC experiments, git revisions, and what lies in a checkout."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.runs.predictions import Answers, flat, read
from flowers.tracking import provenance

if TYPE_CHECKING:
    from mlflow.entities import Run

WORKSPACE = "workspace"  # as DVC calls the files as they lie here
_PREDICTIONS = f"evaluation/{paths.PREDICTIONS.name}"
_PRECISION = "precision of the backbone"


def find(names: list[str]) -> list[Answers]:
    """The results that these names stand for: `workspace`, the folder of a checkout, or what has that name.

    DVC's experiments come first, then git, then MLflow, which takes seconds to ask. Raises UserError where there is
    none of a name, several, or it holds no predictions; StoreUnreachable where only MLflow may know a name, and the
    tracking server does not answer.
    """
    found = [_find(name) for name in names]
    # What needs to be told apart keeps the name that was typed: two checkouts in folders of one name.
    shown = [answers.name for answers in found]
    return [
        replace(answers, name=name) if shown.count(answers.name) > 1 else answers
        for name, answers in zip(names, found, strict=True)
    ]


def _find(name: str) -> Answers:
    if name == WORKSPACE:
        return _checkout(name, Path())
    if (Path(name) / paths.PREDICTIONS).exists():
        return _checkout(Path(name).resolve().name, Path(name))
    return _in_git(name) or _in_store(name)


def _in_store(name: str) -> Answers:
    """The run of this name. Raises UserError where there is none."""
    from flowers.config import params
    from flowers.tracking import lookup, runs, store

    with store.explained("looking for a run in"), store.patience(*store.SHORT):
        client, run = lookup.find_anywhere(name, params.load())
        if run is None:
            raise UserError(
                f"'{name}' is no run in MLflow (id, name or alias), DVC experiment, git revision or folder of a "
                "checkout; `make ui`, `dvc exp list` and `git log` show which there are"
            )
        content = lookup.artifact(client, run, _PREDICTIONS)
        if content is None:
            raise UserError(_why_no_predictions(run))
        lock = lookup.artifact(client, run, "dvc.lock") or b""
    tags = run.data.tags
    known = {_PRECISION: tags.get("flowers.precision", ""), "processor": tags.get(runs.PROCESSOR, "")}
    _, inputs = _recorded(lock, content, known)
    return Answers(name, f"run {run.info.run_id[:8]} in MLflow", run.data.params, inputs, read(content, name))


def _why_no_predictions(run: "Run") -> str:
    from flowers.tracking import lookup, runs

    named = f"run {lookup.described(run)}"
    if runs.STUDY in run.data.tags:
        return (
            f"{named} belongs to a study, which never reads the test photos: `flowers tune --apply`, then `dvc repro`"
        )
    if runs.KEY not in run.data.tags:
        return f"{named} was not made by this project: it has no {_PREDICTIONS}"
    if runs.RESULT not in run.data.tags:
        return f"{named} is not complete ({run.info.status}): it was not evaluated"
    return f"{named} has lost its artifact {_PREDICTIONS}; `flowers track --force` in its checkout puts it back"


def _in_git(name: str) -> Answers | None:
    """The result of a DVC experiment or a git revision, out of DVC's cache or remote."""
    experiment = _experiment(name)
    verify = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    revision = experiment or provenance.git(*verify, f"{name}^{{commit}}")
    if not revision:
        return None
    place = f"DVC experiment {revision[:8]}" if experiment else f"commit {revision[:8]}"
    lock = provenance.git("show", f"{revision}:./dvc.lock")
    if lock is None:
        raise UserError(f"'{name}' ({place}) has no dvc.lock: nothing was run there")
    content = _output(revision, paths.PREDICTIONS, f"'{name}' ({place})")
    precision = json.loads(_output(revision, paths.MODEL / "model.json", f"'{name}' ({place})")).get("precision")
    params, inputs = _recorded(lock.encode(), content, {_PRECISION: str(precision)})
    return Answers(name, place, params, inputs, read(content, name))


def _checkout(name: str, folder: Path) -> Answers:
    """The result that lies in this checkout, or in the folder of another one."""
    try:
        content = (folder / paths.PREDICTIONS).read_bytes()
        precision = json.loads((folder / paths.MODEL / "model.json").read_bytes()).get("precision")
    except (OSError, ValueError) as error:
        place = getattr(error, "filename", None) or folder / paths.MODEL
        raise UserError(f"{place}: cannot be read; `dvc repro` makes it") from None
    lock = folder / "dvc.lock"
    params, inputs = _recorded(lock.read_bytes() if lock.exists() else b"", content, {_PRECISION: str(precision)})
    place = "this checkout" if folder == Path() else "another checkout"
    now = flat(_yaml((folder / paths.PARAMS).read_text(encoding="utf-8"))) if (folder / paths.PARAMS).exists() else {}
    if params and any(now.get(key, value) != value for key, value in params.items()):
        console.warn(f"{name}: its result is of other parameters than its {paths.PARAMS} has now; `dvc repro`")
    return Answers(name, place, params, inputs, read(content, name))


def _recorded(lock: bytes, predictions: bytes, known: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The parameters of a result, and what else went in: what is `known`, and hashes, from the dvc.lock of the result.

    Both are empty where the lock is of another result: params.yaml may have been edited since, so it proves nothing.
    """
    stages = _yaml(lock.decode("utf-8", "replace")).get("stages", {})
    outputs = {out["path"]: out.get("md5") for out in stages.get("evaluate", {}).get("outs", [])}
    if outputs.get(paths.PREDICTIONS.as_posix()) != hashlib.md5(predictions).hexdigest():
        return {}, {}  # the stage was run by hand
    found, params = dict(known), dict[str, str]()
    for stage in ("download", "split", "train", "evaluate"):
        described = stages.get(stage, {})
        listed = [*described.get("deps", []), *(described.get("outs", []) if stage in ("download", "split") else [])]
        found |= {entry["path"]: entry["md5"] for entry in listed if "md5" in entry}
        params |= flat(described.get("params", {}).get("params.yaml", {}))
        numerics = described.get("params", {}).get("pyproject.toml", {}).get("tool.flowers.numerics", {})
        found |= {f"version of {package}": version for package, version in numerics.items()}
    made = [path.as_posix() for path in (paths.MODEL, paths.HISTORY, paths.IMAGES, paths.SPLIT_REPORT)]
    return params, {path: md5 for path, md5 in found.items() if path not in made}


def _experiment(name: str) -> str | None:
    """The commit of a DVC experiment. Raises UserError where several have that name."""
    listed = (provenance.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps") or "").splitlines()
    found = {line.split()[0] for line in listed if line.count("/") == 4 and line.rpartition("/")[2] == name}
    if len(found) > 1:
        raise UserError(
            f"'{name}' is the name of {len(found)} DVC experiments: name the commit of one ({', '.join(found)})"
        )
    return next(iter(found), None)


def _output(revision: str, path: Path, named: str) -> bytes:
    """An output of the pipeline as it was at a revision. Raises UserError where DVC does not have it any more."""
    import dvc.api
    from dvc.exceptions import DvcException

    try:
        with dvc.api.open(path.as_posix(), rev=revision, mode="rb") as file:
            content: bytes = file.read()
        return content
    except (DvcException, OSError):
        raise UserError(
            f"{named}: {path} is in no DVC cache or remote any more; `git checkout` it and `dvc repro` make it again"
        ) from None


def _yaml(text: str) -> Mapping[str, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe").load(text)
    except YAMLError:
        return {}
    return document if isinstance(document, dict) else {}
