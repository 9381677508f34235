"""The local MLflow store, where MLflow looks by default: `mlflow.db` and `mlruns/` in the root of the checkout.

Locations in it are relative to the root, so that the checkout can be moved, copied or mounted elsewhere. MLflow reads
relative locations, but makes each one absolute when it creates an experiment.
"""

import contextlib
import functools
import sqlite3
from pathlib import Path

from flowers.common import console, paths

DATABASE = "mlflow.db"
ARTIFACTS = "mlruns"
UPLOADS = "mlartifacts"  # of clients of `mlflow ui`, which resolves `mlflow-artifacts:` to this folder

_EARLIER = paths.TRACKING / DATABASE  # of earlier versions, with tracking/artifacts
_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def exists(root: Path) -> bool:
    """Whether the checkout has a store, or one of an earlier version."""
    return (root / DATABASE).exists() or (root / _EARLIER).exists()


def create(address: str, root: Path) -> None:
    """Create the store, whose address is `address`. Call it under `store.lock`.

    MLflow cannot open a database whose creation was interrupted, so it is put in place when it is complete.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    partial = paths.TRACKING / f".{DATABASE}"
    for leftover in (root / partial.parent).glob(f"{partial.name}*"):  # of a killed process, with its journal
        leftover.unlink()
    # With a place for the artifacts of MLflow's own Default experiment.
    scheme, options = address.partition(":")[0], address.partition("?")[1:]
    place = f"{scheme}:///{(root / partial).as_posix()}{''.join(options)}"
    made = SqlAlchemyStore(place, (root / ARTIFACTS).as_uri())
    made.engine.dispose()
    (root / partial).replace(root / DATABASE)


def take_over(root: Path) -> None:
    """Move the store of an earlier version from `tracking/` to the root, once; warn if runs are there already."""
    earlier, database, artifacts = root / _EARLIER, root / DATABASE, root / ARTIFACTS
    if not earlier.exists():
        return
    if database.exists() and not _is_empty(database):
        _warn_of_two()
        return
    artifacts.mkdir(exist_ok=True)
    for folder in earlier.parent.glob("artifacts/*"):
        if not (artifacts / folder.name).exists():
            folder.rename(artifacts / folder.name)
    earlier.replace(database)  # last: a killed move is completed by the next
    with contextlib.suppress(OSError):
        (earlier.parent / "artifacts").rmdir()


@functools.cache
def _warn_of_two() -> None:
    console.warn(
        f"{_EARLIER}, the store of an earlier version, is not taken over, because {DATABASE} holds runs already; "
        f"to see it: mlflow ui --backend-store-uri sqlite:///{_EARLIER}"
    )


def _is_empty(database: Path) -> bool:
    """Whether nobody logged anything: plain `mlflow ui` creates such a file."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        return not any(
            connection.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608
            for table in ("runs", "registered_models", "trace_info")
            if table in there
        )


def relocate(root: Path) -> None:
    """Make the absolute locations of artifacts in the store relative to the root, wherever it was before."""
    with contextlib.closing(sqlite3.connect(root / DATABASE, timeout=60)) as connection, connection:
        for table, column in _LOCATIONS:
            absolute = f"SELECT DISTINCT {column} FROM {table} WHERE {column} LIKE '/%' OR {column} LIKE '%:/%'"  # noqa: S608
            for (location,) in connection.execute(absolute).fetchall():
                new = _relative(location, root)
                if new != location:
                    connection.execute(f"UPDATE {table} SET {column} = ? WHERE {column} = ?", (new, location))  # noqa: S608


def _relative(location: str, root: Path) -> str:
    """The location relative to the root; itself if it is on a server or in a folder that belongs elsewhere."""
    scheme, uploaded, rest = location.partition("mlflow-artifacts:/")
    if uploaded and not scheme:
        # Plain `mlflow ui` on a fresh store binds the Default experiment to its server.
        return location if (root / UPLOADS / rest).exists() else f"{ARTIFACTS}/{rest}"
    for folder in (f"/{ARTIFACTS}/", f"/{paths.TRACKING}/artifacts/"):
        _, ours, rest = location.rpartition(folder)
        if ours and ((root / ARTIFACTS / rest).exists() or _belongs_to(root, location)):
            return f"{ARTIFACTS}/{rest}"
    return location


def _belongs_to(root: Path, location: str) -> bool:
    """Whether a local location is in the root, or gone from where the root was before."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    path = Path(local_file_uri_to_path(location))
    return location.startswith(("/", "file:/")) and (path.is_relative_to(root) or not path.exists())
