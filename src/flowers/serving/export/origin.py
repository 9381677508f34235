"""Where an exported model comes from: the run in MLflow and the git commit."""

from pathlib import Path

from flowers import tracking
from flowers.common import paths
from flowers.common.errors import UserError
from flowers.serving.models import Settings
from flowers.tracking import provenance, runs, store


def of(folder: Path, settings: Settings) -> dict[str, str | None]:
    """`run`, its id, and `commit` of the model in this folder; None where they are not known."""
    run = _logged_by(folder) or (_published(settings) if folder == paths.MODEL else None)
    commit = _commit_of(run) if run else None
    if commit is None and folder == paths.MODEL:
        commit = provenance.commit()
    return {"run": run, "commit": commit}


def _logged_by(folder: Path) -> str | None:
    """The run that logged a model to MLflow, by the file that MLflow wrote beside it."""
    try:
        lines = (folder / "MLmodel").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.removeprefix("run_id: ") for line in lines if line.startswith("run_id: ")), None)


def _published(settings: Settings) -> str | None:
    """The run to which the result in this checkout was published."""
    try:
        if not store.exists():
            return None
        result = tracking.fingerprint(settings())["result"]
        with store.lock():
            found = runs.search(store.connect(), f"tags.`{runs.RESULT}` = '{result}'")
    except (UserError, tracking.StoreUnreachable):
        return None
    return str(found[0].info.run_id) if found else None


def _commit_of(run: str) -> str | None:
    try:
        with store.lock():
            found = store.found(store.connect().get_run, run)
    except (UserError, tracking.StoreUnreachable):
        return None
    commits = provenance.items(found.data.tags.get(runs.COMMITS)) if found else []
    return commits[-1] if commits else None
