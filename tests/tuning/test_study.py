"""A study: resumed it equals an uninterrupted one, each trial is handed out once, and all scores are comparable."""

import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from flowers.common.errors import UserError
from flowers.tuning import heartbeat, trial_table
from flowers.tuning.storage import Storage
from flowers.tuning.study import ATTEMPT, ERROR, ORIGIN, SCORES
from flowers.tuning.worker import Stop

FIRST = "flowers photos"  # the name that the data set gives to its first study
N = 16  # the first ten trials that are not failures are drawn blindly


def contents(trials) -> list[tuple]:
    """Everything of trials that must not depend on who trained them when."""
    return [
        (
            trial.number,
            trial.state.name,
            trial.params,
            trial.values,
            trial.intermediate_values,
            trial.user_attrs.get(SCORES),
            trial.user_attrs.get(ERROR),
        )
        for trial in trials
    ]


def take(study, n_trials: int = N) -> int | None:
    """The number of the next trial."""
    trial = study.next_trial(n_trials)
    return None if trial is None else trial.number


def finish(study, n_trials: int, score=lambda params: params["head.dropout"]) -> None:
    """Complete all trials that are left."""
    while (trial := study.next_trial(n_trials)) is not None:
        study.complete(trial, [score(trial.params)], best_epoch=0)


# Resume


@pytest.mark.parametrize("pruner", ["median", "hyperband", "halving"])
def test_a_study_that_was_interrupted_and_killed_equals_an_uninterrupted_one(begin, train, curve, dies, pruner):
    """Every trial is trained by a fresh process; before that one in three dies, and one in three is interrupted."""
    changes = {"tune": {"pruner": pruner, "warmup_epochs": 1}, "train": {"epochs": 7, "fine_tune_epochs": 2}}
    whole = train(begin("whole.journal", **changes), curve(limit=0.5), N)
    words = {trial_table.state(trial)[0] for trial in whole}
    assert words == {"completed", "failed"} | {"pruned"}

    kinds = []
    for n_trials in range(1, N + 1):
        if n_trials % 3 == 1:
            study = begin("pieces.journal", **changes)
            trial = study.next_trial(n_trials)
            trial.report(whole[n_trials - 1].intermediate_values[0], 0)
            dies(study, trial.number)
            kinds.append(trial.number)
        if n_trials % 3 == 2:
            stop = Stop()
            watch = curve(lambda epoch, stop=stop: setattr(stop, "requested", epoch == 1), limit=0.5)
            trials = train(begin("pieces.journal", **changes), watch, n_trials, stop)
            kinds += [trial.number for trial in trials if trial.state == TrialState.WAITING]
        train(begin("pieces.journal", **changes), curve(limit=0.5), n_trials)
    assert len(kinds) >= 7  # or none was interrupted, or died
    assert contents(begin("pieces.journal", **changes).trials()) == contents(whole)


def test_another_seed_of_the_search_draws_other_trials(begin, train, curve):
    one, other = (train(begin(f"{seed}.journal", tune={"seed": seed}), curve(), 3) for seed in (0, 1))
    assert one[0].params == other[0].params  # those of params.yaml
    assert one[1].params != other[1].params != other[2].params


def test_a_study_can_be_extended_to_more_trials(begin, train, curve):
    whole = train(begin("whole.journal"), curve(), 5)
    train(begin(), curve(), 3)
    assert begin().finished(3) and not begin().finished(5)
    assert take(begin(), 3) is None
    train(begin(), curve(), 5)
    assert begin().finished(5) and begin().finished(3)
    assert contents(begin().trials()) == contents(whole)


def test_completed_trials_guide_the_search(begin, train, curve):
    space = {"head.dropout": {"low": 0, "high": 0.5}, "train.learning_rate": {"low": 3e-4, "high": 0.03, "log": True}}
    scores = [trial.value for trial in train(begin(tune={"space": space}), curve(), 40)]
    assert 0.9 - np.mean(scores[-20:]) < 0.7 * (0.9 - np.mean(scores[:10]))


# Stale trials


