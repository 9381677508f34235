"""A study in its storage: begun or resumed, its trials handed out one at a time, then ended or requeued.

A trial keeps its number and its parameters. One that was interrupted, or whose process died, is requeued. So a study
that was stopped and resumed equals an uninterrupted one, trial by trial.
"""

import json
import re
import secrets
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowers.common.errors import UserError
from flowers.model.backbone import best_precision
from flowers.tracking import experiment_name, run_key
from flowers.tuning import heartbeat
from flowers.tuning.pruner import pruner
from flowers.tuning.space import SECTIONS, Space, encoded
from flowers.tuning.storage import Storage

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

# Attributes of a trial
ATTEMPT = "attempt"
SCORES = "scores"  # of each seed
BEST_EPOCH = "best_epoch"
ERROR = "error"
ORIGIN = "origin"  # of a trial that was not sampled

_UID, _IDENTITY, _CONFIRMED = "uid", "identity", "confirmed"  # of a study

ATTEMPTS = 2  # a trial whose process died is trained once more

_NOT = "not searched"
_INPUTS = {"data": "images", "split": "split of the images", "weights": "ImageNet weights", "code": "training code"}


class Study:
    """A study of `space`, and everything that its storage says of it."""

    def __init__(self, storage: Storage, space: Space, name: str | None = None, new: bool = False) -> None:
        """Resume the study of that name (by default the data set's last one), or begin it.

        Raises UserError, naming what has changed, if new scores could not be compared; and StorageTrouble.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        self.storage, self.space, self._tune = storage, space, space.settings.tune
        self.key = run_key.compute(space.settings)
        with storage.exclusive(), storage.explained():
            self.name = self._choose(name, new)
            self._study: Any = optuna.create_study(
                storage=storage.optuna,
                study_name=self.name,
                direction="maximize",
                pruner=pruner(space.settings),
                load_if_exists=True,
            )
            if _IDENTITY in self._study.user_attrs:
                self._check_identity()
            else:
                self._begin()
        self.uid: str = self._study.user_attrs[_UID]

    def trials(self) -> "Sequence[FrozenTrial]":
        """All trials by number; not to be changed."""
        with self.storage.explained():
            trials: Sequence[FrozenTrial] = self._study.get_trials(deepcopy=False)
        return trials

    def next_trial(self, n_trials: int) -> "Trial | None":
        """The next trial to train, claimed for this process; None if all of `n_trials` are claimed."""
        from optuna.trial import TrialState

        with self.storage.exclusive(), self.storage.explained():
            self._requeue_stale_trials()
            trials = self.trials()
            waiting = [trial.number for trial in trials if trial.state == TrialState.WAITING]
            number = min(waiting, default=len(trials))
            if number >= n_trials:
                return None
            # A sampler of its own for every number: a resumed study samples what an uninterrupted one would have.
            seed = np.random.SeedSequence([self._tune.seed, number]).generate_state(1)[0]
            self._study.sampler = _sampler(int(seed))
            trial = self._study.ask(self.space.distributions)
            trial.set_user_attr(ATTEMPT, trial.user_attrs.get(ATTEMPT, 0) + 1)
            trial.set_user_attr(heartbeat.HEARTBEAT, time.time())
            trial.set_user_attr(heartbeat.WORKER, heartbeat.worker_id())
            return trial

    def finished(self, n_trials: int) -> bool:
        """Whether `n_trials` trials have ended, and none of them is running anywhere."""
        trials = self.trials()[:n_trials]
        return len(trials) == n_trials and all(trial.state.is_finished() for trial in trials)

    def holds(self, trial: "Trial") -> bool:
        """Whether this process still holds a trial: without heartbeats for too long, another one takes it over."""
        now = self.trials()[trial.number]
        return bool(now.state.name == "RUNNING" and now.user_attrs.get(heartbeat.WORKER) == heartbeat.worker_id())

    def complete(self, trial: "Trial", scores: Sequence[float], best_epoch: int) -> None:
        """End a trial with the mean of its scores."""
        with self.storage.explained():
            trial.set_user_attr(SCORES, list(scores))
            trial.set_user_attr(BEST_EPOCH, best_epoch)
            self._study.tell(trial, float(np.mean(scores)))

    def prune(self, trial: "Trial") -> None:
        """End a trial that fell behind; its last score stands for it."""
        from optuna.trial import TrialState

        with self.storage.explained():
            self._study.tell(trial, state=TrialState.PRUNED)

    def fail(self, trial: "Trial", error: str) -> None:
        """End a trial that could not be trained."""
        with self.storage.explained():
            trial.set_user_attr(ERROR, error[:1000])
        self._fail(trial.number)

    def give_back(self, trial: "Trial") -> None:
        """Requeue a trial that was interrupted, without counting the attempt."""
        with self.storage.explained():
            trial.set_user_attr(ATTEMPT, trial.user_attrs[ATTEMPT] - 1)
            self._requeue(trial.number)

    def confirmed(self) -> dict[str, dict[str, float]]:
        """Scores from fresh seeds: by the JSON of the searched values, then by seed."""
        with self.storage.explained():
            return dict(self._study.user_attrs.get(_CONFIRMED, {}))

    def confirm(self, values: str, seed: int, score: float) -> None:
        """Keep the score of these values (JSON) from a fresh seed."""
        with self.storage.exclusive(), self.storage.explained():
            known = self.confirmed()
            known.setdefault(values, {})[str(seed)] = score
            self._study.set_user_attr(_CONFIRMED, known)

    def importances(self) -> dict[str, float]:
        """The share of each parameter in the variance of the scores, largest first; empty with too few trials."""
        import optuna
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances

        values = {trial.value for trial in self.trials() if trial.state == optuna.trial.TrialState.COMPLETE}
        if len(values) < 2:
            return {}
        try:
            return dict(get_param_importances(self._study, evaluator=FanovaImportanceEvaluator(seed=0)))
        except (ValueError, RuntimeError):
            return {}

    def _choose(self, name: str | None, new: bool) -> str:
        """The name of the study to go on with, or of a new one."""
        import optuna

        there = set(optuna.get_all_study_names(self.storage.optuna))
        if name is not None:
            if new and name in there:
                raise UserError(f"there is a study '{name}' in {self.storage.shown}; give the new one another name")
            return name
        first = experiment_name(self.space.settings)
        numbers = [
            int(other.removeprefix(f"{first} ")) for other in there if re.fullmatch(rf"{re.escape(first)} \d+", other)
        ]
        latest = max([*numbers, 1 if first in there else 0])
        number = max(1, latest + new)
        return first if number == 1 else f"{first} {number}"

    def _begin(self) -> None:
        """Begin the study, or complete what a killed process began: the identity is written last."""
        trials = self.trials()
        if self._study.direction.name != "MAXIMIZE" or any(ORIGIN not in trial.user_attrs for trial in trials):
            raise UserError(f"study '{self.name}' in {self.storage.shown} was not begun here; --study names another")
        self._study.set_user_attr(_UID, secrets.token_hex(8))
        if self.space.holds_current() and not trials:
            self._study.enqueue_trial(self.space.current(), user_attrs={ORIGIN: "params.yaml"})
        self._study.set_user_attr(_IDENTITY, self._identity())

    def _identity(self) -> dict[str, dict[str, Any]]:
        """Everything that makes the scores of trials comparable: inputs, other parameters, and what is searched."""
        settings = self.space.settings
        sections = settings.model_dump(mode="json", include=set(SECTIONS))
        parameters = {f"{name}.{key}": encoded(value) for name, of in sections.items() for key, value in of.items()}
        parameters = {name: value for name, value in parameters.items() if name not in self.space.dimensions}
        parameters |= {"tune.repeats": self._tune.repeats, **run_key.versions()}
        if settings.model.precision == "auto" and "model.precision" not in self.space.dimensions:
            parameters["model.precision"] = f"auto, which is {best_precision()} on this machine"
        return {
            "inputs": {name: getattr(self.key, name) for name in _INPUTS},
            "parameters": parameters,
            "space": {f"tune.space.{name}": words for name, words in self.space.described().items()},
        }

    def _check_identity(self) -> None:
        began, now = self._study.user_attrs[_IDENTITY], self._identity()
        changes = [f"another {_INPUTS[name]}" for name in _INPUTS if began["inputs"][name] != now["inputs"][name]]
        for part in ("parameters", "space"):
            # A parameter that is or was searched appears among those of the space.
            names = {**began[part], **now[part]} if part == "space" else began[part].keys() & now[part].keys()
            before, after = began[part], now[part]
            changes += [
                f"{name} {_shown(before.get(name, _NOT))}, now {_shown(after.get(name, _NOT))}"
                for name in sorted(names, key=list({**before, **after}).index)
                if before.get(name, _NOT) != after.get(name, _NOT)
            ]
        if changes:
            raise UserError(
                f"study '{self.name}' began with {'; '.join(changes)}. Its scores cannot be compared with new ones: "
                "`flowers tune --new` begins another study"
            )

    def _requeue_stale_trials(self) -> None:
        """Requeue the trials whose process died, once; one whose process died again has failed."""
        from optuna.trial import TrialState

        for trial in self.trials():
            if trial.state != TrialState.RUNNING or heartbeat.is_alive(trial):
                continue
            if trial.user_attrs.get(ATTEMPT, 1) < ATTEMPTS:
                self._requeue(trial.number)
            else:
                self.storage.optuna.set_trial_user_attr(
                    self._id(trial.number), ERROR, f"its process died, {ATTEMPTS} times"
                )
                self._fail(trial.number)

    def _requeue(self, number: int) -> None:
        from optuna.trial import TrialState

        self.storage.optuna.set_trial_state_values(self._id(number), TrialState.WAITING)

    def _fail(self, number: int) -> None:
        from optuna.trial import TrialState

        with self.storage.explained():
            self._study.tell(number, state=TrialState.FAIL)

    def _id(self, number: int) -> int:
        study_id = self.storage.optuna.get_study_id_from_name(self.name)
        return int(self.storage.optuna.get_trial_id_from_study_id_trial_number(study_id, number))


def _shown(value: Any) -> str:
    """A value as params.yaml has it."""
    return value if isinstance(value, str) else json.dumps(value)


def _sampler(seed: int) -> Any:
    import optuna

    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
