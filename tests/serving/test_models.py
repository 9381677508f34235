"""The model that a reference names, and the file of its weights."""

import zipfile
from pathlib import Path

import pytest
from tracking_world import closed_port, fresh_database, make_world, published, world  # noqa: F401

from flowers import tracking
from flowers.common import paths
from flowers.common.errors import UserError
from flowers.model import classifier
from flowers.serving import models
from flowers.serving.export import formats


@pytest.fixture(autouse=True)
def loaded(monkeypatch) -> list[tuple[Path, Path]]:
    """The model and weights of each load; a string is returned instead of a model."""
    found = []
    monkeypatch.setattr(classifier, "load", lambda *files: found.append(files) or "a model")
    return found


@pytest.fixture(scope="module")
def champion(published):  # noqa: F811
    """A world, and the run whose model is its champion; for tests that only read."""
    from flowers.tracking import registry

    world, run = published  # noqa: F811
    registry.promote(world.client(), "flowers-local", run, None, {})
    return world, run


def in_the_store(world, loaded) -> bool:  # noqa: F811
    """Whether the model was loaded from MLflow's files, with the weights beside it."""
    ((folder, weights),) = loaded
    artifacts = world.folder / "mlruns"
    return folder.is_relative_to(artifacts) and weights == folder.parent / "resnet50.npz" and weights.exists()


def test_the_default_is_the_champion(champion, loaded):
    world, run = champion  # noqa: F811
    chosen = models.choose(None, lambda: world.params)
    assert chosen[0] == "a model"
    assert chosen[1] == f"the champion, run {run.info.run_id[:8]} '{run.info.run_name}'"
    assert in_the_store(world, loaded)


def test_without_a_champion_the_default_is_the_latest_trained_model(world, loaded):  # noqa: F811
    assert models.choose(None, lambda: world.params)[1] == "build/model"
    assert loaded == [(paths.MODEL, paths.WEIGHTS)]


def test_without_a_store_the_default_is_the_latest_trained_model(make_world, loaded):  # noqa: F811
    fresh = make_world(store=False)
    assert models.choose(None, lambda: fresh.params)[1] == "build/model"
    assert loaded == [(paths.MODEL, paths.WEIGHTS)]
    assert not Path("tracking").exists()


def test_a_reference_may_be_the_name_id_or_alias_of_a_run(champion, loaded):
    world, run = champion  # noqa: F811
    for reference in (run.info.run_name, run.info.run_id[:10], "champion"):
        found = models.choose(reference, lambda: world.params)
        assert found[1] == f"run {run.info.run_id[:8]} '{run.info.run_name}'"
        assert in_the_store(world, loaded)
        loaded.clear()


def test_a_reference_may_be_a_folder_of_train_or_mlflow(champion, loaded):
    world, _ = champion  # noqa: F811
    assert models.choose("build/model", lambda: world.params)[1] == "build/model"
    (saved,) = (world.folder / "mlruns").rglob("MLmodel")
    assert models.choose(str(saved.parent), lambda: world.params)[1] == str(saved.parent)
    assert loaded == [
        (paths.MODEL, paths.WEIGHTS),
        (saved.parent / "artifacts/model", saved.parent / "artifacts/resnet50.npz"),
    ]


@pytest.mark.usefixtures("world")
def test_a_model_of_another_checkout_has_the_weights_of_that_checkout(tmp_path, loaded):
    other = tmp_path / "other/build"
    (other / "model").mkdir(parents=True)
    models.load(other / "model")
    (other / "weights").mkdir()
    (other / "weights/resnet50.npz").touch()
    models.load(other / "model")
    assert loaded == [(other / "model", paths.WEIGHTS), (other / "model", other / "weights/resnet50.npz")]


@pytest.mark.parametrize("reference", ["", "build/nothing"])
def test_an_unknown_reference_is_an_error(champion, loaded, reference):
    world, _ = champion  # noqa: F811
    with pytest.raises(UserError, match=f"'{reference}' is neither a file, a folder nor a run's name, id or alias"):
        models.choose(reference, lambda: world.params)
    assert loaded == []


def test_an_unreachable_store_is_an_error_for_runs_only(world, closed_port, monkeypatch, capsys, loaded):  # noqa: F811
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    assert models.choose(None, lambda: world.params)[1] == "build/model"
    warning = capsys.readouterr().err
    assert "cannot be reached" in warning and warning.endswith("Using build/model\n")
    with pytest.raises(tracking.StoreUnreachable):
        models.choose("a run", lambda: world.params)
    assert loaded == [(paths.MODEL, paths.WEIGHTS)]


@pytest.mark.usefixtures("world")
def test_an_exported_file_alone_is_a_model_with_its_digest_and_its_weights(tmp_path, loaded, monkeypatch):
    monkeypatch.setattr(formats, "load", lambda file: f"opened {file.name}")
    network = tmp_path / "flowers.xml"
    network.write_bytes(b"operations")
    network.with_suffix(".bin").write_bytes(b"weights")
    (tmp_path / "labels.txt").touch()
    assert models.choose(str(network), pytest.fail) == ("opened flowers.xml", str(network))  # no run is looked for
    assert models.choose(str(tmp_path), pytest.fail)[0] == "opened flowers.xml"
    before = models.digest(network)
    models.pack(network, tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as archive:
        assert archive.namelist() == ["model/flowers.xml", "model/flowers.bin"]
    network.with_suffix(".bin").write_bytes(b"others")
    assert models.digest(network) != before
    assert loaded == []
