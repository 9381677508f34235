"""Results found by the names people use: runs, aliases, experiments, revisions, checkouts."""

import shutil

import pytest
from pipeline_world import CHECKOUT, Repository
from results import table

from flowers import tracking
from flowers.common.errors import UserError
from flowers.runs import find


def write_predictions(world, wrong=()) -> None:
    world.write("build/evaluation/predictions.csv", table(wrong).to_csv(index=False))


@pytest.fixture
def run(world):
    """A published run with predictions."""
    write_predictions(world, wrong=[0])
    tracking.publish(world.params)
    return world.runs(only=1)[0]


def one(name):
    (found,) = find.find([name])
    return found


def test_a_run_is_found_by_its_id_the_start_of_it_and_its_name(world, run):
    for name in (run.info.run_id, run.info.run_id[:8], run.info.run_name):
        found = one(name)
        assert found.name == name and found.place == f"run {run.info.run_id[:8]} in MLflow"
        assert (found.predicted != found.labels).sum() == 1
        assert found.params["head.dropout"] == "0.2" and "tune.n_trials" not in found.params


def test_a_run_is_found_by_a_models_alias(world, run):
    client = world.client()
    client.create_registered_model("flowers-local")
    client.create_model_version("flowers-local", world.models(run)[0].artifact_location, run.info.run_id)
    client.set_registered_model_alias("flowers-local", "champion", "1")
    for name in ("champion", "flowers-local@champion", "models:/flowers-local@champion"):
        assert one(name).place == f"run {run.info.run_id[:8]} in MLflow"
    with pytest.raises(UserError, match="'challenger' is no run"):
        find.find(["challenger"])


def test_a_name_of_two_runs_raises_an_error_naming_both(world, run):
    world.set("train.batch_size", 7)  # not part of the name
    tracking.publish(world.params)
    first, second = (each.info.run_id[:8] for each in world.runs(only=2))
    with pytest.raises(UserError, match=rf"fits 2 runs: {second} .*, {first} .*; give 6 or more characters of its id"):
        find.find([run.info.run_name])


def test_a_run_is_found_by_the_dvc_experiment_that_led_to_it(world, monkeypatch):
    write_predictions(world)
    monkeypatch.setenv("DVC_EXP_NAME", "sappy-orfe")
    tracking.publish(world.params)
    assert one("sappy-orfe").place.endswith("in MLflow")
    with pytest.raises(UserError, match="is no run"):
        find.find(["sappy"])


def test_a_deleted_run_raises_an_error_with_the_command_to_restore_it(world, run):
    world.client().delete_run(run.info.run_id)
    for name in (run.info.run_id, run.info.run_id[:8]):
        with pytest.raises(
            UserError, match=f"was deleted; to have it back: mlflow runs restore --run-id {run.info.run_id}"
        ):
            find.find([name])


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({}, "was not made by this project's pipeline: it has no tag flowers.run_key"),
        (
            {"flowers.group": "g", "flowers.training": "seed 0"},
            "is of `flowers seeds`, which keeps scores and no model",
        ),
        ({"flowers.group": "g"}, "has no finished training; `flowers seeds` resumes it"),
        ({"flowers.study": "s"}, "belongs to a study: `flowers tune --apply && dvc repro`"),
        ({"flowers.run_key": "k"}, "is not complete .* it was not evaluated"),
        ({"flowers.run_key": "k", "flowers.result": "r"}, "has lost its artifact .*flowers track --force"),
    ],
)
def test_a_run_without_predictions_raises_an_error_with_the_reason(world, run, tags, reason):
    made = world.client().create_run(run.info.experiment_id, run_name="odd one", tags=tags)
    with pytest.raises(UserError, match=reason):
        find.find([made.info.run_id])


def test_a_run_of_mlflow_run_leads_to_the_one_that_holds_the_result(world, run):
    tags = {"flowers.result_run": run.info.run_id}
    made = world.client().create_run(run.info.experiment_id, run_name="linked", tags=tags)
    assert one(made.info.run_id).place == f"run {run.info.run_id[:8]} in MLflow"


@pytest.mark.parametrize(
    ("tag", "commit"),
    [
        (f'["{"a" * 40} clean", "{"b" * 40} clean"]', "b" * 40),
        (f'["{"a" * 40} with changes"]', ""),  # the commit alone does not hold its code
        ('["--output=stolen clean"]', ""),  # not for git, whoever edited the tag
        ("edited by hand", ""),
    ],
)
def test_the_commit_of_a_run_is_one_that_holds_its_code(world, run, tag, commit):
    world.client().set_tag(run.info.run_id, "flowers.commits", tag)
    assert one(run.info.run_id).commit == commit


@pytest.mark.parametrize("name", ["0123456789abcdef", 'it\'s "odd"', "--help"])
def test_an_unknown_name_raises_an_error_with_all_kinds_of_names(world, run, name):
    with pytest.raises(
        UserError, match=r"is no run in MLflow \(id, name or alias\), DVC experiment, git revision or fol"
    ):
        find.find([name])


