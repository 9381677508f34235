"""What the pictures of a study are drawn from: its trials by their fate, and scales for scores and parameters."""

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_LONGEST_CHOICE = 24  # letters


@dataclass(frozen=True)
class Scale:
    """Where on an axis of length 1 the values of a range, or of some choices, lie."""

    low: float = 0
    high: float = 0
    log: bool = False
    whole: bool = False
    choices: Sequence[Any] = ()
    text: Callable[[Any], str] = "{:g}".format

    def place(self, value: Any) -> float:
        """0 is the low end, or the first choice; 0.5 where there is but one value."""
        if self.choices:
            return self.choices.index(value) / (len(self.choices) - 1) if len(self.choices) > 1 else 0.5
        if self.low == self.high:
            return 0.5
        low, high, value = (math.log(x) if self.log else x for x in (self.low, self.high, value))
        return float((value - low) / (high - low))

    def ticks(self, n: int = 5) -> dict[float, str]:
        """Places and texts of at most about n round values, or of all choices."""
        from matplotlib.ticker import MaxNLocator

        values: Sequence[Any] = self.choices
        if not values and self.low < self.high:
            if self.log:
                values = self._powers(1)
                values = values[:: math.ceil(len(values) / n)] if len(values) > 1 else self._powers(1, 2, 5)
            else:
                locator = MaxNLocator(n, integer=self.whole, steps=[1, 2, 5, 10])
                values = self._inside(locator.tick_values(self.low, self.high))
            values = values if len(values) > 1 else [self.low, self.high]
        return {self.place(value): self.text(value) for value in values or [self.low]}

    def small_ticks(self) -> list[float]:
        """The places of 2 to 9 times the powers of ten on a logarithmic axis, by which it is seen to be one."""
        return [self.place(value) for value in self._powers(*range(2, 10))] if self.log else []

    def _powers(self, *times: int) -> list[float]:
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return self._inside(factor * 10.0**exponent for exponent in exponents for factor in times)

    def _inside(self, values: Iterable[float]) -> list[float]:
        slack = 1e-9 * (self.high - self.low)
        rounded = (float(f"{value:.9g}") for value in values)
        return [value for value in rounded if self.low - slack <= value <= self.high + slack]


class StudyTrials:
    """The trials by their fate, the best of them, and the scales of the score and of each parameter."""

    def __init__(self, trials: "Sequence[FrozenTrial]", importances: Mapping[str, float]) -> None:
        trials = sorted(trials, key=lambda trial: trial.number)
        scored = [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
        self.done = [trial for trial in scored if trial.state.name == "COMPLETE"]
        self.pruned = [trial for trial in scored if trial.state.name == "PRUNED"]
        self.failed = [trial for trial in trials if trial.state.name == "FAIL"]
        self.last = max((trial.number for trial in (*self.done, *self.pruned, *self.failed)), default=0)
        self.importances = {name: share for name, share in importances.items() if math.isfinite(share)}
        names = dict.fromkeys(name for trial in self.done for name in trial.params)
        self.names = sorted(names, key=lambda name: -self.importances.get(name, 0))
        self.scales = {name: _scale(name, self.done + self.pruned) for name in names}
        if self.done:
            self.best = max(self.done, key=lambda trial: trial.value)  # of equal ones the first
            self.score = self._score_scale()
            self.best_in_words = f"best: {100 * self.best.value:.1f} %, trial {self.best.number}"

    def _score_scale(self) -> Scale:
        """From the lowest to the best score; but a few very low ones do not take the room of all others."""
        best, median = self.best.value, statistics.median(trial.value for trial in self.done)
        lowest = min(trial.value for trial in (*self.done, *self.pruned))
        low = max(0, min(best - 0.01, max(lowest, median - 4 * max(best - median, 0.02))))
        return Scale(low, max(best, 0.01), text=lambda value: f"{100 * value:g} %")

    def height(self, trial: "FrozenTrial") -> float:
        """The trial's place on the scale of scores; for one below it, the low end."""
        return max(0.0, self.score.place(trial.value))

    def no_trial(self) -> str:
        """Why nothing can be drawn; empty if something can."""
        fates = {"pruned": len(self.pruned), "failed": len(self.failed)}
        counts = ", ".join(f"{count} {fate}" for fate, count in fates.items() if count)
        return "" if self.done else "no completed trial" + (f" ({counts})" if counts else "")

    def no_importance(self) -> str:
        """Why it cannot be told what the score depends on; empty if it can."""
        if len(self.done) > 1 and len({trial.value for trial in self.done}) == 1:
            return "all completed trials have the same score"  # for which Optuna tells equal shares
        told = len(self.done) > 1 and sum(self.importances.values()) > 0
        return "" if told else "too few trials to tell what the score depends on"


def _scale(name: str, trials: "Sequence[FrozenTrial]") -> Scale:
    """The searched range of a parameter, the widest of all trials, or its choices, sorted if they are numbers."""
    found = [trial.distributions[name] for trial in trials if name in trial.params]
    if hasattr(found[0], "choices"):
        choices = list(found[0].choices)
        numbers = all(isinstance(choice, int | float) for choice in choices)
        return Scale(choices=sorted(choices) if numbers else choices, text=choice_text)
    low, high = min(each.low for each in found), max(each.high for each in found)
    return Scale(low, high, log=found[0].log, whole=isinstance(low, int))


def choice_text(value: Any) -> str:
    """A choice as params.yaml would have it, cut where it is very long."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST_CHOICE else text[: _LONGEST_CHOICE - 1] + "…"
