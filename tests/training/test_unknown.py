"""The detector of a trained model, and how well it tells unknown images from known ones."""

import json

import numpy as np
import pytest
from PIL import Image

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.metrics import novelty
from flowers.model import classifier
from flowers.training import subsets, trained, unknown


def loaded() -> classifier.Classifier:
    return classifier.load(paths.MODEL, paths.WEIGHTS)


@pytest.mark.parametrize("changes", [{}, {"model": {"unfreeze_blocks": 1}}, {"train": {"on": "train+val"}}])
def test_the_model_has_a_detector_and_an_example_of_each_class(world, cheap_backbone, changes):
    world.train(**changes)
    model = loaded()
    for number in range(3):
        with Image.open(model.examples / f"{number}.jpg") as example:
            assert example.size == (model.size, model.size)
    test = subsets.read("test")
    pixels = np.zeros((2, model.size, model.size, 3), np.uint8)
    found = model.predict(pixels)
    assert np.isfinite(found.novelty).all() and found.nearest.shape == (2, 3)
    np.testing.assert_array_equal(found.probabilities, model.probabilities(pixels))
    assert len(trained.features(model, test)) == len(test)


def test_the_wanted_share_of_validation_images_counts_as_known(world, cheap_backbone):
    world.train()
    model, train, val = loaded(), subsets.read("train"), subsets.read("val")
    for rate in (0.5, 0.8, 0.999):
        made, ratios = trained.with_detector(model, train, val, rate)
        found = made.judged(trained.probabilities(made, val), trained.features(made, val)).novelty
        assert (found <= 0).sum() == int(np.ceil(len(val) * rate))
        assert ratios.shape == (len(train), 3)


def test_probabilities_are_those_of_the_model_without_a_detector(world, cheap_backbone, monkeypatch):
    world.train()
    test = subsets.read("test")
    before = trained.probabilities(loaded(), test)

    def failing(*_):
        raise novelty.NoSpread("no class has two different training images")

    monkeypatch.setattr(novelty, "fit", failing)
    world.train()
    model = loaded()
    assert model.detector is None and not (paths.MODEL / classifier.DETECTOR).exists()
    np.testing.assert_array_equal(trained.probabilities(model, test), before)
    found = model.predict(np.zeros((1, model.size, model.size, 3), np.uint8))
    assert np.isnan(found.novelty).all() and found.nearest.shape == (1, 0)
    world.evaluate()
    assert paths.NOVELTY.read_text() == "{}\n" and paths.NOVELTY_PICTURE.exists()


def test_a_folder_of_unknown_images_is_measured(world, cheap_backbone, tmp_path):
    for number in range(5):
        (tmp_path / "foreign" / "deep").mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (70, 90, 3), np.uint8)
        Image.fromarray(noise).save(tmp_path / "foreign" / "deep" / f"{number}.png")
    (tmp_path / "foreign" / "broken.jpg").write_bytes(b"no image")
    world.train()
    world.evaluate(unknown_path=str(tmp_path / "foreign"))
    found = json.loads(paths.NOVELTY.read_text())
    assert found["unknown"]["images"] == 5 and 0 <= found["unknown"]["refused"] <= 1
    assert {"auroc", "fpr95", "auroc_of_probability"} < found["unknown"].keys()
    assert found["test_class_left_out"].keys() == found["validation_class_left_out"].keys() == {"auroc", "fpr95"}
    assert "Unknown images" in paths.REPORT.read_text() and "evaluate.unknown_path" in paths.REPORT.read_text()


@pytest.mark.parametrize(("name", "reason"), [("lost", "no folder"), ("empty", "no readable image in")])
def test_a_folder_without_images_is_an_error(tmp_path, name, reason):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=f"evaluate.unknown_path: {reason}"):
        unknown.items(tmp_path / name, 224, mirror=False)


def test_with_mirror_the_mirror_images_follow(tmp_path):
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    plain, flipped = unknown.items(tmp_path, 96, mirror=True)
    assert (plain.view.flip, flipped.view.flip, plain.view.size) == (False, True, 96) and plain.path == flipped.path
