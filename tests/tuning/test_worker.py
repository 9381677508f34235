"""Training of trials: equal to `dvc repro` to the last bit, pruned, interrupted, and failed."""

import csv
import gc
import re
import signal
import threading
import warnings

import numpy as np
import pytest
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.training import fitting
from flowers.tuning import trial_table, worker
from flowers.tuning.storage import StorageTrouble
from flowers.tuning.study import ATTEMPT, BEST_EPOCH, ERROR, SCORES
from flowers.tuning.worker import Stop, Trainer

SCORE = "val_mean_per_class_accuracy"
RATES = {"train.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}
BLOCKS = {"model.unfreeze_blocks": {"choices": [0, 1]}}


def history() -> list[dict[str, str]]:
    with paths.HISTORY.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def text(rows) -> list[dict[str, str]]:
    return [{name: str(value) for name, value in row.items()} for row in rows]


def words(trials) -> list[str]:
    return [trial_table.state(trial)[0] for trial in trials]


class Prune(BasePruner):
    """Prunes every trial from an epoch on; `asked` holds the epochs that it was asked at."""

    def __init__(self, epoch: float) -> None:
        self.epoch, self.asked = epoch, []

    def prune(self, study, trial) -> bool:
        self.asked.append(trial.last_step)
        return trial.last_step >= self.epoch


# The same training


def as_changes(values: dict) -> dict[str, dict]:
    """Values of a trial as `World.train` takes them."""
    changes: dict[str, dict] = {}
    for name, value in values.items():
        section, key = name.split(".")
        changes.setdefault(section, {})[key] = value
    return changes


def test_a_trial_is_the_training_of_the_stage_to_the_last_bit(begin, checkout, cheap_backbone, train, runs):
    """All of them, one after the other in one process; then the stage with the parameters of each."""
    study = begin(tune={"space": RATES | BLOCKS | {"head.dropout": {"low": 0.0, "high": 0.6}}, "seed": 3})
    trials = train(study, Trainer(study.space), 3)
    assert cheap_backbone.computed == 12 * 2 + 6  # once for all trials
    depths = [trial.params["model.unfreeze_blocks"] for trial in trials]
    assert set(depths[:-1]) == set(depths[1:]) == {0, 1}  # one of each follows another trial
    for trial in trials:
        checkout.train(**as_changes(trial.params))
        rows = history()
        assert len(rows) == (7 if trial.params["model.unfreeze_blocks"] else 5)
        assert text(runs.rows[trial.number]) == rows
        scores = [float(row[SCORE]) for row in rows]
        assert trial.intermediate_values == dict(enumerate(scores))
        assert trial.value == runs.scores[trial.number] == max(scores)
        assert trial.user_attrs[SCORES] == [trial.value]
        assert scores[trial.user_attrs[BEST_EPOCH]] == trial.value
    assert len({str(runs.rows[trial.number][-1]["loss"]) for trial in trials}) == 3


def test_trials_of_other_views_and_precisions_equal_the_stage_too(begin, checkout, cheap_backbone, train, runs):
    space = {"augmentation.views": {"choices": [1, 2]}, "model.precision": {"choices": ["float32", "bfloat16"]}}
    study = begin(tune={"space": space, "seed": 2})
    trials = train(study, Trainer(study.space), 4)
    kinds = [tuple(trial.params.values()) for trial in trials]
    assert len(set(kinds)) == 3 and kinds[3] == kinds[0]  # no longer held
    assert runs.rows[3] == runs.rows[0]
    for trial in trials[1:3]:
        checkout.train(**as_changes(trial.params))
        assert text(runs.rows[trial.number]) == history()


def test_test_images_are_never_opened(begin, cheap_backbone, train):
    with paths.SPLIT.open(newline="", encoding="utf-8") as file:
        images = [paths.IMAGES / row["path"] for row in csv.DictReader(file) if row["subset"] == "test"]
    assert len(images) == 6
    for image in images:
        image.unlink()
    study = begin(tune={"space": BLOCKS})
    assert words(train(study, Trainer(study.space), 2)) == ["completed"] * 2


# Pruning


@pytest.mark.parametrize(
    ("epoch", "steps", "phase"),
    [(0, 1, "head"), (5, 6, "fine_tune")],
)
def test_a_pruned_trial_ends_in_either_phase(begin, cheap_backbone, train, runs, epoch, steps, phase):
    """Epochs of fine-tuning are counted on from those of the head."""
    study = begin(model={"unfreeze_blocks": 1})
    study._study.pruner = pruner = Prune(epoch)
    (trial,) = train(study, Trainer(study.space), 1)
    assert trial_table.state(trial) == ("pruned", f"after epoch {epoch}")
    assert list(trial.intermediate_values) == pruner.asked == list(range(steps))
    assert trial.value == trial.intermediate_values[epoch]
    assert [row["epoch"] for row in runs.rows[0]] == list(range(steps))
    assert runs.rows[0][-1]["phase"] == phase
    assert runs.endings == {0: ("KILLED", f"pruned: after epoch {epoch}")} and runs.scores == {}


def test_networks_are_freed_when_their_trial_has_ended(begin, cheap_backbone, train):
    """Networks are circles of references: counted while Python does not look for circles by itself."""
    from flowers.model.trainable import TrainablePart

    study = begin(tune={"space": RATES})
    gc.disable()
    try:
        train(study, Trainer(study.space), 3)
        left = sum(isinstance(each, TrainablePart) for each in gc.get_objects())
    finally:
        gc.enable()
        gc.unfreeze()
    assert left == 0


def test_params_yaml_names_the_pruner(begin):
    kinds = {
        "median": MedianPruner,
        "hyperband": HyperbandPruner,
        "halving": SuccessiveHalvingPruner,
        "none": NopPruner,
    }
    for name, kind in kinds.items():
        assert type(begin(tune={"pruner": name})._study.pruner) is kind


CHOICES = {"head.dropout": {"choices": [0.3, 0.31, 0.32, 0.45, 0.46, 0.47, 0.48]}}  # the first ones are better


@pytest.mark.parametrize(("pruner", "warmup"), [("median", 0), ("median", 4), ("hyperband", 4), ("halving", 4)])
def test_low_scores_are_pruned_after_the_warmup_epochs(begin, train, curve, pruner, warmup):
    study = begin(tune={"pruner": pruner, "warmup_epochs": warmup, "space": CHOICES}, train={"epochs": 7})
    trials = train(study, curve(), 20)
    pruned = [trial for trial in trials if trial_table.state(trial)[0] == "pruned"]
    assert pruned and {*words(trials)} == {"pruned", "completed"}
    assert min(max(trial.intermediate_values) for trial in pruned) == max(warmup, pruner != "median")
    assert 0.3 not in {trial.params["head.dropout"] for trial in pruned}
    assert trial_table.best(trials).params == {"head.dropout": 0.3}


@pytest.mark.parametrize("pruner", ["hyperband"])
def test_warmup_epochs_may_be_more_than_there_are(begin, train, curve, pruner):
    study = begin(tune={"pruner": pruner, "warmup_epochs": 50, "space": CHOICES})
    assert words(train(study, curve(), 12)) == ["completed"] * 12


# Repeats


def test_repeats_are_averaged_and_the_pruner_sees_the_mean_so_far(begin, checkout, cheap_backbone, train, runs):
    study = begin(tune={"repeats": 2}, train={"seed": 3, "learning_rate": 0.01})
    study._study.pruner = pruner = Prune(99)
    (trial,) = train(study, Trainer(study.space), 1)
    rows = []
    for seed in (3, 4):
        checkout.train(**as_changes(trial.params | {"train.seed": seed}))
        rows.append(history())
    scores = [[float(row[SCORE]) for row in of_seed] for of_seed in rows]
    assert scores[0] != scores[1]
    assert trial.user_attrs[SCORES] == [max(scores[0]), max(scores[1])]
    assert trial.value == np.mean([max(scores[0]), max(scores[1])])
    means = [(max(scores[0]) + score) / 2 for score in scores[1]]
    most = study.space.most_epochs
    assert trial.intermediate_values == dict(enumerate(scores[0])) | dict(enumerate(means, most))
    assert pruner.asked == list(trial.intermediate_values)
    assert text(runs.rows[0][:5]) == rows[0]
    names = ("loss", "accuracy", "val_loss", "val_accuracy", SCORE)
    assert text(runs.rows[0][5:]) == [
        {"epoch": row["epoch"]} | {f"seed4/{name}": row[name] for name in names} for row in rows[1]
    ]


def test_folds_hold_out_every_image_once_for_each_seed_and_share_one_extraction(begin, cheap_backbone, train, runs):
    study = begin(tune={"folds": 3, "repeats": 2}, train={"epochs": 2})
    trainer, held_out = Trainer(study.space), []
    fit = fitting.fit
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "fit", lambda *given, fold: held_out.append(fold.val) or fit(*given, fold=fold))
        first, _ = train(study, trainer, 2)
    assert cheap_backbone.computed == 18 * 2  # train and val, one random view each: no more than for one training
    for seed in range(2):
        assert sorted(np.concatenate(held_out[3 * seed : 3 * seed + 3])) == list(range(18))
    assert held_out[0].tolist() != held_out[3].tolist()
    assert [fold.tolist() for fold in held_out[:6]] == [fold.tolist() for fold in held_out[6:]]  # of the second trial
    assert len(first.user_attrs[SCORES]) == 6 and first.value == np.mean(first.user_attrs[SCORES])
    assert {name for row in runs.rows[0] for name in row if name.endswith("val_loss")} == {
        "val_loss",
        "seed0/fold2/val_loss",
        "seed0/fold3/val_loss",
        *(f"seed1/fold{fold}/val_loss" for fold in (1, 2, 3)),
    }


