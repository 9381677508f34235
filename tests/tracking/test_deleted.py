"""What deleted runs leave in the store: found and removed for good, and nothing else with it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flowers import cleaning, tracking
from flowers.errors import UserError
from flowers.tracking import deleted, model
from tracking_world import SCORES


def publish(world, accuracy: float):
    """Publish a result: a run of its own."""
    world.write("build/evaluation/metrics.json", json.dumps({**SCORES, "accuracy": accuracy}))
    run_id = tracking.publish(world.params).run_id
    return world.client().get_run(run_id)


def folders(world, run) -> list[Path]:
    """The run's own folder and its model's, in the local store."""
    (logged,) = world.models(run)
    place = world.folder / "tracking/artifacts/flowers_local"
    return [place / run.info.run_id / "artifacts", place / "models" / logged.model_id / "artifacts"]


def counted() -> tuple[int, int]:
    found = deleted.find()
    return found.runs, found.models


def test_a_deleted_run_goes_with_its_model_and_the_others_stay_whole(world, capsys):
    gone, stays = publish(world, 0.75), publish(world, 0.76)
    of_gone, of_stays = folders(world, gone), folders(world, stays)
    before = world.artifacts(stays)
    assert counted() == (0, 0)
    world.client().delete_run(gone.info.run_id)
    assert counted() == (1, 1)
    # Its weights are those of the other run's model, too, and free nothing.
    files = [file for folder in of_gone for file in folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files if file.name != "resnet50.npz")

    cleaning.run(lambda: False)
    assert counted() == (1, 1) and all(folder.is_dir() for folder in of_gone)
    cleaning.run(lambda: True)
    said = capsys.readouterr()
    assert f"MLflow store: {size:,} bytes freed" in said.out and "1 run, 1 model" in said.out
    assert "warning: DVC cache is left alone" in said.err  # the world is no repository
    assert counted() == (0, 0) and not any(folder.exists() for folder in of_gone)
    (run,) = world.runs(only=1)
    assert run.info.run_id == stays.info.run_id
    assert world.artifacts(run) == before
    assert folders(world, run) == of_stays
    assert (of_stays[1] / "artifacts/resnet50.npz").read_text() == "weights"

    world.write("build/evaluation/metrics.json", json.dumps({**SCORES, "accuracy": 0.75}))
    assert not tracking.publish(world.params).already_there
    world.runs(only=2)


@pytest.mark.slow
def test_a_run_that_was_restored_meanwhile_stays(world):
    run = publish(world, 0.75)
    world.client().delete_run(run.info.run_id)
    assert counted() == (1, 1)
    world.client().restore_run(run.info.run_id)
    deleted.remove()
    world.runs(only=1)
    assert all(folder.is_dir() for folder in folders(world, run))


@pytest.mark.slow
def test_a_deleted_experiment_goes_with_all_its_runs_and_models(world):
    places = [*folders(world, publish(world, 0.75)), *folders(world, publish(world, 0.76))]
    world.client().delete_experiment(world.runs()[0].info.experiment_id)
    assert counted() == (2, 2)
    deleted.remove()
    assert counted() == (0, 0) and not any(folder.exists() for folder in places)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["models:/{model}", "runs:/{run}/flowers"])
def test_a_registered_model_outlives_its_run(world, monkeypatch, place):
    import mlflow

    run = publish(world, 0.75)
    of_run, of_model = folders(world, run)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{world.database}")
    mlflow.register_model(place.format(run=run.info.run_id, model=of_model.parent.name), "flowers")
    world.client().delete_run(run.info.run_id)
    assert counted() == (1, 0)
    deleted.remove()
    assert not of_run.exists() and (of_model / "MLmodel").is_file()


@pytest.mark.slow
def test_a_model_whose_run_mlflow_has_removed_and_a_deleted_model_go_too(world):
    run, other = publish(world, 0.75), publish(world, 0.76)
    (_, orphan), (_, half_written) = folders(world, run), folders(world, other)
    world.client().delete_run(run.info.run_id)
    address = f"sqlite:///{world.database}"
    gc = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", address, "--tracking-uri", address]
    subprocess.run(gc, check=True, capture_output=True)
    world.client().delete_logged_model(half_written.parent.name)
    assert orphan.is_dir() and counted() == (0, 2)
    deleted.remove()
    assert not orphan.exists() and not half_written.exists()
    world.runs(only=1)


def test_models_of_others_are_none_of_its_business(world):
    run = publish(world, 0.75)
    logged = world.client().create_logged_model(run.info.experiment_id, "mine", run.info.run_id)
    world.client().delete_run(run.info.run_id)
    assert logged.model_id not in deleted.find().models_left
    assert model.DIGEST not in logged.tags


def test_a_copied_project_leaves_the_originals_files_alone(world, tmp_path, monkeypatch):
    run = publish(world, 0.75)
    shutil.copytree(world.folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'copy/tracking/mlflow.db'}")
    from mlflow import MlflowClient

    MlflowClient().delete_run(run.info.run_id)
    for act in (deleted.find, deleted.remove):
        with pytest.raises(UserError, match="of a deleted run, is not in"):
            act()
    assert all(folder.is_dir() for folder in folders(world, run))


@pytest.mark.parametrize("address", ["https://me:secret@mlflow.example.org", "sqlite:///elsewhere.db"])
def test_another_store_is_named_and_left_alone(world, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(UserError, match="is not this project's own") as error:
        deleted.find()
    assert "secret" not in str(error.value)


def test_where_there_is_no_store_none_is_made(make_world):
    world = make_world(store=False)
    assert counted() == (0, 0)
    assert not (world.folder / "tracking").exists()
