"""The origin of a result: commits and experiments on the run, and runs that `mlflow run` opened."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from tracking_world import HISTORY

from flowers import tracking
from flowers.tracking import provenance, runs


def git(*arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(world):
    world.write(".gitignore", "build\ntracking\nmlflow.db\nmlruns\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "one")
    return world


def opened_by_mlflow_run(world, monkeypatch, name: str | None = None):
    """What `mlflow run` does before it starts the entry point."""
    run = world.client().create_run("0", run_name=name)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "0")
    return run.info.run_id


def test_two_experiments_with_equal_inputs_are_one_run_with_both_names(world, monkeypatch):
    for name in ("puffy-lamb", "stone-owl", "puffy-lamb"):
        monkeypatch.setenv("DVC_EXP_NAME", name)
        tracking.publish(world.params)
    (run,) = world.runs(only=1)
    assert json.loads(run.data.tags[runs.EXPERIMENTS]) == ["puffy-lamb", "stone-owl"]
    assert len(world.points(run)["loss"]) == len(HISTORY)


def test_commits_are_a_list_that_tells_clean_ones_from_changed_ones(repository):
    first = git("rev-parse", "HEAD")
    tracking.publish(repository.params)
    repository.write("dvc.lock", "written by the pipeline itself")
    repository.write("notes.txt", "of no consequence")
    assert provenance.commit() == f"{first} clean"
    repository.write("src/flowers/untracked.py", "new code")
    tracking.publish(repository.params)
    git("add", ".")
    git("commit", "--quiet", "-m", "two")
    tracking.publish(repository.params)
    (run,) = repository.runs(only=1)
    commits = [f"{first} clean", f"{first} with changes", f"{git('rev-parse', 'HEAD')} clean"]
    assert json.loads(run.data.tags[runs.COMMITS]) == commits
    assert run.data.tags["mlflow.source.git.commit"] == first


def changes(world, run, name: str) -> bytes:
    """One of the artifacts with uncommitted changes."""
    return Path(world.client().download_artifacts(run.info.run_id, f"changes/{name}")).read_bytes()


def test_uncommitted_changes_are_logged_as_a_patch_that_restores_the_tree(repository, tmp_path):
    commit = git("rev-parse", "HEAD")
    for name, value in {"diff.noprefix": "true", "diff.mnemonicPrefix": "true", "color.ui": "always"}.items():
        git("config", name, value)
    repository.write("src/flowers/new file.py", "new = 'ü'\n")
    repository.write("src/flowers/staged.py", "staged = 1\n")
    git("add", "src/flowers/staged.py")
    repository.write("src/flowers/train.py", "rate = 2\n")
    (repository.folder / "src/flowers/picture.bin").write_bytes(bytes(range(256)))
    repository.write("data.dvc", "outs: []\n")
    repository.write("notes.txt", "of no consequence")
    status = git("status", "--porcelain")
    tracking.publish(repository.params)
    (run,) = repository.runs(only=1)
    assert git("status", "--porcelain") == status

    git("worktree", "add", "--quiet", "--detach", str(tmp_path / "again"), commit)
    patch = changes(repository, run, f"{commit[:12]}.diff")
    subprocess.run(["git", "apply", "-"], input=patch, cwd=tmp_path / "again", check=True)
    for path in ("new file.py", "staged.py", "train.py", "picture.bin"):
        path = f"src/flowers/{path}"
        assert (tmp_path / "again" / path).read_bytes() == (repository.folder / path).read_bytes()
    assert (tmp_path / "again/data.dvc").is_file()
    assert not (tmp_path / "again/notes.txt").exists()


def test_a_clean_tree_logs_no_changes(repository):
    tracking.publish(repository.params)
    (run,) = repository.runs(only=1)
    assert not [path for path in repository.artifacts(run) if path.startswith("changes")]


def test_changes_are_logged_when_training_starts_and_never_replaced(repository):
    commit = git("rev-parse", "HEAD")
    repository.write("src/flowers/untracked.py", "one\n")
    with tracking.live_run(repository.params):
        pass
    repository.write("src/flowers/untracked.py", "two\n")
    tracking.publish(repository.params)
    (run,) = repository.runs(only=1)
    assert b"+one" in changes(repository, run, f"{commit[:12]}.diff")


def test_changes_above_the_limit_leave_a_note(repository, monkeypatch):
    monkeypatch.setattr(runs, "_CHANGES_LIMIT", 100)
    commit = git("rev-parse", "HEAD")
    repository.write("src/flowers/untracked.py", "long\n" * 100)
    tracking.publish(repository.params)
    tracking.publish(repository.params)
    (run,) = repository.runs(only=1)
    assert [path for path in repository.artifacts(run) if path.startswith("changes/")] == [
        f"changes/{commit[:12]}.too-large.txt"
    ]
    assert b"the limit is 100 bytes" in changes(repository, run, f"{commit[:12]}.too-large.txt")


def test_without_git_there_is_no_commit(published):
    _, run = published
    assert runs.COMMITS not in run.data.tags


def test_a_full_list_loses_its_oldest_items():
    tag = None
    for number in range(200):
        tag = provenance.extended(tag, f"{number:040d} clean") or tag
    items = json.loads(tag)
    assert len(tag) <= 5000
    assert items[-1].startswith(f"{199:040d}") and not items[0].startswith(f"{0:040d}")


def test_a_queued_experiment_uses_the_store_of_the_original_root(make_world, monkeypatch):
    main = make_world("main")
    queued = make_world("queued", store=False)
    monkeypatch.setenv("DVC_ROOT", str(main.folder))
    tracking.publish(queued.params)
    (run,) = main.runs(only=1)
    assert not any((queued.folder / name).exists() for name in ("tracking", "mlflow.db", "mlruns"))
    shutil.rmtree(queued.folder)  # as DVC does with the temporary folder
    assert main.artifacts(run)["params.yaml"] > 0


@pytest.mark.parametrize(
    ("given", "kept"),
    [("bold-fox-123", "units 256-128-64, random, 0 blocks, dropout 0.2, lr 0.0005"), ("mine", "mine")],
)
def test_a_run_opened_by_mlflow_run_is_adopted(world, monkeypatch, given, kept):
    opened = opened_by_mlflow_run(world, monkeypatch, given)
    with tracking.live_run(world.params) as on_epoch:
        on_epoch(HISTORY[0])
    assert tracking.publish(world.params).run_id == opened
    (run,) = world.runs(only=1)
    assert run.info.run_name.startswith(kept)
    assert run.data.metrics["test_accuracy"] == 0.75
    assert runs.HOLDER not in run.data.tags


def test_a_run_opened_by_mlflow_run_links_to_the_run_that_holds_the_result(world, monkeypatch):
    holder = tracking.publish(world.params).run_id
    opened = opened_by_mlflow_run(world, monkeypatch)
    assert tracking.publish(world.params).run_id == holder
    link = world.client().get_run(opened)
    assert link.data.tags[runs.HOLDER] == holder
    assert holder in link.data.tags["mlflow.note.content"]
    assert link.data.metrics == {}


def test_an_mlflow_run_id_of_another_store_is_ignored(world, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "0123456789abcdef0123456789abcdef")
    tracking.publish(world.params)
    world.runs(only=1)


def test_an_mlflow_run_id_that_is_not_permitted_is_ignored(world, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

    get_run = MlflowClient.get_run

    def guarded(client, run_id):
        if run_id == "of-others":
            raise MlflowException("Permission denied", PERMISSION_DENIED)
        return get_run(client, run_id)

    monkeypatch.setattr(MlflowClient, "get_run", guarded)
    monkeypatch.setenv("MLFLOW_RUN_ID", "of-others")
    tracking.publish(world.params)
    world.runs(only=1)


def test_an_adopted_run_is_found_by_its_key_and_not_overwritten_by_another_result(world, monkeypatch):
    opened = opened_by_mlflow_run(world, monkeypatch)
    tracking.publish(world.params)
    world.set("head.dropout", 0.3)
    assert tracking.publish(world.params).run_id != opened
    assert world.client().get_run(opened).data.params["head.dropout"] == "0.2"
    monkeypatch.delenv("MLFLOW_RUN_ID")
    world.set("head.dropout", 0.2)
    assert tracking.publish(world.params).run_id == opened


@pytest.mark.parametrize(
    ("flags", "limit", "named"),
    [
        ("sse4_1 avx avx2 avx512f avx512_bf16", "", "A CPU (any, AVX-512 with bfloat16)"),
        ("sse4_1 avx avx2", "", "A CPU (any, AVX2)"),
        ("sse4_1 avx avx2", "SSE41", "A CPU (any, AVX2, oneDNN limited to SSE41)"),
    ],
)
def test_the_processor_is_named_with_its_instruction_set(monkeypatch, tmp_path, flags, limit, named):
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"model name : A CPU\nflags : {flags}\n\nmodel name : another\n")
    monkeypatch.setattr(provenance, "Path", lambda _: cpuinfo)
    monkeypatch.setattr(provenance.platform, "machine", lambda: "any")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert provenance.processor() == named