def test_a_failing_server_raises_an_error_without_the_password(world, run, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from flowers.tracking import lookup

    def fail(*_):
        raise MlflowException("API request to http://user:secret@host/api failed")

    client = world.client()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@host")
    monkeypatch.setattr(MlflowClient, "download_artifacts", fail)
    with pytest.raises(tracking.StoreUnreachable) as raised:
        lookup.artifact(client, run, "evaluation/predictions.csv")
    assert "secret" not in str(raised.value) and "http://host/api" in str(raised.value)


def test_a_server_that_is_down_raises_an_error(world, closed_port, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(tracking.StoreUnreachable, match="cannot be reached"):
        find.find(["champion"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path,label,predicted\n", "have no hashes of the images; evaluate it again"),
        ("a,b\n1,2\n", "not in the form that evaluate writes"),
        ("", "cannot be read"),
        (
            "path,sha256,label,predicted,probability,p(rose)\na,b,tulip,rose,1,1\n",
            "not in the form that evaluate writes",
        ),
        (
            "path,sha256,label,predicted,probability,p(rose)\na,b,rose,rose,1,much\n",
            "probabilities that are not numbers",
        ),
        ("path,sha256,label,predicted,probability,p(rose),p(b)\na,b,rose,rose,.6,.9,.4\n", "contradict each other"),
        ("path,sha256,label,predicted,probability,p(rose),p(b)\na,b,rose,b,.6,.6,.4\n", "contradict each other"),
    ],
)
def test_damaged_predictions_raise_an_error(world, content, reason):
    world.write("build/evaluation/predictions.csv", content)
    with pytest.raises(UserError, match=f"'workspace': .*{reason}"):
        find.find(["workspace"])


def test_a_workspace_without_a_result_raises_an_error(world):
    (world.folder / "build/evaluation/predictions.csv").unlink()
    with pytest.raises(UserError, match=r"predictions\.csv: cannot be read; `dvc repro` makes it"):
        find.find(["workspace"])


PIPELINE = """\
stages:
  evaluate:
    cmd: python make.py
    deps: [make.py]
    params: [head]
    outs: [build/model, build/evaluation/predictions.csv]
"""
MAKE = f"""\
import pathlib, re, shutil, sys
sys.path[:0] = [{str(CHECKOUT / "src")!r}, {str(CHECKOUT / "tests/helpers")!r}]
from results import table
wrong = int(re.search(r"dropout: 0\\.(\\d)", open("params.yaml").read())[1])
for folder in ("build/model", "build/evaluation"):
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
pathlib.Path("build/model/model.json").write_text('{{"precision": "float32"}}')
table(range(wrong)).to_csv("build/evaluation/predictions.csv", index=False)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A stage that writes predictions with as many errors as the dropout's digit; a tag and an experiment."""
    here = Repository(tmp_path_factory.mktemp("repository"), tmp_path_factory.mktemp("cache"))
    files = {"dvc.yaml": PIPELINE, "make.py": MAKE, ".gitignore": "/build/\n", "params.yaml": "head:\n  dropout: 0.2\n"}
    for name, text in files.items():
        (here.folder / name).write_text(text)
    here.git("init", "--quiet", "--initial-branch", "main")
    here.dvc("init", "--quiet")
    here.dvc("repro", "--quiet")
    here.commit()
    here.git("tag", "first")
    here.dvc("exp", "run", "--quiet", "--name", "more-dropout", "-S", "head.dropout=0.5")
    return here


@pytest.fixture
def in_repository(repository, monkeypatch):
    monkeypatch.chdir(repository.folder)
    return repository


def errors(found) -> int:
    return int((found.predicted != found.labels).sum())


def test_experiments_and_revisions_are_found_in_dvcs_cache(in_repository):
    first, experiment, here = find.find(["first", "more-dropout", "workspace"])
    assert (errors(first), errors(experiment), errors(here)) == (2, 5, 5)
    assert first.place.startswith("commit ") and experiment.place.startswith("DVC experiment ")
    assert (first.params["head.dropout"], experiment.params["head.dropout"]) == ("0.2", "0.5")
    assert first.inputs == experiment.inputs == here.inputs
    assert first.inputs["precision of the backbone"] == "float32" and "make.py" in first.inputs


def test_another_checkout_is_found_by_its_folder(in_repository, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert errors(one(str(in_repository.folder))) == 5


def test_a_result_made_without_dvc_has_no_known_inputs(in_repository, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(in_repository.folder, copy, ignore=shutil.ignore_patterns(".dvc", ".git"))
    (copy / "build/evaluation/predictions.csv").write_text(table([7]).to_csv(index=False))
    assert (one(str(copy)).inputs, one(str(copy)).params) == ({}, {})


def test_params_edited_since_a_result_was_made_are_not_its_parameters(in_repository, capsys):
    (in_repository.folder / "params.yaml").write_text("head:\n  dropout: 0.9\n")
    try:
        assert one("workspace").params == {"head.dropout": "0.5"}
        assert "params.yaml was changed since the result was made" in capsys.readouterr().err
    finally:
        in_repository.git("checkout", "--quiet", "first", "--", "params.yaml")


def test_a_revision_without_a_result_and_one_that_dvc_lost_raise_an_error(in_repository):
    in_repository.git("checkout", "--quiet", "--orphan", "empty")
    in_repository.git("rm", "--quiet", "--force", "dvc.lock")
    in_repository.git("commit", "--quiet", "--message", "no lock")
    in_repository.git("checkout", "--quiet", "--force", "main")
    with pytest.raises(UserError, match=r"'empty' \(commit .*\) has no dvc.lock: nothing was run there"):
        find.find(["empty"])
    (in_repository.folder / "params.yaml").write_text("head:\n  dropout: 0.7\n")
    in_repository.dvc("repro", "--quiet")
    in_repository.git("commit", "--quiet", "--all", "--message", "seven")
    in_repository.git("tag", "seven")
    assert errors(one("seven")) == 7
    in_repository.git("checkout", "--quiet", "first", "--", "params.yaml", "dvc.lock")
    in_repository.dvc("checkout", "--quiet")
    in_repository.dvc("gc", "--quiet", "--force", "--workspace")
    with pytest.raises(UserError, match=r"'seven' .*predictions\.csv is not in the DVC cache or a remote"):
        find.find(["seven"])