def test_a_trial_can_be_pruned_in_its_second_fold(begin, train, curve):
    study = begin(tune={"folds": 2}, train={"epochs": 9})
    study._study.pruner = Prune(study.space.most_epochs + 1)
    (trial,) = train(study, curve(), 1)
    assert trial_table.state(trial) == ("pruned", "after epoch 1 of training 2")
    assert len(trial.intermediate_values) == curve.epochs + 2


@pytest.mark.parametrize("kind", ["repeats", "folds"])
def test_a_trial_interrupted_in_its_second_training_equals_an_uninterrupted_one(begin, train, curve, runs, kind):
    changes = {"tune": {kind: 3, "pruner": "median", "warmup_epochs": 2}, "train": {"epochs": 9}}
    (whole,) = train(begin("whole.journal", **changes), curve(), 1)
    rows = runs.rows[0]
    stop, epochs = Stop(), []

    def watch(epoch) -> None:
        epochs.append(epoch)
        stop.requested = len(epochs) == 13

    study = begin(**changes)
    (trial,) = train(study, curve(watch), 1, stop)
    assert trial_table.state(trial)[0] == "interrupted" and len(trial.intermediate_values) == 13
    (trial,) = train(study, curve(), 1)
    assert (trial.value, trial.user_attrs[SCORES]) == (whole.value, whole.user_attrs[SCORES])
    assert trial.intermediate_values == whole.intermediate_values
    assert runs.rows[0] == rows


