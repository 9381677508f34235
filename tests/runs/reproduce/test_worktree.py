"""A commit in a temporary folder, and what is added to it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from flowers.common.errors import UserError
from flowers.runs.reproduce import worktree

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")

PARAMS = "# why\nhead:\n  units: [8]  # few\n  dropout: 0.2\ntune:\n  n_trials: 20\n"


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
    Path("code.py").write_text("one\n")
    Path("params.yaml").write_text(PARAMS)
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


def test_a_worktree_holds_the_commit_and_goes_whatever_happens(commit):
    with pytest.raises(KeyboardInterrupt), worktree.checkout(commit, keep=False) as folder:
        assert (folder / "code.py").read_text() == "one\n"
        assert not folder.is_relative_to(Path.cwd())
        (folder / "untracked").write_text("")
        raise KeyboardInterrupt
    assert not folder.parent.exists()
    assert len(git("worktree", "list").splitlines()) == 1
    assert Path("code.py").read_text() == "two\n"


def test_a_worktree_whose_folder_is_gone_is_forgotten(commit):
    with worktree.checkout(commit, keep=False) as folder:
        (folder / ".git").unlink()
    assert len(git("worktree", "list").splitlines()) == 1


def test_a_worktree_is_kept_on_request(commit, capsys):
    with worktree.checkout(commit, keep=True) as folder:
        pass
    assert (folder / "code.py").is_file()
    (command,) = [line.partition("To remove it: ")[2] for line in capsys.readouterr().err.splitlines()]
    subprocess.run(command.split(), check=True)
    assert not folder.exists()
    shutil.rmtree(folder.parent)


def test_in_a_folder_of_a_larger_repository_the_worktree_is_that_folder(commit, monkeypatch):
    Path("project").mkdir()
    Path("project/code.py").write_text("inner\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "three")
    monkeypatch.chdir("project")
    with worktree.checkout(git("rev-parse", "HEAD"), keep=False) as folder:
        assert (folder / "code.py").read_text() == "inner\n"


def test_outside_of_git_it_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(UserError, match="this is no git repository"):
        worktree.prefix()


def test_it_is_known_which_commits_are_here(commit):
    assert worktree.has(commit) and not worktree.has("1" * 40)


def test_changes_are_applied_and_those_that_do_not_fit_are_refused(commit, tmp_path):
    patch = tmp_path / "changes.diff"
    patch.write_text("--- a/code.py\n+++ b/code.py\n@@ -1 +1 @@\n-one\n+changed\n")
    with worktree.checkout(commit, keep=False) as folder:
        worktree.apply(patch, folder)
        assert (folder / "code.py").read_text() == "changed\n"
        (tmp_path / "empty.diff").touch()
        worktree.apply(tmp_path / "empty.diff", folder)
        with pytest.raises(UserError, match=r"git apply failed: error: patch failed: code\.py:1"):
            worktree.apply(patch, folder)


COUNTING = ["head.units", "head.dropout", "head.norm"]


def set_parameters(tmp_path: Path, text: str) -> tuple[list[str], str]:
    (tmp_path / "params.yaml").write_text(PARAMS)
    (tmp_path / "of_run.yaml").write_text(text)
    unknown = worktree.set_parameters(tmp_path, tmp_path / "of_run.yaml", COUNTING)
    return unknown, (tmp_path / "params.yaml").read_text()


def test_parameters_that_are_equal_leave_the_file_as_it_is(tmp_path):
    same = "head: {dropout: 0.20, units: [8]}\ntune: {n_trials: 5}\npromote: {limit: 1}\n"
    assert set_parameters(tmp_path, same) == ([], PARAMS)


def test_parameters_of_the_run_are_written_and_those_unknown_are_named(tmp_path):
    unknown, text = set_parameters(tmp_path, "head: {dropout: 0.3, units: [8], norm: true}\n")
    assert unknown == ["head.norm"]
    assert text == PARAMS.replace("0.2", "0.3")


def test_parameters_that_cannot_be_read_are_a_line(tmp_path):
    with pytest.raises(UserError, match=r"of_run.yaml of the run or of its commit cannot be read"):
        set_parameters(tmp_path, "head: [")
