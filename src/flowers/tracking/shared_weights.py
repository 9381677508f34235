"""The ImageNet weights on a tracking server: sent once, as the artifact of a run of their own, which models refer to.

They are nearly all bytes of a model. A model on a server holds a small file, `REFERENCE`, in their place; who loads the
model takes them from the user's cache, or fetches them into it. In a local store each model holds the weights itself,
as a hard link.
"""

import contextlib
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.tracking import run_key, store

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "ImageNet weights"
REFERENCE = "weights.json"

_DIGEST = "flowers.shared_weights"  # the tag of such a run: SHA-256 of the file
_NOTE = "The weights below the models of the flowers experiments, which refer to this run. Keep it as long as them."


def refer(client: "MlflowClient", digest: str, folder: Path) -> Path:
    """Write a reference to the weights in the current directory into a folder; send them unless they are there.

    `digest` is the SHA-256 of the file. Returns the file of the reference.
    """
    content = {"run_id": _holder(client, digest), "file": paths.WEIGHTS.name, "sha256": digest}
    file = folder / REFERENCE
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return file


def send(client: "MlflowClient", digest: str) -> None:
    """Send the weights in the current directory unless they are there."""
    _holder(client, digest)


def of(artifacts: Path) -> Path:
    """The weights of the model with these artifacts: its own, or those that it refers to. Raises UserError."""
    own = artifacts / paths.WEIGHTS.name
    return own if own.exists() else resolved(artifacts / REFERENCE)


def resolved(file: Path) -> Path:
    """The file itself, or where it is a reference the weights that it stands for. Raises UserError."""
    return fetched(file) if file.name == REFERENCE and file.exists() else file


def fetched(reference: Path) -> Path:
    """The weights that a reference stands for, on this machine. Raises UserError if they cannot be fetched intact."""
    try:
        content = json.loads(reference.read_text(encoding="utf-8"))
        run_id, name, digest = (str(content[key]) for key in ("run_id", "file", "sha256"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{reference}: damaged ({error!r}); `flowers track --force` writes it again") from None
    cache = paths.cache_folder() / "weights"
    cached = cache / f"shared-{digest[:16]}.npz"
    for file in (cached, paths.WEIGHTS, *sorted(cache.glob("resnet50-*.npz"))):
        if file.is_file() and run_key.file_digest(file) == digest:
            return file
    with store.explained("fetching the ImageNet weights from"):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _downloaded(run_id, name, digest, Path(folder)).replace(cached)
    return cached


def _downloaded(run_id: str, name: str, digest: str, folder: Path) -> Path:
    """The weights from the run that a reference names, or from one that has got them since. Raises UserError."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient()
    for holder in (run_id, None):
        with contextlib.suppress(MlflowException) if holder else contextlib.nullcontext():
            file = Path(client.download_artifacts(holder or _holder(client, digest, send=False), name, str(folder)))
            if run_key.file_digest(file) == digest:
                return file
    raise UserError(f"{name} of run {run_id}: not the weights that the model was trained with; `flowers track --force`")


def _holder(client: "MlflowClient", digest: str, send: bool = True) -> str:
    """The id of the run that holds the weights; those of the current directory are sent unless they are there."""
    experiment = _experiment(client)
    for run in client.search_runs([experiment], f"tags.`{_DIGEST}` = '{digest}'", order_by=["start_time ASC"]):
        files = client.list_artifacts(run.info.run_id) if run.info.status == "FINISHED" else []
        if any(file.path == paths.WEIGHTS.name for file in files):
            return str(run.info.run_id)
    if not send:
        raise UserError(
            "the server no longer has the ImageNet weights of this model; `flowers track --force` sends them"
        )
    tags = {_DIGEST: digest, "mlflow.note.content": _NOTE}
    run = client.create_run(experiment, run_name=f"{paths.WEIGHTS.name} {digest[:8]}", tags=tags)
    client.log_artifact(run.info.run_id, str(paths.WEIGHTS))
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def _experiment(client: "MlflowClient") -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            found = client.get_experiment_by_name(EXPERIMENT)  # another machine was first
    if found.lifecycle_stage != "active":
        raise UserError(
            f"the experiment '{EXPERIMENT}' is deleted: mlflow experiments restore -x {found.experiment_id}"
        )
    return str(found.experiment_id)
