"""The stage `train`: its outputs, repeated and resumed trainings, and errors."""

import contextlib
import csv
import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.metrics import calibration
from flowers.model import classifier, weights
from flowers.stages.train import HISTORY_COLUMNS
from flowers.training import activation_cache
from flowers.training.checkpoint import Checkpoint

OUTPUTS = ["history.csv", *(f"model/examples/{number}.jpg" for number in range(3))]
OUTPUTS += [f"model/{name}" for name in ("model.json", "novelty.npz", "trained.npz")]


def history(world) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(world.made()["history.csv"].decode())))


def split_rows() -> list[list[str]]:
    """path, label and subset of every image; none of them contains a comma here."""
    return [line.split(",") for line in paths.SPLIT.read_text(encoding="utf-8").splitlines()[1:]]


def relabel(change) -> None:
    """Change the rows of the split, and the labels of the image list with them."""
    rows = [change(*row) for row in split_rows()]
    paths.SPLIT.write_text("\n".join(["path,label,subset", *map(",".join, rows), ""]), encoding="utf-8")
    images = pd.read_csv(paths.IMAGE_LIST, dtype=str, keep_default_na=False)
    labels = {path: label for path, label, _ in rows}
    images.assign(label=images["path"].map(labels)).to_csv(paths.IMAGE_LIST, index=False)


def test_it_writes_a_model_that_loads_and_a_history_of_every_epoch(world, cheap_backbone):
    seen = []
    world.train(seen.append, train={"epochs": 12})
    assert sorted(world.made()) == OUTPUTS
    rows = history(world)
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert [row["epoch"] for row in rows] == [str(number) for number in range(12)]
    assert [{name: str(value) for name, value in row.items()} for row in seen] == rows
    assert float(rows[-1]["loss"]) < 0.7 * float(rows[0]["loss"])

    model = classifier.load(paths.MODEL, paths.WEIGHTS)
    assert model.classes == list(world.classes)
    wanted = world.settings().head
    assert (model.description.head_units, model.description.dropout) == (list(wanted.units), wanted.dropout)
    assert (model.description.unfreeze_blocks, model.description.precision) == (0, "float32")
    assert model.description.weights_digest == weights.digest(weights.read(paths.WEIGHTS))


def test_evaluate_scores_a_model_with_all_options_of_recipes(world, cheap_backbone):
    head = {"units": [], "initialization": "regression", "normalization": "root", "features": "conv4+conv5"}
    phases = {"epochs": 2, "schedule": "cosine", "warmup_epochs": 0.5}
    world.train(head=head, model={"mirror": True, "input_size": 128}, augmentation={"size": 96}, train=phases)
    assert [row["phase"] for row in history(world)] == ["regression", "head", "head"]
    model = classifier.load(paths.MODEL, paths.WEIGHTS)
    found = model.description
    assert (found.normalization, found.mirror, found.size) == ("root", True, 128) and "(n, 128, 128, 3)" in found.input
    assert found.features == "conv4+conv5" and model.feature_layer.features == (1024, 2048)
    assert found.temperature != 1 and found.threshold is not None
    world.evaluate()  # raises an error if images and cached activations give different predictions
    assert paths.METRICS.exists()


def test_the_model_is_that_of_the_best_epoch(world, cheap_backbone):
    """The saved model's loss on the validation images is that of the best row of the history."""
    from flowers.training import subsets

    # With wrong validation labels the scores get worse during training: the best epoch is not the last.
    swap = dict(zip(world.classes, world.classes[1:] + world.classes[:1], strict=True))
    relabel(lambda path, label, subset: (path, swap[label] if subset == "val" else label, subset))
    settings = {"head": {"units": []}, "train": {"epochs": 10, "learning_rate": 0.0003, "fine_tune_epochs": 0}}
    world.train(**settings)
    losses = [float(row["val_loss"]) for row in history(world)]
    assert min(losses) < losses[-1]
    model, val = classifier.load(paths.MODEL, paths.WEIGHTS), subsets.read("val")
    stored = activation_cache.stored(val.plain(), [model.feature_layer], weights.read(paths.WEIGHTS), "float32")[
        model.feature_layer
    ]
    as_trained = calibration.scaled(model.probabilities_from_activations(stored), 1 / model.description.temperature)
    assert -np.log(as_trained[np.arange(6), val.labels]).mean() == pytest.approx(min(losses), rel=1e-3)
    kept = weights.read(paths.MODEL / "trained.npz")
    world.train(**settings, model={"unfreeze_blocks": 1})
    again = weights.read(paths.MODEL / "trained.npz")
    assert all(np.array_equal(again[name], kept[name]) for name in kept)


def test_a_repeated_training_writes_the_same_bytes_in_any_folder(world, cheap_backbone, tmp_path, monkeypatch):
    world.train()
    other = world.copy(tmp_path / "another place")
    monkeypatch.chdir(other.folder)
    monkeypatch.setenv("FLOWERS_CACHE", str(tmp_path / "another cache"))
    other.train()
    assert other.made() == world.made()
    assert str(tmp_path).encode() not in b"".join(world.made().values())
    other.train(train={"seed": 1})
    assert other.made()["model/trained.npz"] != world.made()["model/trained.npz"]


