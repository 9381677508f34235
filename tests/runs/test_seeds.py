"""`flowers seeds`: a group of real trainings in a real store, resumed and compared."""

import shutil

import pytest
from tracking_world import alone

from flowers.common.errors import UserError
from flowers.reporting import measures
from flowers.runs import find, seeds
from flowers.runs.compare import leaderboard
from flowers.tracking import store

FILES = {
    "pyproject.toml": '[tool.flowers.numerics]\ntensorflow = "1"\n',
    "src/code.py": "",
    "dvc.yaml": "stages:\n  train: {deps: [src/code.py]}\n  evaluate: {deps: [src/code.py]}\n",
}


@pytest.fixture
def checkout(first_world, fresh_database, tmp_path, monkeypatch, cheap_backbone):
    """A checkout after download and split, with an empty store."""
    world = first_world.copy(tmp_path / "checkout")
    alone(monkeypatch, world.folder)
    shutil.copy(fresh_database, "mlflow.db")
    for name, text in FILES.items():
        (world.folder / name).parent.mkdir(exist_ok=True)
        (world.folder / name).write_text(text)
    return world


def test_a_group_is_resumed_with_more_seeds_and_compared(checkout, capsys, monkeypatch):
    settings = checkout.settings(train={"epochs": 2})
    seeds.seeds(settings, 2, 1)
    first = capsys.readouterr()
    assert "2 trainings, each scored on the same 6 test images." in first.out
    trained = []
    monkeypatch.setattr(
        seeds, "_train", lambda settings, wanted, *rest: trained.append(wanted) or train(settings, wanted, *rest)
    )
    seeds.seeds(settings, 2, 1)
    assert capsys.readouterr().out == first.out and trained == []
    seeds.seeds(settings, 3, 1)
    assert "3 trainings" in capsys.readouterr().out and trained == [[(2, 0)]]

    runs = seeds.GroupRuns(settings, 1, "float32")
    client, parent = runs.client, runs.client.get_run(runs.parent.info.run_id)
    group = find.group(client, parent, "mine")
    assert [len(each) for each in (group.group, group.trainings)] == [3, 3]
    right = [float((each.argmax(axis=1) == group.labels).mean()) for each in group.trainings]
    history = {point.step: point.value for point in client.get_metric_history(parent.info.run_id, "test_accuracy")}
    assert history == pytest.approx({2: sum(right[:2]) / 2, 3: sum(right) / 3})
    assert {"curves.png"} <= {item.path for item in client.list_artifacts(parent.info.run_id)}
    assert "3 trainings" in parent.data.tags["mlflow.note.content"]
    assert group.inputs["version of tensorflow"] == "1" and group.inputs["precision of the backbone"] == "float32"

    seeds.seeds(checkout.settings(train={"epochs": 2}, head={"dropout": 0.9}), 1, 1)
    capsys.readouterr()
    monkeypatch.setattr(leaderboard.params, "load", lambda: settings)
    leaderboard.leaderboard(markdown=True, html=None)
    page = capsys.readouterr().out
    assert "2 results on 6 test images" in page and "seeds: " in page and " ± " in page


def test_a_note_of_a_person_stays_and_an_interrupted_group_is_not_running(checkout, monkeypatch):
    settings = checkout.settings(train={"epochs": 1})
    seeds.seeds(settings, 1, 1)
    runs = seeds.GroupRuns(settings, 1, "float32")
    runs.client.set_tag(runs.parent.info.run_id, "mlflow.note.content", "mine")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(seeds.trained, "probabilities", interrupt)
        seeds.seeds(settings, 2, 1)
    assert runs.client.get_run(runs.parent.info.run_id).info.status == "KILLED"
    seeds.seeds(settings, 1, 1)
    parent = runs.client.get_run(runs.parent.info.run_id)
    assert (parent.info.status, parent.data.tags["mlflow.note.content"]) == ("FINISHED", "mine")


def interrupt(*_given):
    raise KeyboardInterrupt


train = seeds._train


def test_folds_train_on_parts_of_train_and_val(checkout, capsys):
    seeds.seeds(checkout.settings(train={"epochs": 1}), 1, 3)
    out = " ".join(capsys.readouterr().out.split())
    assert "3 trainings, each scored on the same 6 test images." in out
    assert "learns from 2 of 3 folds of train and val" in out and measures.FOLDS in out
    runs = seeds.GroupRuns(checkout.settings(train={"epochs": 1}), 3, "float32")
    assert list(runs.finished()) == [f"seed 0, fold {fold} of 3" for fold in (1, 2, 3)]
    assert seeds.GroupRuns(checkout.settings(train={"epochs": 1}), 1, "float32").finished() == {}
    assert seeds.GroupRuns(checkout.settings(train={"epochs": 1}), 3, "bfloat16").finished() == {}


def test_folds_that_are_impossible_raise_an_error(checkout):
    with pytest.raises(UserError, match=r"7 folds need 7 images of each class.*: take fewer folds, or add images"):
        seeds.seeds(checkout.settings(), 1, 7)
    with store.lock():
        assert [each.name for each in store.connect().search_experiments()] == ["Default"]  # no empty group
    with pytest.raises(UserError, match=r"train\.on must be 'train'"):
        seeds.seeds(checkout.settings(train={"on": "train+val"}), 1, 2)
