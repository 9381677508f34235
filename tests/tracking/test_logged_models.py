"""The folder of the model that a run logged."""

import shutil

import pytest

from flowers import tracking
from flowers.common.errors import UserError
from flowers.tracking import logged_models, lookup, store


@pytest.fixture
def run(world):
    tracking.publish(world.params)
    return world.runs(only=1)[0]


def content(folder) -> dict[str, str]:
    """What was trained, as it lies in a model's folder."""
    names = ("artifacts/model/model.json", "artifacts/model/trained.npz", "artifacts/resnet50.npz")
    return {name.rsplit("/")[-1]: (folder / name).read_text(encoding="utf-8") for name in names}


def built(world) -> dict[str, str]:
    files = ("model/model.json", "model/trained.npz", "weights/resnet50.npz")
    return {name.split("/")[-1]: (world.folder / "build" / name).read_text(encoding="utf-8") for name in files}


def test_a_local_model_is_used_where_it_lies(published):
    world, run = published
    with logged_models.model(run.info.run_id, world.params) as (folder, name):
        assert folder.is_relative_to(world.folder / "tracking/artifacts")
        assert (folder / "MLmodel").exists() and content(folder) == built(world)
        assert name == f"run {lookup.described(run)}"
    assert (folder / "MLmodel").exists()


def test_a_model_elsewhere_is_fetched_for_as_long_as_it_is_needed(world):
    elsewhere = world.folder / "elsewhere"
    world.client().create_experiment(store.experiment_name(world.params), artifact_location=str(elsewhere))
    tracking.publish(world.params)
    with logged_models.model(world.runs(only=1)[0].info.run_id, world.params) as (folder, _):
        assert not folder.is_relative_to(world.folder)
        assert content(folder) == built(world)
    assert not folder.exists() and list(elsewhere.rglob("MLmodel"))


def test_no_store_and_no_such_run_are_no_model(make_world):
    for there in (False, True):
        world = make_world(f"world {there}", store=there)
        with logged_models.model("nobody", world.params) as found:
            assert found is None
        assert (world.folder / "tracking").exists() == there


def test_a_run_without_a_model_is_said(world, run):
    (model,) = world.models(run)
    world.client().delete_logged_model(model.model_id)
    with pytest.raises(UserError, match="holds no model"), logged_models.model(run.info.run_id, world.params):
        pass


def test_a_model_whose_files_are_gone_is_said(world, run):
    with logged_models.model(run.info.run_id, world.params) as (folder, _):
        pass
    shutil.rmtree(folder)
    with pytest.raises(UserError) as error, logged_models.model(run.info.run_id, world.params):
        pass
    said = str(error.value)
    assert said.startswith(str(folder)) and run.info.run_id[:8] in said and "flowers track --force" in said


def test_what_goes_wrong_while_it_is_used_is_not_taken_for_the_stores(published):
    world, run = published
    with pytest.raises(OSError, match="mine"), logged_models.model(run.info.run_id, world.params):
        raise OSError("mine")
