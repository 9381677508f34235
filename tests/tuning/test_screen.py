"""A study on the terminal, its summary, and its trials as words, tables and facts for MLflow."""

import datetime
import io
import re
import shlex
import time
from types import SimpleNamespace

import pytest
import rich.console
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from flowers.tuning import screen, summary, trial_table
from flowers.tuning.options import Options
from flowers.tuning.verdict import Verdict

SPACE = {
    "head.dropout": FloatDistribution(0, 1),
    "train.learning_rate": FloatDistribution(1e-5, 1, log=True),
    "head.units": CategoricalDistribution(("[]", "[256, 128]")),
}
BEGAN = datetime.datetime(2020, 2, 29, 12, 0)


class Told:
    """In the place of a study: trials that took the time that they are told to have taken."""

    def __init__(self, name: str = "flowers photos", names: tuple[str, ...] = tuple(SPACE)) -> None:
        self.name, self.space, self._trials = name, SimpleNamespace(names=list(names)), []

    def trials(self) -> list[FrozenTrial]:
        return list(self._trials)

    def add(self, state: str, value: float | None = None, seconds: float | None = None, scores=(), **attributes):
        """The next trial; `scores` are those of its epochs."""
        number = len(self._trials)
        values = (number % 10 / 10, 0.00123, "[256, 128]" if number else "[]")
        trial = create_trial(
            state=TrialState[state],
            value=value,
            params=dict(zip(SPACE, values, strict=True)),
            distributions=SPACE,
            user_attrs=attributes,
            intermediate_values=dict(enumerate(scores)),
        )
        trial.number, trial.datetime_start, trial.datetime_complete = number, None, None
        if seconds is not None and state == "RUNNING":
            trial.datetime_start = datetime.datetime.now() - datetime.timedelta(seconds=seconds)
        elif seconds is not None:
            trial.datetime_start, trial.datetime_complete = BEGAN, BEGAN + datetime.timedelta(seconds=seconds)
        self._trials.append(trial)
        return self


@pytest.fixture
def told() -> Told:
    """A study with a trial in every state; each that has ended took 20 s."""
    told = Told().add("COMPLETE", 0.5, 20, [0.25, 0.5], best_epoch=1)
    told.add("COMPLETE", 0.875, 20, [0.625, 0.75, 0.875], best_epoch=2)
    told.add("PRUNED", 0.4375, 20, [0.375, 0.4375])
    told.add("FAIL", None, 20, error="ValueError: [no] memory")
    told.add("RUNNING", None, 7000, [0.5, 0.5625, 0.625, 0.6875], attempt=1)
    told.add("RUNNING", attempt=1)
    told.add("WAITING", None, None, [0.5], attempt=0)
    return told.add("WAITING")


def lines_of(table, width: int = 150) -> list[str]:
    shown = io.StringIO()
    rich.console.Console(width=width, file=shown).print(table)
    return shown.getvalue().splitlines()


def shown_rows(lines: list[str]) -> list[list[str]]:
    """The cells of each row, the names of the columns first."""
    return [re.split(r"\s*[│┃]\s*", line.strip())[1:-1] for line in lines if line.strip().startswith(("│", "┃"))]


def test_the_table_shows_every_trial(told):
    names, *rows = shown_rows(lines_of(screen.trials_table(told, 20, 20)))
    assert names == ["trial", "dropout", "learning_rate", "units", "score", "best epoch", "state", "time"]
    assert rows == [
        ["0", "0", "0.00123", "none", "50.0 %", "1", "completed", "20 s"],
        ["1", "0.1", "0.00123", "256-128", "87.5 %", "2", "completed", "20 s"],
        ["2", "0.2", "0.00123", "256-128", "43.8 %", "", "pruned after epoch 1", "20 s"],
        ["3", "0.3", "0.00123", "256-128", "", "", "failed", "20 s"],
        ["4", "0.4", "0.00123", "256-128", "68.8 %", "", "training epoch 3", "1 h 56 min"],
        ["5", "0.5", "0.00123", "256-128", "", "", "training", ""],
        ["6", "0.6", "0.00123", "256-128", "50.0 %", "", "interrupted", ""],
        ["7", "0.7", "0.00123", "256-128", "", "", "waiting", ""],
    ]


