"""Where the photos of a run come from: DVC's cache, the remotes of its commit, those of this repository, or nowhere."""

import shutil
import subprocess
from pathlib import Path

import pytest
import small_repository
from small_repository import SmallRepository

from flowers.common.errors import UserError
from flowers.runs.reproduce import pipeline, worktree

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("git"), reason="needs git")]


@pytest.fixture
def repository(tmp_path, monkeypatch) -> SmallRepository:
    """A repository with data/ in a remote below .dvc, which git does not know; and one step into it."""
    repository = small_repository.create(tmp_path / "repository")
    (repository.folder / "data").mkdir()
    (repository.folder / "data/photo.txt").write_text("a photo")
    repository.dvc("add", "data")
    repository.replace("data.dvc", "  path: data\n", "  path: data\n  remote: sample\n")
    repository.dvc("push", "data.dvc")
    (repository.folder / ".dvc/sample/.gitignore").write_text("*\n")
    repository.commit()
    monkeypatch.chdir(repository.folder)
    return repository


def fetched(repository: SmallRepository) -> str:
    """What the photo holds in a worktree of the last commit."""
    commit = repository.git("rev-parse", "HEAD").strip()
    with worktree.checkout(commit, keep=False) as folder:
        worktree.share_dvc(folder, remotes=False)
        pipeline.fetch_data(folder, pipeline.environment(folder, fresh=False))
        return (folder / "data/photo.txt").read_text()


def test_from_the_cache_that_local_settings_name(repository, tmp_path):
    shutil.move(".dvc/cache", tmp_path / "cache elsewhere")
    repository.dvc("cache", "dir", "--local", str(tmp_path / "cache elsewhere"))
    shutil.rmtree(".dvc/sample")
    assert fetched(repository) == "a photo"


def test_from_the_remote_and_else_it_says_so(repository):
    shutil.rmtree(".dvc/cache")
    assert fetched(repository) == "a photo"
    shutil.rmtree(".dvc/cache")
    shutil.rmtree(".dvc/sample")
    with pytest.raises(UserError, match="the photos of the run are in no DVC cache or remote any more: "):
        fetched(repository)


def test_what_is_fresh_has_archives_and_weights_and_no_activations(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "cache"))
    for name in ("weights", "activations"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "file").write_text(name)
    monkeypatch.setenv("MLFLOW_RUN_ID", "one")
    monkeypatch.setenv("DVC_EXP_NAME", "two")
    variables = pipeline.environment(tmp_path / "worktree", fresh=True)
    cache = Path(variables["FLOWERS_CACHE"])
    assert (cache / "weights/file").read_text() == "weights"
    assert sorted(path.name for path in cache.iterdir()) == ["archives", "weights"]
    assert not {"MLFLOW_RUN_ID", "DVC_EXP_NAME"} & variables.keys()
    assert variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/worktree/tracking/mlflow.db"
    assert pipeline.environment(tmp_path, fresh=False)["FLOWERS_CACHE"] == str(tmp_path / "cache")


def test_what_the_pipeline_started_ends_with_it(tmp_path, monkeypatch):
    """Interrupted while it waits: its processes get the signal, too, before anything is removed."""
    started = []

    class Interrupted(subprocess.Popen):
        def wait(self, timeout=None):
            if not started:
                started.append(self)
                raise KeyboardInterrupt
            return super().wait(timeout)

    monkeypatch.setattr(pipeline.subprocess, "Popen", Interrupted)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(["train"], tmp_path, pipeline.environment(tmp_path, fresh=False))
    assert started[0].returncode is not None
