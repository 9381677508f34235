"""Which model a reference names, and where its weights lie."""

from pathlib import Path

import pytest
from tracking_world import closed_port, fresh_database, make_world, published, world  # noqa: F401

from flowers import tracking
from flowers.common import paths
from flowers.common.errors import UserError
from flowers.model import classifier
from flowers.serving import models


@pytest.fixture(autouse=True)
def loaded(monkeypatch) -> list[tuple[Path, Path]]:
    """What was loaded, model and weights; nothing is."""
    found = []
    monkeypatch.setattr(classifier, "load", lambda *files: found.append(files) or "a model")
    return found


@pytest.fixture(scope="module")
def champion(published):  # noqa: F811
    """A world, and the run in it whose model is the champion; for tests that only look."""
    from flowers.tracking import registry

    world, run = published  # noqa: F811
    registry.promote(world.client(), "flowers-local", run, None, {})
    return world, run


def in_the_store(world, loaded) -> bool:  # noqa: F811
    """Whether the model was loaded from MLflow's files, with the weights that lie beside it."""
    ((folder, weights),) = loaded
    artifacts = world.folder / "tracking" / "artifacts"
    return folder.is_relative_to(artifacts) and weights == folder.parent / "resnet50.npz" and weights.exists()


def test_without_a_reference_it_is_the_champion(champion, loaded):
    world, run = champion  # noqa: F811
    chosen = models.choose(None, lambda: world.params)
    assert chosen.model == "a model"
    assert chosen.name == f"the champion, run {run.info.run_id[:8]} '{run.info.run_name}'"
    assert in_the_store(world, loaded)


def test_without_a_champion_it_is_the_one_that_was_trained_last(world, loaded):  # noqa: F811
    assert models.choose(None, lambda: world.params).name == "build/model"
    assert loaded == [(paths.MODEL, paths.WEIGHTS)]


def test_without_a_store_it_is_the_one_that_was_trained_last(make_world, loaded):  # noqa: F811
    assert models.choose(None, lambda: make_world(store=False).params).name == "build/model"
    assert loaded == [(paths.MODEL, paths.WEIGHTS)]
    assert not Path("tracking").exists()


@pytest.mark.parametrize("kind", ["name", "id", "alias"])
def test_a_run_is_named_by_its_name_id_or_alias(champion, loaded, kind):
    world, run = champion  # noqa: F811
    reference = {"name": run.info.run_name, "id": run.info.run_id[:10], "alias": "champion"}[kind]
    assert models.choose(reference, lambda: world.params).name == f"run {run.info.run_id[:8]} '{run.info.run_name}'"
    assert in_the_store(world, loaded)


def test_a_folder_is_one_that_train_wrote_or_mlflow(champion, loaded):
    world, _ = champion  # noqa: F811
    assert models.choose("build/model", lambda: world.params).name == "build/model"
    (saved,) = (world.folder / "tracking/artifacts").rglob("MLmodel")
    assert models.choose(str(saved.parent), lambda: world.params).name == str(saved.parent)
    assert loaded == [
        (paths.MODEL, paths.WEIGHTS),
        (saved.parent / "artifacts/model", saved.parent / "artifacts/resnet50.npz"),
    ]


def test_a_model_of_another_checkout_has_the_weights_of_that_one(world, tmp_path, loaded):  # noqa: F811
    other = tmp_path / "other/build"
    (other / "model").mkdir(parents=True)
    models.load(other / "model")
    (other / "weights").mkdir()
    (other / "weights/resnet50.npz").touch()
    models.load(other / "model")
    assert loaded == [(other / "model", paths.WEIGHTS), (other / "model", other / "weights/resnet50.npz")]


@pytest.mark.parametrize("reference", ["nobody", "", "build/nothing"])
def test_what_names_nothing_is_said(champion, loaded, reference):
    world, _ = champion  # noqa: F811
    with pytest.raises(UserError, match=f"'{reference}' is neither a folder nor a run's name, id or alias"):
        models.choose(reference, lambda: world.params)
    assert loaded == []


def test_a_server_that_is_away_is_replaced_unless_it_was_asked_for(world, closed_port, monkeypatch, capsys, loaded):  # noqa: F811
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    assert models.choose(None, lambda: world.params).name == "build/model"
    said = capsys.readouterr().err
    assert "cannot be reached" in said and said.endswith("Using build/model\n")
    with pytest.raises(tracking.StoreUnreachable):
        models.choose("a run", lambda: world.params)
    assert loaded == [(paths.MODEL, paths.WEIGHTS)]