@pytest.mark.parametrize(
    ("n_trials", "left"),
    [(20, "about 2 min 40 s left"), (4, None)],  # two trials are in training
)
def test_the_heading_shows_the_counts_the_best_score_and_the_time_left(told, n_trials, left):
    heading = lines_of(screen.trials_table(told, n_trials, 20))[0].strip()
    parts = [f"flowers photos: 4 of {n_trials} trials", "best so far 87.5 % (trial 1)", left]
    assert heading == ", ".join(filter(None, parts))


def test_names_that_are_equal_without_their_section_keep_it():
    names = ["model.seed", "train.seed", "train.learning_rate"]
    assert trial_table.short(names) == {
        "model.seed": "model.seed",
        "train.seed": "train.seed",
        "train.learning_rate": "learning_rate",
    }


@pytest.mark.parametrize(("rows", "shown"), [(5, 5), (-4, 3)])
def test_the_table_shows_the_last_trials_that_fit(rows, shown):
    told = Told()
    for _ in range(30):
        told.add("COMPLETE", 0.5, 1)
    numbers = [row[0] for row in shown_rows(lines_of(screen.trials_table(told, 40, rows)))[1:]]
    assert numbers == [str(number) for number in range(30 - shown, 30)]


def test_a_name_with_markup_is_shown_as_it_is():
    name = "tulips [old] :rose: [/red]"
    assert lines_of(screen.trials_table(Told(name), 20, 20))[0].strip() == f"{name}: 0 of 20 trials"


@pytest.fixture
def terminal(monkeypatch):
    """Make standard error a terminal of some size."""

    def terminal(columns: int, lines: int) -> None:
        for name, value in {"TTY_COMPATIBLE": "1", "TERM": "xterm", "COLUMNS": columns, "LINES": lines}.items():
            monkeypatch.setenv(name, str(value))
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)

    return terminal


@pytest.mark.parametrize("height", [40, 12])
def test_on_a_terminal_the_table_is_never_higher_than_it(terminal, capsys, height):
    terminal(120, height)
    told = Told()
    for _ in range(20):
        told.add("COMPLETE", 0.5, 1)
    with screen.showing(told, 30):
        told.add("COMPLETE", 0.75, 1)
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\0", capsys.readouterr().err)
    final = said[said.rindex("flowers photos: ") :].replace("\0", "").strip().splitlines()
    assert final[0].startswith("flowers photos: 21 of 30 trials, best so far 75.0 % (trial 20)")
    assert shown_rows(final)[-1][:5] == ["20", "0", "0.00123", "256-128", "75.0 %"]
    assert len(final) < height
    assert (len(shown_rows(final)) == 22) == (height == 40)