def test_another_head_uses_cached_activations(world, cheap_backbone):
    world.train()
    assert cheap_backbone.computed == 12 * 2 + 6
    world.train(head={"units": []}, train={"on": "train+val", "learning_rate": 0.01})
    assert cheap_backbone.computed == 12 * 2 + 6 + 6  # the augmented views of the six former validation images


def test_without_validation_its_columns_are_empty(world, cheap_backbone):
    world.train(train={"on": "train+val", "patience": 1})
    rows = history(world)
    assert len(rows) == 5  # patience needs validation
    assert {row[name] for row in rows for name in HISTORY_COLUMNS if name.startswith("val")} == {""}
    assert all(row["loss"] and row["accuracy"] for row in rows)
    # 18 training images: accuracy is a multiple of 1/18
    shares = [float(row["accuracy"]) * 18 for row in rows]
    assert shares == pytest.approx([round(share) for share in shares], abs=1e-4)


def blocks_moved(world) -> set[str]:
    """The variables of the unfrozen block that differ from the pretrained weights."""
    trained, pretrained = weights.read(paths.MODEL / "trained.npz"), weights.read(paths.WEIGHTS)
    block = {name for name in trained if name.startswith("conv5_block3")}
    assert len(block) == 18
    return {name.split("/")[1] for name in block if not np.array_equal(trained[name], pretrained[name])}


def test_train_batch_norm_trains_scale_and_shift(world, cheap_backbone):
    phases = {"epochs": 1, "fine_tune_epochs": 1, "on": "train+val"}
    world.train(model={"unfreeze_blocks": 1, "train_batch_norm": True}, head={"units": []}, train=phases)
    assert blocks_moved(world) == {"kernel", "bias", "gamma", "beta"}


def test_temperature_and_threshold_are_fitted_to_the_validation_images(world, cheap_backbone):
    from flowers.training import subsets

    world.train(train={"epochs": 3})
    model, val = classifier.load(paths.MODEL, paths.WEIGHTS), subsets.read("val")
    found = model.description
    stored = activation_cache.stored(val.plain(), [model.feature_layer], weights.read(paths.WEIGHTS), "float32")[
        model.feature_layer
    ]
    calibrated = model.probabilities_from_activations(stored)
    as_trained = calibration.scaled(calibrated, 1 / found.temperature)
    assert found.temperature != 1
    assert found.temperature == pytest.approx(calibration.temperature(val.labels, as_trained), rel=1e-3)
    assert found.threshold == pytest.approx(calibration.threshold(val.labels, calibrated), abs=2e-4)


def test_without_validation_there_is_neither_temperature_nor_threshold(world, cheap_backbone):
    world.train(train={"on": "train+val", "epochs": 2})
    found = classifier.load(paths.MODEL, paths.WEIGHTS).description
    assert found.temperature == 1 and found.threshold is None


def test_unfrozen_blocks_are_trained_after_the_head_and_saved(world, cheap_backbone):
    phases = {"epochs": 2, "fine_tune_epochs": 2, "on": "train+val"}
    world.train(model={"unfreeze_blocks": 1}, head={"units": []}, train=phases)
    rows = history(world)
    assert [row["phase"] for row in rows] == ["head", "head", "fine_tune", "fine_tune"]
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert [float(row["learning_rate"]) for row in rows] == [0.003, 0.003, 0.0001, 0.0001]
    assert blocks_moved(world) == {"kernel", "bias"}  # not BatchNorm


def test_fine_tuning_that_lowers_the_score_is_discarded(world, cheap_backbone):
    phases = {"model": {"unfreeze_blocks": 1}, "head": {"units": []}}
    world.train(**phases, train={"epochs": 8, "fine_tune_epochs": 0})
    assert len(history(world)) == 8 and blocks_moved(world) == set()
    before = world.made()["model/trained.npz"]
    world.train(**phases, train={"epochs": 8, "fine_tune_epochs": 2, "fine_tune_learning_rate": 0.3})
    scores = [float(row["val_mean_per_class_accuracy"]) for row in history(world)]
    assert len(scores) == 10 and max(scores[8:]) < max(scores[:8])
    assert world.made()["model/trained.npz"] == before


def test_class_weights_change_the_training(world, cheap_backbone):
    spared = next(path for path, _, subset in split_rows() if path.startswith("rose") and subset == "train")
    relabel(lambda path, label, subset: (path, label, "test" if label == "rose" and path != spared else subset))
    made = []
    for switch in (True, False):
        world.train(train={"on": "train+val", "class_weights": switch})
        made.append(world.made()["model/trained.npz"])
    assert made[0] != made[1]


