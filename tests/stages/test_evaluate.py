"""The stage `evaluate`: consistent files, and a model that must agree with the cached activations."""

import base64
import hashlib
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from flowers.common import paths, sealed
from flowers.common.errors import UserError
from flowers.metrics import calibration
from flowers.model import backbone, weights
from flowers.stages import evaluate
from flowers.training import activation_cache, subsets
from flowers.training.trained import write_predictions

FILES = [
    "calibration.json",
    "confusion.csv",
    "confusion.png",
    "curves.csv",
    "curves.png",
    "intervals.json",
    "labels.csv",
    "metrics.json",
    "novelty.json",
    "novelty.png",
    "per_class.csv",
    "per_class.png",
    "predictions.csv",
    "reliability.png",
    "report.html",
    "validation.csv",
]


def table(path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False)


@pytest.fixture
def trained(world, cheap_backbone):
    """A world with a model of some accuracy."""
    world.train(head={"units": []}, train={"epochs": 4, "learning_rate": 0.0005})
    return world


@pytest.fixture
def untrained(world, cheap_backbone):
    """A world with a model that is hardly trained."""
    world.train(head={"units": []}, train={"epochs": 1, "learning_rate": 1e-6})
    return world


def evaluation(world) -> dict[str, bytes]:
    """The files of the evaluation by name."""
    made = world.made()
    return {name.removeprefix("evaluation/"): made[name] for name in made if name.startswith("evaluation/")}


def test_every_test_image_has_a_prediction_and_all_scores_follow_from_them(trained):
    trained.evaluate()
    assert sorted(evaluation(trained)) == FILES
    assert all(content.startswith(b"\x89PNG") for name, content in evaluation(trained).items() if name.endswith(".png"))

    predictions, split = table(paths.PREDICTIONS), table(paths.SPLIT)
    listed = table(paths.IMAGE_LIST).set_index("path")
    for subset, rows in (("test", predictions), ("val", table(paths.VALIDATION))):
        wanted = split[split["subset"] == subset].sort_values("path")
        assert rows["path"].tolist() == wanted["path"].tolist() and len(rows) == 6
        assert rows["label"].tolist() == wanted["label"].tolist()
        assert rows["sha256"].tolist() == listed.loc[rows["path"], "sha256"].tolist()
        probabilities = rows[[f"p({name})" for name in trained.classes]].to_numpy()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
        assert rows["predicted"].tolist() == [trained.classes[number] for number in probabilities.argmax(axis=1)]
        np.testing.assert_allclose(rows["probability"], probabilities.max(axis=1))

    right = predictions["label"] == predictions["predicted"]
    metrics = json.loads(paths.METRICS.read_text())
    assert metrics["accuracy"] == pytest.approx(right.mean(), abs=5e-5)
    recalls = right.groupby(predictions["label"]).mean()
    assert metrics["mean_per_class_accuracy"] == pytest.approx(recalls.mean(), abs=5e-5)
    of_label = [row[f"p({row['label']})"] for _, row in predictions.iterrows()]
    assert metrics["log_loss"] == pytest.approx(-np.log(of_label).mean(), abs=6e-4)
    assert "top5_accuracy" not in metrics  # three classes

    intervals = json.loads(paths.INTERVALS.read_text())
    assert intervals.keys() == metrics.keys()
    assert all(low - 5e-4 <= metrics[name] <= high + 5e-4 for name, (low, high) in intervals.items())
    per_class = table(paths.PER_CLASS).set_index("class")
    assert per_class["photos"].to_dict() == dict.fromkeys(trained.classes, 2)
    np.testing.assert_allclose(per_class["recall"], recalls[per_class.index])
    confusion = table(paths.CONFUSION).set_index("label")
    assert confusion.columns.tolist() == confusion.index.tolist() == list(trained.classes)
    assert confusion.to_numpy().sum() == 6 and np.trace(confusion) == right.sum()


def test_the_files_in_git_hold_the_labels_and_what_is_equal_on_most_processors(trained):
    trained.evaluate()
    words = ["path", "label", "predicted"]
    pd.testing.assert_frame_equal(table(paths.LABELS), table(paths.PREDICTIONS)[words])
    metrics = json.loads(paths.METRICS.read_text())
    assert {name: round(value, 3 if name == "log_loss" else 4) for name, value in metrics.items()} == metrics
    history, curves = table(paths.HISTORY), table(paths.CURVES)
    assert curves["epoch"].tolist() == history["epoch"].tolist()
    for name, places in {"accuracy": 4, "val_accuracy": 4, "loss": 2, "val_loss": 2}.items():
        assert curves[name].tolist() == history[name].round(places).tolist()


