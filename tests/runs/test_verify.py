"""`flowers verify` in a git repository: the result in build/ against a committed one, and what is missing for it."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from results import table
from ruamel.yaml import YAML

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.runs import verify

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="needs git")


def md5(content: str) -> str:
    return hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()


def git(*arguments: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def make(wrong=(), weights="weights", dropout=0.2, code="c", images="i") -> None:
    """Write a result and its dvc.lock, as `dvc repro` would with these inputs."""
    model, scores = '{"precision": "float32"}', json.dumps({"accuracy": 1 - len(wrong) / 60})
    labels = table(wrong)[["path", "label", "predicted"]].to_csv(index=False)
    held = {paths.MODEL / "model.json": model, paths.MODEL / "trained.npz": weights}
    for path, text in (held | {paths.METRICS: scores, paths.LABELS: labels}).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    listing = json.dumps([{"md5": md5(text), "relpath": path.name} for path, text in held.items()])
    trained = [{"path": paths.MODEL.as_posix(), "md5": f"{md5(listing)}.dir"}]
    texts = {paths.METRICS: scores, paths.LABELS: labels}
    evaluated = [{"path": path.as_posix(), "md5": md5(text)} for path, text in texts.items()]
    inputs = [{"path": "build/images", "md5": images}, {"path": "src/flowers/training", "md5": code}]
    params = {"params.yaml": {"head": {"dropout": dropout}}}
    stages = {"train": {"deps": inputs, "params": params, "outs": trained}, "evaluate": {"outs": evaluated}}
    YAML().dump({"schema": "2.0", "stages": stages}, Path("dvc.lock"))


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """A repository with a committed result; the model is not in git."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    git("init", "--quiet")
    Path(".gitignore").write_text("/build/model/\n")
    make()
    git("add", "--all")
    git("commit", "--quiet", "--message", "result")
    return tmp_path


@pytest.fixture
def verdict_of(capsys):
    """The exit status and the lines that the command prints."""

    def verdict_of(revision="HEAD"):
        capsys.readouterr()
        status = verify.verify(revision)
        return status, capsys.readouterr().out.splitlines()

    return verdict_of


@pytest.mark.usefixtures("committed")
def test_the_same_bytes(verdict_of):
    assert verdict_of() == (0, ["same bytes: all 3 outputs of train and evaluate"])


@pytest.mark.usefixtures("committed")
def test_other_bytes_with_the_same_inputs_are_equivalent(verdict_of):
    make(wrong=[7], weights="other last bits")
    status, lines = verdict_of()
    assert (status, lines[0].split(";")) == (
        0,
        [
            "equivalent: 59 of 60 test images have the same label, accuracy 98.3 % against 100.0 %, "
            "95 % CI of the difference -6.1 to +2.8",
            " float32 on another processor",
        ],
    )
    assert lines[1].startswith("Only 60 test images: ")


@pytest.mark.usefixtures("committed")
def test_a_significant_difference_another_experiment_and_other_data_are_different(verdict_of):
    for change, cause in (
        ({"wrong": range(9), "code": "other"}, "likely cause: other code: src/flowers/training"),
        ({"dropout": 0.3}, "different: not the same experiment: head.dropout 0.2 -> 0.3; "),
        ({"images": "other"}, "different: other data: build/images; "),
    ):
        make(weights="other", **change)
        status, lines = verdict_of()
        assert status == 1 and lines[0].startswith("different: ") and cause in lines[0]


@pytest.mark.usefixtures("committed")
def test_the_result_of_any_revision_is_compared(verdict_of):
    git("tag", "first")
    make(weights="other", dropout=0.3)
    git("commit", "--quiet", "--all", "--message", "another")
    assert verdict_of()[0] == 0
    assert verdict_of("first")[0] == 1


@pytest.mark.usefixtures("committed")
def test_edited_parameters_are_a_warning(verdict_of, capsys):
    paths.PARAMS.write_text("head: {dropout: 0.4}\n")
    assert verify.verify("HEAD") == 0
    assert "params.yaml was changed since the result was made" in capsys.readouterr().err


def refused(reason: str, revision: str = "HEAD") -> None:
    with pytest.raises(UserError, match=reason):
        verify.verify(revision)


@pytest.mark.usefixtures("committed")
def test_a_fresh_clone_has_no_result_yet():
    shutil.rmtree(paths.MODEL)
    refused("build/model: no such file, so there is no result to verify yet; run `make repro`")
    Path("dvc.lock").unlink()
    refused("dvc.lock: no such file, so there is no result to verify yet")


@pytest.mark.usefixtures("committed")
def test_a_result_that_is_not_that_of_the_lock_raises_an_error():
    (paths.MODEL / "trained.npz").write_text("made by hand")
    refused(r"build/model is not the one of dvc\.lock; `dvc repro`")
    Path("dvc.lock").write_text("stages: {}\n")
    refused(r"dvc\.lock holds no result of train and evaluate; run `make repro`")


@pytest.mark.usefixtures("committed")
def test_a_revision_without_a_result_raises_an_error():
    refused("'nobody' is no commit of this repository", "nobody")
    refused("'--all' is no commit of this repository", "--all")
    git("rm", "--quiet", "--cached", "build/evaluation/labels.csv")
    git("commit", "--quiet", "--message", "without labels")
    refused(r"'HEAD' has no build/evaluation/labels\.csv in git")
    git("rm", "--quiet", "--cached", "dvc.lock")
    git("commit", "--quiet", "--message", "without a lock")
    refused(r"'HEAD' has no dvc\.lock: no result was committed there")


def test_outside_of_a_repository_an_error_says_so(committed):
    shutil.rmtree(committed / ".git")
    refused("`flowers verify` compares with a commit, but git says: .*not a git repository")