# Failures


def test_a_trial_that_diverges_fails_with_the_reason_and_the_study_continues(begin, cheap_backbone, train, runs):
    space = {"train.learning_rate": {"choices": [0.003, 1e30]}}
    study = begin(tune={"space": space})
    trials = train(study, Trainer(study.space), 4)
    assert len(trials) == 4 and study.finished(4)
    for trial in trials:
        diverged = trial.params["train.learning_rate"] == 1e30
        assert words([trial]) == ["failed" if diverged else "completed"]
        if diverged:
            reason = r"the \w+ loss became \w+ in epoch \d \(head\); lower train\.learning_rate in params\.yaml"
            assert re.fullmatch(reason, trial.user_attrs[ERROR])
            assert runs.endings[trial.number] == ("FAILED", f"failed: {trial.user_attrs[ERROR]}")
    assert {*words(trials)} == {"failed", "completed"}
    best = trial_table.best(trials)
    completed = [trial.value for trial in trials if words([trial]) == ["completed"]]
    assert best.params == {"train.learning_rate": 0.003} and best.value == max(completed)


@pytest.mark.parametrize("error", [RuntimeError("on fire")])
def test_an_unexpected_exception_fails_only_its_trial(begin, train, curve, runs, error):
    class Burning(curve):
        def fit(self, settings, seed, fold, on_epoch):
            progress = super().fit(settings, seed, fold, on_epoch)
            if len(self.trained) == 2:
                raise error
            return progress

    trials = train(begin(), Burning(), 4)
    assert words(trials) == ["completed", "failed", "completed", "completed"]
    assert trials[1].user_attrs[ERROR] == f"{type(error).__name__}: {error}"
    assert runs.endings[1] == ("FAILED", f"failed: {type(error).__name__}: {error}")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), UserError("no such image")])