def test_the_temperature_is_fitted_on_validation_images_and_the_errors_are_of_test_images(trained):
    trained.evaluate()
    found = json.loads(paths.CALIBRATION.read_text())
    assert found["validation_held_out"] is True
    labels, probabilities = predictions_of(trained, paths.VALIDATION)
    temperature = found["temperature"]
    assert temperature == pytest.approx(
        calibration.temperature(labels, calibration.scaled(probabilities, 1 / temperature)), rel=1e-3
    )
    labels, probabilities = predictions_of(trained, paths.PREDICTIONS)
    as_trained = calibration.scaled(probabilities, 1 / temperature)
    for values, name in ((probabilities, ""), (as_trained, "_without_temperature")):
        error = calibration.expected_calibration_error(labels, values)
        assert found[f"expected_calibration_error{name}"] == pytest.approx(error, abs=1e-4)
    sure = probabilities.max(axis=1) >= found["threshold"]
    assert found["sure"] == pytest.approx(sure.mean())
    assert found["sure_accuracy"] == pytest.approx((probabilities.argmax(axis=1) == labels)[sure].mean())


def test_no_temperature_is_fitted_on_validation_images_that_were_trained_on(world, cheap_backbone, monkeypatch):
    monkeypatch.setattr(evaluate, "TRAINED_ON_IMAGES", 2)
    world.train(head={"units": []}, train={"on": "train+val", "epochs": 2})
    world.evaluate()
    assert len(table(paths.VALIDATION)) == 2  # those that promote compares a logged model with
    found = json.loads(paths.CALIBRATION.read_text())
    assert found["validation_held_out"] is False and found["temperature"] == 1
    error = found["expected_calibration_error"]
    assert error == pytest.approx(found["expected_calibration_error_without_temperature"])
    assert found["threshold"] is None and "sure" not in found
    assert "No temperature was fitted" in paths.REPORT.read_text(encoding="utf-8")


def test_predictions_are_written_as_pandas_writes_them(tmp_path):
    classes = ["a, b", 'c "d"', "two\nlines", "NA"]
    labels = np.arange(8) % 4
    words = {"path": [f"{classes[label]}/{row}.jpg" for row, label in enumerate(labels)], "sha256": "0"}
    images = subsets.Subset(pd.DataFrame(words | {"label": np.array(classes)[labels]}), labels, classes)
    probabilities = np.random.default_rng(0).dirichlet([0.01] * 4, 8).astype(np.float32)
    write_predictions(tmp_path / "found.csv", images, probabilities)
    expected = images.table.assign(
        predicted=np.array(classes)[probabilities.argmax(axis=1)], probability=probabilities.max(axis=1)
    )
    numbers = pd.DataFrame(probabilities, columns=[f"p({name})" for name in classes])
    text = pd.concat([expected, numbers], axis=1).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    assert (tmp_path / "found.csv").read_bytes() == text.encode()


