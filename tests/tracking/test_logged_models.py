"""The folder of the logged model of a run."""

import shutil

import pytest

from flowers import tracking
from flowers.common.errors import UserError
from flowers.tracking import experiments, logged_models, lookup


@pytest.fixture
def run(world):
    tracking.publish(world.params)
    return world.runs(only=1)[0]


def content(folder) -> dict[str, str]:
    """The trained files in a model's folder."""
    names = ("artifacts/model/model.json", "artifacts/model/trained.npz", "artifacts/resnet50.npz")
    return {name.rsplit("/")[-1]: (folder / name).read_text(encoding="utf-8") for name in names}


def built(world) -> dict[str, str]:
    files = ("model/model.json", "model/trained.npz", "weights/resnet50.npz")
    return {name.split("/")[-1]: (world.folder / "build" / name).read_text(encoding="utf-8") for name in files}


def test_a_local_model_is_used_in_place(published):
    world, run = published
    with logged_models.model(run.info.run_id, lambda: world.params) as (folder, name):
        assert folder.is_relative_to(world.folder / "mlruns")
        assert (folder / "MLmodel").exists() and content(folder) == built(world)
        assert name == f"run {lookup.described(run)}"
    assert (folder / "MLmodel").exists()


def test_a_model_on_another_store_is_downloaded_and_removed_afterwards(world):
    elsewhere = world.folder / "elsewhere"
    world.client().create_experiment(experiments.experiment_name(world.params), artifact_location=str(elsewhere))
    tracking.publish(world.params)
    with logged_models.model(world.runs(only=1)[0].info.run_id, lambda: world.params) as (folder, _):
        assert not folder.is_relative_to(world.folder)
        assert content(folder) == built(world)
    assert not folder.exists() and list(elsewhere.rglob("MLmodel"))


def test_without_a_store_or_run_there_is_no_model(make_world):
    for there in (False, True):
        world = make_world(f"world {there}", store=there)
        with logged_models.model("nobody", lambda world=world: world.params) as found:
            assert found is None
        assert (world.folder / "tracking").exists() == there


def test_a_run_without_a_model_is_an_error(world, run):
    (model,) = world.models(run)
    world.client().delete_logged_model(model.model_id)
    with pytest.raises(UserError, match="holds no model"), logged_models.model(run.info.run_id, lambda: world.params):
        pass


def test_a_model_without_its_files_is_an_error_with_the_remedy(world, run):
    with logged_models.model(run.info.run_id, lambda: world.params) as (folder, _):
        pass
    shutil.rmtree(folder)
    with pytest.raises(UserError) as error, logged_models.model(run.info.run_id, lambda: world.params):
        pass
    message = str(error.value)
    assert message.startswith(str(folder)) and run.info.run_id[:8] in message and "flowers track --force" in message


def test_an_error_of_the_caller_is_not_explained_as_one_of_the_store(published):
    world, run = published
    with pytest.raises(OSError, match="mine"), logged_models.model(run.info.run_id, lambda: world.params):
        raise OSError("mine")