def test_an_error_that_no_trial_causes_ends_the_command_and_requeues_its_trial(begin, train, curve, runs, error):
    """With a full disk, all trials would fail."""

    class Burning(curve):
        def fit(self, settings, seed, fold, on_epoch):
            if len(self.trained) == 1:
                raise error
            return super().fit(settings, seed, fold, on_epoch)

    whole = train(begin("whole.journal"), curve(), 3)
    with pytest.raises(type(error)):
        train(begin(), Burning(), 3)
    assert words(begin().trials()) == ["completed", "interrupted"]
    assert runs.endings[1] == ("KILLED", "interrupted")
    again = train(begin(), curve(), 3)
    assert [(trial.params, trial.values) for trial in again] == [(trial.params, trial.values) for trial in whole]


def ends(study) -> None:
    """Another machine took the first trial of this study, and ends it now."""
    study._study.tell(0, 0.125)


class Late(BasePruner):
    """Judges only when the trial was ended already."""

    def __init__(self, study) -> None:
        self._study = study

    def prune(self, study, trial) -> bool:
        if trial.number == 0:
            ends(self._study)
        return trial.number == 0


@pytest.mark.parametrize("moment", ["in training", "after its last epoch", "when it is pruned", "when it fails"])
def test_a_trial_that_another_machine_took_over_is_given_up(begin, train, curve, moment):
    """This machine was suspended for so long that its heartbeat was stale; its result is ignored."""
    study, other = begin(), begin()

    class Asleep(curve):
        def fit(self, settings, seed, fold, on_epoch):
            progress = super().fit(settings, seed, fold, on_epoch)
            if len(self.trained) == 1 and moment != "when it is pruned":
                ends(other)
            if len(self.trained) == 1 and moment == "when it fails":
                raise RuntimeError
            return progress

    if moment == "when it is pruned":
        study._study.pruner = Late(other)
    trainer = Asleep()
    if moment == "in training":
        trainer = curve(lambda epoch: ends(other) if epoch == 4 and len(trainer.trained) == 1 else None)
    trials = train(study, trainer, 3)
    assert words(trials) == ["completed"] * 3
    assert trials[0].value == 0.125 and ERROR not in trials[0].user_attrs


def test_without_storage_the_command_ends_and_the_study_can_be_resumed(begin, train, curve, runs, dies):
    whole = train(begin("whole.journal"), curve(), 3)
    study = begin()

    def watch(epoch) -> None:
        if epoch == 4 and len(trainer.trained) == 2:
            study.storage.optuna.set_trial_intermediate_value = full

    def full(*arguments) -> None:
        raise OSError(28, "No space left on device")

    trainer = curve(watch)
    with pytest.raises(StorageTrouble, match="No space left on device"):
        train(study, trainer, 3)
    assert runs.endings[1] == ("KILLED", "interrupted")
    assert words(begin().trials()) == ["completed", "training"]
    dies(begin(), 1)
    again = train(begin(), curve(), 3)
    assert [(trial.params, trial.values) for trial in again] == [(trial.params, trial.values) for trial in whole]


