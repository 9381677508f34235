"""The runs of a study: one parent and one child per trial, however often and by whom they are opened."""

import contextlib
import hashlib
import json
import shutil
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from tracking_world import CHECKOUT, HISTORY

from flowers import tracking
from flowers.tracking import live, run_key, runs, store
from flowers.tracking.result import flattened
from flowers.tracking.studies import StudyRuns, TrialFacts, ending

UID = "5eed5eed5eed5eed"
DESCRIBED = {"tune.space.head.dropout": "0.0 … 0.6", "tune.space.head.units": "[] | [256, 128]", "tune.repeats": "1"}
SCORE = "val_mean_per_class_accuracy"
SCORES = {row["epoch"]: row[SCORE] for row in HISTORY}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(live, "_EVERY_SECONDS", 0.01)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Files of a study."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "trials.csv").write_text("trial\n0\n")
    (folder / "history.png").write_text("a picture")
    return folder


def open_study(world, uid: str = UID) -> StudyRuns:
    """What a command does when it begins or resumes a study, on this machine or another."""
    key = run_key.compute(world.params)
    return StudyRuns(uid, "flowers photos", key, DESCRIBED, world.params, lambda: store.lock("study"))


def settings(world, number: int):
    """The parameters of a trial."""
    head = world.params.head.model_copy(update={"dropout": number / 10})
    return world.params.model_copy(update={"head": head})


def stream(study: StudyRuns, world, number: int, rows=HISTORY, state: str | None = "completed", detail: str = ""):
    """Train a trial; without a state its process dies before it can say how it ended."""
    open_end = study.trial(number, settings(world, number))
    for row in rows:
        open_end.on_epoch(row)
    if state is not None:
        open_end.close(*ending(state, detail))


def trial(world, number: int, value: float = 0.5, state: str = "completed", detail: str = "", scores=SCORES):
    """What the study's storage says of a trial."""
    return TrialFacts(number, settings(world, number), state, detail, value, scores)


def finish(study: StudyRuns, folder: Path, *trials: TrialFacts, status: str = "FINISHED") -> None:
    study.finish(trials, {"trials": pd.DataFrame({"trial": [facts.number for facts in trials]})}, folder, status)


def parent(world):
    (found,) = [run for run in world.runs() if "mlflow.parentRunId" not in run.data.tags]
    return found


def children(world) -> dict:
    """The children of the parent by the number in their names; each number once."""
    ours = parent(world).info.run_id
    found = [run for run in world.runs() if run.data.tags.get("mlflow.parentRunId") == ours]
    by_number = {int(run.info.run_name.split(":")[0].removeprefix("trial ")): run for run in found}
    assert len(by_number) == len(found) == len(world.runs()) - 1
    return by_number


def state(run) -> tuple[str, str]:
    return run.info.status, run.data.tags["flowers.state"]


def points(world, run, name: str) -> list[tuple[int, float]]:
    """The points of a metric, in the order of their steps."""
    return sorted(world.points(run).get(name, []))


def held(world) -> dict:
    """All that there is to see of a study, without the times."""
    return {
        run.info.run_name.partition(": units")[0]: {
            "id": run.info.run_id,
            "status": run.info.status,
            "params": run.data.params,
            "tags": run.data.tags,
            "points": world.points(run),
            "artifacts": world.artifacts(run),
        }
        for run in world.runs()
    }


def test_the_parent_has_the_space_and_the_digests_of_its_inputs(world):
    open_study(world)
    run = world.runs(only=1)[0]
    assert (run.info.run_name, run.info.status) == ("study: flowers photos", "RUNNING")
    assert run.data.params == flattened(world.params) | DESCRIBED
    tags = run.data.tags
    files = {"data": "build/images.csv", "split": "build/split.csv", "weights": "build/weights/resnet50.npz"}
    for name, file in files.items():
        assert tags[f"flowers.{name}_digest"] == hashlib.sha256(Path(file).read_bytes()).hexdigest()
    assert tags["flowers.code_digest"] == run_key.compute(world.params).code
    assert world.client().get_experiment(run.info.experiment_id).name == "flowers local"


def test_a_trial_is_a_child_with_its_parameters_and_its_curves(world):
    study = open_study(world)
    stream(study, world, 3)
    run = children(world)[3]
    assert state(run) == ("FINISHED", "completed")
    assert run.data.params["head.dropout"] == "0.3"
    assert run.data.params["head.units"] == "[256, 128, 64]"
    assert run.data.params["model.weights"] == "imagenet"
    assert {name.split(".")[0] for name in run.data.params} == {
        "dataset", "split", "model", "head", "augmentation", "train", "evaluate"
    }  # fmt: skip
    curves = {
        name: [(row["epoch"], row[name]) for row in HISTORY] for name in HISTORY[0] if name not in ("epoch", "phase")
    }
    assert {name: points(world, run, name) for name in run.data.metrics} == curves


