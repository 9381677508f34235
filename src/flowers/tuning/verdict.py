"""Whether the winner of a study is better than params.yaml, or has only been lucky.

The best of many trials is flattered by having been picked. So it and the current parameters are trained again, from
seeds that no trial started from, and the difference of the means is set against its 95 % interval (Student's t with
the pooled variance of both), which is called the noise of seeds.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from flowers.common import console
from flowers.training.phases import Diverged, OnEpoch, Row
from flowers.tuning import trial_table
from flowers.tuning.study import SCORES, Study
from flowers.tuning.worker import Interrupted, Stop, Trainer

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


@dataclass(frozen=True)
class Verdict:
    """The winner beside the current parameters: scores of each, from the same seeds; none where it is not known."""

    winner: "FrozenTrial"
    current: dict[str, Any]  # values by name
    current_score: float | None  # in a trial of the study, if one had these values
    winner_scores: Sequence[float] = ()
    current_scores: Sequence[float] = ()
    fresh: bool = True  # no trial started from these seeds, so the winner was not picked by these scores

    @property
    def is_current(self) -> bool:
        """Whether params.yaml holds the winner already."""
        return all(self.winner.params[name] == value for name, value in self.current.items())

    @property
    def difference(self) -> float:
        """By how much the winner's mean score is higher."""
        return float(np.mean(self.winner_scores) - np.mean(self.current_scores))

    @property
    def noise(self) -> float | None:
        """Half the width of the difference's 95 % interval; None with fewer than two seeds."""
        return noise(self.winner_scores, self.current_scores)


def noise(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Half the width of the 95 % interval of the difference of two means, by Student's t with pooled variance."""
    import scipy.stats

    freedom = len(one) + len(other) - 2
    if min(len(one), len(other)) < 2:
        return None
    squares = sum(float(np.sum((np.array(scores) - np.mean(scores)) ** 2)) for scores in (one, other))
    error = math.sqrt(squares / freedom * (1 / len(one) + 1 / len(other)))
    return float(scipy.stats.t.ppf(0.975, freedom)) * error


def reach(study: Study, trainer: Trainer, stop: Stop) -> Verdict | None:
    """Compare the best trial with the current parameters; None where no trial was completed.

    What a seed gave is kept in the study, so asking again, or on another machine, trains nothing again.
    """
    found = read(study)
    if found is None or found.is_current or not fresh_seeds(study):
        return found
    missing = [
        (values, seed)
        for values in (found.current, found.winner.params)
        for seed in fresh_seeds(study)
        if str(seed) not in study.confirmed().get(_text(values), {})
    ]

    def on_epoch(_: Row) -> None:
        if stop.asked:
            raise Interrupted

    if missing:
        console.say(f"Training params.yaml and the winner from {len(fresh_seeds(study))} fresh seeds each ...")
    try:
        for values, seed in console.progress(missing, "Fresh seeds", len(missing), "trainings"):
            if stop.asked:
                break
            if str(seed) not in study.confirmed().get(_text(values), {}):  # another machine may have been faster
                study.confirm(_text(values), seed, _score(study, trainer, values, seed, on_epoch))
    except Interrupted:
        pass
    except Exception as error:
        console.warn(f"the winner could not be confirmed: {error}")
    return read(study)


def _score(study: Study, trainer: Trainer, values: dict[str, Any], seed: int, on_epoch: OnEpoch) -> float:
    try:
        return trainer.fit(study.space.apply(values), seed, on_epoch).best_score[0]
    except Diverged as error:
        console.warn(f"from seed {seed}, {error}: it counts as 0")
        return 0.0


def read(study: Study) -> Verdict | None:
    """As far as the study knows already."""
    trials = study.trials()
    winner = trial_table.best(trials)
    if winner is None:
        return None
    current = study.space.current()
    same = [trial for trial in trials if trial.state.name == "COMPLETE" and trial.params == current]
    score = same[0].value if same else None
    if seeds := fresh_seeds(study):
        winners, currents = (study.confirmed().get(_text(values), {}) for values in (winner.params, current))
        both = [str(seed) for seed in seeds if str(seed) in winners and str(seed) in currents]
        return Verdict(winner, current, score, [winners[seed] for seed in both], [currents[seed] for seed in both])
    of_trials = [trial.user_attrs[SCORES] for trial in same[:1]]
    return Verdict(winner, current, score, winner.user_attrs[SCORES], of_trials[0] if of_trials else (), fresh=False)


def fresh_seeds(study: Study) -> list[int]:
    """Seeds that no trial started from."""
    settings = study.space.settings
    first = settings.train.seed + settings.tune.repeats
    return list(range(first, first + settings.tune.confirm_seeds))


def _text(values: dict[str, Any]) -> str:
    return json.dumps(values, sort_keys=True)
