"""The trials of a study in words and tables: for the terminal, for MLflow and for files."""

import datetime
from collections.abc import Sequence
from typing import Any

import pandas as pd
from optuna.trial import FrozenTrial

from flowers.tracking.studies import TrialFacts
from flowers.tuning.space import Space, decoded
from flowers.tuning.study import ATTEMPT, BEST_EPOCH, ERROR, STEPS


def pruned(trial: FrozenTrial) -> str:
    """When a trial was pruned."""
    return f"after {_epoch(trial)}"


def _epoch(trial: FrozenTrial) -> str:
    """The last epoch of a trial and, if it has several trainings, the one it belongs to."""
    step = max(trial.intermediate_values, default=0)
    if STEPS not in trial.user_attrs:
        return f"epoch {step}"
    training, epoch = divmod(step, trial.user_attrs[STEPS])
    return f"epoch {epoch} of training {training + 1}"


def state(trial: FrozenTrial) -> tuple[str, str]:
    """The state of a trial in a word, and its detail: an epoch or an error."""
    name = trial.state.name
    if name == "COMPLETE":
        return "completed", ""
    if name == "PRUNED":
        return "pruned", pruned(trial)
    if name == "FAIL":
        return "failed", str(trial.user_attrs.get(ERROR, ""))
    if name == "RUNNING":
        return "training", _epoch(trial) if trial.intermediate_values else ""
    return ("interrupted", "") if ATTEMPT in trial.user_attrs else ("waiting", "")


def score(trial: FrozenTrial) -> float | None:
    """The score of a completed trial; of another one, that of its last epoch."""
    by_epoch: dict[int, float] = trial.intermediate_values
    if trial.state.name == "COMPLETE":
        return float(trial.value)
    return by_epoch[max(by_epoch)] if by_epoch else None


def seconds(trial: FrozenTrial) -> float | None:
    """The seconds that a trial took, or has taken so far."""
    if trial.datetime_start is None:
        return None
    return float(((trial.datetime_complete or datetime.datetime.now()) - trial.datetime_start).total_seconds())


def best(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The completed trial of the highest score, the earlier one of equals."""
    completed = [trial for trial in trials if trial.state.name == "COMPLETE"]
    return max(completed, key=lambda trial: (trial.value, -trial.number), default=None)


def facts(trials: Sequence[FrozenTrial], space: Space) -> list[TrialFacts]:
    """The trials for MLflow, without those that wait or are in training."""
    found = []
    for trial in trials:
        word, detail = state(trial)
        if word not in ("training", "waiting"):
            value = trial.value if word == "completed" and trial.value is not None else float("nan")
            settings = space.apply(trial.params)
            of_first = {step: score for step, score in trial.intermediate_values.items() if step < space.most_epochs}
            found.append(TrialFacts(trial.number, settings, word, detail, value, of_first))
    return found


def table(trials: Sequence[FrozenTrial], names: Sequence[str]) -> pd.DataFrame:
    """A row per trial: number, state, detail, score, best_epoch, seconds, and the searched parameters."""
    rows = []
    for trial in trials:
        word, detail = state(trial)
        row: dict[str, Any] = {"trial": trial.number, "state": word, "detail": detail, "score": score(trial)}
        row |= {"best_epoch": trial.user_attrs.get(BEST_EPOCH), "seconds": seconds(trial)}
        rows.append(row | {name: trial.params.get(name) for name in names})
    columns = ["trial", "state", "detail", "score", "best_epoch", "seconds", *names]
    return pd.DataFrame(rows, columns=columns).astype({"best_epoch": "Int64"})


def shown(value: Any) -> str:
    """A value of a parameter, rounded to three digits; a list as '256-128'."""
    value = decoded(value)
    if isinstance(value, bool) or value is None or isinstance(value, str | int):
        return str(value)
    return "-".join(map(str, value)) or "none" if isinstance(value, tuple) else f"{value:.3g}"


def short(names: Sequence[str]) -> dict[str, str]:
    """Names without their section, where that keeps them distinct."""
    ends = [name.rpartition(".")[2] for name in names]
    return {name: end if ends.count(end) == 1 else name for name, end in zip(names, ends, strict=True)}


def duration(value: float | None) -> str:
    """Seconds in words: '3.8 s', '1 min 20 s', '1 h 56 min'."""
    if value is None:
        return ""
    if round(value) < 60:
        return f"{value:.1f} s" if round(value, 1) < 10 else f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
