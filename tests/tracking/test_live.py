"""Streaming while training runs: what reaches the store, and that errors of the store do not reach the training."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracking_world import HISTORY

from flowers import tracking
from flowers.tracking import live

STREAM_AND_DIE = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tracking_world import HISTORY
from flowers import tracking
from flowers.config import params
with tracking.live_run(params.load(Path("params.yaml"))) as on_epoch:
    on_epoch(HISTORY[0])
    time.sleep(float(sys.argv[2]))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(live, "_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(live, "_AGAIN_SECONDS", 0.1)


def stream(world, rows) -> None:
    with tracking.live_run(world.params) as on_epoch:
        for row in rows:
            on_epoch(row)


def stream_and_raise(world, rows, error: BaseException) -> None:
    """A training that fails after these epochs."""
    with pytest.raises(type(error), match="mine"), tracking.live_run(world.params) as on_epoch:
        for row in rows:
            on_epoch(row)
        raise error


def eventually(find):
    """What `find` returns once it is true; the store is written by another thread."""
    deadline = time.monotonic() + 20
    while not (found := find()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def losses(world, run) -> list[tuple[int, float]]:
    return world.points(run)["loss"]


def test_an_epoch_is_in_the_store_while_training_runs(world):
    with tracking.live_run(world.params) as on_epoch:
        on_epoch(HISTORY[0])
        run = eventually(lambda: next((run for run in world.runs(only=1) if run.data.metrics), None))
        assert run.info.status == "RUNNING"
        assert world.points(run) == {
            name: [(0, value)] for name, value in HISTORY[0].items() if name not in ("epoch", "phase")
        }
    assert world.runs()[0].info.status == "FINISHED"


def test_quick_epochs_are_written_together_and_none_is_lost(world, monkeypatch):
    monkeypatch.setattr(live, "_EVERY_SECONDS", 1000)
    stream(world, HISTORY)
    (run,) = world.runs(only=1)
    assert losses(world, run) == [(row["epoch"], row["loss"]) for row in HISTORY]


def test_empty_validation_scores_are_left_out(world):
    stream(world, [{**HISTORY[0], "val_loss": "", "val_accuracy": "", "val_mean_per_class_accuracy": ""}])
    (run,) = world.runs(only=1)
    assert set(world.points(run)) == {"learning_rate", "loss", "accuracy"}


def test_a_resumed_training_adds_only_what_is_missing(world):
    stream(world, HISTORY[:2])
    stream(world, HISTORY)
    (run,) = world.runs(only=1)
    assert losses(world, run) == [(row["epoch"], row["loss"]) for row in HISTORY]


def test_two_trainings_of_one_key_at_once_log_each_point_once(world):
    with tracking.live_run(world.params) as one, tracking.live_run(world.params) as other:
        for row in HISTORY:
            one(row)
            other(row)
    (run,) = world.runs(only=1)
    assert losses(world, run) == [(row["epoch"], row["loss"]) for row in HISTORY]


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_an_exception_ends_the_run_and_is_raised_again(world, error, status):
    stream_and_raise(world, HISTORY[:1], error("mine"))
    (run,) = world.runs(only=1)
    assert run.info.status == status
    assert losses(world, run) == [(0, HISTORY[0]["loss"])]


def test_a_failed_run_is_resumed(world):
    stream_and_raise(world, [], ValueError("mine"))
    with tracking.live_run(world.params):
        assert world.runs()[0].info.status == "RUNNING"
    assert [run.info.status for run in world.runs(only=1)] == ["FINISHED"]


def test_training_again_does_not_change_a_complete_run(world):
    stream(world, HISTORY)
    tracking.publish(world.params)
    (before,) = world.runs(only=1)
    stream_and_raise(world, [{**HISTORY[0], "epoch": 99}], ValueError("mine"))
    (after,) = world.runs(only=1)
    assert after.info.status == "FINISHED"
    assert after.to_dictionary() == before.to_dictionary()


def test_a_killed_process_leaves_a_running_run_that_publish_ends(world):
    tests = str(Path(__file__).parents[1] / "helpers")
    done = subprocess.run([sys.executable, "-c", STREAM_AND_DIE, tests, "3"], check=False)
    assert done.returncode == -signal.SIGKILL
    (run,) = world.runs(only=1)
    assert (run.info.status, losses(world, run)) == ("RUNNING", [(0, HISTORY[0]["loss"])])
    tracking.publish(world.params)
    (run,) = world.runs(only=1)
    assert run.info.status == "FINISHED"
    assert losses(world, run) == [(row["epoch"], row["loss"]) for row in HISTORY]


def broken(monkeypatch):
    """Let no batch through to the store, as a server that has gone; the list of what was tried."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    tried = []

    def gone(*args, **kwargs):
        tried.append(args)
        raise MlflowException("the server has gone")

    monkeypatch.setattr(MlflowClient, "log_batch", gone)
    return tried


def test_epochs_that_the_store_missed_are_written_when_it_is_back(world, monkeypatch, capsys):
    with tracking.live_run(world.params) as on_epoch:
        with monkeypatch.context() as patch:
            tried = broken(patch)
            for row in HISTORY[:2]:
                on_epoch(row)
            eventually(lambda: len(tried) > 1)
        for row in HISTORY[2:]:
            on_epoch(row)
        run = eventually(lambda: next((run for run in world.runs(only=1) if run.data.metrics), None))
    assert losses(world, run) == [(row["epoch"], row["loss"]) for row in HISTORY]
    assert "warning" not in capsys.readouterr().err


def test_a_store_that_stays_away_is_one_warning_and_training_continues(world, monkeypatch, capsys):
    trained = []
    with monkeypatch.context() as patch, tracking.live_run(world.params) as on_epoch:
        on_epoch(HISTORY[0])
        broken(patch)
        for row in HISTORY[1:]:
            on_epoch(row)
            trained.append(row)
    assert trained == HISTORY[1:]
    warnings = capsys.readouterr().err
    assert warnings.count("warning") == 1
    assert "the server has gone" in warnings and "flowers track --force" in warnings
    tracking.publish(world.params)
    (run,) = world.runs(only=1)
    assert losses(world, run) == [(row["epoch"], row["loss"]) for row in HISTORY]


def test_a_row_that_is_not_numeric_is_a_warning(world, capsys):
    stream(world, [{"epoch": 0, "loss": "a lot"}, HISTORY[1]])
    assert "'a lot' in column loss" in capsys.readouterr().err
    assert world.runs(only=1)[0].info.status == "RUNNING"


def test_an_unreachable_server_is_one_warning_within_ten_seconds(world, monkeypatch, capsys, closed_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed_port}")
    begin = time.monotonic()
    stream(world, HISTORY)
    assert time.monotonic() - begin < 10
    warnings = capsys.readouterr().err
    assert warnings.count("warning") == 1
    assert f"127.0.0.1:{closed_port}" in warnings and "flowers track --force" in warnings
    assert "secret" not in warnings