def damage_weights(world) -> None:
    """The file is linked into every world: replace it by another."""
    (world.build / "weights" / "resnet50.npz").unlink()
    (world.build / "weights" / "resnet50.npz").write_bytes(b"PK\x03\x04 and no more")


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        (lambda world: (world.build / "split.csv").unlink(), "split.csv"),
        (lambda world: (world.build / "images.csv").unlink(), "images.csv"),
        (lambda world: (world.build / "weights" / "resnet50.npz").unlink(), "resnet50.npz"),
        (damage_weights, "resnet50.npz"),
        (lambda world: (world.build / "images" / "rose" / "1.png").write_bytes(b"no image"), "rose/1.png"),
    ],
    ids=["no split", "no list", "no weights", "damaged weights", "damaged image"],
)
def test_an_error_names_a_bad_input_and_writes_nothing(world, cheap_backbone, harm, named):
    harm(world)
    with pytest.raises(UserError, match=named):
        world.train(train={"on": "train+val"})
    assert world.made() == {}


def test_divergence_raises_an_error_naming_the_learning_rate_and_writes_nothing(world, cheap_backbone):
    with pytest.raises(UserError, match=r"train\.learning_rate"):
        world.train(train={"learning_rate": 1e30})
    assert world.made() == {}


def test_exceptions_of_on_epoch_stop_the_training(world, cheap_backbone):
    class Pruned(Exception):
        pass

    def on_epoch(row) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        world.train(on_epoch)
    assert world.made() == {}


INTERRUPTED = {"model": {"unfreeze_blocks": 1}, "train": {"epochs": 4, "fine_tune_epochs": 3}}


def test_an_interrupted_training_resumes_to_the_same_bytes(world, cheap_backbone, tmp_path):
    """Interrupted after each epoch in turn; `on_epoch` is called again for the rows before."""
    world.train(**INTERRUPTED)
    wanted = world.made()
    for stop in range(7):  # 3 is the last epoch of the head
        seen = []

        def on_epoch(row, stop=stop, seen=seen) -> None:
            seen.append(row["epoch"])
            if len(seen) == stop + 1:
                raise KeyboardInterrupt

        other = world.copy(tmp_path / f"stopped after {stop}")
        with contextlib.chdir(other.folder):
            shutil.rmtree(paths.MODEL)
            paths.HISTORY.unlink()
            with pytest.raises(KeyboardInterrupt):
                other.train(on_epoch, Checkpoint(paths.CHECKPOINT, "a key"), **INTERRUPTED)
            assert other.made() == {} and paths.CHECKPOINT.exists()
            again = []
            checkpoint = Checkpoint(paths.CHECKPOINT, "a key")
            other.train(lambda row, again=again: again.append(row["epoch"]), checkpoint, **INTERRUPTED)
        assert other.made() == wanted
        assert again == list(range(7))


def test_a_training_interrupted_in_any_write_resumes(world, cheap_backbone, tmp_path, monkeypatch):
    world.train(**INTERRUPTED)
    wanted = world.made()
    replace = Path.replace
    for moment in range(7):
        replaced = iter(range(100))

        def dying(path, target, replaced=replaced, moment=moment):
            if next(replaced) == moment:
                raise KeyboardInterrupt
            return replace(path, target)

        paths.CHECKPOINT.unlink(missing_ok=True)
        monkeypatch.setattr(Path, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            world.train(None, Checkpoint(paths.CHECKPOINT, "a key"), **INTERRUPTED)
        monkeypatch.setattr(Path, "replace", replace)
        assert paths.CHECKPOINT.exists() == (moment > 0)
        world.train(None, Checkpoint(paths.CHECKPOINT, "a key"), **INTERRUPTED)
        assert world.made() == wanted, moment


def test_the_checkpoint_stays_until_the_model_is_evaluated(world, cheap_backbone):
    """A kill between the end of the stage and DVC's record of it must not lose the training."""
    world.train(None, Checkpoint(paths.CHECKPOINT, "a key"))
    assert paths.CHECKPOINT.exists()
    world.evaluate()
    assert not paths.CHECKPOINT.exists()


def test_a_checkpoint_of_another_precision_is_ignored(world, cheap_backbone, capsys):
    for precision in ("float32", "bfloat16", "bfloat16"):
        world.train(None, Checkpoint(paths.CHECKPOINT, "a key"), model={"precision": precision})
    assert capsys.readouterr().err.count("Resuming the interrupted training after epoch") == 1


# Trains the world in the current folder with the real backbone, on all processors or on the first alone.
TRAIN = """
import os, sys
if sys.argv[1] == "alone":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from conftest import World
World(Path.cwd()).train(model={"unfreeze_blocks": 1}, head={"dropout": 0.4}, train={"fine_tune_epochs": 2})
"""


@pytest.mark.slow
def test_two_processes_from_scratch_write_the_same_bytes(real_world, tmp_path):
    """One of them has a single processor, and neither finds a cached activation."""
    made = []
    tests = Path(__file__).parents[1]
    for place in ("alone", "all"):
        copy = real_world.copy(tmp_path / place)
        environment = os.environ | {"FLOWERS_CACHE": str(tmp_path / f"cache of {place}"), "PYTHONHASHSEED": "random"}
        command = [sys.executable, "-c", TRAIN, place, str(tests), str(tests / "helpers")]
        done = subprocess.run(command, cwd=copy.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        made.append(copy.made())
    assert made[0] == made[1] and sorted(made[0]) == OUTPUTS
