"""Train the trials of a study, one after the other, in this process."""

import contextlib
import gc
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import optuna
from optuna.trial import Trial

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.model.feature_layer import FeatureLayer
from flowers.tracking.live import Stream
from flowers.tracking.studies import StudyRuns, ending
from flowers.training import fitting, folds, phases
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
        own_data = {"model.precision", "model.input_size"}
        searched = any(name.startswith("augmentation.") or name in own_data for name in space.names)
        size = space.settings.model.input_size
        self._feature_layers = None if searched else [FeatureLayer.below(depth, size) for depth in space.depths()]
        self._data: dict[Any, fitting.Data] = {}
        self._near_duplicates: list[str] = []
        self._folds: dict[int, list[fitting.Fold]] = {}

    def data(self, settings: Params) -> fitting.Data:
        """Images and activations for these settings."""
        layers = self._feature_layers or [fitting.feature_layer_of(settings.model)]
        key = (settings.model.precision, settings.augmentation, *layers)
        if key not in self._data:
            if len(self._data) == _CACHED_DATA:
                del self._data[next(iter(self._data))]
            in_folds = settings.tune.folds > 1
            self._data[key] = fitting.Data(settings.model.precision, settings.augmentation, layers, in_folds=in_folds)
        return self._data[key]

    def prepare(self, settings: Params) -> None:
        """Compute the activations that the cache lacks. Raises UserError where images cannot be used, or divided."""
        data = self.data(settings)
        if settings.tune.folds > 1:
            self._divided(data, settings.tune.folds, settings.train.seed)

    def fit(self, settings: Params, seed: int, fold: int, on_epoch: phases.OnEpoch) -> phases.Progress:
        """Train as `dvc repro` would with these settings and this `train.seed`, in a fold. Raises training.Diverged."""
        progress, data = phases.Progress(), self.data(settings)
        train = settings.train.model_copy(update={"seed": seed})
        held_out = self._divided(data, settings.tune.folds, seed)[fold] if settings.tune.folds > 1 else None
        with console.without_progress():
            fitting.fit(settings.model, settings.head, train, data, progress, on_epoch, fold=held_out)
        return progress

    def _divided(self, data: fitting.Data, count: int, seed: int) -> list[fitting.Fold]:
        """The folds of a seed, the same for all trials."""
        if seed not in self._folds:
            self._near_duplicates = self._near_duplicates or folds.groups_of(data.train)
            self._folds[seed] = folds.divide(data.train, self._near_duplicates, count, seed)
        return self._folds[seed]


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
            progresses: list[phases.Progress] = []
            report = _Report(study, trial, stream, stop)
            for seed, fold in trainings(settings):
                before = [progress.best_score[0] for progress in progresses]
                progresses.append(trainer.fit(settings, seed, fold, report.of_training(settings, seed, fold, before)))
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


def trainings(settings: Params) -> list[tuple[int, int]]:
    """The trainings of a trial, in their order: seed and fold of each."""
    first, tune = settings.train.seed, settings.tune
    return [(seed, fold) for seed in range(first, first + tune.repeats) for fold in range(tune.folds)]


class _Report:
    """Reports epochs of a trial's trainings: streams them to MLflow, and asks the pruner.

    The pruner sees the mean of the trainings so far. Its steps are the epochs of the first training, then those of the
    second one, and so on, each beginning at a multiple of `Space.most_epochs`, wherever the one before it has stopped.
    """

    def __init__(self, study: Study, trial: Trial, stream: Stream, stop: Stop) -> None:
        self._study, self._trial, self._stream, self._stop = study, trial, stream, stop
        self._before = study.trials()[trial.number].intermediate_values  # of an attempt that was interrupted
        self._last = max(self._before, default=-1)

    def of_training(self, settings: Params, seed: int, fold: int, scores: Sequence[float]) -> phases.OnEpoch:
        """The callback for the epochs of a training; `scores` are those of the trainings before it."""
        prefix = [f"seed{seed}"] if settings.tune.repeats > 1 else []
        prefix += [f"fold{fold + 1}"] if settings.tune.folds > 1 else []
        first = len(scores) * self._study.space.most_epochs

        def on_epoch(row: phases.Row) -> None:
            epoch = int(row["epoch"])
            if scores:
                numbers = {
                    name: value for name, value in row.items() if name not in ("epoch", "phase", "learning_rate")
                }
                self._stream.on_epoch({"epoch": epoch} | {"/".join([*prefix, name]): numbers[name] for name in numbers})
            else:
                self._stream.on_epoch(row)
            score = float(row["val_mean_per_class_accuracy"])
            self._ask(first + epoch, (sum(scores) + score) / (len(scores) + 1))

        return on_epoch

    def _ask(self, step: int, score: float) -> None:
        """Report a score, and raise TrialPruned or Interrupted if the trial is to end."""
        with self._study.storage.explained():
            if step not in self._before:
                self._trial.report(score, step)
            pruned: bool = step >= self._last and self._trial.should_prune()
        if pruned:
            raise optuna.TrialPruned
        if self._stop.requested:
            raise Interrupted
