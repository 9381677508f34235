"""The head and the whole network as Keras models."""

import numpy as np
import pytest

from flowers.metrics.classification import softmax
from flowers.model import backend, keras_model
from flowers.model.feature_layer import FeatureLayer
from flowers.model.trainable import TrainablePart


def head(units=(6,), dropout=0.5, seed=0):
    return keras_model.head(3, units, dropout, seed)


def tensors_of(model) -> dict[str, np.ndarray]:
    return TrainablePart(FeatureLayer(0), {}, model).get_tensors()


def test_a_head_has_the_layers_of_its_parameters():
    linear, deep = head(()), head((256, 128, 64), 0.2)
    shapes = {name: values.shape for name, values in tensors_of(deep).items()}
    assert list(tensors_of(linear)) == ["head_logits/kernel", "head_logits/bias"]
    assert shapes["head_dense1/kernel"] == (2048, 256) and shapes["head_dense3/kernel"] == (128, 64)
    assert shapes["head_logits/kernel"] == (64, 3) and len(shapes) == 8
    assert [layer.rate for layer in deep.layers if "dropout" in layer.name] == [0.2] * 3
    values = np.random.default_rng(0).normal(size=(2, 2048)).astype(np.float32)
    expected = values
    for name in ("head_dense1", "head_dense2", "head_dense3", "head_logits"):
        layer = deep.get_layer(name)
        expected = expected @ np.asarray(layer.kernel) + np.asarray(layer.bias)
        expected = expected if name == "head_logits" else np.maximum(expected, 0)
    np.testing.assert_allclose(np.asarray(deep(values, training=False)), expected, rtol=1e-4, atol=1e-5)


def test_the_root_normalizes_each_stage():
    values = np.random.default_rng(0).uniform(1, 2, (2, 5)).astype(np.float32)
    both = keras_model.head(3, (), 0.0, 0, "root", features=(2, 3))
    kernel = np.asarray(both.get_layer("head_logits").kernel)
    parts = [np.sqrt(part / part.mean(axis=1, keepdims=True)) for part in (values[:, :2], values[:, 2:])]
    found = np.asarray(both(values, training=False))
    np.testing.assert_allclose(found, np.concatenate(parts, axis=1) @ kernel, rtol=1e-5)


def test_a_head_is_initialized_from_its_seed():
    first, again, other = (tensors_of(head(seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["head_dense1/kernel"], other["head_dense1/kernel"])


def test_an_error_names_a_missing_tensor():
    with pytest.raises(KeyError, match="head_logits/bias"):
        keras_model.set_tensors(head(()), {"head_logits/kernel": np.zeros((2048, 3), np.float32)})


def test_the_whole_network_takes_images_and_is_saved_in_one_file(tensors, pixels, keras_outputs, tmp_path):
    head_model = head()
    for name, variable in keras_model.named_variables(head_model).items():  # for probabilities that are neither 0 nor 1
        variable.assign(variable / 300 if name == "head_dense1/kernel" else variable + 0.1)
    whole = keras_model.whole(tensors, head_model)
    wanted = softmax(np.asarray(head_model(keras_outputs["pooled"], training=False)))
    assert wanted.min() > 0.01 and np.abs(wanted[0] - wanted[1]).max() > 1e-3
    found = np.asarray(whole(pixels, training=False))
    np.testing.assert_allclose(found, wanted, atol=1e-5)

    whole.save(tmp_path / "flowers.keras")
    loaded = backend.keras().models.load_model(tmp_path / "flowers.keras")
    assert loaded.input.dtype == "uint8" and loaded.output.shape == (None, 3)
    np.testing.assert_allclose(np.asarray(loaded(pixels, training=False)), found, atol=1e-6)
    (tmp_path / "flowers.keras").unlink()