def wait(condition) -> None:
    """Until it is so; not for ever."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_while_showing_stops_nothing(terminal, monkeypatch, capsys):
    monkeypatch.setattr(screen, "_REFRESH_SECONDS", 0.001)
    for shown_on_terminal in (True, False):
        if shown_on_terminal:
            terminal(120, 40)
        else:
            monkeypatch.setenv("TTY_COMPATIBLE", "0")
        told = Told()
        asked = []

        def trials(told=told, asked=asked):
            asked.append(True)
            if len(asked) in (3, 4):
                raise OSError("the storage was away")
            return Told.trials(told)

        told.trials = trials
        with screen.showing(told, 3):
            wait(lambda asked=asked: len(asked) > 5)
        assert "Traceback" not in capsys.readouterr().err


@pytest.fixture
def no_terminal(monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    monkeypatch.setenv("COLUMNS", "40")


def test_without_a_terminal_each_ended_trial_is_a_line(told, no_terminal, capsys):
    before = Told()
    with screen.showing(before, 8):
        for trial in told.trials():
            before._trials.append(trial)
    assert capsys.readouterr().err.splitlines() == [
        "1/8  trial 0: completed, 50.0 %, dropout 0, learning_rate 0.00123, units none, 20 s; best 87.5 % (trial 1)",
        "2/8  trial 1: completed, 87.5 %, dropout 0.1, learning_rate 0.00123, units 256-128, 20 s; "
        "best 87.5 % (trial 1)",
        "3/8  trial 2: pruned after epoch 1, 43.8 %, dropout 0.2, learning_rate 0.00123, units 256-128, 20 s; "
        "best 87.5 % (trial 1)",
        "4/8  trial 3: failed ValueError: [no] memory, dropout 0.3, learning_rate 0.00123, units 256-128, 20 s; "
        "best 87.5 % (trial 1)",
    ]


def test_without_a_terminal_a_trial_is_printed_while_others_are_trained(no_terminal, monkeypatch, capsys):
    monkeypatch.setattr(screen, "_REFRESH_SECONDS", 0.001)
    told, said = Told(), ""
    with screen.showing(told, 2):
        told.add("FAIL", None, 3)

        def told_of_the_first() -> bool:
            nonlocal said
            said += capsys.readouterr().err
            return "trial 0" in said

        wait(told_of_the_first)
        told.add("COMPLETE", 0.5, 3)
    said += capsys.readouterr().err
    assert [line.split(":")[0] for line in said.splitlines()] == ["1/2  trial 0", "2/2  trial 1"]


def test_durations_and_values_in_words():
    seconds = (None, 9.94, 59.4, 59.7, 3599.4, 5430)
    words = ["", "9.9 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 30 min"]
    assert [trial_table.duration(value) for value in seconds] == words
    values = (0.1234567, True, None, "bfloat16", "[256, 128]", "[]")
    assert [trial_table.shown(value) for value in values] == ["0.123", "True", "None", "bfloat16", "256-128", "none"]


def test_the_table_of_trials_has_a_row_a_trial(told):
    table = trial_table.table(told.trials(), list(SPACE))
    assert list(table) == ["trial", "state", "detail", "score", "best_epoch", "seconds", *SPACE]
    rows = table.astype(object).where(table.notna(), None).to_dict("split")["data"]
    assert rows[1] == [1, "completed", "", 0.875, 2, 20.0, 0.1, 0.00123, "[256, 128]"]
    assert rows[2][:6] == [2, "pruned", "after epoch 1", 0.4375, None, 20.0]
    assert rows[3][:6] == [3, "failed", "ValueError: [no] memory", None, None, 20.0]
    assert [row[1] for row in rows[4:]] == ["training", "training", "interrupted", "waiting"]
    assert list(trial_table.table([], list(SPACE))) == list(table)


def test_mlflow_gets_the_trials_that_are_not_in_training(begin):
    study = begin(tune={"n_trials": 9})
    for number, end in enumerate(("complete", "prune", "fail", "give back", "leave")):
        trial = study.next_trial(9)
        trial.report(0.25, 0)
        trial.report(0.5, 1)
        if end == "complete":
            study.complete(trial, [0.5, 0.75], 1)
        elif end == "prune":
            study.prune(trial)
        elif end == "fail":
            study.fail(trial, "no memory")
        elif end == "give back":
            given_back = trial
        assert trial.number == number
    study.requeue(given_back)
    facts = trial_table.facts(study.trials(), study.space)
    assert [(each.number, each.state, each.detail) for each in facts] == [
        (0, "completed", ""),
        (1, "pruned", "after epoch 1"),
        (2, "failed", "no memory"),
        (3, "interrupted", ""),
    ]
    assert facts[0].value == 0.625
    for each, trial in zip(facts, study.trials(), strict=False):
        assert each.scores == {0: 0.25, 1: 0.5}
        assert each.params.head.dropout == trial.params["head.dropout"]
        assert each.params.train.learning_rate == trial.params["train.learning_rate"]
        assert each.params.model == study.space.settings.model


class Summary:
    """What is printed when a study ends."""

    def __init__(self, out: str) -> None:
        self.lines = out.splitlines()
        self.table = {row[0]: row[1:] for row in shown_rows(self.lines)}

    @property
    def commands(self) -> list[str]:
        """What to type next, without what it is for."""
        found = [line for line in self.lines if line.startswith(("Next: ", "      "))]
        return [re.split(r" {3,}", line[6:])[0].strip() for line in found]

    def line(self, beginning: str) -> str:
        """The one line that begins so."""
        (found,) = [line for line in self.lines if line.startswith(beginning)]
        return found


@pytest.fixture
def summed_up(capsys, monkeypatch):
    """Print the summary of a study and a verdict, as it is without a terminal."""
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TTY_COMPATIBLE", "0")

    def summed_up(study, found=None, /, **options) -> Summary:
        capsys.readouterr()
        summary.show(study, found, study.importances(), Options(**{"n_trials": 3} | options))
        captured = capsys.readouterr()
        assert captured.err == ""
        return Summary(captured.out)

    return summed_up


@pytest.fixture
def scored(begin):
    """Begin a study in which trial 2 of 3 was the best, or go on with it."""

    def scored(scores=(0.5, 0.625, 0.875), journal: str | None = None, name: str | None = None, **changes):
        study = begin(journal, name, **changes)
        for score in scores:
            trial = study.next_trial(100)
            study.complete(trial, [score], 0)
        return study

    return scored


def found_in(study, winner: int = 2, best_scores=(), current_scores=(), current_score: float | None = 0.5) -> Verdict:
    return Verdict(study.trials()[winner], study.space.current(), current_score, best_scores, current_scores)


def test_the_best_trial_is_shown_beside_params_yaml(scored, summed_up):
    study = scored(tune={"confirm_seeds": 3})
    shown = summed_up(study, found_in(study, 2, (0.75, 0.875, 0.8125), (0.5, 0.5, 0.5625)))
    best = study.trials()[2].params
    assert shown.lines[0].startswith("Study 'flowers photos', 3 of 3 trials: 3 completed, 0.")
    assert shown.table[""] == ["params.yaml", "best: trial 2"]
    assert shown.table["head.dropout"] == ["0.1", f"{best['head.dropout']:.3g}"]
    assert shown.table["train.learning_rate"] == ["0.003", f"{best['train.learning_rate']:.3g}"]
    assert shown.table["score in the study"] == ["50.0 %", "87.5 %"]
    assert shown.table["mean of 3 fresh seeds"] == ["52.1 %", "81.2 %"]
    few = r"Only \d+ validation images?: a difference of accuracy below about \d+ points is likely missed"
    assert re.match(few, shown.line("Only "))
    shown = summed_up(study, found_in(study, current_score=None))
    assert shown.table["score in the study"] == ["not tried", "87.5 %"]


def test_in_folds_the_images_of_train_and_val_are_validation_images(scored, summed_up):
    alone, in_folds = (
        int(summed_up(study, found_in(study)).line("Only ").split()[1])
        for study in (scored(), scored(journal="folds.journal", tune={"folds": 3}))
    )
    assert in_folds > alone > 0


def test_every_state_is_counted(begin, summed_up):
    study = begin()
    for end in (lambda trial: study.complete(trial, [0.5], 0), study.prune, lambda trial: study.fail(trial, "x")):
        end(study.next_trial(9))
    interrupted, _ = study.next_trial(9), study.next_trial(9)
    study.requeue(interrupted)
    counted = summed_up(study, n_trials=7).lines[0]
    assert "3 of 7 trials: 1 completed, 1 pruned, 1 failed, 1 interrupted, 1 training, " in counted


@pytest.mark.parametrize(
    ("winner", "current", "words"),
    [
        ((0.9, 0.92, 0.94), (0.8, 0.82, 0.84), "+10.0 points, significant (95 % CI +5.5 to +14.5)"),
        ((0.9, 0.8, 0.7), (0.8, 0.7, 0.6), "+10.0 points, not significant (95 % CI -12.7 to +32.7)"),
        ((0.6, 0.62, 0.64), (0.8, 0.82, 0.84), "-20.0 points, significant (95 % CI -24.5 to -15.5)"),
    ],
)
def test_the_difference_has_its_interval_and_significance(scored, summed_up, winner, current, words):
    study = scored()
    assert words in summed_up(study, found_in(study, 2, winner, current)).line("Best trial vs params.yaml: ")


def test_one_seed_each_gives_no_interval(scored, summed_up):
    study = scored()
    for scores in ((), ((0.875,), (0.5,))):
        said = summed_up(study, found_in(study, 2, *scores)).line("One seed each: ")
        assert "no confidence interval (set tune.confirm_seeds to 2 or more)" in said


@pytest.mark.parametrize("repeats", [1, 2])
def test_scores_of_the_trials_own_seeds_are_not_called_fresh(begin, summed_up, repeats):
    """Without tune.confirm_seeds no seed is fresh: the scores of the trials themselves are compared."""
    from flowers.tuning import verdict

    study = begin(tune={"repeats": repeats})
    for scores in ([0.5, 0.5625], [0.875, 0.9375]):
        study.complete(study.next_trial(2), scores[:repeats], 0)
    shown = summed_up(study, verdict.read(study), n_trials=2)
    assert "fresh seeds each" not in " ".join(shown.lines)
    if repeats == 2:
        assert "the trial was selected by these scores" in shown.line("Best trial vs params.yaml: +37.5 points")
    else:
        shown.line("One seed each: ")


def test_a_best_trial_with_the_values_of_params_yaml_is_reported(scored, summed_up):
    study = scored((0.875, 0.5))
    shown = summed_up(study, found_in(study, 0, current_score=0.875), n_trials=2)
    assert "params.yaml already holds the best trial's values." in shown.lines
    assert shown.commands[0] == "dvc repro"


def test_importances_are_printed_largest_first(begin, summed_up):
    study = begin()
    while len(study.trials()) < 12:
        trial = study.next_trial(12)
        study.complete(trial, [trial.params["head.dropout"]], 0)
    said = summed_up(study, found_in(study), n_trials=12).line("Parameter importances: ")
    dropout, rate = re.fullmatch(r"Parameter importances: dropout (\d+) %, learning_rate (\d+) %", said).groups()
    assert int(dropout) > 80 > int(rate)


def test_with_too_few_scores_no_importances_are_printed(scored, summed_up):
    study = scored((0.5, 0.5))
    assert not any("importances: " in line for line in summed_up(study, found_in(study, 1), n_trials=2).lines)


@pytest.mark.parametrize(
    ("options", "command"),
    [
        ({}, "flowers tune --apply && dvc repro"),
        ({"apply": True}, "dvc repro"),
        ({"study": "mine"}, "flowers tune --study mine --apply && dvc repro"),
    ],
)
def test_the_next_command_trains_with_the_best_values(scored, summed_up, options, command):
    study = scored(tune={"n_trials": 3})
    assert summed_up(study, found_in(study), **options).commands == [command, "make ui", "make dashboard"]


def arguments(command: str) -> list[str]:
    """What a shell makes of the options of `flowers tune`."""
    words = shlex.split(command.partition("&&")[0])
    assert words[:2] == ["flowers", "tune"]
    return words[2:]


def test_a_study_that_is_not_finished_is_gone_on_with_by_the_same_command(scored, summed_up):
    journal, name = "my studies/it's.journal", "one $HOME & more"
    study = scored(journal=journal, name=name, tune={"n_trials": 3})
    options = {"n_trials": 9, "storage": journal, "study": name, "apply": True}
    again = arguments(summed_up(study, found_in(study), **options).commands[0])
    for name in ("storage", "study"):
        assert again[again.index(f"--{name}") + 1] == options[name]
    assert again[again.index("--n-trials") + 1] == "9"


def test_applying_the_best_trial_trains_no_more_trials(scored, summed_up):
    """The number of trials that the command line gave is given again: params.yaml asks for more."""
    study = scored(journal="my.journal", tune={"n_trials": 20})
    again = arguments(summed_up(study, found_in(study), n_trials=3, storage="my.journal").commands[0])
    assert again[again.index("--n-trials") + 1] == "3"
    assert again[again.index("--storage") + 1] == "my.journal"
    assert "--apply" in again


def test_a_comparison_that_was_interrupted_is_gone_on_with_first(scored, summed_up):
    study = scored(tune={"n_trials": 3, "confirm_seeds": 3})
    for scores in (((), ()), ((0.875,), (0.5,))):
        assert summed_up(study, found_in(study, 2, *scores), apply=True).commands[0] == "flowers tune"
    all_of_them = ((0.875, 0.875, 0.75), (0.5, 0.5, 0.5))
    assert summed_up(study, found_in(study, 2, *all_of_them)).commands[0] == "flowers tune --apply && dvc repro"


def test_the_dashboard_is_told_of_a_storage_of_its_own(scored, summed_up):
    study = scored(journal="my studies.journal")
    command = summed_up(study, found_in(study), storage="my studies.journal").commands[-1]
    assert shlex.split(command) == ["make", "dashboard", "STORAGE=my studies.journal"]


def test_the_password_of_a_storage_is_never_printed(scored, summed_up):
    study = scored()
    shown = summed_up(study, found_in(study), storage="postgresql://me:secret@db.example.org/studies")
    assert "secret" not in " ".join(shown.lines)


def test_without_a_completed_trial_the_counts_are_all(begin, summed_up):
    study = begin()
    study.fail(study.next_trial(3), "no memory")
    (line,) = summed_up(study).lines
    assert line.startswith("Study 'flowers photos', 1 of 3 trials: 1 failed, ")


def test_the_most_frequent_reason_of_failures_is_reported(begin):
    study = begin()
    assert summary.reasons(study) == "none has ended yet"
    for reason in ("no disk", "no memory", "no memory"):
        study.fail(study.next_trial(9), reason)
    assert summary.reasons(study) == "2 failed with: no memory"