def test_a_trial_whose_process_died_is_trained_once_more_and_then_has_failed(begin, dies):
    study = begin()
    first = study.next_trial(3)
    dies(study, first.number)
    second = begin().next_trial(3)
    assert (second.number, second.params) == (first.number, first.params)
    dies(study, second.number)
    assert take(begin(), 3) == 1
    failed = begin().trials()[0]
    assert failed.state == TrialState.FAIL
    assert trial_table.state(failed) == ("failed", "its process died, 2 times")
    assert failed.params == first.params
    assert begin().trials()[1].params != first.params


def test_a_trial_whose_process_died_before_it_wrote_its_id_is_requeued(begin, monkeypatch):
    study = begin()
    with monkeypatch.context() as patch:
        patch.setattr(heartbeat, "worker_id", lambda: os._exit)  # which cannot be stored
        with pytest.raises(TypeError):
            study.next_trial(2)
    assert [trial.state for trial in study.trials()] == [TrialState.RUNNING]
    assert take(begin(), 2) == 0


def test_a_requeued_trial_comes_before_new_ones(begin):
    study = begin()
    first, second, third = (study.next_trial(4) for _ in range(3))
    study.requeue(second)
    study.complete(first, [0.5], 0)
    assert [take(study, 4) for _ in range(3)] == [second.number, third.number + 1, None]


def test_a_trial_of_a_running_process_is_not_requeued(begin):
    study = begin()
    assert study.next_trial(3).number == 0
    assert take(begin(), 3) == 1
    assert [trial.user_attrs[ATTEMPT] for trial in study.trials()] == [1, 1]


def test_another_process_with_the_id_of_a_dead_one_is_not_mistaken_for_it(begin, dies):
    study = begin()
    assert take(study, 3) == 0
    dies(study, 0, process=str(os.getpid()))
    assert take(begin(), 3) == 0


@pytest.mark.parametrize(("seconds", "number"), [(-30, 1), (30, 0)])
def test_a_worker_on_another_machine_is_stale_after_ten_minutes_without_a_heartbeat(begin, seconds, number):
    assert heartbeat.STALE_SECONDS == 600
    trial = begin().next_trial(3)
    trial.set_user_attr(heartbeat.WORKER, f"another-host.example {os.getpid()} 1700000000")
    trial.set_user_attr(heartbeat.HEARTBEAT, time.time() - heartbeat.STALE_SECONDS - seconds)
    assert take(begin(), 3) == number


def test_heartbeats_are_written_while_the_trial_is_trained(begin, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    study = begin()
    trial = study.next_trial(1)
    trial.set_user_attr(heartbeat.HEARTBEAT, 0)
    with heartbeat.beating(trial):
        until = time.monotonic() + 20
        while not study.trials()[0].user_attrs[heartbeat.HEARTBEAT]:
            assert time.monotonic() < until
            time.sleep(0.01)
    threads = [thread for thread in threading.enumerate() if thread.daemon and "repeat" in thread.name]
    assert threads == []
    study.complete(trial, [0.5], 0)  # nothing writes into it any more


TAKE_AND_WAIT = """
import sys, time
print(Study(Storage(), Space(settings)).next_trial(9).number, flush=True)
time.sleep(600)
"""


def test_the_trial_of_a_killed_process_is_trained_again_at_once(begin, start):
    process = start(TAKE_AND_WAIT)
    assert process.stdout.readline() == "0\n"
    study = begin()
    assert take(study) == 1
    params = study.trials()[0].params
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie still, as long as its parent does not look
    again = study.next_trial(N)
    assert (again.number, again.params) == (0, params)


# Sharing


TAKE_ALL = """
import json, time
from pathlib import Path
print("ready", flush=True)
while not Path("go").exists():
    time.sleep(0.001)
study = Study(Storage(), Space(settings))
numbers = []
while (trial := study.next_trial(12)) is not None:
    numbers.append(trial.number)
    time.sleep(0.05)
    study.complete(trial, [trial.params["head.dropout"]], 0)
print(json.dumps([study.uid, numbers]))
"""


def test_several_processes_share_a_study_and_train_exactly_n_trials(begin, start):
    processes = [start(TAKE_ALL) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    Path("go").touch()
    outputs = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    study = begin()
    assert {uid for uid, _ in outputs} == {study.uid}
    numbers = [number for _, numbers in outputs for number in numbers]
    assert sorted(numbers) == list(range(12))
    assert sum(bool(numbers) for _, numbers in outputs) > 1  # one could have done it alone
    assert [trial.state for trial in study.trials()] == [TrialState.COMPLETE] * 12
    assert len({json.dumps(trial.params) for trial in study.trials()}) == 12
    assert [trial.number for trial in study.trials() if ORIGIN in trial.user_attrs] == [0]
    assert study.finished(12)


def test_two_that_begin_at_once_share_one_study(begin, monkeypatch):
    together, write = threading.Barrier(2), optuna.study.Study.set_user_attr

    def write_slowly(*arguments) -> None:
        time.sleep(0.05)
        write(*arguments)

    def begin_together(_) -> str:
        together.wait()
        return begin().uid

    monkeypatch.setattr(optuna.study.Study, "set_user_attr", write_slowly)
    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(begin_together, range(2)))) == 1
    assert [trial.number for trial in begin().trials()] == [0]


