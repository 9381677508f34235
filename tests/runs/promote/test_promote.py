"""`flowers promote`: which runs become champion, and what is logged of the decision."""

import json
import os
import subprocess
import sys

import pytest

from flowers import tracking
from flowers.common.errors import UserError
from flowers.runs.promote import run as promotion
from flowers.tracking import registry
from flowers.tracking import store as tracking_store


def test_without_a_champion_the_other_checks_decide(store, capsys):
    first = store.publish(wrong=range(20))
    assert store.champion is None
    assert store.promote(first) == 0
    assert store.champion.run_id == first
    output = capsys.readouterr()
    assert (
        "with no champion yet" in output.out
        and "No champion yet: only the minimums and the prediction check apply." in output.out
    )
    assert "Champion: flowers-local, version 1\nTest scores, read after the decision: accuracy 75.0 %" in output.err


def test_a_better_model_becomes_champion_and_the_decision_is_logged(store):
    first, second = store.publish(wrong=range(12)), store.publish(batch_size=7)
    store.promote(first)
    assert store.promote(second[:8]) == 0
    champion = store.champion
    assert (champion.run_id, str(champion.version)) == (second, "2")
    (decision,) = json.loads(champion.tags["flowers.promotion"])
    assert decision["succeeds"] == "1" and decision["forced"] is None
    assert decision["checks"]["better than the champion"].startswith("passed: 12 images gained, 0 lost of 60")
    readings = json.loads(store.world.client().get_run(second).data.tags["flowers.test_readings"])
    assert len(readings) == 1 and readings[0].endswith("UTC, promoted as flowers-local, version 2")


@pytest.mark.parametrize(
    ("champion", "candidate", "output"),
    [
        (range(12), range(8, 20), "not significant"),
        ([], range(12), "0 images gained, 12 lost"),
        (range(4), [], "too few images differ for a significant result; the champion stays"),
    ],
)
def test_a_model_that_is_not_significantly_better_changes_nothing(store, capsys, champion, candidate, output):
    first, second = store.publish(wrong=champion), store.publish(wrong=candidate, batch_size=7)
    store.promote(first)
    capsys.readouterr()
    assert store.promote(second) == 1
    assert store.champion.run_id == first
    shown = capsys.readouterr()
    assert output in " ".join(shown.out.split())
    assert "Not promoted" in shown.err and "Test scores" not in shown.err
    tags = store.world.client().get_run(second).data.tags
    assert "flowers.test_readings" not in tags
    assert len(store.world.client().search_model_versions("name = 'flowers-local'")) == 1


def test_a_class_below_its_minimum_recall_prevents_a_promotion(store, capsys):
    run_id = store.publish(wrong=[20, 21, 22])  # roses
    store.world.set("promote.floors", {"rose": 0.9, "tulip": 1.0})
    assert store.promote(run_id) == 1 and store.champion is None
    assert "17 of 20 right, minimum 90 %" in " ".join(capsys.readouterr().out.split())
    store.world.set("promote.floors", {"rose": 0.85})
    assert store.promote(run_id) == 0


def test_a_detector_below_the_minimum_prevents_a_promotion(store, capsys):
    store.world.write("build/evaluation/novelty.json", '{"validation_class_left_out": {"auroc": 0.85, "fpr95": 0.5}}')
    run_id = store.publish()
    store.world.set("promote.unknown_auroc", 0.9)
    assert store.promote(run_id) == 1 and store.champion is None
    assert "AUROC 0.850 of a class that is left out, minimum 0.9" in " ".join(capsys.readouterr().out.split())
    store.world.set("promote.unknown_auroc", 0.8)
    assert store.promote(run_id) == 0


@pytest.mark.parametrize("content", ["{}", '{"kept": 0.9, "validation_class_left_out": {}}'])
def test_a_run_without_a_measured_detector_does_not_reach_the_minimum(store, capsys, content):
    store.world.write("build/evaluation/novelty.json", content)
    run_id = store.publish()
    store.world.set("promote.unknown_auroc", 0.5)
    assert store.promote(run_id) == 1
    assert "no such measurement" in " ".join(capsys.readouterr().out.split())


def test_a_minimum_recall_of_an_unknown_class_raises_an_error(store):
    store.world.set("promote.floors", {"daffodil": 0.9})
    run_id = store.publish()
    with pytest.raises(
        UserError,
        match=r"params.yaml: promote.floors: 'daffodil' is no class of run .*; its classes: daisy, rose, tulip",
    ):
        store.promote(run_id)


def test_other_predictions_than_evaluated_prevent_a_promotion(store):
    store.same_predictions = False
    assert store.promote(store.publish()) == 1
    assert store.champion is None


def test_force_promotes_and_logs_the_reason(store):
    first, second = store.publish(), store.publish(wrong=range(9), batch_size=7)
    store.promote(first)
    assert store.promote(second, force="the labels of the champion were wrong") == 0
    (decision,) = json.loads(store.champion.tags["flowers.promotion"])
    assert decision["forced"] == "the labels of the champion were wrong"
    assert decision["checks"]["better than the champion"].startswith("failed")
    with pytest.raises(UserError, match="--force takes the reason"):
        store.promote(first, force=" ")


def test_other_validation_images_prevent_a_promotion(store, capsys):
    first, second = store.publish(wrong=range(12)), store.publish(batch_size=7, per_class=21)
    store.promote(first)
    assert store.promote(second) == 1
    assert "the champion has other validation images" in " ".join(capsys.readouterr().out.split())


def test_the_champion_is_not_promoted_twice(store, capsys):
    first = store.publish()
    store.promote(first)
    assert store.promote("champion") == 0
    assert "is already the champion (version 1)" in capsys.readouterr().err
    assert len(store.world.client().search_model_versions("name = 'flowers-local'")) == 1


