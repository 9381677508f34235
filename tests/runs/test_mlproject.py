"""`mlflow run`: the DVC command of an entry point and its parameters; MLproject and params.yaml agree."""

import os
import re
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flowers.common.errors import UserError
from flowers.config.params import DECIDE_NO_RESULT
from flowers.runs import mlproject

CHECKOUT = Path(__file__).parents[2]
FAKE_DVC = """
import json, os, sys
mlflow = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
call = {"arguments": sys.argv[1:], "python": sys.executable, "path": os.environ["PATH"], "mlflow": mlflow}
json.dump(call, open("call.json", "w"))
sys.exit(int(os.environ["DVC_STATUS"]))
"""


def project() -> dict:
    return YAML(typ="safe").load(CHECKOUT / "MLproject")


@pytest.fixture
def fake_dvc(tmp_path, monkeypatch):
    """A dvc that writes how it was called to a file and ends with `status`."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/dvc.py").write_text(FAKE_DVC)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    monkeypatch.chdir(tmp_path)

    def ending_with(status: int) -> None:
        monkeypatch.setenv("DVC_STATUS", str(status))

    return ending_with


@pytest.mark.parametrize(
    ("stage", "values", "expected"),
    [
        ("main", [], ["dvc", "repro"]),
        ("train", [], ["dvc", "repro", "train"]),
        ("train", ["head_dropout=0.3"], ["dvc", "exp", "run", "-S", "head.dropout=0.3", "train"]),
        (
            "evaluate",
            ["model_unfreeze_blocks=2", "train_fine_tune_learning_rate=1e-05"],
            [
                "dvc",
                "exp",
                "run",
                "-S",
                "model.unfreeze_blocks=2",
                "-S",
                "train.fine_tune_learning_rate=1e-05",
                "evaluate",
            ],
        ),
        ("main", ["head_units=[64,32]"], ["dvc", "exp", "run", "-S", "head.units=[64,32]"]),
        ("main", ["dataset_path=/my images/a=b"], ["dvc", "exp", "run", "-S", "dataset.path=/my images/a=b"]),
    ],
)
def test_parameters_become_changes_of_an_experiment(stage, values, expected):
    assert mlproject.commands(stage, values) == [expected]


def test_empty_values_change_nothing():
    assert mlproject.commands("train", ["head_dropout=", "train_seed="]) == [["dvc", "repro", "train"]]
    changed = mlproject.commands("main", ["head_dropout=", "train_seed=1", "head_units="])
    assert changed == [["dvc", "exp", "run", "-S", "train.seed=1"]]


@pytest.mark.parametrize("value", ["head_dropout", "", "head.dropout=0.3", "_a=1"])
def test_a_value_of_another_form_raises_an_error_naming_it(value):
    with pytest.raises(UserError, match=re.escape(f"'{value}' is not section_key=value")):
        mlproject.commands("train", ["split_seed=1", value])


def test_an_unknown_entry_point_raises_an_error_with_the_known_ones():
    with pytest.raises(UserError, match="no entry point 'track'; known: main, download, split, train, evaluate, tune"):
        mlproject.commands("track", [])


def test_tune_runs_after_the_split():
    split, search = mlproject.commands("tune", ["n_trials=20", "study=a=b"])
    assert split == ["dvc", "repro", "split"]
    assert search == ["flowers", "tune", "--n-trials", "20", "--study", "a=b"]


def test_an_unknown_option_of_tune_raises_an_error_with_the_known_ones():
    with pytest.raises(UserError, match="'trials=3' is no option of tune; known: n_trials"):
        mlproject.commands("tune", ["trials=3"])


@pytest.mark.parametrize("status", [0, 255])
def test_the_exit_status_is_that_of_dvc(fake_dvc, status):
    fake_dvc(status)
    assert mlproject.run("train", ["head_dropout=0.3"]) == status


def test_dvc_and_its_stages_run_with_this_python(fake_dvc, tmp_path, monkeypatch):
    fake_dvc(0)
    monkeypatch.setenv("PATH", os.defpath)
    mlproject.run("train", ["head_dropout=0.3"])
    call = YAML(typ="safe").load(tmp_path / "call.json")
    assert call["arguments"] == ["exp", "run", "-S", "head.dropout=0.3", "train"]
    assert call["python"] == sys.executable
    assert call["path"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


@pytest.fixture
def opened_run(monkeypatch):
    """The environment that `mlflow run` gives its child, without the store."""
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    run = {"MLFLOW_RUN_ID": "3cce35", "MLFLOW_EXPERIMENT_ID": "0"}
    for name, value in run.items():
        monkeypatch.setenv(name, value)
    return run


@pytest.mark.parametrize("place", ["mlflow.db", "elsewhere/mlflow.db"])
def test_the_run_that_mlflow_opened_is_passed_on_in_its_store(fake_dvc, opened_run, tmp_path, monkeypatch, place):
    fake_dvc(0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / place}")
    mlproject.run("train", ["head_dropout=0.3"])
    passed = YAML(typ="safe").load(tmp_path / "call.json")["mlflow"]
    assert passed == opened_run | {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / place}"}


def test_mlproject_has_the_entry_points_of_the_code():
    assert tuple(project()["entry_points"]) == mlproject.ENTRY_POINTS


@pytest.mark.parametrize("name", mlproject.STAGES)
def test_every_parameter_of_an_entry_point_is_a_key_in_its_command(name):
    entry = project()["entry_points"][name]
    parameters = dict(entry["parameters"])
    stage = parameters.pop("stage")
    assert stage["default"] == name
    assert parameters
    sections = YAML(typ="safe").load(CHECKOUT / "params.yaml")
    for parameter, declared in parameters.items():
        (command,) = mlproject.commands(name, [f"{parameter}=x"])
        (change,) = command[4:5]
        section, key = change.removesuffix("=x").split(".")
        assert key in sections[section], parameter
        assert declared == {"type": "string", "default": ""}, parameter
    pipeline = {name: keys for name, keys in sections.items() if name not in DECIDE_NO_RESULT}
    assert list(parameters) == [f"{section}_{key}" for section, keys in pipeline.items() for key in keys]
    words = entry["command"].split()
    assert words[:6] == ["PYTHONPATH=src", "python", "-m", "flowers", "project", "{stage}"]
    assert words[6:] == [f"{parameter}={{{parameter}}}" for parameter in parameters]


def test_the_parameters_of_tune_are_options_of_its_command():
    from typer.testing import CliRunner

    from flowers.cli import app

    entry = project()["entry_points"]["tune"]
    assert tuple(entry["parameters"]) == ("stage", *mlproject.TUNE_OPTIONS)
    words = entry["command"].split()
    assert words[:6] == ["PYTHONPATH=src", "python", "-m", "flowers", "project", "{stage}"]
    assert words[6:] == [f"{parameter}={{{parameter}}}" for parameter in mlproject.TUNE_OPTIONS]
    shown = CliRunner().invoke(app, ["tune", "--help"], env={"COLUMNS": "200"}).output
    assert all(f"--{parameter.replace('_', '-')}" in shown for parameter in mlproject.TUNE_OPTIONS)