def predictions_of(world, path) -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of a file of predictions."""
    found = table(path)
    labels = np.array([world.classes.index(name) for name in found["label"]])
    return labels, found[[f"p({name})" for name in world.classes]].to_numpy()


@pytest.mark.parametrize(("gallery", "shown"), [(0, 0), (2, 2), (200, None)])
def test_the_report_shows_the_given_number_of_errors_the_most_confident_first(untrained, gallery, shown):
    untrained.evaluate(gallery=gallery)
    predictions = table(paths.PREDICTIONS)
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    assert len(wrong) > 2
    page = paths.REPORT.read_text(encoding="utf-8")
    assert page.count('<div class="both">') == (len(wrong) if shown is None else shown)
    assert ("Most confident errors" in page) == (gallery > 0)
    if gallery:
        surest = wrong.sort_values("probability", ascending=False)["path"].tolist()[:shown]
        section = page.split("<h2>Most confident errors</h2>")[1].split("</section>")[0]
        assert re.findall(r"<div>([^<]+\.png)</div>", section) == surest


def test_the_report_holds_the_figures_and_is_self_contained(untrained):
    untrained.evaluate()
    page = paths.REPORT.read_text(encoding="utf-8")
    files = evaluation(untrained)
    for name in ("confusion.png", "curves.png", "per_class.png", "reliability.png"):
        assert base64.b64encode(files[name]).decode() in page
    assert "<script" not in page and "://" not in page
    assert str(untrained.folder) not in page


def test_a_second_run_writes_the_same_bytes_and_removes_other_files(untrained):
    untrained.evaluate()
    before = evaluation(untrained)
    (paths.EVALUATION / "left over.csv").touch()
    untrained.evaluate()
    assert evaluation(untrained) == before


def shard() -> tuple:
    """The file of the activations of the test images, its list and its values."""
    keys = {item.key for item in test_items()}
    for description in sorted(paths.cache_folder().rglob("*.json")):
        content = json.loads(description.read_text())
        if keys & set(content["keys"]):
            return description, content, np.load(description.with_suffix(".npy"))
    raise AssertionError("no activations of the test images")


def test_items():
    from flowers.training import subsets

    return subsets.read("test").plain()


test_items.__test__ = False


def test_activations_of_other_images_are_an_error_with_the_remedy(trained):
    """Changed with a correct checksum, as by a change of the decoder."""
    trained.evaluate()
    shutil.rmtree(paths.EVALUATION)
    description, content, values = shard()
    with description.with_suffix(".npy").open("wb") as file:
        np.save(file, values[::-1])  # each image gets those of another
    content["sha256"] = hashlib.sha256(description.with_suffix(".npy").read_bytes()).hexdigest()
    description.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"cached activations differ by .* Run `flowers cache --clear activations` and"):
        trained.evaluate()
    assert evaluation(trained) == {}
    shutil.rmtree(paths.cache_folder() / "activations")  # the remedy in the message
    trained.evaluate()


def test_a_changed_backbone_is_an_error(trained, cheap_backbone, monkeypatch):
    trained.evaluate()
    original = cheap_backbone.__call__
    monkeypatch.setattr(cheap_backbone, "__call__", lambda self, images: original(self, images[..., ::-1]))
    with pytest.raises(UserError, match="cached activations differ"):
        trained.evaluate()


def test_a_model_of_other_classes_is_an_error(trained):
    content = sealed.read(paths.MODEL / "model.json")
    sealed.write(content | {"classes": ["NA", "café au lait", "tulip"]}, paths.MODEL / "model.json")
    with pytest.raises(UserError, match=r"build/model: the classes of the model differ from those of build/split\.csv"):
        trained.evaluate()


def test_a_model_of_other_weights_is_an_error(trained):
    paths.WEIGHTS.unlink()  # a link to what other tests use
    weights.write({"some/kernel": np.ones(3)}, paths.WEIGHTS)
    with pytest.raises(UserError, match="not the weights that the model in build/model was trained on"):
        trained.evaluate()


@pytest.mark.parametrize(
    ("lost", "evaluated_before"),
    [("model/trained.npz", False), ("history.csv", False), ("image", True)],
)
def test_a_missing_file_is_an_error_that_leaves_the_evaluation_as_it_was(trained, lost, evaluated_before):
    if evaluated_before:  # so that the activations are cached
        trained.evaluate()
    before = evaluation(trained)
    path = test_items()[0].path if lost == "image" else trained.build / lost
    path.unlink()
    with pytest.raises(UserError, match=str(path.name)):
        trained.evaluate()
    assert evaluation(trained) == before


@pytest.mark.parametrize("damage", [lambda text: text.replace("0.", "0/"), lambda text: text.replace("loss", "lOss")])
def test_a_damaged_history_is_an_error(trained, damage):
    paths.HISTORY.write_text(damage(paths.HISTORY.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=r"history\.csv: damaged"):
        trained.evaluate()


def test_a_missing_image_that_only_the_report_needs_leaves_the_evaluation_as_it_was(trained, monkeypatch):
    trained.evaluate()
    before = evaluation(trained)
    monkeypatch.setattr("flowers.stages.evaluate.JOINED_IMAGES", 1)  # the first
    lost = test_items()[-1].path
    lost.unlink()
    with pytest.raises(UserError, match=lost.name):
        trained.evaluate()
    assert evaluation(trained) == before


@pytest.fixture
def small_batches(monkeypatch):
    """The real backbone in batches of 6: of 32, most would be padding."""
    for module in (backbone, activation_cache):
        monkeypatch.setattr(module, "BATCH", 6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"model": {"unfreeze_blocks": 1}, "augmentation": {"views": 0}},
        {
            "model": {"unfreeze_blocks": 3, "mirror": True, "input_size": 128},
            "head": {"features": "conv4+conv5", "normalization": "root"},
            "augmentation": {"views": 1, "size": 96},
        },
        {"model": {"unfreeze_blocks": 1, "precision": "int8"}, "augmentation": {"views": 1}},
    ],
)
def test_the_real_network_agrees_from_images_to_scores(real_world, small_batches, settings):
    real_world.train(**settings, train={"epochs": 2, "fine_tune_epochs": 1})
    real_world.evaluate()
    assert sorted(evaluation(real_world)) == FILES
    assert len(table(paths.PREDICTIONS)) == 6
