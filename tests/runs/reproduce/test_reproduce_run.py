"""What a run records for its reproduction, the commit to start from, and why a run cannot be made again."""

import json

import pytest

from flowers import tracking
from flowers.common.errors import UserError
from flowers.runs.reproduce import run as reproduction
from flowers.runs.reproduce import worktree
from flowers.runs.verdict import METRICS
from flowers.tracking import runs

A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def run(world, monkeypatch):
    """A complete run with a commit that is here."""
    monkeypatch.setattr(worktree, "has", lambda commit: commit == A)
    tracking.publish(world.params)
    (run,) = world.runs(only=1)
    world.client().set_tag(run.info.run_id, runs.COMMITS, json.dumps([f"{A} clean"]))
    return run


def test_a_run_records_commit_parameters_and_files(world, run):
    found = reproduction.find(run.info.run_name)
    assert (found.commit, found.patch, found.lost) == (A, None, False)
    assert found.params == (world.folder / "params.yaml").read_bytes()
    assert found.result.files[METRICS] == (world.folder / METRICS).read_bytes()
    assert found.result.precision == "float32"
    assert found.result.processor and "published" not in found.result.processor


def test_uncommitted_changes_are_the_patch_of_their_commit(world, run):
    world.client().set_tag(run.info.run_id, runs.COMMITS, json.dumps([f"{A} with changes"]))
    assert reproduction.find(run.info.run_id).lost
    world.client().log_text(run.info.run_id, "a patch", runs.changes_file(A))
    found = reproduction.find(run.info.run_id)
    assert (found.patch, found.lost) == (b"a patch", False)


def test_commits_are_read_from_the_tag_and_other_items_are_ignored():
    tag = json.dumps([f"{A} with changes", "see my notes", f"{B} clean"])
    assert reproduction.commits({"flowers.commits": tag}) == [(A, False), (B, True)]
    assert reproduction.commits({"flowers.commits": "by hand"}) == reproduction.commits({}) == []


def test_a_clean_commit_comes_first_then_one_with_its_changes():
    for listed, here, patched, chosen in (
        ([(A, False), (B, True), (C, True)], {A, B, C}, {A}, B),
        ([(A, False), (B, True)], {A}, {A}, A),  # the clean one is not here
        ([(A, False), (B, False)], {A, B}, {B}, B),
        ([(A, False), (B, False)], {A, B}, set(), A),
    ):
        assert reproduction.choose(listed, here.__contains__, patched)[0] == chosen, (listed, here, patched)


def test_commits_that_are_not_here_are_named():
    with pytest.raises(UserError, match=f"made at {A[:12]}, {B[:12]}, which this clone does not have; `git fetch`"):
        reproduction.choose([(A, True), (A, False), (B, True)], lambda _: False, set())


def test_a_run_without_a_commit_raises_an_error(world, run):
    world.client().delete_tag(run.info.run_id, runs.COMMITS)
    with pytest.raises(UserError, match=r"has no commit in its tag flowers\.commits: it was made without git"):
        reproduction.find(run.info.run_id)


def test_a_run_that_lost_an_artifact_raises_an_error(world, run):
    folder = next((world.folder / "mlruns").glob(f"*/{run.info.run_id}/artifacts"))
    (folder / "dvc.lock").unlink()
    with pytest.raises(UserError, match=r"has lost its artifact dvc\.lock; `flowers track --force`"):
        reproduction.find(run.info.run_id)


def test_a_run_that_is_not_of_the_pipeline_or_not_complete_raises_an_error(world):
    client = world.client()
    with pytest.raises(KeyboardInterrupt), tracking.live_run(world.params):
        raise KeyboardInterrupt
    (killed,) = world.runs(only=1)
    client.create_run("0", run_name="theirs")
    client.create_run("0", run_name="trial 3", tags={runs.STUDY: "u", runs.KEY: "k", runs.RESULT: "r"})
    for name, reason in {
        killed.info.run_id: r"is not complete \(KILLED\)",
        "theirs": "was not made by this project's pipeline: it has no tag flowers.run_key",
        "trial 3": "belongs to a study: `flowers tune --apply && dvc repro`",
        "nobody": "'nobody' is no run in MLflow",
    }.items():
        with pytest.raises(UserError, match=reason):
            reproduction.find(name)
