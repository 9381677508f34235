"""The result of a study on standard output: the best trial beside params.yaml, importances, and the next commands."""

import shlex
from collections import Counter

from rich.console import Console
from rich.table import Table

from flowers.metrics import paired
from flowers.reporting import measures
from flowers.training import subsets
from flowers.tuning import trial_table
from flowers.tuning.options import Options
from flowers.tuning.storage import shown
from flowers.tuning.study import Study
from flowers.tuning.verdict import Verdict


def show(study: Study, found: Verdict | None, importances: dict[str, float], options: Options) -> None:
    """Print the summary; `importances` are each parameter's share, as `Study.importances` returns them."""
    out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    out.print(_counts(study, options.n_trials))
    if found is None:
        return
    out.print(_comparison(study, found))
    out.print(_judgement(found))
    for line in measures.few(len(subsets.read("val")), "validation", paired.independent(found.best.value or 0.0)):
        out.print(line)
    if importances:
        short = trial_table.short(list(importances))
        shares = ", ".join(f"{short[name]} {share:.0%}" for name, share in importances.items())
        out.print(f"Parameter importances: {shares}")
    out.print()
    commands = _next(study, found, options)
    width = max(map(len, commands))
    for number, (command, purpose) in enumerate(commands.items()):
        out.print(f"{'      ' if number else 'Next: '}{command:<{width}}   {purpose}")


def reasons(study: Study) -> str:
    """The most frequent reason why trials failed."""
    states = [trial_table.state(trial) for trial in study.trials()]
    counts = Counter(detail for word, detail in states if word == "failed")
    if not counts:
        return "none has ended yet"
    reason, count = counts.most_common(1)[0]
    return f"{count} failed with: {reason}"


def _counts(study: Study, n_trials: int) -> str:
    trials = study.trials()
    words = Counter(trial_table.state(trial)[0] for trial in trials)
    parts = [
        f"{words[word]} {word}" for word in ("completed", "pruned", "failed", "interrupted", "training") if words[word]
    ]
    ended = [trial for trial in trials if trial.state.is_finished()]
    parts.append(f"{trial_table.duration(sum(trial_table.seconds(trial) or 0 for trial in ended))} of training")
    return f"Study '{study.name}', {len(ended)} of {max(n_trials, len(trials))} trials: {', '.join(parts)}"


def _comparison(study: Study, found: Verdict) -> Table:
    table = Table("")
    table.add_column("params.yaml", justify="right")
    table.add_column(f"best: trial {found.best.number}", justify="right")
    for name in study.space.names:
        table.add_row(name, trial_table.shown(found.current[name]), trial_table.shown(found.best.params[name]))
    table.add_section()
    current = "not tried" if found.current_score is None else f"{found.current_score:.1%}"
    table.add_row("score in the study", current, f"{found.best.value:.1%}")
    scores = (found.current_scores, found.best_scores)
    if all(scores) and not found.is_current and (found.fresh or found.margin is not None):
        seeds = f"{len(found.best_scores)} {'fresh ' if found.fresh else ''}seeds"
        table.add_row(f"mean of {seeds}", *(f"{sum(of) / len(of):.1%}" for of in scores))
    return table


def _judgement(found: Verdict) -> str:
    if found.is_current:
        return "params.yaml already holds the best trial's values."
    if found.margin is None:
        return "One seed each: no confidence interval (set tune.confirm_seeds to 2 or more)."
    points, margin = 100 * found.difference, 100 * found.margin
    significant = "significant" if abs(points) > margin else "not significant"
    interval = f"95 % CI {points - margin:+.1f} to {points + margin:+.1f}"
    biased = "" if found.fresh else "; the trial was selected by these scores (tune.confirm_seeds: fresh seeds)"
    return f"Best trial vs params.yaml: {points:+.1f} points, {significant} ({interval}{biased})"


def _next(study: Study, found: Verdict, options: Options) -> dict[str, str]:
    """The next commands and what each is for; a storage with a password is named by its environment variable."""
    address = options.storage or ""
    storage = shlex.quote(address) if shown(address) == address else '"$OPTUNA_STORAGE"'
    same = "flowers tune"
    same += f" --storage {storage}" if options.storage else ""
    same += f" --study {shlex.quote(options.study)}" if options.study else ""
    same += f" --n-trials {options.n_trials}" if options.n_trials != study.space.settings.tune.n_trials else ""
    if not study.finished(options.n_trials):
        commands = {same: "resume the study"}
    elif found.fresh and not found.is_current and len(found.best_scores) < study.space.settings.tune.confirm_seeds:
        commands = {same: "resume the comparison with params.yaml"}
    elif options.apply or found.is_current:
        commands = {"dvc repro": "train with these values, and score the test images"}
    else:
        commands = {f"{same} --apply && dvc repro": "write the best trial's values into params.yaml, train and score"}
    commands["make ui"] = "compare the trials in MLflow"
    commands["make dashboard" + (f" STORAGE={storage}" if options.storage else "")] = (
        "open the study in Optuna's dashboard"
    )
    return commands
