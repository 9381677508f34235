"""`flowers tune` from end to end: small real studies, their outputs, and errors of one line."""

import csv
import itertools
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flowers import cli
from flowers.common import console, paths
from flowers.tracking import live, store
from flowers.training import fitting
from flowers.tuning import screen, study_figures, worker
from flowers.tuning import study as study_module

JOURNAL = "tracking/studies.journal"
DRAW = study_figures.draw


class Done:
    """How a command ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def error(self) -> str:
        """What the one line of an error says; the lines before it are of what went well."""
        assert self.status == 1, self.err
        assert "Traceback" not in self.err
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert line == self.err.splitlines()[-1]
        return line.removeprefix("error: ")


class Checkout:
    """A checkout after `split`, with a params.yaml, and the command in it."""

    def __init__(self, world, monkeypatch, capsys) -> None:
        self._world, self.folder, self._patch, self._capsys = world, world.folder, monkeypatch, capsys

    def params(self, **changes: dict) -> str:
        """Write params.yaml, with some keys of some sections changed; returns its text."""
        document = self._world.settings(**changes).model_dump(mode="json", exclude_unset=True)
        document["dataset"]["path"] = str(self.folder / "photos")
        yaml = YAML()
        yaml.width = 4096
        with paths.PARAMS.open("w", encoding="utf-8") as file:
            file.write("# Of this test.\n")
            yaml.dump(document, file)
        text = paths.PARAMS.read_text(encoding="utf-8")
        text = re.sub(r"(?m)^(  \w+):$(?=\n *\w+:)(?!\n    )", r"\1: null", text)  # as --apply writes it
        paths.PARAMS.write_text(text, encoding="utf-8")
        return text

    def flowers(self, *arguments: str) -> Done:
        self._patch.setattr(sys, "argv", ["flowers", *arguments])
        self._capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return Done(status, *self._capsys.readouterr())

    def tune(self, *arguments: str) -> Done:
        return self.flowers("tune", *arguments)

    def files(self) -> set[str]:
        """Every file of the checkout."""
        return {path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()}

    def trials(self, journal: str = JOURNAL, study: str = "flowers photos") -> list:
        """The trials of a study as Optuna reads them."""
        import optuna
        from optuna.storages.journal import JournalFileBackend

        storage = optuna.storages.JournalStorage(JournalFileBackend(journal))
        return optuna.load_study(study_name=study, storage=storage).trials

    def best(self):
        completed = [trial for trial in self.trials() if trial.state.name == "COMPLETE"]
        return max(completed, key=lambda trial: trial.value)

    def runs(self) -> dict:
        """The active runs in MLflow by name; each name once."""
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{self.folder / 'mlflow.db'}")
        found = client.search_runs([each.experiment_id for each in client.search_experiments()])
        by_name = {re.sub(r"(trial \d+): .*", r"\1", run.info.run_name): run for run in found}
        assert len(by_name) == len(found)
        return by_name


# A params.yaml that hardly learns: it is outside of the space, so whatever trial is the best, it has other values.
SPACE = {"train.learning_rate": {"low": 0.002, "high": 0.01, "log": True}, "head.dropout": {"low": 0.0, "high": 0.3}}
WORSE = {"train": {"learning_rate": 1e-9}, "tune": {"space": SPACE, "n_trials": 2}}


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> Path:
    """A fresh store: MLflow takes seconds to lay one out."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DVC_ROOT", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        patch.chdir(folder)
        with store.lock():
            store.connect()
    return folder / "mlflow.db"


