"""Train the trials of a study, one after the other, in this process."""

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import optuna
from optuna.trial import Trial

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.tracking.live import Stream
from flowers.tracking.studies import StudyRuns, ending
from flowers.training import fitting, phases
from flowers.tuning import heartbeat, trial_table
from flowers.tuning.space import Space
from flowers.tuning.storage import StorageTrouble
from flowers.tuning.study import Study

_CACHED_DATA = 2  # sets of activations in memory, where each trial may have activations of its own
_POLL_SECONDS = 1.0


class Interrupted(Exception):
    """The user wants the study to end after this epoch."""


# Not caused by the trial: with a full disk, say, all trials would fail.
_NOT_THE_TRIAL = (Interrupted, UserError, OSError, MemoryError, KeyboardInterrupt, SystemExit)


class Stop:
    """Whether the user wants the study to end. The first Ctrl-C requests it, the second one interrupts at once."""

    def __init__(self) -> None:
        self.requested = False

    @contextlib.contextmanager
    def listening(self, message: str) -> Iterator[None]:
        """Take the first SIGINT or SIGTERM as a request, and print a message then."""

        def request(_number: int, _frame: object) -> None:
            if self.requested:
                raise KeyboardInterrupt
            self.requested = True
            console.say(message)

        if threading.current_thread() is not threading.main_thread():
            yield  # Python delivers signals to the main thread only
            return
        listened = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
        before = {number: signal.signal(number, request) for number in listened}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Trainer:
    """Trains with any parameters of a space, on data that is read once, when it is first needed."""

    def __init__(self, space: Space) -> None:
        # One pass of the backbone serves all depths, unless trials differ in what they extract features from, or how.
        own_data = {"model.precision", "model.input_size", "head.features"}
        searched = any(name.startswith("augmentation.") or name in own_data for name in space.names)
        layer = fitting.feature_layer_of(space.settings.model, space.settings.head)
        self._feature_layers = None if searched else [replace(layer, unfreeze_blocks=depth) for depth in space.depths()]
        self._data: dict[Any, fitting.Data] = {}

    def data(self, settings: Params) -> fitting.Data:
        """Images and activations for these settings."""
        layers = self._feature_layers or [fitting.feature_layer_of(settings.model, settings.head)]
        key = (settings.model.precision, settings.augmentation, *layers)
        if key not in self._data:
            if len(self._data) == _CACHED_DATA:
                del self._data[next(iter(self._data))]
            self._data[key] = fitting.Data(settings.model.precision, settings.augmentation, layers)
        return self._data[key]

    def fit(self, settings: Params, seed: int, on_epoch: phases.OnEpoch) -> phases.Progress:
        """Train as `dvc repro` would with these settings and this `train.seed`. Raises training.Diverged."""
        progress = phases.Progress()
        train = settings.train.model_copy(update={"seed": seed})
        with console.without_progress():
            fitting.fit(settings.model, settings.head, train, self.data(settings), progress, on_epoch)
        return progress


def work(study: Study, trainer: Trainer, runs: StudyRuns, n_trials: int, stop: Stop) -> None:
    """Train trials until `n_trials` have ended; while other processes train the last ones, wait for them.

    Raises StorageTrouble if the storage becomes unavailable; the trial in training can be resumed later.
    """
    frozen = False
    while not stop.requested and not study.finished(n_trials):
        trial = study.next_trial(n_trials)
        if trial is None:
            time.sleep(_POLL_SECONDS)
            continue
        _train(study, trainer, runs, trial, stop)
        gc.collect()  # a network is a circle of references, which Python would free too late
        if not frozen:
            gc.freeze()  # packages and data, which the collector need not search each time (0.3 s)
            frozen = True


def _train(study: Study, trainer: Trainer, runs: StudyRuns, trial: Trial, stop: Stop) -> None:
    """Train a trial and end it; errors that it did not cause put it back into the queue, and are raised."""
    settings = study.space.apply(trial.params)
    stream = runs.trial(trial.number, settings)
    try:
        with heartbeat.beating(trial):
            progresses = [
                trainer.fit(settings, seed, _reporting(study, trial, repeat, seed, stream, stop))
                for repeat, seed in enumerate(seeds(settings))
            ]
        if study.owns(trial):
            scores = [progress.best_score[0] for progress in progresses]
            stream.close(*ending("completed"))
            runs.note_score(trial.number, sum(scores) / len(scores))
            study.complete(trial, scores, progresses[0].best_epoch)
    except StorageTrouble:
        stream.close(*ending("interrupted"))
        raise
    except BaseException as error:
        if not study.owns(trial):  # without a heartbeat for too long: another process has taken it over
            if not isinstance(error, Exception):
                raise
        elif isinstance(error, optuna.TrialPruned):
            stream.close(*ending("pruned", trial_table.pruned(study.trials()[trial.number])))
            study.prune(trial)
        elif isinstance(error, phases.Diverged) or not isinstance(error, _NOT_THE_TRIAL):
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            stream.close(*ending("failed", reason))
            study.fail(trial, reason)
        else:
            stream.close(*ending("interrupted"))
            study.requeue(trial)
            if not isinstance(error, Interrupted):
                raise


def seeds(settings: Params) -> range:
    """The seeds that each trial is trained from."""
    return range(settings.train.seed, settings.train.seed + settings.tune.repeats)


def _reporting(study: Study, trial: Trial, repeat: int, seed: int, stream: Stream, stop: Stop) -> phases.OnEpoch:
    """The callback for the rows of epochs: streams them to MLflow and, those of the first seed, to the pruner."""
    before = study.trials()[trial.number].intermediate_values  # of an attempt that was interrupted
    last = max(before, default=-1)

    def on_epoch(row: phases.Row) -> None:
        step = int(row["epoch"])
        if repeat:
            numbers = {name: value for name, value in row.items() if name not in ("epoch", "phase", "learning_rate")}
            stream.on_epoch({"epoch": step} | {f"seed{seed}/{name}": value for name, value in numbers.items()})
        else:
            stream.on_epoch(row)
            with study.storage.explained():
                if step not in before:
                    trial.report(float(row["val_mean_per_class_accuracy"]), step)
                pruned: bool = step >= last and trial.should_prune()
            if pruned:
                raise optuna.TrialPruned
        if stop.requested:
            raise Interrupted

    return on_epoch
