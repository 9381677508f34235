"""The servable model of a run: code, weights, explicit requirements, signature and an example of its input."""

import contextlib
import filecmp
import importlib.metadata
import json
import os
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import flowers
from flowers.common import extras, paths
from flowers.tracking import runs, shared_weights, store
from flowers.tracking.result import Result, flattened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

NAME = "flowers"
DIGEST = "flowers.model_digest"

# What the served code imports. By default MLflow finds it out by loading the model, which takes ten seconds.
_PACKAGES = ("mlflow", "tensorflow-cpu", "tensorflow", "keras", "numpy", "pandas", "pillow", "pillow-heif", "pydantic")


def log(client: "MlflowClient", run: "Run", result: Result) -> str:
    """Log the model of a result to its run, unless it is there; returns its id in the store.

    An incomplete model of a killed process is deleted.
    """
    from mlflow.entities import LoggedModelOutput

    run_id, experiment = run.info.run_id, run.info.experiment_id
    complete = {output.model_id for output in (run.outputs.model_outputs if run.outputs else [])}
    found = None
    for old in logged(client, run):
        equal = old.model_id in complete and old.tags[DIGEST] == result.model_digest
        if found is None and equal and client.list_logged_model_artifacts(old.model_id):
            found = str(old.model_id)
        else:
            client.delete_logged_model_tag(old.model_id, DIGEST)  # also where deleting is not permitted
            with runs.permitted():
                client.delete_logged_model(old.model_id)
    if found is not None:
        if store.is_server(store.uri()):
            shared_weights.send(client, result.key.weights)  # somebody may have deleted them
        return found
    # The steps of mlflow.pyfunc.log_model, without its active run, its global address and its trial prediction.
    made = client.create_logged_model(
        experiment, NAME, run_id, tags={DIGEST: result.model_digest}, params=flattened(result.params)
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder, weights = Path(temporary), paths.WEIGHTS.resolve()
        if store.is_server(store.uri()):
            weights = shared_weights.refer(client, result.key.weights, folder)
        save(folder / "model", result.example_image(), made, run_id, weights)
        client.log_model_artifacts(made.model_id, str(folder / "model"))
    _share_weights(made.artifact_location)
    client.finalize_logged_model(made.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step=len(result.epochs))])
    return str(made.model_id)


def logged(client: "MlflowClient", run: "Run") -> list["LoggedModel"]:
    """The models that this module logged to a run."""
    found = client.search_logged_models([run.info.experiment_id], f"source_run_id = '{run.info.run_id}'")
    return [each for each in found if DIGEST in each.tags]


def _share_weights(location: str) -> None:
    """In a local store, replace the weights of a new model by a hard link to equal weights of an earlier one.

    The weights are nearly all bytes of a model. Logged models are never changed, and deleting one leaves the others
    whole. Where links are impossible the copy stays.
    """
    folder = store.local_path(location)
    if folder is None:
        return
    new = folder / "artifacts" / paths.WEIGHTS.name
    other = new.with_name(f".{new.name}")
    with contextlib.suppress(OSError):
        for earlier in store.artifact_folder().glob(f"*/models/*/artifacts/artifacts/{new.name}"):
            if not earlier.samefile(new) and filecmp.cmp(earlier, new, shallow=False):
                other.unlink(missing_ok=True)  # left by a killed process
                os.link(earlier, other)
                other.replace(new)
                return


def save(
    folder: Path, example: Path | None, logged: Any = None, run_id: str | None = None, weights: Path | None = None
) -> None:
    """Write the servable model to a new folder: the running code, the trained model and the weights.

    `example` is an image to try it on; `weights` may be a reference to them (see `shared_weights`).
    """
    import mlflow.pyfunc
    import pandas as pd
    from mlflow.models import Model

    described = json.loads((paths.MODEL / "model.json").read_bytes())
    identity = {"model_id": logged.model_id, "artifact_path": logged.artifact_location} if logged else {}
    with tempfile.TemporaryDirectory() as temporary:
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(Path(flowers.__file__).parent / "serving" / "servable.py"),
            code_paths=[str(_packed_code(Path(temporary)))],
            artifacts={"model": str(paths.MODEL.resolve()), "weights": str(weights or paths.WEIGHTS.resolve())},
            signature=_signature(),
            input_example=pd.DataFrame({"image": [example.read_bytes()]}) if example else None,
            pip_requirements=requirements(in_int8=described["precision"] == "int8"),
            mlflow_model=Model(run_id=run_id, **identity),
        )


def _packed_code(folder: Path) -> Path:
    """Write this package into a zip, which Python imports from: a server takes one file sooner than two hundred."""
    package, archive = Path(flowers.__file__).parent, folder / f"{flowers.__name__}.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
        for file in sorted(package.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                zipped.write(file, file.relative_to(package.parent))
    return archive


def requirements(in_int8: bool = False) -> list[str]:
    """The packages that serving needs, each pinned to its installed version."""
    pinned = []
    if in_int8:
        extras.require("model.precision: int8", "openvino")
        pinned.append(f"openvino=={importlib.metadata.version('openvino')}")
    for name in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # TensorFlow has one of two names
            pinned.append(f"{name}=={importlib.metadata.version(name)}")
    return pinned


def _signature() -> Any:
    import pandas as pd
    from mlflow.models import infer_signature

    inputs = pd.DataFrame({"image": [b""]})
    best = [{"label": "rose", "probability": 0.9}]
    told = {"known": [True], "novelty": [-5.0], "nearest": [["rose"]]}
    outputs = pd.DataFrame({"label": ["rose"], "probability": [0.9], "unsure": [False], **told, "best": [best]})
    # MLflow wants a default of the parameter's type: -1 stands for the model's own threshold.
    return infer_signature(inputs, outputs, {"every_class": False, "threshold": -1.0})
