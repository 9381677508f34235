"""What a study has found, on standard output: the winner beside params.yaml, what mattered, and what to type next."""

from collections import Counter
from typing import TYPE_CHECKING

from flowers.tuning import states
from flowers.tuning.study import Study
from flowers.tuning.verdict import Verdict

if TYPE_CHECKING:
    from rich.table import Table

    from flowers.tuning.run import Options


def show(study: Study, found: Verdict | None, options: "Options") -> None:
    """Print the summary."""
    import rich.console

    out = rich.console.Console(highlight=False, soft_wrap=True)
    out.print(_counts(study, options.n_trials), markup=False)
    if found is None:
        return
    out.print(_comparison(study, found))
    out.print(_judgement(found), markup=False)
    if importances := study.importances():
        short = states.short(list(importances))
        shares = ", ".join(f"{short[name]} {share:.0%}" for name, share in importances.items())
        out.print(f"What made scores differ: {shares}", markup=False)
    out.print()
    for line in _next(found, options, study.finished(options.n_trials)):
        out.print(line, markup=False)


def reasons(study: Study) -> str:
    """Why trials failed, most frequent reason first."""
    counts = Counter(states.state(trial)[1] for trial in study.trials() if states.state(trial)[0] == "failed")
    if not counts:
        return "none has ended yet"
    reason, count = counts.most_common(1)[0]
    return f"{count} failed, with: {reason}"


def _counts(study: Study, n_trials: int) -> str:
    trials = study.trials()
    words = Counter(states.state(trial)[0] for trial in trials)
    parts = [
        f"{words[word]} {word}" for word in ("completed", "pruned", "failed", "interrupted", "training") if words[word]
    ]
    seconds = sum(states.seconds(trial) or 0 for trial in trials if trial.state.is_finished())
    parts.append(f"{states.duration(seconds)} of training")
    ended = sum(trial.state.is_finished() for trial in trials)
    return f"Study '{study.name}', {ended} of {max(n_trials, len(trials))} trials: {', '.join(parts)}"


def _comparison(study: Study, found: Verdict) -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column("")
    table.add_column("params.yaml", justify="right")
    table.add_column(f"winner: trial {found.winner.number}", justify="right")
    for name in study.space.names:
        table.add_row(name, states.shown(found.current[name]), states.shown(found.winner.params[name]))
    table.add_section()
    table.add_row("score in the study", _percent(found.current_score), _percent(found.winner.value))
    if found.winner_scores and found.current_scores and not found.is_current:
        scores = (found.current_scores, found.winner_scores)
        table.add_row(
            f"mean of {len(found.winner_scores)} fresh seeds", *(_percent(sum(of) / len(of)) for of in scores)
        )
    return table


def _percent(score: float | None) -> str:
    return "not tried" if score is None else f"{score:.1%}"


def _judgement(found: Verdict) -> str:
    if found.is_current:
        return "params.yaml holds the winner."
    if not found.winner_scores or not found.current_scores or found.noise is None:
        return (
            "One seed each: whether the difference is more than the noise of seeds is not known (tune.confirm_seeds)."
        )
    points, noise = 100 * found.difference, 100 * found.noise
    beyond = "more than" if abs(points) > noise else "within"
    return f"The winner is {points:+.1f} points from params.yaml: {beyond} the noise of seeds (± {noise:.1f} points)."


def _next(found: Verdict, options: "Options", finished: bool) -> list[str]:
    same = "".join(
        f" --{name} {value}" for name, value in (("storage", options.storage), ("study", options.study)) if value
    )
    if not finished:
        found_next = [(f"flowers tune{same}", "go on with the study")]
    elif options.apply or found.is_current:
        found_next = [("dvc repro", "train it, and score it on the test photos")]
    else:
        found_next = [
            (f"flowers tune{same} --apply && dvc repro", "write the winner into params.yaml, train and score it")
        ]
    found_next += [("make ui", "compare the trials in MLflow"), ("make dashboard", "look at the study in Optuna")]
    width = max(len(command) for command, _ in found_next)
    return [
        f"{'Next: ' if number == 0 else '      '}{command:<{width}}   {what}"
        for number, (command, what) in enumerate(found_next)
    ]
