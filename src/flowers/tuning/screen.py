"""A study on the terminal while it runs: a live table of its trials, or a line per trial without a terminal."""

import contextlib
from collections.abc import Iterator, Sequence

import rich.console
import rich.live
import rich.text
from optuna.trial import FrozenTrial
from rich.table import Table

from flowers.common import console
from flowers.tuning import trial_table
from flowers.tuning.background import repeating
from flowers.tuning.study import BEST_EPOCH, Study

_REFRESH_SECONDS = 1.0
_OTHER_LINES = 9  # of the terminal, that are not rows of trials
_STYLES = {"completed": "", "pruned": "dim", "failed": "red", "training": "bold", "waiting": "dim"}


@contextlib.contextmanager
def showing(study: Study, n_trials: int) -> Iterator[None]:
    """Show the trials on standard error while the body runs."""
    terminal = rich.console.Console(stderr=True, markup=False, emoji=False, highlight=False)
    if not terminal.is_terminal:
        with _lines(study, n_trials):
            yield
        return

    def draw() -> Table:
        return trials_table(study, n_trials, terminal.height - _OTHER_LINES)

    with rich.live.Live(draw(), console=terminal, auto_refresh=False) as live:
        with repeating(lambda: live.update(draw(), refresh=True), _REFRESH_SECONDS):
            yield
        with contextlib.suppress(Exception):
            live.update(draw(), refresh=True)


@contextlib.contextmanager
def _lines(study: Study, n_trials: int) -> Iterator[None]:
    printed = {trial.number for trial in study.trials() if trial.state.is_finished()}

    def print_ended() -> None:
        trials = study.trials()
        for trial in trials:
            if trial.state.is_finished() and trial.number not in printed:
                printed.add(trial.number)
                console.say(f"{len(printed)}/{n_trials}  {_line(trial, trials, study.space.names)}")

    with repeating(print_ended, _REFRESH_SECONDS):
        yield
    print_ended()


def trials_table(study: Study, n_trials: int, rows: int) -> Table:
    """The latest trials under a heading with the best score so far and the time that the rest may take."""
    trials = study.trials()
    names = trial_table.short(study.space.names)
    heading = rich.text.Text(f"{study.name}: {_heading(trials, n_trials)}")  # not markup: a name may have brackets
    table = Table(title=heading, title_justify="left", title_style="bold")
    for name in ("trial", *names.values(), "score", "best epoch"):
        table.add_column(name, justify="right")
    table.add_column("state", min_width=12)
    table.add_column("time", justify="right", min_width=6)
    best = trial_table.best(trials)
    for trial in trials[-max(3, rows) :]:
        word, detail = trial_table.state(trial)
        score = trial_table.score(trial)
        table.add_row(
            str(trial.number),
            *(trial_table.shown(trial.params[name]) if name in trial.params else "" for name in names),
            "" if score is None else console.percent(score),
            str(trial.user_attrs.get(BEST_EPOCH, "")),
            word if word == "failed" else f"{word} {detail}".strip(),
            trial_table.duration(trial_table.seconds(trial)) if word != "waiting" else "",
            style="bold green" if trial is best else _STYLES.get(word, ""),
        )
    return table


def _heading(trials: Sequence[FrozenTrial], n_trials: int) -> str:
    ended = [trial for trial in trials if trial.state.is_finished()]
    at_once = max(1, sum(trial.state.name == "RUNNING" for trial in trials))  # also by other processes
    parts = [f"{len(ended)} of {n_trials} trials"]
    if (best := trial_table.best(trials)) is not None:
        parts.append(f"best so far {console.percent(best.value)} (trial {best.number})")
    if ended and len(ended) < n_trials:
        mean = sum(trial_table.seconds(trial) or 0 for trial in ended) / len(ended)
        parts.append(f"about {trial_table.duration(mean * (n_trials - len(ended)) / at_once)} left")
    return ", ".join(parts)


def _line(trial: FrozenTrial, trials: Sequence[FrozenTrial], names: Sequence[str]) -> str:
    state = " ".join(trial_table.state(trial)).strip()
    score, best = trial_table.score(trial), trial_table.best(trials)
    short = trial_table.short(names)
    parts = [f"trial {trial.number}: {state}"]
    parts += [] if score is None else [console.percent(score)]
    parts += [f"{short[name]} {trial_table.shown(trial.params[name])}" for name in names if name in trial.params]
    parts.append(trial_table.duration(trial_table.seconds(trial)))
    best_so_far = f"; best {console.percent(best.value)} (trial {best.number})" if best else ""
    return ", ".join(filter(None, parts)) + best_so_far
