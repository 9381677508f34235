"""What a run holds of its result: its artifacts and its trained model, under the names they have in a checkout."""

from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common import paths
from flowers.tracking import model, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_TOP = {path.name: path for path in (paths.SPLIT, paths.SPLIT_REPORT, paths.HISTORY)}
_MODEL = f"artifacts/{paths.MODEL.name}"  # in the servable model


def download(client: "MlflowClient", run: "Run", folder: Path) -> None:
    """Download what there is: all artifacts of a run to `folder`/run, and its trained model to `folder`/model."""
    from mlflow.artifacts import download_artifacts

    run_id = run.info.run_id
    for name in ("run", "model"):
        (folder / name).mkdir(parents=True)
    if client.list_artifacts(run_id):
        client.download_artifacts(run_id, "", str(folder / "run"))
    for logged in client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'"):
        there = [item.path for item in client.list_logged_model_artifacts(logged.model_id, "artifacts")]
        if model.DIGEST in logged.tags and _MODEL in there:
            place = f"{logged.artifact_location}/{_MODEL}"
            download_artifacts(artifact_uri=place, dst_path=str(folder / "model"), tracking_uri=store.uri())
            return


def files(folder: Path) -> dict[str, Path]:
    """The files of the result among what was downloaded to `folder`, by their paths in a checkout."""
    found = {path.as_posix(): folder / "run" / name for name, path in _TOP.items()}
    for path in (paths.MODEL, paths.EVALUATION):
        above = folder / ("model" if path == paths.MODEL else "run")
        for file in sorted((above / path.name).rglob("*")):
            found[(paths.BUILD / file.relative_to(above)).as_posix()] = file
    return {name: file for name, file in found.items() if file.is_file()}
