"""The local store: plain MLflow finds it, and the checkout can be moved."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from tracking_world import CLASSES

from flowers import tracking
from flowers.tracking import local_store, logged_models, lookup, registry, store

READ = """
import mlflow
(run,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
print(mlflow.artifacts.load_dict(run.info.artifact_uri + "/classes.json"))
print(mlflow.models.get_model_info("models:/flowers-local@champion").run_id == run.info.run_id)
with mlflow.start_run(run.info.run_id):
    mlflow.log_text("by hand", "note.txt")
"""


def plain(code: str, folder: Path) -> str:
    """What plain Python code with MLflow prints in a folder, without a variable that names the store."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | quiet
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def publish(world):
    """Publish the result and make it the champion."""
    tracking.publish(world.params)
    run = world.runs()[-1]
    registry.promote(world.client(), "flowers-local", run, None, {})
    return run


def publish_another(world) -> None:
    """Publish a result of other inputs."""
    world.set("head.dropout", 0.4)
    tracking.publish(world.params)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def locations(world) -> set[str]:
    """Every location in the database."""
    with sqlite3.connect(world.database) as connection:
        queries = [f"SELECT {column} FROM {table}" for table, column in local_store._LOCATIONS]
        return {location for query in queries for (location,) in connection.execute(query)}


def test_plain_mlflow_in_the_checkout_finds_the_run_its_artifacts_and_the_champion(world):
    run = publish(world)
    assert plain(READ, world.folder) == f"{CLASSES}\nTrue\n"
    assert (world.folder / run.info.artifact_uri / "note.txt").read_text() == "by hand"


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree])
def test_a_moved_or_copied_checkout_keeps_its_store_and_writes_nothing_elsewhere(world, tmp_path, monkeypatch, move):
    publish(world)
    before = files(world.folder)
    old, new = world.folder, tmp_path / "elsewhere" / "flowers"
    new.parent.mkdir()
    move(old, new)
    monkeypatch.chdir(new)
    world.folder, world.database = new, new / "mlflow.db"

    assert plain(READ, new).endswith("True\n")  # before any command of the project
    with logged_models.model("champion", lambda: world.params) as (folder, _):
        assert folder.is_relative_to(new) and (folder / "artifacts/resnet50.npz").is_file()
    publish_another(world)
    for run in world.runs(only=2):
        assert "params.yaml" in files(new / run.info.artifact_uri)
    assert files(old) == (before if old.exists() else set())


@pytest.fixture
def earlier(world, tmp_path, monkeypatch):
    """A function that copies a world with a published run to where its store is one of an earlier version."""
    run, folder = publish(world), tmp_path / "earlier"

    def make(root: Path | None = None) -> str:
        artifacts = ((root or folder) / "tracking/artifacts").as_uri()
        shutil.copytree(world.folder, folder)
        (folder / "mlruns").rename(folder / "tracking/artifacts")
        database = (folder / "mlflow.db").rename(folder / "tracking/mlflow.db")
        with sqlite3.connect(database) as connection:
            for table, column in local_store._LOCATIONS:
                connection.execute(f"UPDATE {table} SET {column} = replace({column}, 'mlruns', '{artifacts}')")
        world.folder, world.database = folder, folder / "mlflow.db"
        monkeypatch.chdir(folder)
        return run.info.run_id

    return make


@pytest.mark.parametrize("root", [None, Path("/before it was moved")])
@pytest.mark.parametrize("stray", [True, False])
def test_the_store_of_an_earlier_version_is_taken_over_once(world, earlier, fresh_database, capsys, root, stray):
    run_id = earlier(root)
    if stray:  # what plain `mlflow ui` left
        shutil.copy(fresh_database, world.database)
    assert store.exists()
    assert lookup.find_anywhere("champion", lambda: world.params)[1].info.run_id == run_id
    assert files(world.folder / "tracking") == {".store.lock", ".publish.lock"}
    assert tracking.publish(world.params).already_there
    assert plain(READ, world.folder).endswith("True\n")
    assert all(location.startswith("mlruns/") for location in locations(world))
    assert "earlier version" not in capsys.readouterr().err


def test_beside_other_runs_the_store_of_an_earlier_version_is_named_with_the_command(world, earlier, capsys):
    earlier()
    plain("import mlflow; mlflow.start_run()", world.folder)
    tracking.publish(world.params)
    assert (world.folder / "tracking/mlflow.db").exists() and len(world.runs()) == 2
    assert "mlflow ui --backend-store-uri sqlite:///tracking/mlflow.db" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("given", "then"),
    [
        ("mlflow-artifacts:/0", "mlruns/0"),  # by plain `mlflow ui` on a fresh store
        ("{root}/mlruns/0", "mlruns/0"),  # by plain `mlflow.start_run` in the checkout
        ("/gone/mlruns/0", "mlruns/0"),
        ("{outside}/mlruns/0", "{outside}/mlruns/0"),  # exists
        ("s3://bucket/mlruns/0", "s3://bucket/mlruns/0"),
    ],
)
def test_locations_of_plain_mlflow_become_relative_and_others_stay(world, given, then):
    (world.folder.parent / "mlruns/0").mkdir(parents=True)
    given, then = (text.format(root=world.folder, outside=world.folder.parent) for text in (given, then))
    with sqlite3.connect(world.database) as connection:
        connection.execute("UPDATE experiments SET artifact_location = ?", (given,))
    with store.lock():
        store.connect()
    assert world.client().get_experiment("0").artifact_location == then


def test_files_that_clients_of_the_server_sent_stay_there(world):
    world.write("mlartifacts/0/run/artifacts/a.txt", "sent")
    with sqlite3.connect(world.database) as connection:
        connection.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")
    local_store.relocate(world.folder)
    assert world.client().get_experiment("0").artifact_location == "mlflow-artifacts:/0"


def test_the_quoted_address_that_mlflow_passes_on_is_the_local_store(world, monkeypatch):
    quoted = world.folder.as_uri().removeprefix("file://")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{quoted}/mlflow.db")
    tracking.publish(world.params)
    assert world.runs(only=1)[0].info.artifact_uri.startswith("mlruns/flowers_local/")
    assert [path.name for path in world.folder.parent.iterdir()] == [world.folder.name]


@pytest.mark.slow
def test_a_store_whose_creation_was_interrupted_is_created_anew(make_world):
    world = make_world(store=False)
    limited = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # as a full disk does
from flowers.tracking import store
with store.lock():
    store.connect()
"""
    done = subprocess.run([sys.executable, "-c", limited], cwd=world.folder, capture_output=True, text=True)
    assert "cannot be opened" in done.stderr and not world.database.exists()
    tracking.publish(world.params)
    world.runs(only=1)
    assert [path.name for path in (world.folder / "tracking").glob(".mlflow.db*")] == []