@pytest.fixture
def here(checkout, cheap_backbone, laid_out, monkeypatch, capsys) -> Checkout:
    (checkout.folder / "tracking").mkdir()
    shutil.copy(laid_out, checkout.folder)
    for name in ("OPTUNA_STORAGE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    monkeypatch.setattr(study_figures, "draw", lambda *_: None)  # half a second each time
    here = Checkout(checkout, monkeypatch, capsys)
    here.params()
    return here


@pytest.fixture
def interrupt(monkeypatch):
    """Press Ctrl-C after so many epochs."""

    def interrupt(after: int) -> None:
        take, epochs = live.Stream.on_epoch, itertools.count(1)

        def on_epoch(self, row):
            take(self, row)
            if next(epochs) == after:
                signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(live.Stream, "on_epoch", on_epoch)

    # A shell that runs something in the background has it ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield interrupt
    signal.signal(signal.SIGINT, before)


def test_a_study_trains_its_trials_and_prints_the_best_one(here):
    done = here.tune()
    assert done.status == 0
    assert f"Starting study 'flowers photos' in {JOURNAL}" in done.err.splitlines()
    told = [line[:12] for line in done.err.splitlines() if " trial " in line]
    assert told == ["1/3  trial 0", "2/3  trial 1", "3/3  trial 2"]
    first, best = here.trials()[0], here.best()
    assert first.params == {"head.dropout": 0.1, "train.learning_rate": 0.003}  # those of params.yaml
    assert done.out.startswith("Study 'flowers photos', 3 of 3 trials: 3 completed, ")
    assert f"best: trial {best.number}" in done.out
    before, after = (console.percent(trial.value) for trial in (first, best))
    assert f"│ score in the study  │ {before:>11} │ {after:>13} │" in done.out


def test_a_study_is_in_mlflow_with_its_trials_table_and_figures(here, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setattr(study_figures, "draw", DRAW)
    here.tune()
    runs = here.runs()
    assert sorted(runs) == ["study: flowers photos", "trial 0", "trial 1", "trial 2"]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    parent = runs["study: flowers photos"]
    assert parent.data.params["tune.space.head.dropout"] == "0.0 … 0.6"
    assert parent.data.metrics["best_score"] == here.best().value
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith("Study 'flowers photos', 3 of 3 trials: 3 completed, ")
    before, after = (console.percent(trial.value) for trial in (here.trials()[0], here.best()))
    assert f"| score in the study | {before} | {after} |" in note
    assert "params.yaml already holds the best trial's values." in note or "Best trial vs params.yaml: " in note
    assert "`make ui`: compare the trials in MLflow" in note
    for trial in here.trials():
        run = runs[f"trial {trial.number}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert float(run.data.params["head.dropout"]) == trial.params["head.dropout"]
        client = MlflowClient(f"sqlite:///{here.folder / 'mlflow.db'}")
        curve = client.get_metric_history(run.info.run_id, "val_mean_per_class_accuracy")
        assert {point.step: point.value for point in curve} == trial.intermediate_values
        assert len(curve) == 5
    folder = here.folder / parent.info.artifact_uri
    with (folder / "trials.csv").open(newline="", encoding="utf-8") as file:
        assert [float(row["score"]) for row in csv.DictReader(file)] == [trial.value for trial in here.trials()]
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"history.png", "importances.png", "parallel_coordinates.png", "slices.png"}


def test_a_finished_study_trains_nothing_and_prints_the_same(here, monkeypatch):
    first = here.tune("--n-trials", "2")
    trials, runs = here.trials(), here.runs()
    monkeypatch.setattr(fitting, "fit", None)
    monkeypatch.setattr(fitting, "Data", None)
    again = here.tune("--n-trials", "2")
    assert (again.status, again.out, again.err) == (0, first.out, "")
    fewer = here.tune("--n-trials", "1")
    assert (fewer.status, fewer.err) == (0, "")
    assert here.trials() == trials
    assert {name: run.data.to_dictionary() for name, run in here.runs().items()} == {
        name: run.data.to_dictionary() for name, run in runs.items()
    }


def test_a_study_extended_by_more_trials_equals_one_of_that_many(here):
    here.tune("--n-trials", "1")
    done = here.tune("--n-trials", "3")
    assert done.status == 0
    assert "Resuming (after 1 trials)" in done.err
    assert done.out.startswith("Study 'flowers photos', 3 of 3 trials: ")
    here.tune("--n-trials", "3", "--storage", "other.journal")
    at_once = [(trial.params, trial.value) for trial in here.trials("other.journal")]
    assert [(trial.params, trial.value) for trial in here.trials()] == at_once
    assert len({str(params) for params, _ in at_once}) == 3


def test_apply_writes_only_the_searched_keys_and_the_train_stage_reaches_the_score(here):
    before = here.params(**WORSE)
    done = here.tune("--apply")
    assert done.status == 0
    assert "params.yaml now holds the best trial's values. Train with them: dvc repro" in done.err
    assert "Next: dvc repro" in done.out
    best = here.best()
    changed = before
    for old, new in (("learning_rate: 1e-09", "train.learning_rate"), ("dropout: 0.1", "head.dropout")):
        assert before.count(f"  {old}\n") == 1
        changed = changed.replace(f"  {old}\n", f"  {old.split()[0]} {best.params[new]!r}\n")
    assert paths.PARAMS.read_text(encoding="utf-8") == changed

    assert here.flowers("train").status == 0
    with paths.HISTORY.open(newline="", encoding="utf-8") as file:
        scores = [float(row["val_mean_per_class_accuracy"]) for row in csv.DictReader(file)]
    assert dict(enumerate(scores)) == best.intermediate_values
    assert max(scores) == best.value

    again = here.tune()
    assert (again.status, again.err) == (0, "")
    assert "params.yaml already holds the best trial's values." in again.out


def test_apply_changes_nothing_if_params_yaml_holds_the_best_values(here):
    before = paths.PARAMS.stat().st_mtime_ns
    done = here.tune("--n-trials", "1", "--apply")
    assert done.status == 0
    assert "params.yaml already holds the best trial's values." in done.out
    assert "params.yaml now holds" not in done.err
    assert paths.PARAMS.stat().st_mtime_ns == before


@pytest.fixture
def git(here):
    """Make the checkout a git repository that has params.yaml."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    here.params(**WORSE)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for command in (["init", "--quiet"], ["add", "params.yaml"], [*identity, "commit", "--quiet", "-m", "one"]):
        subprocess.run(["git", *command], check=True, capture_output=True)


def edit(old: str, new: str) -> None:
    text = paths.PARAMS.read_text(encoding="utf-8")
    assert text.count(old) == 1
    paths.PARAMS.write_text(text.replace(old, new), encoding="utf-8")


def test_apply_does_not_overwrite_uncommitted_values_without_force(here, git):
    edit("\n  dropout: 0.1\n", "\n  dropout: 0.2\n")
    before = here.files()
    said = here.tune("--apply").error
    assert "head.dropout (0.1, now 0.2)" in said and "--force" in said
    assert "train.learning_rate" not in said
    assert here.files() == before  # before the first trial
    assert here.tune("--n-trials", "1").status == 0  # without --apply nothing is written over
    assert "dropout: 0.2\n" in paths.PARAMS.read_text(encoding="utf-8")
    assert here.tune("--n-trials", "1", "--apply", "--force").status == 0
    assert f"dropout: {here.best().params['head.dropout']!r}\n" in paths.PARAMS.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [("--n-trials", "0"), ("--workers", "2")])
def test_a_wrong_option_is_a_usage_error(here, arguments):
    before = here.files()
    done = here.tune(*arguments)
    assert done.status == 2
    assert "Usage: " in done.err
    assert here.files() == before


def test_a_study_without_validation_images_is_an_error(here):
    here.params(train={"on": "train+val"})
    before = here.files()
    assert "train.on must be 'train'" in here.tune().error
    assert here.files() == before


@pytest.mark.parametrize(
    ("name", "hint"),
    [("head.drop_out", "did you mean 'head.dropout'?"), ("train.seed", "cannot be searched")],
)
def test_a_wrong_name_in_the_space_is_an_error_before_anything_is_created(here, name, hint):
    here.params(tune={"space": {name: {"low": 0, "high": 1}}})
    before = here.files()
    said = here.tune().error
    assert said.startswith("params.yaml: tune.space: ")
    assert name in said and hint in said
    assert here.files() == before


def test_a_missing_stage_output_is_an_error(here):
    paths.SPLIT.unlink()
    assert here.tune().error == "build/split.csv: no such file; `dvc repro` makes it"


def test_a_study_with_other_fixed_parameters_is_not_resumed(here):
    here.tune("--n-trials", "1")
    here.params(train={"batch_size": 4})
    said = here.tune("--n-trials", "2").error
    assert "train.batch_size 5, now 4" in said and "--new" in said
    assert len(here.trials()) == 1


def test_if_all_trials_fail_the_reason_is_printed_and_nothing_is_applied(here):
    space = {"train.learning_rate": {"choices": [1e30, 1e31]}}
    before = here.params(train={"learning_rate": 1e30}, tune={"space": space, "n_trials": 2})
    done = here.tune("--apply")
    assert "no trial of study 'flowers photos' was completed: 2 failed with: the training loss became " in done.error
    assert done.out.startswith("Study 'flowers photos', 2 of 2 trials: 2 failed, ")
    assert paths.PARAMS.read_text(encoding="utf-8") == before
    runs = here.runs()
    assert {runs[f"trial {number}"].info.status for number in range(2)} == {"FAILED"}
    assert "the training loss became" in runs["trial 0"].data.tags["flowers.state"]


def test_ctrl_c_ends_after_the_epoch_and_the_same_command_resumes_the_study(here, interrupt):
    here.params(**WORSE)
    interrupt(after=8)  # the third epoch of trial 1
    done = here.tune("--apply")
    assert done.status == 130
    assert "Stopping after this epoch" in done.err and "Traceback" not in done.err
    assert done.out.startswith("Study 'flowers photos', 1 of 2 trials: 1 completed, 1 interrupted, ")
    assert "Next: flowers tune" in done.out and "resume the study" in done.out
    assert "learning_rate: 1e-09\n" in paths.PARAMS.read_text(encoding="utf-8")
    assert [(trial.state.name, len(trial.intermediate_values)) for trial in here.trials()] == [
        ("COMPLETE", 5),
        ("WAITING", 3),
    ]
    runs = here.runs()
    assert {name: run.info.status for name, run in runs.items()} == {
        "study: flowers photos": "KILLED",
        "trial 0": "FINISHED",
        "trial 1": "KILLED",
    }
    assert runs["trial 1"].data.tags["flowers.state"] == "interrupted"

    done = here.tune()
    assert done.status == 0
    assert "Resuming (after 1 trials)" in done.err
    here.tune("--storage", "other.journal")
    interrupted, at_once = (
        [(trial.params, trial.value, trial.intermediate_values, trial.user_attrs["attempt"]) for trial in trials]
        for trials in (here.trials(), here.trials("other.journal"))
    )
    assert interrupted == at_once
    statuses = {run.info.run_name.partition(": units")[0]: run.info.status for run in _of_first_study(here)}
    assert statuses == dict.fromkeys(["study: flowers photos", "trial 0", "trial 1"], "FINISHED")


def _of_first_study(here) -> list:
    """The runs of the study in the journal; another storage holds another study of that name."""
    import optuna
    from mlflow import MlflowClient
    from optuna.storages.journal import JournalFileBackend

    storage = optuna.storages.JournalStorage(JournalFileBackend(JOURNAL))
    uid = optuna.load_study(study_name="flowers photos", storage=storage).user_attrs["uid"]
    client = MlflowClient(f"sqlite:///{here.folder / 'mlflow.db'}")
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`flowers.study` = '{uid}'"))


def test_ctrl_c_before_the_first_trial_is_not_an_error(here, monkeypatch, interrupt):
    """The current values are outside of the space, so the study holds no trial yet."""
    here.params(head={"dropout": 0.7})
    connect = store.connect

    def interrupted(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(store, "connect", connect)
        return connect(*args, **kwargs)

    monkeypatch.setattr(store, "connect", interrupted)
    done = here.tune()
    assert done.status == 130
    assert done.out.startswith("Study 'flowers photos', 0 of 3 trials: ")
    assert here.tune("--n-trials", "1").status == 0


def test_ctrl_c_during_the_comparison_keeps_what_was_trained(here, monkeypatch, interrupt):
    from flowers.tuning.study import Study

    here.params(**WORSE | {"tune": WORSE["tune"] | {"n_trials": 1, "confirm_seeds": 2}})
    confirm, confirmed = Study.confirm, []

    def interrupted(self, values, seed, score):
        confirm(self, values, seed, score)
        confirmed.append((values, seed))
        if len(confirmed) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Study, "confirm", interrupted)
    first = here.tune("--apply")
    assert (first.status, len(confirmed)) == (130, 3)
    assert "Next: flowers tune" in first.out
    assert "learning_rate: 1e-09\n" in paths.PARAMS.read_text(encoding="utf-8")
    second = here.tune("--apply")
    assert second.status == 0
    assert len(confirmed) == len(set(confirmed)) == 4
    assert "mean of 2 fresh seeds" in second.out and "Best trial vs params.yaml: " in second.out
    assert "learning_rate: 1e-09\n" not in paths.PARAMS.read_text(encoding="utf-8")


def test_a_named_study_in_the_storage_of_the_environment(here, monkeypatch):
    monkeypatch.setenv("OPTUNA_STORAGE", "sqlite:///shared.db")
    space = {"head.units": {"choices": [[6, 5]]}, "model.unfreeze_blocks": {"low": 1, "high": 1}}
    here.params(tune={"space": space})
    done = here.tune("--n-trials", "1", "--study", "mine", "--apply")
    assert "Starting study 'mine' in sqlite:///shared.db" in done.err
    assert done.out.startswith("Study 'mine', 1 of 1 trials: 1 completed, ")
    assert not Path(JOURNAL).exists()
    document = YAML(typ="safe").load(paths.PARAMS)
    assert (document["head"]["units"], document["model"]["unfreeze_blocks"]) == ([6, 5], 1)


def test_without_mlflow_the_study_is_the_same_and_is_published_later(here, monkeypatch, unused_port):
    with monkeypatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{unused_port}")
        away = here.tune("--n-trials", "2")
    assert away.status == 0
    assert "warning: the study is not in MLflow" in away.err and "secret" not in away.err
    assert here.runs() == {}
    later = here.tune("--n-trials", "2")
    assert (later.status, later.out, later.err) == (0, away.out, "")
    assert sorted(here.runs()) == ["study: flowers photos", "trial 0", "trial 1"]


@pytest.fixture
def unused_port() -> int:
    """A port of this machine that nothing listens on."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize(
    ("storage", "named"),
    [
        ("params.yaml/studies.journal", "params.yaml"),
        ("notes.txt", "notes.txt"),
        ("sqlite:////no/such/f@lder/studies.db", "sqlite:////no/such/f@lder/studies.db"),
        ("nonsense://me:secret@example.org/studies", "nonsense://example.org/studies"),
        ("postgresql://me:secret@127.0.0.1:{port}/studies", "postgresql://127.0.0.1:{port}/studies"),
    ],
)
def test_a_storage_that_cannot_be_used_is_a_one_line_error(here, unused_port, storage, named):
    Path("notes.txt").write_text("Not a journal,\nbut notes.\n")
    before = {name: (here.folder / name).read_bytes() for name in here.files()}
    done = here.tune("--n-trials", "1", "--storage", storage.format(port=unused_port))
    assert named.format(port=unused_port) in done.error
    assert len(done.err.splitlines()) == 1
    assert "secret" not in done.err
    assert {name: (here.folder / name).read_bytes() for name in before} == before


# The cost of a study


@pytest.fixture
def read(monkeypatch) -> dict[str, int]:
    """Counts of what is read: rows of databases, MLflow's included, and lines of journals."""
    import sqlalchemy.orm
    from optuna.storages.journal import JournalFileBackend

    counts, read_logs = {"rows": 0, "lines": 0}, JournalFileBackend.read_logs

    def row(*_: object) -> None:
        counts["rows"] += 1

    def lines(*arguments):
        for line in read_logs(*arguments):
            counts["lines"] += 1
            yield line

    monkeypatch.setattr(JournalFileBackend, "read_logs", lines)
    sqlalchemy.event.listen(sqlalchemy.orm.Mapper, "load", row)
    yield counts
    sqlalchemy.event.remove(sqlalchemy.orm.Mapper, "load", row)


@pytest.mark.parametrize("storage", [JOURNAL, "sqlite:///studies.db"])
def test_a_late_trial_reads_no_more_than_an_early_one(here, read, curve, storage, monkeypatch):
    """Neither from Optuna's storage nor from MLflow; and the importances, seconds after many trials, are found once."""
    monkeypatch.setattr(live, "_EVERY_SECONDS", 1000)
    monkeypatch.setattr(screen, "_REFRESH_SECONDS", 1000.0)
    seen, found = [], []
    trainer = curve(lambda epoch: epoch or seen.append(dict(read)))
    monkeypatch.setattr(worker.Trainer, "fit", lambda _, *arguments: trainer.fit(*arguments))
    shares = study_module.get_param_importances
    monkeypatch.setattr(study_module, "get_param_importances", lambda *a, **b: found.append(1) or shares(*a, **b))
    here.params(tune={"pruner": "median", "warmup_epochs": 50})  # reads the trials, but prunes none
    done = here.tune("--n-trials", "22", "--storage", storage)
    assert "22 of 22 trials: 22 completed" in done.out and "Parameter importances: " in done.out
    each = [{kind: after[kind] - before[kind] for kind in after} for before, after in itertools.pairwise(seen)]
    late = each[11:]  # where the sampler no longer draws at random
    assert len(late) == 10 and late == [late[0]] * 10
    assert (late[0]["lines"] > 0) == (storage == JOURNAL) and late[0]["rows"] > 0
    assert found == [1]
