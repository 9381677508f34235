"""The result of a study, for the terminal and for MLflow: the best trial beside params.yaml, and the next commands."""

import shlex
from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from flowers.common import console
from flowers.metrics import paired
from flowers.reporting import measures
from flowers.training import subsets
from flowers.tuning import trial_table
from flowers.tuning.options import Options
from flowers.tuning.storage import shown
from flowers.tuning.study import Study
from flowers.tuning.verdict import Verdict


def show(study: Study, found: Verdict | None, importances: Mapping[str, float], options: Options) -> None:
    """Print the summary; `importances` are each parameter's share, as `Study.importances` returns them."""
    out = Console(highlight=False, soft_wrap=True, markup=False, emoji=False)
    out.print(_counts(study, options.n_trials))
    if found is None:
        return
    out.print(_comparison(study, found))
    out.print(_judgement(found))
    in_folds = study.space.settings.tune.folds > 1  # then each image of both is held out once
    validated = subsets.read(*(["train", "val"] if in_folds else ["val"]))
    for line in measures.few(len(validated), "validation", paired.independent(found.best.value or 0.0)):
        out.print(line)
    if importances:
        out.print(_importances(importances))
    out.print()
    commands = _next(study, found, options)
    width = max(map(len, commands))
    for number, (command, purpose) in enumerate(commands.items()):
        out.print(f"{'      ' if number else 'Next: '}{command:<{width}}   {purpose}")


def note(study: Study, found: Verdict, importances: Mapping[str, float], options: Options) -> str:
    """The same in Markdown."""
    table = [f"| | params.yaml | best: trial {found.best.number} |", "|---|---|---|"]
    table += [f"| {' | '.join(row)} |" for row in (*_parameters(study, found), *_scores(found))]
    commands = [f"`{command}`: {purpose}" for command, purpose in _next(study, found, options).items()]
    text = [_counts(study, options.n_trials), "\n".join(table), _judgement(found), _importances(importances)]
    return "\n\n".join(filter(None, [*text, "Next:", *commands]))


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
    for row in _parameters(study, found):
        table.add_row(*row)
    table.add_section()
    for row in _scores(found):
        table.add_row(*row)
    return table


def _parameters(study: Study, found: Verdict) -> list[tuple[str, str, str]]:
    """Each searched parameter: its name, its value in params.yaml, and that of the best trial."""
    shown = trial_table.shown
    return [(name, shown(found.current[name]), shown(found.best.params[name])) for name in study.space.names]


def _scores(found: Verdict) -> list[tuple[str, str, str]]:
    """Each score: its name, that of params.yaml, and that of the best trial."""
    current = "not tried" if found.current_score is None else console.percent(found.current_score)
    rows = [("score in the study", current, console.percent(found.best.value))]
    if (
        found.current_scores
        and found.best_scores
        and not found.is_current
        and (found.fresh or found.margin is not None)
    ):
        seeds = f"{len(found.best_scores)} {'fresh ' if found.fresh else ''}seeds"
        ours, theirs = (console.percent(sum(of) / len(of)) for of in (found.current_scores, found.best_scores))
        rows.append((f"mean of {seeds}", ours, theirs))
    return rows


def _importances(shares: Mapping[str, float]) -> str:
    """Each parameter's share in the variance of the scores; "" with too few completed trials."""
    short = trial_table.short(list(shares))
    words = ", ".join(f"{short[name]} {console.percent(share, 0)}" for name, share in shares.items())
    return f"Parameter importances: {words}" if words else ""


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
