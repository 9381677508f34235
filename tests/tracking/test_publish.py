"""Publishing: the content of a run, publishing twice, and rebuilding a lost store."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from tracking_world import CLASSES, HISTORY, SCORES

from flowers import tracking
from flowers.common.errors import UserError
from flowers.tracking import runs


def everything(world, run) -> dict:
    """Everything that publishing may change on a run."""
    return {
        "run": run.to_dictionary(),
        "points": world.points(run),
        "artifacts": world.artifacts(run),
        "models": [(model.model_id, model.last_updated_timestamp) for model in world.models(run)],
    }


def comparable(world, run) -> dict:
    """What a run holds, without ids and times."""
    tags = {name: value for name, value in run.data.tags.items() if name not in (runs.PROCESSOR, runs.CHECKOUT)}
    return {
        "params": run.data.params,
        "tags": tags,
        "points": world.points(run),
        "artifacts": world.artifacts(run),
        "models": [(model.name, model.tags) for model in world.models(run)],
        "inputs": [(item.dataset.name, item.dataset.digest) for item in run.inputs.dataset_inputs],
        "name": run.info.run_name,
        "status": run.info.status,
    }


def stream(world, rows) -> None:
    with tracking.live_run(world.params) as on_epoch:
        for row in rows:
            on_epoch(row)


def publish(world):
    tracking.publish(world.params)
    return world.runs(only=1)[0]


def test_parameters_are_logged_as_params_yaml_has_them(published):
    _, run = published
    logged = run.data.params
    assert logged["head.units"] == "[256, 128, 64]"
    assert logged["dataset.name"] == "local"
    assert logged["dataset.mirror"] == "null"
    assert {name.split(".")[0] for name in logged} == {
        "dataset", "split", "model", "head", "augmentation", "train", "evaluate"
    }  # fmt: skip


def test_every_epoch_and_every_score_is_logged_once(published):
    world, run = published
    points = world.points(run)
    for name in ("learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "val_mean_per_class_accuracy"):
        assert points[name] == [(row["epoch"], pytest.approx(row[name])) for row in HISTORY]
    for name, value in SCORES.items():
        assert points[f"test_{name}"] == [(0, value)]
    assert not [name for name in points if name.endswith(("_low", "_high"))]


def test_comparisons_open_with_the_validation_score(published):
    """MLflow takes the first metric in the order of its answers, that of logging."""
    _, run = published
    assert next(iter(run.data.metrics)) == "val_mean_per_class_accuracy"


def test_the_run_holds_its_files(published):
    from mlflow.artifacts import load_text

    world, run = published
    held = world.artifacts(run)
    for name in ("params.yaml", "dvc.lock", "split.csv", "history.csv", "classes.json"):
        assert held[name] > 0
    for name in ("metrics.json", "predictions.csv", "per_class.csv", "confusion.csv", "confusion.png"):
        assert f"evaluation/{name}" in held
    classes = load_text(f"{run.info.artifact_uri}/classes.json")
    assert json.loads(classes) == CLASSES


def test_mlflow_reads_the_tables_back_with_odd_class_names(published, monkeypatch):
    world, run = published
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{world.database}")
    table = world.client().load_table(run.info.experiment_id, "tables/confusion.json", run_ids=[run.info.run_id])
    assert table.to_dict("list") == {"label": ["NA", "rose"], "NA": [3, 0], "rose": [1, 4]}
    scores = world.client().load_table(run.info.experiment_id, "tables/scores.json", run_ids=[run.info.run_id])
    assert next(scores.itertuples(index=False)) == ("accuracy", 0.75, pytest.approx(0.6), 0.9)
    assert scores["low"].isna().tolist() == [False, True, True, True]


def test_the_data_set_is_an_input_with_its_digest(published):
    _, run = published
    (item,) = run.inputs.dataset_inputs
    assert item.dataset.name == "flowers local"
    assert run.data.tags["flowers.data_digest"].startswith(item.dataset.digest)
    assert json.loads(item.dataset.profile) == {"classes": 3, "train": 3, "test": 3}


def test_tags_hold_the_digests_and_the_note_holds_the_scores(published):
    _, run = published
    tags = run.data.tags
    for name in ("data", "split", "weights", "code", "model"):
        assert len(tags[f"flowers.{name}_digest"]) == 64
    assert tags["flowers.precision"] == "float32"
    note = tags["mlflow.note.content"]
    assert "| accuracy | 0.7500 | 0.6000 to 0.9000 |" in note
    assert "Test scores on 3 images of 3 classes" in note and "3 of head, 1 of fine-tune" in note


def weights(world, run) -> Path:
    """The weights in the model of a run."""
    (model,) = world.models(run)
    return world.folder / f"mlruns/flowers_local/models/{model.model_id}/artifacts/artifacts/resnet50.npz"


def publish_another(world, accuracy: float) -> None:
    """Publish another result: a run of its own."""
    world.write("build/evaluation/metrics.json", json.dumps({**SCORES, "accuracy": accuracy}))
    tracking.publish(world.params)


def test_equal_weights_of_several_runs_are_one_file_that_outlives_each_run(world):
    publish(world)
    publish_another(world, 0.76)
    publish_another(world, 0.77)
    first, second, third = [weights(world, run) for run in world.runs(only=3)]
    assert first.samefile(second) and first.samefile(third)
    assert not first.samefile(world.folder / "build/weights/resnet50.npz")  # which is written over
    assert [path.name for path in second.parent.iterdir() if path.is_file()] == ["resnet50.npz"]

    shutil.rmtree(first.parents[2])
    assert second.read_text() == third.read_text() == "weights"
    scores = [run.data.metrics["test_accuracy"] for run in world.runs()]
    assert scores == [0.75, 0.76, 0.77]  # of one key: a complete run is never overwritten
    world.write("build/weights/resnet50.npz", "WEIGHTS")
    publish_another(world, 0.78)
    assert weights(world, world.runs(only=4)[-1]).read_text() == "WEIGHTS"


def test_without_hard_links_each_run_has_a_copy_of_the_weights(world, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    publish(world)
    publish_another(world, 0.76)
    first, second = [weights(world, run) for run in world.runs(only=2)]
    assert first.read_text() == second.read_text() == "weights"
    assert not first.samefile(second)


def test_the_model_is_logged_with_signature_example_and_pinned_requirements(published):
    from mlflow.models import Model

    world, run = published
    (model,) = world.models(run)
    assert str(model.status) == "READY"
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    assert {metric.key: metric.value for metric in model.metrics}["test_accuracy"] == 0.75
    folder = world.folder / "mlruns/flowers_local/models" / model.model_id / "artifacts"
    info = Model.load(str(folder))
    assert [(column.name, str(column.type)) for column in info.signature.inputs] == [("image", "DataType.binary")]
    assert [column.name for column in info.signature.outputs] == [
        *("label", "probability", "unsure", "known", "novelty", "nearest", "best")
    ]
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in requirements)
    assert {line.split("==")[0] for line in requirements} >= {"mlflow", "keras", "numpy", "pillow"}
    assert (folder / "input_example.json").exists()
    assert not list(folder.rglob("*.pkl"))
    assert (folder / "artifacts/resnet50.npz").read_text() == "weights"


@pytest.mark.parametrize("force", [False, True])
def test_publishing_twice_changes_nothing(world, force):
    published = publish(world)
    before = everything(world, published)
    again = tracking.publish(world.params, force=force)
    assert again.already_there
    (run,) = world.runs(only=1)
    assert everything(world, run) == before


def test_streaming_then_publishing_gives_the_same_run_as_publishing_alone(make_world):
    streamed = make_world("streamed")
    stream(streamed, HISTORY)
    tracking.publish(streamed.params)
    rebuilt = make_world("rebuilt")  # the same files, another store
    tracking.publish(rebuilt.params)
    (one,), (other,) = streamed.runs(only=1), rebuilt.runs(only=1)
    assert comparable(streamed, one) == comparable(rebuilt, other)


def test_values_rounded_in_the_file_are_the_same_points(world):
    stream(world, [{**row, "loss": row["loss"] + 1e-8} for row in HISTORY])
    tracking.publish(world.params)
    (run,) = world.runs(only=1)
    assert len(world.points(run)["loss"]) == len(HISTORY)


def test_a_step_that_a_server_wrote_in_part_is_completed(world):
    stream(world, [{"epoch": row["epoch"], "loss": row["loss"]} for row in HISTORY])
    tracking.publish(world.params)
    (run,) = world.runs(only=1)
    for name in ("loss", "accuracy", "val_loss"):
        assert [step for step, _ in world.points(run)[name]] == [0, 1, 2, 3]


@pytest.mark.parametrize("wrong", [{"epoch": 0, "loss": 7.0}, {"epoch": 50, "loss": 1.5}])
def test_a_streamed_run_that_contradicts_the_result_is_orphaned(world, wrong):
    stream(world, [wrong])
    tracking.publish(world.params)
    orphan, run = world.runs(only=2)
    assert runs.KEY not in orphan.data.tags and runs.ORPHANED in orphan.data.tags
    assert orphan.info.status == "KILLED"
    assert [step for step, _ in world.points(run)["loss"]] == [0, 1, 2, 3]


def test_a_diverged_training_is_published_once(world):
    world.history([{**row, "loss": "nan" if row["epoch"] == 1 else "inf", "val_loss": ""} for row in HISTORY])
    tracking.publish(world.params)
    tracking.publish(world.params, force=True)
    (run,) = world.runs(only=1)
    assert [step for step, _ in world.points(run)["loss"]] == [0, 1, 2, 3]
    assert "val_loss" not in run.data.metrics


def test_an_interrupted_publish_is_completed_by_the_next_one(world, monkeypatch):
    from mlflow import MlflowClient

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "finalize_logged_model", full)
        with pytest.raises(UserError, match="No space left"):
            tracking.publish(world.params)
    assert [str(model.status) for model in world.models(world.runs(only=1)[0])] == ["PENDING"]
    assert not tracking.publish(world.params).already_there
    (run,) = world.runs(only=1)
    assert [str(model.status) for model in world.models(run)] == ["READY"]
    assert run.data.tags[runs.RESULT]
    assert len(world.points(run)["loss"]) == len(HISTORY)


def test_force_restores_what_was_removed_by_hand(world):
    published = publish(world)
    before = comparable(world, published)
    shutil.rmtree(world.folder / "mlruns")
    world.client().delete_tag(published.info.run_id, "flowers.precision")
    tracking.publish(world.params)
    assert comparable(world, world.runs(only=1)[0]) != before
    tracking.publish(world.params, force=True)
    (run,) = world.runs(only=1)
    assert comparable(world, run) == before
    (model,) = world.models(run)
    assert world.client().list_logged_model_artifacts(model.model_id)


def test_a_deleted_run_stays_deleted_and_a_new_one_is_made(world):
    published = publish(world)
    world.client().delete_run(published.info.run_id)
    result = tracking.publish(world.params)
    (run,) = world.runs(only=1)
    assert run.info.run_id == result.run_id != published.info.run_id
    assert world.client().get_run(published.info.run_id).info.lifecycle_stage == "deleted"


def test_a_deleted_experiment_stays_deleted_and_a_new_one_is_made(world):
    published = publish(world)
    world.client().delete_experiment(published.info.experiment_id)
    assert tracking.publish(world.params).experiment == "flowers local (2)"
    assert tracking.publish(world.params, force=True).experiment == "flowers local (2)"
    world.runs(only=1)


def test_force_keeps_an_edited_note_and_parameters_that_decide_nothing(world):
    publish(world)
    world.set("split.method", "official")
    world.client().set_tag(world.runs()[0].info.run_id, "mlflow.note.content", "my favourite")
    tracking.publish(world.params, force=True)
    (run,) = world.runs(only=1)
    assert run.data.params["split.method"] == "auto"
    assert run.data.tags["mlflow.note.content"] == "my favourite"


@pytest.mark.parametrize(
    ("path", "text"),
    [("build/history.csv", None), ("build/evaluation/metrics.json", None), ("build/evaluation/metrics.json", "{")],
)
def test_a_missing_or_broken_file_is_an_error_before_anything_is_logged(world, path, text):
    if text is None:
        (world.folder / path).unlink()
    else:
        world.write(path, text)
    with pytest.raises(UserError, match=rf"{path}.*dvc repro"):
        tracking.publish(world.params)
    assert world.runs() == []