def test_an_epoch_is_logged_while_the_trial_is_trained(world):
    open_end = open_study(world).trial(0, settings(world, 0))
    open_end.on_epoch(HISTORY[0])
    deadline = time.monotonic() + 20  # another thread writes
    while not (run := children(world)[0]).data.metrics:
        assert time.monotonic() < deadline
    assert (run.info.status, points(world, run, "loss")) == ("RUNNING", [(0, HISTORY[0]["loss"])])


ENDINGS = [
    ("completed", "", ("FINISHED", "completed")),
    ("pruned", "after epoch 2", ("KILLED", "pruned: after epoch 2")),
    ("failed", "the loss became nan", ("FAILED", "failed: the loss became nan")),
    ("interrupted", "", ("KILLED", "interrupted")),
]


@pytest.mark.parametrize(("word", "detail", "expected"), ENDINGS)
def test_finish_ends_the_run_of_a_trial_whose_process_died(world, folder, word, detail, expected):
    study = open_study(world)
    stream(study, world, 0, HISTORY[:2], state=None)
    assert children(world)[0].info.status == "RUNNING"
    finish(open_study(world), folder, trial(world, 0, state=word, detail=detail))
    run = children(world)[0]
    assert state(run) == expected
    assert points(world, run, SCORE) == sorted(SCORES.items())
    assert points(world, run, "loss") == [(row["epoch"], row["loss"]) for row in HISTORY[:2]]


def test_a_long_error_is_shortened(world, folder):
    error = "ResourceExhausted: " + "no memory " * 1000
    study = open_study(world)
    stream(study, world, 0, state="failed", detail=error)
    finish(study, folder, trial(world, 0, state="failed", detail=error[:1000]), trial(world, 1, 0, "failed", error))
    for run in children(world).values():
        status, told = state(run)
        assert status == "FAILED"
        assert told.startswith("failed: ResourceExhausted: no memory")
        assert len(told) <= 500


def test_scores_are_a_curve_by_the_number_of_the_trial(world, folder):
    study = open_study(world)
    study.note_score(2, 0.75)
    study.note_score(0, 0.5)
    assert points(world, parent(world), "score") == [(0, 0.5), (2, 0.75)]
    pruned = trial(world, 1, float("nan"), "pruned", "after epoch 1")
    finish(study, folder, trial(world, 0, 0.5), pruned, trial(world, 2, 0.75), trial(world, 3, 0.625))
    assert points(world, parent(world), "score") == [(0, 0.5), (2, 0.75), (3, 0.625)]
    assert parent(world).data.metrics["best_score"] == 0.75


def test_the_best_score_is_a_staircase_and_the_earlier_one_of_equals_is_the_best_trial(world, folder):
    trials = [trial(world, number, value) for number, value in ((1, 0.5), (2, 0.75), (4, 0.75), (5, 0.625))]
    trials += [trial(world, 0, state="failed"), trial(world, 3, state="pruned"), trial(world, 6, state="interrupted")]
    finish(open_study(world), folder, *trials)
    run = parent(world)
    assert run.data.tags["flowers.best_trial"] == "2"
    assert points(world, run, "best_score") == [(1, 0.5), *((number, 0.75) for number in range(2, 6))]
    assert run.data.metrics[SCORE] == 0.75


def test_a_study_can_be_compared_with_its_trials_and_with_other_runs(world, folder):
    """MLflow's comparison opens on the parameters in which runs differ, a missing one included, and a common metric."""
    shutil.copytree(CHECKOUT / "recipes", world.folder / "recipes")
    study = open_study(world)
    stream(study, world, 2)
    finish(study, folder, trial(world, 2), trial(world, 3))
    run, found = parent(world), children(world)
    tracking.publish(world.params)
    names = [found[number].info.run_name for number in (2, 3)]
    assert names == ["trial 2: as shipped", "trial 3: dropout 0.3"]
    (pipeline,) = runs.with_key(world.client(), run_key.compute(world.params).key)
    for other in (pipeline, *found.values()):
        differing = {name for name in run.data.params if other.data.params.get(name) != run.data.params[name]}
        assert sorted(differing - {*DESCRIBED}) == ["head.dropout"] * (other.info.run_id == found[3].info.run_id)
        assert SCORE in other.data.metrics.keys() & run.data.metrics.keys()
        assert other.inputs.dataset_inputs[0].dataset.digest == run.inputs.dataset_inputs[0].dataset.digest


