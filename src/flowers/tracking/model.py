"""The servable model of a run: written as code, with explicit requirements, signature and an example of its input."""

import contextlib
import filecmp
import importlib.metadata
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flowers
from flowers.common import paths
from flowers.tracking import store
from flowers.tracking.result import Result, flattened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "flowers"
DIGEST = "flowers.model_digest"

# What the served code imports. Left to itself, MLflow would load the model and watch, which takes ten seconds.
_PACKAGES = ("mlflow", "tensorflow-cpu", "tensorflow", "keras", "numpy", "pandas", "pillow")


def log(client: "MlflowClient", run: "Run", result: Result) -> str:
    """Log the model of a result to its run, unless it is there; returns its id in the store.

    A model that a killed process left half-written is removed.
    """
    from mlflow.entities import LoggedModelOutput

    run_id, experiment = run.info.run_id, run.info.experiment_id
    written = run.outputs.model_outputs if run.outputs else []
    complete = None
    for old in client.search_logged_models([experiment], f"source_run_id = '{run_id}'"):
        if DIGEST not in old.tags:
            continue  # not written here
        if (
            complete is None
            and old.model_id in {output.model_id for output in written}
            and old.tags.get(DIGEST) == result.model_digest
            and client.list_logged_model_artifacts(old.model_id)
        ):
            complete = old.model_id
        else:
            client.delete_logged_model(old.model_id)
    if complete is not None:
        return str(complete)
    # The steps of mlflow.pyfunc.log_model, without its active run, its global address and its trial prediction.
    logged = client.create_logged_model(
        experiment, NAME, run_id, tags={DIGEST: result.model_digest}, params=flattened(result.params)
    )
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder) / "model", result, logged=logged, run_id=run_id)
        client.log_model_artifacts(logged.model_id, str(Path(folder) / "model"))
    _share_weights(logged.artifact_location)
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=len(result.epochs))])
    return str(logged.model_id)


def _share_weights(location: str) -> None:
    """In a local store, let the weights of a new model be a hard link to those of an earlier one with the same bytes.

    They are nearly all of a model. Nobody writes into a model that was logged, and a file stays until its last name is
    removed, so each model stands alone as before. Where nothing can be linked it stays a copy.
    """
    if not location.startswith("file:"):
        return
    from mlflow.utils.file_utils import local_file_uri_to_path

    new = Path(local_file_uri_to_path(location)) / "artifacts" / paths.WEIGHTS.name
    other = new.with_name(f".{new.name}")
    with contextlib.suppress(OSError):
        for earlier in store.artifact_folder().glob(f"*/models/*/artifacts/artifacts/{new.name}"):
            if not earlier.samefile(new) and filecmp.cmp(earlier, new, shallow=False):
                other.unlink(missing_ok=True)  # of a process that was killed here
                os.link(earlier, other)
                other.replace(new)
                return


def save(folder: Path, result: Result, logged: Any = None, run_id: str | None = None) -> None:
    """Write the servable model to a new folder, whole: the code that runs now, the trained model and the weights."""
    import mlflow.pyfunc
    from mlflow.models import Model

    identity = {"model_id": logged.model_id, "artifact_path": logged.artifact_location} if logged else {}
    code = Path(flowers.__file__).parent
    mlflow.pyfunc.save_model(
        path=str(folder),
        python_model=str(code / "serving" / "servable.py"),
        code_paths=[str(code)],
        artifacts={"model": str(paths.MODEL.resolve()), "weights": str(paths.WEIGHTS.resolve())},
        signature=_signature(),
        input_example=_example(result),
        pip_requirements=requirements(),
        mlflow_model=Model(run_id=run_id, **identity),
    )


def requirements() -> list[str]:
    """The packages that serving needs, each pinned to the version that is installed."""
    pinned = []
    for name in _PACKAGES:
        try:
            pinned.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue  # one of TensorFlow's two names
    return pinned


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types.schema import Array, ColSpec, Object, ParamSchema, ParamSpec, Property, Schema

    inputs = Schema([ColSpec("binary", "image")])
    each = Object([Property("label", "string"), Property("probability", "double")])
    outputs = Schema(
        [
            ColSpec("string", "label"),
            ColSpec("double", "probability"),
            ColSpec("boolean", "unsure"),
            ColSpec(Array(each), "best"),
        ]
    )
    # A parameter has a default of its type: -1 stands for the model's own threshold.
    params = ParamSchema([ParamSpec("every_class", "boolean", False), ParamSpec("threshold", "double", -1.0)])
    return ModelSignature(inputs=inputs, outputs=outputs, params=params)


def _example(result: Result) -> Any:
    import pandas as pd

    photo = result.example_photo()
    return None if photo is None else pd.DataFrame({"image": [photo.read_bytes()]})