def test_back_to_an_earlier_champion_makes_no_second_version(store):
    first, second = store.publish(wrong=range(12)), store.publish(batch_size=7)
    store.promote(first), store.promote(second)
    assert store.promote(first, force="back") == 0
    assert (store.champion.run_id, str(store.champion.version)) == (first, "1")
    decisions = json.loads(store.champion.tags["flowers.promotion"])
    assert [decision["forced"] for decision in decisions] == [None, "back"]


def test_a_model_trained_on_the_validation_images_can_only_be_forced(store, capsys):
    first = store.publish(wrong=range(30))
    store.promote(first)
    store.world.set("train.on", "train+val")
    second = store.publish(batch_size=7)
    assert store.promote(second) == 1 and store.champion.run_id == first
    shown = " ".join(capsys.readouterr().out.split())
    assert "it was trained on the validation images, too" in shown and "images gained" not in shown
    assert store.promote(second, force="all images count") == 0
    store.world.set("train.on", "train")
    third = store.publish(batch_size=8)
    assert store.promote(third) == 1  # nor is there a comparison on images that the champion was trained on
    assert "the champion cannot be compared: it was trained on" in " ".join(capsys.readouterr().out.split())
    assert store.promote(third, force="back to a model that can be compared") == 0


def test_a_champion_whose_run_is_gone_for_good_can_be_followed(store, capsys):
    first, second = store.publish(wrong=range(12)), store.publish(batch_size=7)
    store.promote(first)
    store.world.client().delete_run(first)
    assert store.promote(second) == 0  # deleted it is still there to compare with
    third = store.publish(batch_size=8)
    store.world.client().delete_run(second)
    gc = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", tracking_store.uri()]
    environment = os.environ | {"MLFLOW_TRACKING_URI": tracking_store.uri()}
    subprocess.run(gc, check=True, env=environment, capture_output=True)
    assert store.promote(third) == 1
    assert "the champion cannot be compared: its run is gone for good" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match="'champion' is version 2 of a run that is gone for good"):
        store.promote("champion")
    assert store.promote(third, force="the old one is gone") == 0 and store.champion.run_id == third


def test_a_model_stays_with_the_data_set_it_was_trained_on(store):
    run_id = store.publish()
    store.world.set("dataset.name", "flower_photos")
    assert store.promote(run_id) == 0
    assert store.champion.run_id == run_id  # of flowers-local


def test_test_scores_are_not_read_if_the_reading_cannot_be_logged(store, monkeypatch, capsys):
    from mlflow.exceptions import MlflowException

    def fail(*_):
        raise MlflowException("the disk is full")

    monkeypatch.setattr(registry, "note_reading", fail)
    run_id = store.publish()
    assert store.promote(run_id) == 0 and store.champion.run_id == run_id
    output = capsys.readouterr().err
    assert "Champion: flowers-local, version 1" in output and "its test scores are not read" in output
    assert "accuracy" not in output


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("nobody", "'nobody' is no run in MLflow"),
        ("odd one", "was not made by this project's pipeline"),
        ("a trial", "belongs to a study: `flowers tune --apply && dvc repro`"),
    ],
)
def test_a_run_without_a_model_of_this_project_raises_an_error(store, name, output):
    store.publish()
    client, experiment = store.world.client(), store.world.runs(only=1)[0].info.experiment_id
    client.create_run(experiment, run_name="odd one")
    client.create_run(experiment, run_name="a trial", tags={"flowers.study": "s"})
    with pytest.raises(UserError, match=output):
        store.promote(name)
    assert store.champion is None


def test_a_run_that_lost_its_model_leaves_the_champion_in_place(store):
    first, second = store.publish(wrong=range(12)), store.publish(batch_size=7)
    store.promote(first)
    client = store.world.client()
    for model in client.search_logged_models(
        [client.get_run(second).info.experiment_id], f"source_run_id = '{second}'"
    ):
        client.delete_logged_model(model.model_id)
    with pytest.raises(UserError, match="holds no model; `flowers track --force`"):
        store.promote(second)
    assert store.champion.run_id == first


def test_a_promotion_by_another_process_meanwhile_raises_an_error(store, monkeypatch):
    first, second, third = store.publish(wrong=range(20)), store.publish(batch_size=7), store.publish(batch_size=8)
    store.promote(first)
    checks = promotion._checks

    def meanwhile(client, *arguments):
        monkeypatch.setattr(promotion, "_checks", checks)
        registry.promote(client, "flowers-local", client.get_run(third), registry.champion(client, "flowers-local"), {})
        return checks(client, *arguments)

    monkeypatch.setattr(promotion, "_checks", meanwhile)
    with pytest.raises(UserError, match="version 2 became champion meanwhile; promote again"):
        store.promote(second)
    assert store.champion.run_id == third


def test_a_registry_that_fails_midway_moves_no_alias(store, monkeypatch):
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    first, second = store.publish(wrong=range(12)), store.publish(batch_size=7)
    store.promote(first)

    def fail(*_, **__):
        raise MlflowException("the disk is full")

    for step in ("create_model_version", "set_model_version_tag", "set_registered_model_alias"):
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, step, fail)
            with pytest.raises(UserError, match=r"promoting in .* failed: the disk is full"):
                store.promote(second)
        assert store.champion.run_id == first
    assert store.promote(second) == 0
    assert len(store.world.client().search_model_versions("name = 'flowers-local'")) == 2


def test_a_server_that_is_down_raises_an_error(store, closed_port, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    with pytest.raises(tracking.StoreUnreachable, match="cannot be reached"):
        store.promote("champion")
