"""`flowers clean` with real `dvc` and `git`: what goes, what stays, and when DVC's cache is left alone."""

import os
import shutil
import sys

import pytest

import small_repository
from pipeline_world import ran
from small_repository import SmallRepository

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> SmallRepository:
    """The commit has value 1, another branch 2, an experiment 3; nothing refers to the result of 4."""
    repository = small_repository.create(tmp_path_factory.mktemp("cleaning") / "repository")
    repository.git("checkout", "--quiet", "-b", "other")
    repository.set(2)
    repository.dvc("repro", "--quiet")
    repository.commit()
    repository.git("checkout", "--quiet", "main")
    repository.dvc("checkout", "--quiet")
    repository.dvc("exp", "run", "--quiet", "--name", "three", "--set-param", "value=3")
    repository.set(4)
    repository.dvc("repro", "--quiet")
    repository.back()
    assert values(repository) == {1, 2, 3, 4}
    return repository


@pytest.fixture
def repository(made, tmp_path) -> SmallRepository:
    return made.copy(tmp_path / "repository")


def values(repository: SmallRepository) -> set[int]:
    """The values whose results are in the cache whole: a folder's list, the file in it, and a file."""
    cached = repository.cached()
    texts = [content.decode() for content in cached.values()]
    whole = {int(text[0]) for text in texts if len(text) == 10_000} & {int(text) for text in texts if len(text) == 1}
    assert sum(name.endswith(".dir") for name in cached) == len(whole)
    return whole


def answer(repository: SmallRepository, text: str) -> str:
    """What `flowers clean` says when its question is answered so."""
    command = f"printf '{text}' | '{sys.executable}' -m flowers clean"
    return repository.run("sh", "-c", command, check=False, PYTHONPATH="src").stdout


def test_only_what_nothing_refers_to_goes(repository):
    before = sum(map(len, repository.cached().values()))
    done = repository.flowers("clean", "--yes")
    assert values(repository) == {1, 2, 3}
    freed = before - sum(map(len, repository.cached().values()))
    assert freed > 10_000
    assert f"DVC cache: {freed:,} bytes freed" in done.stdout
    assert done.stderr == ""
    assert repository.git("status", "--porcelain") == ""
    assert repository.status() == {}
    assert repository.flowers("clean", "--yes").stdout == "Nothing to remove.\n"

    # What is in the cache comes from there, and what is gone is made again.
    repository.git("checkout", "--quiet", "other")
    assert ran(repository.dvc("repro")) == []
    assert repository.read("build/value.txt") == "2"
    repository.set(4)
    assert ran(repository.dvc("repro")) == ["write"]
    assert repository.read("build/value.txt") == "4"


def test_a_dry_run_and_a_no_remove_nothing(repository):
    for said in (repository.flowers("clean", "--dry-run", "--yes").stdout, answer(repository, "n\\n")):
        assert "3 objects" in said and "10.1 kB" in said
        assert said.endswith("Nothing was removed.\n")
    assert "bytes freed" not in answer(repository, "")
    assert values(repository) == {1, 2, 3, 4}
    assert "bytes freed" in answer(repository, "y\\n")
    assert values(repository) == {1, 2, 3}


def test_the_workspace_refers_to_its_outputs(repository):
    repository.set(4)
    assert ran(repository.dvc("repro")) == []
    assert repository.flowers("clean", "--yes").stdout == "Nothing to remove.\n"
    assert values(repository) == {1, 2, 3, 4}


def test_a_file_that_has_another_name_frees_nothing(repository, tmp_path):
    cached = repository.cached()
    for name, content in cached.items():
        if len(content) == 10_000:
            os.link(repository.folder / f".dvc/cache/files/md5/{name[:2]}/{name[2:]}", tmp_path / name)
    said = repository.flowers("clean", "--yes").stdout
    gone = [len(content) for name, content in cached.items() if name not in repository.cached()]
    assert sum(gone) > 10_000
    assert f"DVC cache: {sum(gone) - 10_000:,} bytes freed" in said


@pytest.mark.slow
def test_an_experiment_in_the_queue_keeps_everything(repository):
    repository.set(4)
    repository.dvc("repro", "--quiet")
    repository.dvc("exp", "run", "--queue", "--name", "four")
    repository.back()
    done = repository.flowers("clean", "--yes")
    assert "warning: DVC cache is left alone: experiments wait in the queue" in done.stderr
    assert values(repository) == {1, 2, 3, 4}
    repository.dvc("queue", "remove", "--queued")
    repository.flowers("clean", "--yes")
    assert values(repository) == {1, 2, 3}


@pytest.mark.parametrize("folder", ["tmp1x2y3z", "standalone/tmp1x2y3z"])
def test_an_experiment_that_is_running_keeps_everything(repository, folder):
    (repository.folder / ".dvc/tmp/exps" / folder).mkdir(parents=True)
    done = repository.flowers("clean", "--yes")
    assert f"an experiment is running in .dvc/tmp/exps/{folder}" in done.stderr
    assert values(repository) == {1, 2, 3, 4}


@pytest.mark.slow
def test_a_stashed_result_keeps_everything(repository):
    repository.set(4)
    repository.dvc("repro", "--quiet")
    repository.git("stash", "--quiet")
    repository.dvc("checkout", "--quiet")
    (repository.folder / "write.py").open("a").write("# a remark\n")
    repository.git("stash", "--quiet")
    assert "`git stash` holds other versions of it" in repository.flowers("clean", "--yes").stderr
    assert values(repository) == {1, 2, 3, 4}
    repository.git("stash", "drop", "--quiet", "stash@{1}")  # the other one has no result
    repository.flowers("clean", "--yes")
    assert values(repository) == {1, 2, 3}


def test_a_cache_that_others_may_share_is_left_alone(repository, tmp_path):
    (repository.folder / ".dvc/cache").rename(tmp_path / "shared")
    repository.dvc("config", "--local", "cache.dir", str(tmp_path / "shared"))
    done = repository.flowers("clean", "--yes")
    assert "is not in .dvc/cache: other projects may share that cache" in done.stderr
    assert len(list((tmp_path / "shared/files").rglob("*.dir"))) == 4


def test_without_git_nobody_knows_what_is_referred_to(repository, tmp_path):
    shutil.rmtree(repository.folder / ".git")
    done = repository.flowers("clean", "--yes")
    assert "DVC cache is left alone: dvc gc failed: " in done.stderr and "not a git repository" in done.stderr
    assert "Traceback" not in done.stderr
    assert "git is not installed" in repository.flowers("clean", PATH=str(tmp_path)).stderr
    assert values(repository) == {1, 2, 3, 4}
