"""A study on the terminal while it runs: a live table of its trials, or a line a trial where there is no terminal."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from flowers.common import console
from flowers.tuning import trial_table
from flowers.tuning.background import repeating
from flowers.tuning.study import BEST_EPOCH, Study

if TYPE_CHECKING:
    import rich.console
    from optuna.trial import FrozenTrial
    from rich.table import Table

_REFRESH_SECONDS = 1.0
_OTHER_LINES = 9  # of the terminal, that are not rows of trials
_STYLES = {"completed": "", "pruned": "dim", "failed": "red", "training": "bold", "waiting": "dim"}


@contextlib.contextmanager
def showing(study: Study, n_trials: int) -> Iterator[None]:
    """Show the trials on standard error while the body runs."""
    import rich.console

    terminal = rich.console.Console(stderr=True, markup=False, emoji=False, highlight=False)
    shown = _table(study, n_trials, terminal) if terminal.is_terminal else _lines(study, n_trials)
    with shown:
        yield


@contextlib.contextmanager
def _table(study: Study, n_trials: int, terminal: "rich.console.Console") -> Iterator[None]:
    import rich.live

    def draw() -> "Table":
        return trials_table(study, n_trials, terminal.height - _OTHER_LINES)

    with rich.live.Live(draw(), console=terminal, auto_refresh=False) as live:
        with repeating(lambda: live.update(draw(), refresh=True), _REFRESH_SECONDS):
            yield
        with contextlib.suppress(Exception):
            live.update(draw(), refresh=True)


@contextlib.contextmanager
def _lines(study: Study, n_trials: int) -> Iterator[None]:
    said = {trial.number for trial in study.trials() if trial.state.is_finished()}

    def say() -> None:
        trials = study.trials()
        for trial in trials:
            if trial.state.is_finished() and trial.number not in said:
                said.add(trial.number)
                console.say(f"{len(said)}/{n_trials}  {_line(trial, trials, study.space.names)}")

    with repeating(say, _REFRESH_SECONDS):
        yield
    say()


def trials_table(study: Study, n_trials: int, rows: int) -> "Table":
    """The latest trials, with what is best so far and how long the rest may take."""
    import rich.table
    import rich.text

    trials = study.trials()
    names = trial_table.short(study.space.names)
    heading = rich.text.Text(f"{study.name}: {_heading(trials, n_trials)}")  # brackets in a name stay
    table = rich.table.Table(title=heading, title_justify="left", title_style="bold")
    table.add_column("trial", justify="right")
    for name in names.values():
        table.add_column(name, justify="right")
    for name in ("score", "best epoch"):
        table.add_column(name, justify="right")
    table.add_column("state", min_width=12)
    table.add_column("time", justify="right", min_width=6)
    top = trial_table.best(trials)
    for trial in trials[-max(3, rows) :]:
        word, _ = trial_table.state(trial)
        style = "bold green" if trial is top else _STYLES.get(word, "")
        table.add_row(*_cells(trial, list(names)), style=style)
    return table


def _cells(trial: "FrozenTrial", names: Sequence[str]) -> list[str]:
    word, detail = trial_table.state(trial)
    score = trial_table.score(trial)
    return [
        str(trial.number),
        *(trial_table.shown(trial.params[name]) if name in trial.params else "" for name in names),
        "" if score is None else f"{score:.1%}",
        str(trial.user_attrs.get(BEST_EPOCH, "")),
        word if word == "failed" else f"{word} {detail}".strip(),
        trial_table.duration(trial_table.seconds(trial)) if word != "waiting" else "",
    ]


def _heading(trials: "Sequence[FrozenTrial]", n_trials: int) -> str:
    ended = [trial for trial in trials if trial.state.is_finished()]
    parts = [f"{len(ended)} of {n_trials} trials"]
    if (top := trial_table.best(trials)) is not None:
        parts.append(f"best so far {top.value:.1%} (trial {top.number})")
    if ended and len(ended) < n_trials:
        mean = sum(trial_table.seconds(trial) or 0 for trial in ended) / len(ended)
        parts.append(f"about {trial_table.duration(mean * (n_trials - len(ended)))} left")
    return ", ".join(parts)


def _line(trial: "FrozenTrial", trials: "Sequence[FrozenTrial]", names: Sequence[str]) -> str:
    word, detail = trial_table.state(trial)
    short = trial_table.short(names)
    values = ", ".join(
        f"{short[name]} {trial_table.shown(trial.params[name])}" for name in names if name in trial.params
    )
    score, top = trial_table.score(trial), trial_table.best(trials)
    parts = [f"trial {trial.number}: {word}{' ' + detail if detail else ''}"]
    parts += [] if score is None else [f"{score:.1%}"]
    parts += [values, trial_table.duration(trial_table.seconds(trial))]
    best = f"; best {top.value:.1%} (trial {top.number})" if top is not None else ""
    return ", ".join(part for part in parts if part) + best
