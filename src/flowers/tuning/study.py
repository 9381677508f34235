"""A study in its storage: begin or resume it, hand out its trials one at a time, and end them.

A trial keeps its number and its parameters for good. One that was interrupted, or whose process died, is queued again;
so a study that was stopped holds what an uninterrupted one would have held, trial by trial.
"""

import re
import secrets
import time
import warnings
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, Trial, TrialState

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config.edit import written
from flowers.config.params import training_values
from flowers.model.backbone import best_precision
from flowers.tracking import run_key
from flowers.tracking.experiments import experiment_name
from flowers.tuning import heartbeat
from flowers.tuning.pruner import pruner
from flowers.tuning.space import Space
from flowers.tuning.storage import Storage

# Attributes of a trial
ATTEMPT = "attempt"
SCORES = "scores"  # of each seed
BEST_EPOCH = "best_epoch"
ERROR = "error"
STEPS = "steps"  # of each of a trial's trainings, if there are several
ORIGIN = "origin"  # of a trial that was not sampled

_UID, _IDENTITY, _CONFIRMED = "uid", "began_with", "confirmed"  # attributes of a study

ATTEMPTS = 2  # a trial whose process died is trained once more


class Study:
    """A study of `space`, and everything that its storage holds of it."""

    def __init__(self, storage: Storage, space: Space, name: str | None = None, new: bool = False) -> None:
        """Resume the study of that name (by default the data set's last one), or begin it.

        Raises UserError naming what has changed since the study began, if its scores depend on it, and StorageTrouble.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.storage, self.space, self._tune = storage, space, space.settings.tune
        self.key = run_key.compute(space.settings)
        with storage.exclusive(), storage.explained():
            self.name = self._choose(name, new)
            self._study = optuna.create_study(
                storage=storage.optuna,
                study_name=self.name,
                direction="maximize",
                pruner=pruner(self._tune, space.most_epochs * self._tune.repeats * self._tune.folds),
                load_if_exists=True,
            )
            if _IDENTITY in self._study.user_attrs:
                self._check_identity()
            else:
                self._begin()
        self.uid: str = self._study.user_attrs[_UID]

    def trials(self) -> Sequence[FrozenTrial]:
        """All trials by number; not to be changed."""
        with self.storage.explained():
            trials: Sequence[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def next_trial(self, n_trials: int) -> Trial | None:
        """Take the next trial to train for this process; None where all of `n_trials` are taken."""
        with self.storage.exclusive(), self.storage.explained():
            self._requeue_stale_trials()
            trials = self.trials()
            waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
            number = min(waiting, default=len(trials))
            if number >= n_trials:
                return None
            # A sampler of its own for every number: a resumed study samples what an uninterrupted one would have.
            seed = np.random.SeedSequence([self._tune.seed, number]).generate_state(1)[0]
            self._study.sampler = optuna.samplers.TPESampler(seed=int(seed), multivariate=True, constant_liar=True)
            trial = self._study.ask(self.space.distributions)
            trial.set_user_attr(ATTEMPT, trial.user_attrs.get(ATTEMPT, 0) + 1)
            if self._tune.repeats * self._tune.folds > 1:
                trial.set_user_attr(STEPS, self.space.most_epochs)
            trial.set_user_attr(heartbeat.HEARTBEAT, time.time())
            trial.set_user_attr(heartbeat.WORKER, heartbeat.worker_id())
            return trial

    def finished(self, n_trials: int) -> bool:
        """Whether `n_trials` trials have ended, and none of them is running anywhere."""
        trials = self.trials()[:n_trials]
        return len(trials) == n_trials and all(trial.state.is_finished() for trial in trials)

    def owns(self, trial: Trial) -> bool:
        """Whether a trial is still this process's: others take it over when it has had no heartbeat for too long."""
        now = self.trials()[trial.number]
        return bool(now.state.name == "RUNNING" and now.user_attrs.get(heartbeat.WORKER) == heartbeat.worker_id())

    def complete(self, trial: Trial, scores: Sequence[float], best_epoch: int) -> None:
        """End a trial with the mean of its scores."""
        with self.storage.explained():
            trial.set_user_attr(SCORES, list(scores))
            trial.set_user_attr(BEST_EPOCH, best_epoch)
            self._study.tell(trial, float(np.mean(scores)))

    def prune(self, trial: Trial) -> None:
        """End a trial that fell behind; its last score becomes its value."""
        with self.storage.explained():
            self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: Trial | FrozenTrial, error: str) -> None:
        """End a trial that could not be trained."""
        with self.storage.explained():
            self.storage.optuna.set_trial_user_attr(trial._trial_id, ERROR, error[:1000])
            self._study.tell(trial.number, state=TrialState.FAIL)

    def requeue(self, trial: Trial) -> None:
        """Queue a trial again that was interrupted; that does not count as an attempt."""
        with self.storage.explained():
            trial.set_user_attr(ATTEMPT, trial.user_attrs[ATTEMPT] - 1)
            self._wait(trial)

    def confirmed(self) -> dict[str, dict[str, float]]:
        """Scores from fresh seeds: by the JSON of the searched values, then by seed."""
        with self.storage.explained():
            return dict(self._study.user_attrs.get(_CONFIRMED, {}))

    def confirm(self, values: str, seed: int, score: float) -> None:
        """Store the score of these values (JSON) from a fresh seed."""
        with self.storage.exclusive(), self.storage.explained():
            known = self.confirmed()
            known.setdefault(values, {})[str(seed)] = score
            self._study.set_user_attr(_CONFIRMED, known)

    def importances(self) -> dict[str, float]:
        """Each parameter's share in the variance of the scores, largest first; empty with too few completed trials."""
        values = {trial.value for trial in self.trials() if trial.state == TrialState.COMPLETE}
        if len(values) < 2:
            return {}
        try:
            return dict(get_param_importances(self._study, evaluator=FanovaImportanceEvaluator(seed=0)))
        except (ValueError, RuntimeError):
            return {}

    def _choose(self, name: str | None, new: bool) -> str:
        """The name of the study to resume, or of a new one."""
        existing = set(optuna.get_all_study_names(self.storage.optuna))
        if name is not None:
            if new and name in existing:
                raise UserError(f"study '{name}' already exists in {self.storage.shown}; name the new one differently")
            return name
        first = experiment_name(self.space.settings)
        matches = [re.fullmatch(rf"{re.escape(first)} (\d+)", other) for other in existing]
        latest = max([int(first in existing), *(int(match[1]) for match in matches if match)])
        number = max(1, latest + new)
        return first if number == 1 else f"{first} {number}"

    def _begin(self) -> None:
        """Begin the study, also one whose process died while it began it: the identity is written last."""
        trials = self.trials()
        if self._study.direction.name != "MAXIMIZE" or any(ORIGIN not in trial.user_attrs for trial in trials):
            raise UserError(
                f"study '{self.name}' in {self.storage.shown} was not created by this version of `flowers tune`; "
                "--study names another one, --new begins one"
            )
        self._study.set_user_attr(_UID, secrets.token_hex(8))
        if self.space.holds_current() and not trials:
            self._study.enqueue_trial(self.space.current(), user_attrs={ORIGIN: "params.yaml"})
        self._study.set_user_attr(_IDENTITY, self._identity())

    def _identity(self) -> dict[str, str]:
        """Everything that makes the scores of trials comparable, by name: inputs, fixed parameters and the space."""
        settings = self.space.settings
        identity = {words: str(getattr(self.key, name)) for name, words in run_key.INPUTS.items()}
        identity |= {name: written(value) for name, value in training_values(settings).items()}
        if settings.model.precision == "auto":
            identity["model.precision"] = f"auto ({best_precision()} on this machine)"
        identity |= {
            f"tune.{name}": str(getattr(self._tune, name)) for name in ("repeats", "folds")
        } | run_key.versions()
        return identity | {name: f"searched in {words}" for name, words in self.space.described().items()}

    def _check_identity(self) -> None:
        before = {"tune.folds": "1"} | self._study.user_attrs[_IDENTITY]  # studies before there were folds
        now = self._identity()
        changes = [
            f"another {name}" if name in run_key.INPUTS.values() else f"{name} {before[name]}, now {now[name]}"
            for name in now
            if name in before and before[name] != now[name]
        ]
        if changes:
            raise UserError(
                f"study '{self.name}' began with {console.listed(changes, '; ')}. "
                "Its scores cannot be compared with new ones: `flowers tune --new` begins another study"
            )

    def _requeue_stale_trials(self) -> None:
        """Queue trials again whose process died, once; those whose process died again have failed."""
        for trial in self.trials():
            if trial.state == TrialState.RUNNING and not heartbeat.is_alive(trial):
                if trial.user_attrs.get(ATTEMPT, 1) < ATTEMPTS:
                    self._wait(trial)
                else:
                    self.fail(trial, f"its process died, {ATTEMPTS} times")

    def _wait(self, trial: Trial | FrozenTrial) -> None:
        self.storage.optuna.set_trial_state_values(trial._trial_id, TrialState.WAITING)
