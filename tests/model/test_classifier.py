"""The trained model: its folder, errors of loading, and equal predictions of folder, export and activations."""

import json

import numpy as np
import pytest

from flowers.common.errors import UserError
from flowers.model import backbone, classifier, keras_model, resnet, weights
from flowers.model.classifier import Description
from flowers.model.trainable import TrainablePart

PRETRAINED = {"some/kernel": np.ones(3, np.float32)}


def description(**changes) -> Description:
    settings = {
        "classes": ["NA", "café", "rose"],
        "head_units": [4],
        "dropout": 0.2,
        "unfreeze_blocks": 0,
        "precision": "float32",
        "weights_digest": weights.digest(PRETRAINED),
    }
    return Description(**settings | changes)


@pytest.fixture
def head() -> dict[str, np.ndarray]:
    return TrainablePart(backbone.FeatureLayer(0), {}, keras_model.head(3, (4,), 0.2, seed=5)).get_tensors()


@pytest.fixture
def saved(tmp_path, head):
    """A model's folder and its ImageNet weights."""
    classifier.save(tmp_path / "model", description(), head)
    weights.write(PRETRAINED, tmp_path / "weights.npz")
    return tmp_path / "model", tmp_path / "weights.npz"


def test_equal_models_give_equal_bytes_in_readable_formats(tmp_path, saved, head):
    classifier.save(tmp_path / "again", description(), dict(reversed(head.items())))
    for name in ("model.json", "trained.npz"):
        assert (tmp_path / "again" / name).read_bytes() == (saved[0] / name).read_bytes()
    content = json.loads((saved[0] / "model.json").read_text(encoding="utf-8"))
    assert content["classes"] == ["NA", "café", "rose"] and "224" in content["input"]
    assert "café" in (saved[0] / "model.json").read_text(encoding="utf-8")
    with np.load(saved[0] / "trained.npz") as archive:
        assert set(archive.files) == set(head)


def test_a_loaded_model_gives_the_predictions_of_the_saved_one(saved, head, cheap_backbone, pixels):
    before = classifier.Classifier(description(), head, PRETRAINED)
    loaded = classifier.load(*saved)
    assert loaded.description == before.description and loaded.classes == ["NA", "café", "rose"]
    found = loaded.probabilities(pixels)
    np.testing.assert_array_equal(found, before.probabilities(pixels))
    assert found.dtype == np.float32 and found.shape == (2, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert len(np.unique(found)) == 6  # no two probabilities are equal


def test_images_and_their_activations_get_equal_predictions(saved, cheap_backbone, pixels):
    model = classifier.load(*saved)
    values = cheap_backbone({}, [model.feature_layer], "float32")(pixels)[model.feature_layer]
    np.testing.assert_array_equal(model.probabilities_from_activations(values), model.probabilities(pixels))


def test_with_test_time_flips_logits_are_averaged(head, cheap_backbone, pixels):
    one = classifier.Classifier(description(temperature=2.0), head, PRETRAINED)
    both = classifier.Classifier(description(temperature=2.0, mirror=True), head, PRETRAINED)
    mirrored = pixels[:, :, ::-1]
    found = both.probabilities(pixels)
    between = np.sqrt(one.probabilities(pixels) * one.probabilities(mirrored))  # the mean of the logits
    np.testing.assert_allclose(found, between / between.sum(axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_allclose(both.probabilities(mirrored), found, atol=1e-6)
    assert np.abs(found - one.probabilities(pixels)).max() > 1e-3
    flips = np.concatenate([pixels, mirrored])  # in the order of Subset.with_flips
    activations = cheap_backbone({}, [both.feature_layer], "float32")(flips)[both.feature_layer]
    np.testing.assert_array_equal(both.probabilities_from_activations(activations), found)
    assert both.probabilities(pixels[:0]).shape == (0, 3)


@pytest.mark.parametrize("missing", ["model/model.json", "model/trained.npz", "weights.npz"])
def test_an_error_names_a_missing_file(saved, tmp_path, missing):
    (tmp_path / missing).unlink()
    with pytest.raises(UserError, match=f"{missing}: no such file; run `dvc repro`"):
        classifier.load(*saved)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.json", b"[]"),
        ("model.json", b'{"classes": []}'),
        ("model.json", b"\xff\xfe"),
        ("trained.npz", b"PK\x03\x04 and no more"),
    ],
)
def test_an_error_names_a_damaged_folder(saved, file, content):
    (saved[0] / file).write_bytes(content)
    with pytest.raises(UserError, match=f"{saved[0]}: not a model of this program"):
        classifier.load(*saved)


def test_a_changed_digit_of_a_description_raises_an_error(saved):
    """Else another temperature would give other probabilities without a word."""
    file = saved[0] / "model.json"
    text = file.read_text(encoding="utf-8")
    assert '"temperature": 1.' in text
    file.write_text(text.replace('"temperature": 1.', '"temperature": 3.'), encoding="utf-8")
    with pytest.raises(UserError, match=r"model\.json was changed since it was written"):
        classifier.load(*saved)


def test_other_weights_than_those_of_the_training_raise_an_error(saved):
    weights.write({"some/kernel": np.zeros(3, np.float32)}, saved[1])
    with pytest.raises(UserError, match=r"weights\.npz: not the weights that the model in .*model was trained on"):
        classifier.load(*saved)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"normalization": "root", "mirror": True, "features": "conv4+conv5"}])
def test_export_images_and_activations_agree(tensors, pixels, tmp_path, monkeypatch, changes):
    """Trained blocks differ from the pretrained ones, as after fine-tuning."""
    monkeypatch.setattr(backbone, "BATCH", 2)
    feature_layer = backbone.FeatureLayer(3, conv4="features" in changes)
    names = resnet.block_tensors(feature_layer.blocks)
    block = {name: tensors[name] * (0.9 if name.endswith("kernel") else 1) for name in names}
    head = TrainablePart(
        backbone.FeatureLayer(0), {}, keras_model.head(3, (), 0.0, 5, features=feature_layer.features)
    ).get_tensors()
    head["head_logits/kernel"] /= 15 if changes else 1500  # probabilities that are neither 0 nor 1
    digest = weights.digest(tensors)
    shape = description(head_units=[], unfreeze_blocks=3, weights_digest=digest, temperature=1.5, **changes)
    classifier.save(tmp_path / "model", shape, block | head)
    weights.write(tensors, tmp_path / "weights.npz")
    model = classifier.load(tmp_path / "model", tmp_path / "weights.npz")
    wanted = model.probabilities(pixels)
    flips = [pixels, pixels[:, :, ::-1]] if changes else [pixels]
    network = backbone.Backbone(tensors, [model.feature_layer], "float32")
    activations = np.concatenate([network(images)[model.feature_layer] for images in flips])
    np.testing.assert_allclose(model.probabilities_from_activations(activations), wanted, atol=1e-5)
    assert wanted.min() > 0.01 and np.abs(wanted[0] - wanted[1]).max() > 1e-3

    np.testing.assert_allclose(np.asarray(model.export()(pixels, training=False)), wanted, atol=1e-5)
    (tmp_path / "weights.npz").unlink()  # 100 MB, which pytest would keep
