"""A worktree of a commit, the patch of its changes, and the images that DVC brings there."""

import shutil
import subprocess
from pathlib import Path

import pytest
import small_repository
from small_repository import SmallRepository

from flowers.common.errors import UserError
from flowers.runs.reproduce import worktree

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def commit(tmp_path, monkeypatch) -> str:
    """The first of two commits of a repository, in which a hook fails."""
    folder = tmp_path / "my repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "--quiet")
    Path("project").mkdir()
    Path("code.py").write_text("one\n")
    Path("project/code.py").write_text("inner\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    first = git("rev-parse", "HEAD")
    Path("code.py").write_text("two\n")
    git("commit", "--quiet", "-am", "two")
    hook = Path(".git/hooks/post-checkout")
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    return first


def test_a_worktree_has_the_commit_and_is_removed_after_an_interrupt(commit):
    def interrupted() -> None:
        with worktree.checkout(commit, None, keep=False) as folder:
            folders.append(folder)
            assert (folder / "code.py").read_text() == "one\n"
            (folder / "untracked").write_text("")
            raise KeyboardInterrupt

    folders: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert worktree.has(commit) and not worktree.has("1" * 40)
    (folder,) = folders
    assert not folder.is_relative_to(Path.cwd())
    assert not folder.parent.exists()
    assert len(git("worktree", "list").splitlines()) == 1
    assert Path("code.py").read_text() == "two\n"


def test_a_worktree_is_kept_on_request(commit, capsys):
    with worktree.checkout(commit, None, keep=True) as folder:
        pass
    assert (folder / "code.py").is_file()
    (command,) = [line.partition("To remove it: ")[2] for line in capsys.readouterr().err.splitlines()]
    subprocess.run(command.split(), check=True)
    assert not folder.exists()
    shutil.rmtree(folder.parent)


def test_in_a_folder_of_a_larger_repository_the_worktree_is_that_folder(commit, monkeypatch):
    monkeypatch.chdir("project")
    with worktree.checkout(commit, None, keep=False) as folder:
        assert (folder / "code.py").read_text() == "inner\n"


def test_a_patch_is_applied_and_one_that_does_not_fit_raises_an_error(commit):
    patch = b"--- a/code.py\n+++ b/code.py\n@@ -1 +1 @@\n-one\n+changed\n"
    with worktree.checkout(commit, patch, keep=False) as folder:
        assert (folder / "code.py").read_text() == "changed\n"
    with (
        pytest.raises(UserError, match=r"git apply failed: error: patch failed: code\.py:1"),
        worktree.checkout("HEAD", patch, keep=False),
    ):
        pass
    assert len(git("worktree", "list").splitlines()) == 1


def test_outside_of_git_an_error_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="not a git repository"):
        worktree.git("rev-parse", "--git-dir")


def test_the_environment_is_free_of_other_runs_and_fresh_means_no_activations(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "cache"))
    for name in ("weights", "activations"):
        (tmp_path / "cache" / name).mkdir(parents=True)
        (tmp_path / "cache" / name / "file").write_text(name)
    monkeypatch.setenv("MLFLOW_RUN_ID", "one")
    monkeypatch.setenv("DVC_EXP_NAME", "two")
    variables = worktree.environment(tmp_path / "worktree", fresh=True)
    cache = Path(variables["FLOWERS_CACHE"])
    assert (cache / "weights/file").read_text() == "weights"
    assert sorted(path.name for path in cache.iterdir()) == ["archives", "weights"]
    assert not {"MLFLOW_RUN_ID", "DVC_EXP_NAME"} & variables.keys()
    assert variables["MLFLOW_TRACKING_URI"] == f"sqlite:///{tmp_path}/worktree/mlflow.db"
    assert worktree.environment(tmp_path, fresh=False)["FLOWERS_CACHE"] == str(tmp_path / "cache")


@pytest.fixture
def repository(tmp_path, monkeypatch) -> SmallRepository:
    """A repository with data/ in a remote below .dvc, which git ignores."""
    repository = small_repository.create(tmp_path / "repository")
    (repository.folder / "data").mkdir()
    (repository.folder / "data/image.txt").write_text("an image")
    repository.dvc("add", "data")
    repository.replace("data.dvc", "  path: data\n", "  path: data\n  remote: sample\n")
    (repository.folder / ".dvc/sample").mkdir(exist_ok=True)
    repository.dvc("push", "data.dvc")
    (repository.folder / ".dvc/sample/.gitignore").write_text("*\n")
    repository.commit()
    monkeypatch.chdir(repository.folder)
    return repository


def fetched(repository: SmallRepository) -> str:
    """The content of the image in a worktree of the last commit."""
    with worktree.checkout("HEAD", None, keep=False) as folder:
        worktree.share_dvc(folder)
        worktree.fetch_data(folder, worktree.environment(folder, fresh=False))
        return (folder / "data/image.txt").read_text()


@pytest.mark.slow
def test_images_come_from_the_cache_that_local_settings_name(repository, tmp_path):
    shutil.move(".dvc/cache", tmp_path / "cache elsewhere")
    repository.dvc("cache", "dir", "--local", str(tmp_path / "cache elsewhere"))
    shutil.rmtree(".dvc/sample")
    assert fetched(repository) == "an image"


@pytest.mark.slow
def test_images_come_from_the_remote_else_an_error_says_so(repository, tmp_path):
    shutil.move(".dvc/sample", tmp_path / "remote")
    shutil.rmtree(".dvc/cache")
    repository.dvc("remote", "modify", "--local", "sample", "url", str(tmp_path / "remote"))
    assert fetched(repository) == "an image"
    shutil.rmtree(".dvc/cache")
    shutil.rmtree(tmp_path / "remote")
    with pytest.raises(UserError, match="the images of the run are in no DVC cache or remote any more: "):
        fetched(repository)
