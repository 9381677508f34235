"""What a run holds when it is to be made again, and every reason why it cannot be, each in a line."""

import json
import shutil

import pytest

from flowers import tracking
from flowers.common import paths
from flowers.common.errors import UserError
from flowers.runs.reproduce import record
from flowers.tracking import artifacts, runs

COMMIT = "a" * 40


@pytest.fixture
def run(world):
    """A complete run that names its commit."""
    tracking.publish(world.params)
    (run,) = world.runs(only=1)
    world.client().set_tag(run.info.run_id, runs.COMMITS, json.dumps([f"{COMMIT} clean"]))
    return run


def refusal(reference: str, folder) -> str:
    with pytest.raises(UserError) as error:
        record.find(reference, folder)
    (line,) = str(error.value).splitlines()
    return line


def test_the_files_of_the_result_come_back_under_their_names_in_a_checkout(world, run, tmp_path):
    found = record.find(run.info.run_name, tmp_path / "recorded")
    files = artifacts.files(found.folder)
    kept = {path for folder in (paths.EVALUATION, paths.MODEL) for path in folder.rglob("*") if path.is_file()}
    kept |= {paths.SPLIT, paths.SPLIT_REPORT, paths.HISTORY}
    assert {name: file.read_bytes() for name, file in files.items()} == {
        path.as_posix(): path.read_bytes() for path in kept
    }
    assert found.origins == [record.Origin(COMMIT, True)]
    assert found.params["head.dropout"] == "0.2" and not any(name.startswith("tune") for name in found.params)


def test_without_its_model_the_rest_comes_back(world, run, tmp_path):
    (model,) = world.models(run)
    world.client().delete_logged_model(model.model_id)
    files = artifacts.files(record.find(run.info.run_id, tmp_path / "recorded").folder)
    assert "build/history.csv" in files and not any(name.startswith("build/model") for name in files)


def test_the_run_of_mlflow_run_leads_to_the_one_that_holds_the_result(world, run, tmp_path):
    link = world.client().create_run("0", run_name="opened", tags={runs.HOLDER: run.info.run_id})
    assert record.find(link.info.run_id, tmp_path / "recorded").named.startswith(run.info.run_id[:8])


def test_an_unknown_run(world, tmp_path):
    assert refusal("nobody", tmp_path).startswith("'nobody' is no run in MLflow (id, name or alias); `make ui` shows")


def test_a_deleted_run(world, run, tmp_path):
    world.client().delete_run(run.info.run_id)
    said = refusal(run.info.run_id, tmp_path)
    assert said.endswith(f"was deleted; to have it back: mlflow runs restore --run-id {run.info.run_id}")


def test_a_run_of_other_code(world, tmp_path):
    other = world.client().create_run("0", run_name="theirs")
    assert refusal("theirs", tmp_path).endswith(
        "was not made by this project's pipeline: it has no tag flowers.run_key"
    )
    assert other.info.run_id[:8] in refusal(other.info.run_id, tmp_path)


def test_a_run_that_was_killed(world, tmp_path):
    with pytest.raises(KeyboardInterrupt), tracking.live_run(world.params):
        raise KeyboardInterrupt
    (run,) = world.runs(only=1)
    assert refusal(run.info.run_id, tmp_path).endswith("is not complete (KILLED): there is no result to compare with")


def test_a_trial_of_a_study(world, tmp_path):
    world.client().create_run("0", run_name="trial 3", tags={runs.STUDY: "u", runs.KEY: "k", runs.RESULT: "r"})
    assert "belongs to a study, not to the pipeline: `flowers tune --apply`" in refusal("trial 3", tmp_path)


def test_a_run_without_a_commit(world, run, tmp_path):
    world.client().delete_tag(run.info.run_id, runs.COMMITS)
    assert "does not say which commit made it" in refusal(run.info.run_id, tmp_path)


def test_a_run_that_lost_its_parameters(world, run, tmp_path):
    folder = next((world.folder / "tracking/artifacts").glob(f"*/{run.info.run_id}/artifacts"))
    (folder / "params.yaml").unlink()
    lost = "has lost its artifact params.yaml; `flowers track --force` in its checkout puts it back"
    assert refusal(run.info.run_id, tmp_path / "one").endswith(lost)
    shutil.rmtree(folder)
    assert refusal(run.info.run_id, tmp_path / "other").endswith(lost)


def test_a_server_that_is_away(world, closed_port, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port}")
    said = refusal("anything", tmp_path)
    assert said.startswith(f"MLFLOW_TRACKING_URI: http://127.0.0.1:{closed_port} cannot be reached")
    assert "secret" not in said
