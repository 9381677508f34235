"""The summary of a study on standard output: the winner beside params.yaml, importances, and what to type next."""

import shlex
from collections import Counter
from typing import TYPE_CHECKING

from flowers.tuning import trial_table
from flowers.tuning.options import Options
from flowers.tuning.storage import shown
from flowers.tuning.study import Study
from flowers.tuning.verdict import Verdict

if TYPE_CHECKING:
    from rich.table import Table


def show(study: Study, found: Verdict | None, options: Options) -> None:
    """Print the summary."""
    import rich.console

    out = rich.console.Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    out.print(_counts(study, options.n_trials))
    if found is None:
        return
    out.print(_comparison(study, found))
    out.print(_judgement(found))
    if importances := study.importances():
        short = trial_table.short(list(importances))
        shares = ", ".join(f"{short[name]} {share:.0%}" for name, share in importances.items())
        out.print(f"Parameter importances: {shares}")
    out.print()
    for line in _next(study, found, options):
        out.print(line)


def reasons(study: Study) -> str:
    """Why trials failed, most frequent reason first."""
    counts = Counter(trial_table.state(trial)[1] for trial in study.trials() if trial_table.state(trial)[0] == "failed")
    if not counts:
        return "none has ended yet"
    reason, count = counts.most_common(1)[0]
    return f"{count} failed, with: {reason}"


def _counts(study: Study, n_trials: int) -> str:
    trials = study.trials()
    words = Counter(trial_table.state(trial)[0] for trial in trials)
    parts = [
        f"{words[word]} {word}" for word in ("completed", "pruned", "failed", "interrupted", "training") if words[word]
    ]
    seconds = sum(trial_table.seconds(trial) or 0 for trial in trials if trial.state.is_finished())
    parts.append(f"{trial_table.duration(seconds)} of training")
    ended = sum(trial.state.is_finished() for trial in trials)
    return f"Study '{study.name}', {ended} of {max(n_trials, len(trials))} trials: {', '.join(parts)}"


def _comparison(study: Study, found: Verdict) -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column("")
    table.add_column("params.yaml", justify="right")
    table.add_column(f"winner: trial {found.winner.number}", justify="right")
    for name in study.space.names:
        table.add_row(name, trial_table.shown(found.current[name]), trial_table.shown(found.winner.params[name]))
    table.add_section()
    table.add_row("score in the study", _percent(found.current_score), _percent(found.winner.value))
    if (
        found.winner_scores
        and found.current_scores
        and not found.is_current
        and (found.fresh or found.noise is not None)
    ):
        scores = (found.current_scores, found.winner_scores)
        seeds = f"{len(found.winner_scores)} {'fresh ' if found.fresh else ''}seeds"
        table.add_row(f"mean of {seeds}", *(_percent(sum(of) / len(of)) for of in scores))
    return table


def _percent(score: float | None) -> str:
    return "not tried" if score is None else f"{score:.1%}"


def _judgement(found: Verdict) -> str:
    if found.is_current:
        return "params.yaml already holds the best trial's values."
    if not found.winner_scores or not found.current_scores or found.noise is None:
        return "One seed each: no confidence interval (set tune.confirm_seeds to 2 or more)."
    points, half = 100 * found.difference, 100 * found.noise
    significant = "significant" if abs(points) > half else "not significant"
    but = "" if found.fresh else "; the trial was picked by these scores (tune.confirm_seeds: fresh seeds)"
    return (
        f"Best trial vs params.yaml: {points:+.1f} points, {significant} "
        f"(95 % CI {points - half:+.1f} to {points + half:+.1f}{but})"
    )


def _next(study: Study, found: Verdict, options: Options) -> list[str]:
    """What to type next; a storage with a password is named by the variable that should hold it."""
    address = options.storage or ""
    storage = shlex.quote(address) if shown(address) == address else '"$OPTUNA_STORAGE"'
    same = ["flowers tune"]
    if options.storage:
        same.append(f"--storage {storage}")
    if options.study:
        same.append(f"--study {shlex.quote(options.study)}")
    if options.n_trials != study.space.settings.tune.n_trials:
        same.append(f"--n-trials {options.n_trials}")
    if not study.finished(options.n_trials):
        lines = [(" ".join(same), "resume the study")]
    elif found.fresh and not found.is_current and len(found.winner_scores) < study.space.settings.tune.confirm_seeds:
        lines = [(" ".join(same), "resume the comparison of the winner")]
    elif options.apply or found.is_current:
        lines = [("dvc repro", "train it, and score it on the test images")]
    else:
        lines = [(" ".join([*same, "--apply && dvc repro"]), "write the winner into params.yaml, train and score it")]
    lines.append(("make ui", "compare the trials in MLflow"))
    where = f" STORAGE={storage}" if options.storage else ""
    lines.append((f"make dashboard{where}", "look at the study in Optuna"))
    width = max(len(command) for command, _ in lines)
    return [
        f"{'Next: ' if number == 0 else '      '}{command:<{width}}   {what}"
        for number, (command, what) in enumerate(lines)
    ]