# Comparable scores


@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("build/split.csv", "another split of the images"),
        ("build/images.csv", "another images"),
        ("build/weights/resnet50.npz", "another ImageNet weights"),
        ("src/flowers/train.py", "another training code"),
    ],
)
def test_a_changed_input_is_an_error_naming_it(begin, file, named):
    uid = begin().uid
    content = Path(file).read_bytes()
    Path(file).unlink()  # the weights are linked to those of other tests
    Path(file).write_bytes(content + b"\n")
    with pytest.raises(UserError, match=f"began with {named}\\. ") as error:
        begin()
    assert f"study '{FIRST}' began with" in str(error.value) and "`flowers tune --new`" in str(error.value)
    assert begin(new=True).uid != uid
    Path(file).write_bytes(content)
    assert begin(name=FIRST).uid == uid


DROPOUT = {"head.dropout": {"low": 0.0, "high": 0.6}}
RATE = {"train.learning_rate": {"low": 0.001, "high": 0.01, "log": True}}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"head": {"units": [4]}}, ["head.units [8], now [4]"]),
        ({"train": {"epochs": 6, "patience": 9}}, ["train.epochs 5, now 6", "train.patience 10, now 9"]),
        ({"augmentation": {"flip": False}}, ["augmentation.flip true, now false"]),
        ({"tune": {"repeats": 2}}, ["tune.repeats 1, now 2"]),
        (
            {"tune": {"space": RATE | {"head.dropout": {"low": 0.0, "high": 0.5}}}},
            ["head.dropout searched in 0.0 … 0.6, now searched in 0.0 … 0.5"],
        ),
        ({"tune": {"space": DROPOUT}}, ["train.learning_rate searched in 0.001 … 0.01 (log), now 0.003"]),
        (
            {"tune": {"space": DROPOUT | RATE | {"train.batch_size": {"choices": [2, 4]}}}},
            ["train.batch_size 5, now searched in 2 | 4"],
        ),
    ],
)
def test_a_changed_parameter_or_space_is_an_error_naming_it(begin, changes, named):
    begin()
    with pytest.raises(UserError) as error:
        begin(**changes)
    began = str(error.value).partition(" began with ")[2].partition(". Its scores cannot be compared")[0]
    assert began == "; ".join(named)
    assert begin(new=True, **changes).name == f"{FIRST} 2"


@pytest.mark.parametrize(
    "changes",
    [
        {"head": {"dropout": 0.35}, "train": {"learning_rate": 0.005}},
        {"tune": {"pruner": "halving", "warmup_epochs": 3}},
        {"tune": {"n_trials": 99, "confirm_seeds": 5, "seed": 7}},
        {"split": {"seed": 5}, "evaluate": {"seed": 3}, "dataset": {"bad_images": "skip"}},
    ],
    ids=["searched values", "pruner", "counts", "other stages"],
)
def test_what_does_not_affect_scores_may_change(begin, changes):
    study = begin()
    finish(study, 3)
    again = begin(**changes)
    assert (again.name, again.uid) == (study.name, study.uid)
    assert contents(again.trials()) == contents(study.trials())
    assert take(again, 4) == 3


def test_a_new_study_has_the_next_number_and_is_resumed_by_default(begin):
    names = [begin(new=new).name for new in (False, False, True, False, True, False)]
    assert names == [FIRST, FIRST, f"{FIRST} 2", f"{FIRST} 2", f"{FIRST} 3", f"{FIRST} 3"]
    assert begin(name=FIRST).name == FIRST
    assert len({begin(name=name).uid for name in names}) == 3