# Interruptions


def test_an_interrupted_trial_equals_an_uninterrupted_one(begin, cheap_backbone, train, runs, monkeypatch):
    """In the head's second epoch, and again in the first one of fine-tuning."""
    changes = {"tune": {"space": RATES, "pruner": "median"}, "model": {"unfreeze_blocks": 1}}
    study = begin("whole.journal", **changes)
    (whole,) = train(study, Trainer(study.space), 1)
    rows = runs.rows.pop(0)
    runs.scores.clear()
    for epoch in (1, 5):
        study, stop = begin(**changes), Stop()
        trainer = Trainer(study.space)
        fit = trainer.fit

        def fit_until(settings, seed, fold, on_epoch, fit=fit, stop=stop, epoch=epoch):
            def watched(row) -> None:
                stop.requested = row["epoch"] == epoch
                on_epoch(row)

            return fit(settings, seed, fold, watched)

        monkeypatch.setattr(trainer, "fit", fit_until)
        (trial,) = train(study, trainer, 1, stop)
        assert trial_table.state(trial) == ("interrupted", "") and trial.user_attrs[ATTEMPT] == 0
        assert list(trial.intermediate_values) == list(range(epoch + 1))
        assert runs.endings[0] == ("KILLED", "interrupted") and runs.scores == {}
    study = begin(**changes)
    (trial,) = train(study, Trainer(study.space), 1)
    assert (trial.params, trial.value) == (whole.params, whole.value)
    assert trial.intermediate_values == whole.intermediate_values
    assert trial.user_attrs[ATTEMPT] == 1 and runs.rows == {0: rows}


def test_epochs_of_an_earlier_attempt_are_not_pruned_again(begin, train, curve):
    """By then other trials have ended, and it might judge otherwise."""
    stop = Stop()
    study = begin()
    train(study, curve(lambda epoch: setattr(stop, "requested", epoch == 5)), 1, stop)
    study._study.pruner = pruner = Prune(7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna's, of an epoch that is reported twice
        (trial,) = train(study, curve(), 1)
    assert words([trial]) == ["pruned"]
    assert pruner.asked == [5, 6, 7]


@pytest.mark.parametrize("error", [KeyboardInterrupt])
def test_a_trial_interrupted_at_once_is_requeued(begin, train, curve, error):
    def watch(epoch) -> None:
        if epoch == 2:
            raise error

    study = begin()
    for _ in range(3):
        with pytest.raises(error):
            train(study, curve(watch), 2)
        assert words(study.trials()) == ["interrupted"]
    assert words(train(begin(), curve(), 2)) == ["completed"] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_the_second_one_interrupts(number, capsys):
    stop, before = Stop(), signal.getsignal(number)
    with stop.listening("Stopping after this epoch"):
        signal.raise_signal(number)
        assert stop.requested
        assert "Stopping after this epoch" in capsys.readouterr().err
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) is before


def test_a_worker_waits_for_the_last_trials_of_others(begin, train, curve, monkeypatch):
    """And trains those that are requeued."""
    monkeypatch.setattr(worker, "_POLL_SECONDS", 0.01)
    other = begin()
    taken = [other.next_trial(2), other.next_trial(2)]
    trainer, study = curve(), begin()
    working = threading.Thread(target=train, args=(study, trainer, 2), daemon=True)
    working.start()
    working.join(0.2)
    assert working.is_alive() and trainer.trained == []
    other.complete(taken[0], [0.5], 0)
    other.requeue(taken[1])
    working.join(30)
    assert not working.is_alive()
    assert [settings for settings, _ in trainer.trained] == [study.space.apply(taken[1].params)]
    assert words(study.trials()) == ["completed"] * 2
