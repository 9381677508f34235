"""Whether the best trial of a study is better than params.yaml, or its score is luck.

The score of the best of many trials is biased upwards by the selection. So its values and the current ones are trained
again, from seeds that no trial started from, and the difference of the means gets a 95 % confidence interval.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from optuna.trial import FrozenTrial

from flowers.common import console
from flowers.training.phases import Diverged, Row
from flowers.tuning import trial_table
from flowers.tuning.study import SCORES, Study
from flowers.tuning.worker import Interrupted, Stop, Trainer


@dataclass(frozen=True)
class Verdict:
    """The best trial beside the current parameters: scores of each from the same seeds, none where unknown."""

    best: FrozenTrial
    current: dict[str, Any]  # values by name
    current_score: float | None  # in a trial of the study, if one had these values
    best_scores: Sequence[float] = ()
    current_scores: Sequence[float] = ()
    fresh: bool = True  # no trial started from these seeds, so the best trial was not selected by these scores

    @property
    def is_current(self) -> bool:
        """Whether params.yaml holds the values of the best trial already."""
        return all(self.best.params[name] == value for name, value in self.current.items())

    @property
    def difference(self) -> float:
        """By how much the mean score of the best trial is higher."""
        return float(np.mean(self.best_scores) - np.mean(self.current_scores))

    @property
    def margin(self) -> float | None:
        """Half the width of the difference's 95 % confidence interval; None with fewer than two seeds.

        By Student's t with the pooled variance of both.
        """
        counts = len(self.best_scores), len(self.current_scores)
        if min(counts) < 2:
            return None
        freedom = sum(counts) - 2
        squares = sum(np.var(scores) * len(scores) for scores in (self.best_scores, self.current_scores))
        error = np.sqrt(squares / freedom * (1 / counts[0] + 1 / counts[1]))
        return float(scipy.stats.t.ppf(0.975, freedom) * error)


def reach(study: Study, trainer: Trainer, stop: Stop) -> Verdict | None:
    """Compare the best trial with the current parameters; None where no trial was completed.

    Scores are stored in the study by values and seed, so that no training is repeated, here or on another machine.
    """
    found, seeds = read(study), fresh_seeds(study)
    if found is None or found.is_current or not seeds:
        return found

    def missing(values: dict[str, Any], seed: int) -> bool:
        return str(seed) not in study.confirmed().get(_text(values), {})

    def on_epoch(_row: Row) -> None:
        if stop.requested:
            raise Interrupted

    wanted = [
        (values, seed) for values in (found.current, found.best.params) for seed in seeds if missing(values, seed)
    ]
    if wanted:
        console.say(f"Training params.yaml and the best trial from {len(seeds)} fresh seeds each ...")
    try:
        for values, seed in console.progress(wanted, "Fresh seeds", len(wanted), "trainings"):
            if stop.requested:
                break
            if missing(values, seed):  # another machine may have trained it meanwhile
                settings = study.space.apply(values)
                try:
                    fits = [trainer.fit(settings, seed, fold, on_epoch) for fold in range(settings.tune.folds)]
                    score = float(np.mean([fit.best_score[0] for fit in fits]))
                except Diverged as error:
                    console.warn(f"seed {seed}: {error}; its score counts as 0")
                    score = 0.0
                study.confirm(_text(values), seed, score)
    except Interrupted:
        pass
    except Exception as error:
        console.warn(f"the best trial could not be compared with params.yaml: {error}")
    return read(study)


def read(study: Study) -> Verdict | None:
    """The comparison as far as the study holds its scores."""
    trials = study.trials()
    best = trial_table.best(trials)
    if best is None:
        return None
    current = study.space.current()
    same = next((trial for trial in trials if trial.state.name == "COMPLETE" and trial.params == current), None)
    score = same.value if same else None
    if seeds := fresh_seeds(study):
        ours, theirs = (study.confirmed().get(_text(values), {}) for values in (best.params, current))
        both = [str(seed) for seed in seeds if str(seed) in ours and str(seed) in theirs]
        return Verdict(best, current, score, [ours[seed] for seed in both], [theirs[seed] for seed in both])
    return Verdict(best, current, score, best.user_attrs[SCORES], same.user_attrs[SCORES] if same else (), fresh=False)


def fresh_seeds(study: Study) -> list[int]:
    """Seeds that no trial started from."""
    settings = study.space.settings
    first = settings.train.seed + settings.tune.repeats
    return list(range(first, first + settings.tune.confirm_seeds))


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