def test_a_study_can_be_named(begin):
    study = begin(name="mine")
    assert study.name == "mine"
    assert begin(name="mine").uid == study.uid
    assert begin().name == FIRST
    with pytest.raises(UserError, match="study 'mine' already exists in "):
        begin(name="mine", new=True)
    assert begin(name="other", new=True).name == "other"


def test_two_data_sets_in_one_storage_have_studies_of_their_own(begin):
    studies = [begin(dataset={"path": path}) for path in ("/data/photos", "/data/more photos")]
    assert [study.name for study in studies] == [FIRST, "flowers more photos"]
    finish(studies[0], 2)
    assert [len(begin(dataset={"path": path}).trials()) for path in ("/data/photos", "/data/more photos")] == [2, 1]
    assert begin(new=True, dataset={"path": "/data/more photos"}).name == "flowers more photos 2"
    assert begin().uid == studies[0].uid


def test_a_study_of_another_program_is_an_error(begin):
    study = optuna.create_study(study_name=FIRST, storage=Storage().optuna, direction="maximize")
    study.add_trial(optuna.trial.create_trial(value=0.5))
    with pytest.raises(UserError, match=f"study '{FIRST}' in tracking/studies.journal was not created by this version"):
        begin()


def test_a_study_whose_process_died_while_it_began_is_completed(begin, monkeypatch, curve, train):
    """Whatever was written before the process died."""
    whole = train(begin("whole.journal"), curve(), 3)
    writes = ("set_user_attr", "enqueue_trial")
    for moment in range(3):
        left = [moment]

        def dying(method, left=left):
            def act(*arguments, **named):
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                return method(*arguments, **named)

            return act

        with monkeypatch.context() as patch:
            for name in writes:
                patch.setattr(optuna.study.Study, name, dying(getattr(optuna.study.Study, name)))
            with pytest.raises(KeyboardInterrupt):
                begin(f"{moment}.journal")
        assert contents(train(begin(f"{moment}.journal"), curve(), 3)) == contents(whole), moment


# The first trial


def test_the_first_trial_has_the_values_of_params_yaml_if_they_are_in_the_space(begin):
    trial = begin().next_trial(1)
    assert trial.params == {"head.dropout": 0.1, "train.learning_rate": 0.003}
    assert trial.user_attrs[ORIGIN] == "params.yaml"
    assert ORIGIN not in begin().next_trial(2).user_attrs


def test_the_first_trial_is_sampled_if_they_are_not(begin):
    space = RATE | {"head.dropout": {"low": 0.2, "high": 0.6}}
    trial = begin(tune={"space": space}).next_trial(1)
    assert trial.number == 0 and ORIGIN not in trial.user_attrs
    assert 0.2 <= trial.params["head.dropout"] <= 0.6
    assert trial.params["train.learning_rate"] != 0.003


# Importances


def test_importances_are_the_shares_of_the_parameters(begin):
    study = begin()
    finish(study, 12, lambda params: params["head.dropout"])
    shares = study.importances()
    assert list(shares) == ["head.dropout", "train.learning_rate"]
    assert sum(shares.values()) == pytest.approx(1) and shares["head.dropout"] > 0.8
    assert begin().importances() == shares


@pytest.mark.parametrize(("n_trials", "score"), [(4, 0.5)])
def test_without_two_different_scores_there_are_no_importances(begin, n_trials, score):
    study = begin()
    finish(study, n_trials, lambda params: score)
    assert study.importances() == {}


def test_a_trial_from_before_a_reboot_of_its_machine_is_stale(begin, monkeypatch):
    study = begin()
    trial = study.next_trial(1)
    name = heartbeat.machine().partition("/")[0]
    trial.set_user_attr(heartbeat.WORKER, f"{name}/an earlier boot 1 1700000000")
    trial.set_user_attr(heartbeat.HEARTBEAT, time.time())
    assert heartbeat.is_alive(study.trials()[0])
    monkeypatch.setattr(heartbeat.psutil, "boot_time", lambda: time.time() + 1)
    assert not heartbeat.is_alive(study.trials()[0])