def test_the_note_of_a_study_is_replaced_until_a_person_edits_it(world):
    open_study(world).note("20 trials")
    assert parent(world).data.tags["mlflow.note.content"] == "20 trials"
    open_study(world).note("30 trials")
    assert parent(world).data.tags["mlflow.note.content"] == "30 trials"
    world.client().set_tag(parent(world).info.run_id, "mlflow.note.content", "our favourite")
    open_study(world).note("40 trials")
    assert parent(world).data.tags["mlflow.note.content"] == "our favourite"


def test_a_trial_that_was_interrupted_once_can_be_the_best(world, folder):
    begun = [trial(world, 0, 0.5), trial(world, 1, state="interrupted"), trial(world, 2, 0.25)]
    finish(open_study(world), folder, *begun, status="KILLED")
    assert parent(world).data.metrics["best_score"] == 0.5
    study = open_study(world)
    study.note_score(1, 0.875)
    finish(study, folder, trial(world, 0, 0.5), trial(world, 1, 0.875), trial(world, 2, 0.25))
    run = parent(world)
    assert (run.data.metrics["best_score"], run.data.tags["flowers.best_trial"]) == (0.875, "1")


def test_the_parent_holds_a_table_and_the_files_of_the_folder(world, folder, monkeypatch):
    finish(open_study(world), folder, trial(world, 0), trial(world, 1))
    run = parent(world)
    assert set(world.artifacts(run)) == {"tables/trials.json", "trials.csv", "history.png"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{world.database}")
    table = world.client().load_table(run.info.experiment_id, "tables/trials.json", run_ids=[run.info.run_id])
    assert table.to_dict("list") == {"trial": [0, 1]}


def test_the_status_of_the_parent_is_that_of_the_study(world, folder):
    study = open_study(world)
    finish(study, folder, trial(world, 0), status="RUNNING")
    assert parent(world).info.status == "RUNNING"
    finish(study, folder, trial(world, 0), status="KILLED")
    assert parent(world).info.status == "KILLED"
    study = open_study(world)
    assert parent(world).info.status == "RUNNING"
    finish(study, folder, trial(world, 0))
    assert parent(world).info.status == "FINISHED"


def test_repeating_a_command_changes_nothing(world, folder):
    def command() -> None:
        study = open_study(world)
        for number in range(2):
            stream(study, world, number)
            study.note_score(number, number / 4)
        stream(study, world, 2, HISTORY[:3], "pruned", "after epoch 2")
        everything = [trial(world, 0, 0.0), trial(world, 1, 0.25), trial(world, 2, 0, "pruned", "after epoch 2")]
        finish(study, folder, *everything)
        finish(study, folder, *everything)

    command()
    before = held(world)
    assert sorted(before) == ["study: flowers photos", "trial 0", "trial 1", "trial 2"]
    best = [(0, 0.0), (1, 0.25), (2, 0.25)]
    curves = {"score": [(0, 0.0), (1, 0.25)], "best_score": best, SCORE: [(0, 0.25)]}
    assert before["study: flowers photos"]["points"] == curves
    command()
    assert held(world) == before


def test_an_interrupted_trial_is_resumed_in_its_own_run(world, folder):
    stream(open_study(world), world, 0, HISTORY[:2], "interrupted")
    interrupted = children(world)[0]
    stream(open_study(world), world, 0)
    run = children(world)[0]
    assert run.info.run_id == interrupted.info.run_id
    assert state(run) == ("FINISHED", "completed")
    assert points(world, run, "loss") == [(row["epoch"], row["loss"]) for row in HISTORY]


@pytest.mark.parametrize("written", ["each at once", "all together"])
def test_the_curves_of_further_seeds_are_complete(world, monkeypatch, written):
    """Each seed counts its epochs from 0, in metrics of its own."""
    monkeypatch.setattr(live, "_EVERY_SECONDS", 0 if written == "each at once" else 1000)
    second = [{"epoch": row["epoch"], "seed1/loss": row["loss"] + 1} for row in HISTORY]
    for _ in range(2):  # the second time as a trial that was interrupted
        stream(open_study(world), world, 0, [*HISTORY, *second])
        run = children(world)[0]
        assert points(world, run, "loss") == [(row["epoch"], row["loss"]) for row in HISTORY]
        assert points(world, run, "seed1/loss") == [(row["epoch"], row["seed1/loss"]) for row in second]


def test_parameters_are_added_if_a_process_died_before_it_logged_them(world, folder, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def killed(*args, **kwargs):
        if threading.current_thread() is not threading.main_thread():
            raise MlflowException("gone")  # nothing else would end the thread that streams
        raise SystemExit

    for begin in (
        lambda: open_study(world),
        lambda: stream(open_study(world), world, 3),
        lambda: finish(open_study(world), folder, trial(world, 4)),
    ):
        with monkeypatch.context() as patch, contextlib.suppress(SystemExit):
            patch.setattr(MlflowClient, "log_batch", killed)
            begin()
        begin()
    assert parent(world).data.params == flattened(world.params) | DESCRIBED
    found = children(world)
    assert (found[3].data.params["head.dropout"], found[4].data.params["head.dropout"]) == ("0.3", "0.4")


def test_trials_that_ended_while_the_store_was_unreachable_are_added(world, folder, monkeypatch, closed_port):
    with monkeypatch.context() as away:
        away.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
        study = open_study(world)
        stream(study, world, 0)
        study.note_score(0, 0.75)
    assert world.runs() == []
    pruned = trial(world, 1, 0, "pruned", "after epoch 1", {0: 0.3, 1: 0.4})
    failed = trial(world, 2, 0, "failed", "no memory", {})
    finish(study, folder, trial(world, 0, 0.75), pruned, failed)
    found = children(world)
    assert {number: state(run) for number, run in found.items()} == {
        0: ("FINISHED", "completed"),
        1: ("KILLED", "pruned: after epoch 1"),
        2: ("FAILED", "failed: no memory"),
    }
    assert points(world, found[0], SCORE) == sorted(SCORES.items())
    assert points(world, found[1], SCORE) == [(0, 0.3), (1, 0.4)]
    assert points(world, found[2], SCORE) == []
    assert found[1].data.params["head.dropout"] == "0.1"
    assert points(world, parent(world), "score") == [(0, 0.75)]


def test_finish_completes_a_trial_whose_logging_failed(world, folder, monkeypatch, capsys):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    def gone(*args, **kwargs):
        raise MlflowException("API request to http://user:secret@example.org/api failed: the server has gone")

    study = open_study(world)
    open_end = study.trial(0, settings(world, 0))
    open_end.on_epoch(HISTORY[0])
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_batch", gone)
        patch.setattr(MlflowClient, "log_metric", gone)
        for row in HISTORY[1:]:
            open_end.on_epoch(row)
        open_end.close(*ending("completed"))
        study.note_score(0, 0.75)
    warnings = capsys.readouterr().err
    assert warnings.count("warning") == warnings.count("the server has gone") == 2
    assert "secret" not in warnings
    finish(study, folder, trial(world, 0, 0.75))
    assert capsys.readouterr().err == ""
    assert state(children(world)[0]) == ("FINISHED", "completed")
    assert points(world, children(world)[0], SCORE) == sorted(SCORES.items())
    assert points(world, parent(world), "score") == [(0, 0.75)]


def test_an_unreachable_server_costs_warnings_and_little_time(world, folder, monkeypatch, capsys, closed_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port}")
    begin = time.monotonic()
    study = open_study(world)
    for number in range(3):
        stream(study, world, number)
        study.note_score(number, 0.5)
    finish(study, folder, trial(world, 0))
    assert time.monotonic() - begin < 10
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2  # when it began and when it ended
    for line in warnings:
        assert line.startswith("warning: ")
        assert f"127.0.0.1:{closed_port}" in line
        assert line.endswith("To publish it later: run the same command again")
        assert "secret" not in line


def test_a_study_adopts_the_run_that_mlflow_run_opened(world, folder, monkeypatch):
    opened = world.client().create_run("0", run_name="bold-fox-123")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    study = open_study(world)
    stream(study, world, 0)
    finish(open_study(world), folder, trial(world, 0))
    run = parent(world)
    assert run.info.run_id == opened.info.run_id
    assert run.info.run_name == "study: flowers photos"
    assert run.data.params == flattened(world.params) | DESCRIBED
    assert runs.HOLDER not in run.data.tags
    assert state(children(world)[0]) == ("FINISHED", "completed")

    with tracking.live_run(world.params):  # by the next command of the same `mlflow run`
        pass
    key = run_key.compute(world.params).key
    assert [each.info.run_id for each in runs.with_key(world.client(), key)] != [opened.info.run_id]
    assert runs.KEY not in world.client().get_run(opened.info.run_id).data.tags


def test_a_second_mlflow_run_of_a_study_links_to_the_first(world, monkeypatch):
    open_study(world)
    (study_run,) = world.runs(only=1)
    opened = world.client().create_run("0", run_name="bold-fox-123")
    monkeypatch.setenv("MLFLOW_RUN_ID", opened.info.run_id)
    stream(open_study(world), world, 0)
    run = world.client().get_run(opened.info.run_id)
    assert run.data.tags["flowers.result_run"] == study_run.info.run_id
    assert study_run.info.run_id in run.data.tags["mlflow.note.content"]
    assert (run.data.params, run.data.metrics) == ({}, {})
    (child,) = [each for each in world.runs(only=3) if "mlflow.parentRunId" in each.data.tags]
    assert child.data.tags["mlflow.parentRunId"] == study_run.info.run_id


def test_machines_that_share_only_the_storage_create_each_run_once(world, folder, monkeypatch):
    """In threads: the lock of this repository's store is no help between machines, so it is taken away."""
    monkeypatch.setattr(store, "lock", lambda: contextlib.nullcontext())
    key = run_key.compute(world.params)
    storage, together, errors = threading.Lock(), threading.Barrier(3), []

    @contextlib.contextmanager
    def exclusive():
        with storage:
            yield

    def machine(first: int) -> None:
        try:
            together.wait(timeout=30)
            study = StudyRuns(UID, "flowers photos", key, DESCRIBED, world.params, exclusive)
            for number in (first, first + 3):
                stream(study, world, number)
                study.note_score(number, number / 10)
            together.wait(timeout=30)
            finish(study, folder, *(trial(world, number, number / 10) for number in range(6)))
        except BaseException as error:
            errors.append(error)
            raise

    threads = [threading.Thread(target=machine, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = children(world)
    assert sorted(found) == list(range(6))
    for run in found.values():
        assert state(run) == ("FINISHED", "completed")
        assert points(world, run, "loss") == [(row["epoch"], row["loss"]) for row in HISTORY]
    assert points(world, parent(world), "score") == [(number, number / 10) for number in range(6)]
    assert points(world, parent(world), "best_score") == [(number, number / 10) for number in range(6)]


def test_a_deleted_parent_stays_deleted_and_a_new_one_is_created(world, folder):
    study = open_study(world)
    stream(study, world, 0)
    finish(study, folder, trial(world, 0, 0.5))
    deleted = parent(world).info.run_id
    world.client().delete_run(deleted)
    finish(open_study(world), folder, trial(world, 0, 0.5))
    (run,) = [each for each in world.runs(only=2) if each.info.run_name == "study: flowers photos"]
    assert run.info.run_id != deleted
    assert (run.info.status, points(world, run, "score")) == ("FINISHED", [(0, 0.5)])
    assert world.client().get_run(deleted).info.lifecycle_stage == "deleted"


def test_another_study_has_runs_of_its_own(world):
    for uid in ("one", "other"):
        stream(open_study(world, uid), world, 0)
    parents = [run.info.run_id for run in world.runs(only=4) if "mlflow.parentRunId" not in run.data.tags]
    of_children = [run.data.tags.get("mlflow.parentRunId") for run in world.runs()]
    assert len(parents) == 2
    assert sorted(filter(None, of_children)) == sorted(parents)


def test_runs_of_the_pipeline_and_of_a_study_are_independent(world, folder):
    study = open_study(world)
    open_end = study.trial(2, world.params)  # the parameters of the pipeline
    for row in HISTORY:
        open_end.on_epoch(row)
    open_end.close(*ending("completed"))
    finish(study, folder, TrialFacts(2, world.params, "completed", "", 0.75, SCORES))
    before = held(world)

    with tracking.live_run(world.params) as on_epoch:
        for row in HISTORY:
            on_epoch(row)
    published = tracking.publish(world.params)
    key = run_key.compute(world.params).key
    assert [run.info.run_id for run in runs.with_key(world.client(), key)] == [published.run_id]
    after = held(world)
    assert {name: after[name] for name in before} == before
    (name,) = after.keys() - before.keys()
    assert after[name]["id"] == published.run_id

    finish(open_study(world), folder, TrialFacts(2, world.params, "completed", "", 0.75, SCORES))
    assert held(world) == after


def test_scores_that_are_not_numbers_do_not_stop_the_publication(world, folder, capsys):
    finish(open_study(world), folder, trial(world, 0, 0.5, scores={0: float("nan"), 1: 0.5}), trial(world, 1, 0.25))
    assert capsys.readouterr().err == ""
    assert parent(world).data.metrics["best_score"] == 0.5
    assert sorted(children(world)) == [0, 1]


def test_the_parent_has_the_dvc_experiment(world, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "hasty-chum")
    open_study(world)
    assert json.loads(parent(world).data.tags["flowers.dvc_experiments"]) == ["hasty-chum"]
