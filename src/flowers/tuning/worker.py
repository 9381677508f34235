"""The training of a study's trials, one after the other, in this process."""

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.tracking import Stream, StudyRuns, ending
from flowers.training import fitting, phases
from flowers.tuning import heartbeat, trial_table
from flowers.tuning.space import Space
from flowers.tuning.storage import StorageTrouble
from flowers.tuning.study import Study

if TYPE_CHECKING:
    from optuna.trial import Trial

_KEPT = 2  # sets of activations, where each trial has activations of its own
_POLL_SECONDS = 1.0


class Interrupted(Exception):
    """The user wants the study to end after this epoch."""


_NOT_ITS_FAULT = (Interrupted, UserError, OSError, MemoryError)  # of a full disk, say, all trials would die


class Stop:
    """Whether the user has asked to stop. The first Ctrl-C asks, the second one interrupts at once."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def listening(self, message: str | None = None) -> Iterator[None]:
        """Take SIGINT and SIGTERM as a request to stop, and print a message."""

        def ask(*_: object) -> None:
            if self.asked:
                raise KeyboardInterrupt
            self.asked = True
            if message:
                console.say(message)

        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread is told of signals
            return
        listened = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, ask) for number in listened}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Trainer:
    """Trains with any parameters of a space, on data that is read once, when it is first needed."""

    def __init__(self, space: Space) -> None:
        # One pass of the backbone serves all depths; but not beforehand where each trial has photos of its own.
        own_views = {"model.precision", "model.input_size", "head.features"}
        searched = any(name.startswith("augmentation.") or name in own_views for name in space.names)
        feature_layer = fitting.feature_layer_of(space.settings.model, space.settings.head)
        self._feature_layers = (
            None if searched else [replace(feature_layer, unfreeze_blocks=depth) for depth in space.depths()]
        )
        self._data: dict[Any, fitting.Data] = {}

    def data(self, settings: Params) -> fitting.Data:
        """Photos and activations for these settings."""
        feature_layers = self._feature_layers or [fitting.feature_layer_of(settings.model, settings.head)]
        key = (settings.model.precision, settings.augmentation, *feature_layers)
        if key not in self._data:
            if len(self._data) == _KEPT:
                del self._data[next(iter(self._data))]
            self._data[key] = fitting.Data(settings.model.precision, settings.augmentation, feature_layers)
        return self._data[key]

    def fit(self, settings: Params, seed: int, on_epoch: phases.OnEpoch) -> phases.Progress:
        """Train as `dvc repro` would with these settings and `train.seed`. Raises training.Diverged."""
        progress = phases.Progress()
        train = settings.train.model_copy(update={"seed": seed})
        with console.without_progress():
            fitting.fit(settings.model, settings.head, train, self.data(settings), progress, on_epoch)
        return progress


def work(study: Study, trainer: Trainer, runs: StudyRuns, n_trials: int, stop: Stop) -> None:
    """Train trials until `n_trials` have ended; wait for those that other processes train.

    Raises StorageTrouble if the storage is gone; the trial in training can be resumed later.
    """
    swept = False
    while not stop.asked and not study.finished(n_trials):
        trial = study.next_trial(n_trials)
        if trial is None:
            time.sleep(_POLL_SECONDS)
            continue
        _run(study, trainer, runs, trial, stop)
        gc.collect()  # a network is a reference cycle: without this, those of many trials stay in memory
        if not swept:
            gc.freeze()  # packages and data stay: scanning them each time takes 0.3 s
            swept = True


def _run(study: Study, trainer: Trainer, runs: StudyRuns, trial: "Trial", stop: Stop) -> None:
    """Train a trial and end it. An error that is not the trial's own requeues it, and is raised again."""
    import optuna

    settings = study.space.apply(trial.params)
    stream = runs.trial(trial.number, settings)
    try:
        with heartbeat.beating(trial):
            progresses = [
                trainer.fit(settings, seed, _reporting(study, trial, repeat, seed, stream.on_epoch, stop))
                for repeat, seed in enumerate(seeds(settings))
            ]
        if study.holds(trial):
            scores = [progress.best_score[0] for progress in progresses]
            stream.close(*ending("completed"))
            runs.note_score(trial.number, sum(scores) / len(scores))
            study.complete(trial, scores, progresses[0].best_epoch)
    except StorageTrouble:
        stream.close(*ending("interrupted"))
        raise
    except BaseException as error:
        if not study.holds(trial):  # without a heartbeat for too long: another process took it over
            if not isinstance(error, Exception):
                raise
        elif isinstance(error, optuna.TrialPruned):
            stream.close(*ending("pruned", trial_table.pruned(study.trials()[trial.number])))
            study.prune(trial)
        elif isinstance(error, Exception) and not isinstance(error, _NOT_ITS_FAULT):
            _fail(study, trial, stream, f"{type(error).__name__}: {error}")
        elif isinstance(error, phases.Diverged):
            _fail(study, trial, stream, str(error))
        else:
            stream.close(*ending("interrupted"))
            study.give_back(trial)
            if not isinstance(error, Interrupted):
                raise


def _fail(study: Study, trial: "Trial", stream: Stream, reason: str) -> None:
    stream.close(*ending("failed", reason))
    study.fail(trial, reason)


def seeds(settings: Params) -> range:
    """The seeds that each trial is trained from."""
    return range(settings.train.seed, settings.train.seed + settings.tune.repeats)


def _reporting(
    study: Study, trial: "Trial", repeat: int, seed: int, stream: phases.OnEpoch, stop: Stop
) -> phases.OnEpoch:
    """What is called with each epoch's row: hands it to the stream and, of the first seed, to the pruner."""
    import optuna

    before = study.trials()[trial.number].intermediate_values  # of an attempt that was interrupted
    last = max(before, default=-1)

    def on_epoch(row: phases.Row) -> None:
        step = int(row["epoch"])
        if repeat:
            numbers = {name: value for name, value in row.items() if name not in ("epoch", "phase", "learning_rate")}
            stream({"epoch": step} | {f"seed{seed}/{name}": value for name, value in numbers.items()})
        else:
            stream(row)
            with study.storage.explained():
                if step not in before:
                    trial.report(float(row["val_mean_per_class_accuracy"]), step)
                pruned: bool = step >= last and trial.should_prune()
            if pruned:
                raise optuna.TrialPruned
        if stop.asked:
            raise Interrupted

    return on_epoch
