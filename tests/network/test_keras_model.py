"""Tail, head and the whole in Keras: the same numbers as Keras's own network, and BatchNorm that never moves."""

import numpy as np
import pytest

from flowers.network import backend, keras_model, resnet, training
from flowers.network.trunk import Cut

FROZEN = ("gamma", "beta", "moving_mean", "moving_variance")


def head(units=(6,), dropout=0.5, seed=0):
    return keras_model.head(3, units, dropout, seed)


@pytest.mark.parametrize("unfreeze", [0, 1, 3, 16])
def test_the_tail_goes_on_from_the_stored_activation_as_keras_does(run_trunk, pixels, tensors, keras_outputs, unfreeze):
    cut = Cut(unfreeze)
    tail = keras_model.tail(cut, tensors)
    found = np.asarray(tail(run_trunk(pixels)[cut], training=False))
    wanted = keras_outputs["pooled"]
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("unfreeze", [0, 3])
def test_the_tail_holds_the_tensors_of_its_blocks_by_kerass_names(tensors, unfreeze):
    found = keras_model.get_tensors(keras_model.tail(Cut(unfreeze), tensors))
    names = tuple(block.name for block in resnet.BLOCKS[16 - unfreeze :])
    assert set(found) == {name for name in tensors if unfreeze and name.startswith(names)}
    assert all(np.array_equal(values, tensors[name]) for name, values in found.items())


def test_a_head_is_what_its_parameters_say():
    linear, deep = head(()), head((256, 128, 64), 0.2)
    shapes = {name: values.shape for name, values in keras_model.get_tensors(deep).items()}
    assert list(keras_model.get_tensors(linear)) == ["head_logits/kernel", "head_logits/bias"]
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


def test_a_head_starts_from_its_seed_alone():
    first, again, other = (keras_model.get_tensors(head(seed=seed)) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["head_dense1/kernel"], other["head_dense1/kernel"])


@pytest.fixture(scope="module")
def trained(tensors, run_trunk, pixels):
    """Head, tail and both joined after a few steps of training on the stored activations; and the tensors before."""
    cut = Cut(1)
    head_model, tail_model = head(), keras_model.tail(cut, tensors)
    joined = keras_model.joined(tail_model, head_model)
    before = keras_model.get_tensors(joined)
    labels = np.array([0, 2], np.int32)
    data = training.TrainingSet(run_trunk(pixels)[cut], np.arange(2)[:, None], labels, np.ones(2, np.float32))
    schedule = training.Schedule("fine_tune", 3, 2, 1e-3, 0.1, 0.0, 9, 0)
    training.train(joined, data, None, schedule, training.Best())
    return head_model, tail_model, joined, before


def test_training_moves_kernels_and_biases_and_leaves_batch_normalisation_alone(trained):
    _, _, joined, before = trained
    after = keras_model.get_tensors(joined)
    assert before.keys() == after.keys() and len(before) == 3 * 6 + 4
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name in before if not name.endswith(FROZEN)}


def test_the_joined_model_shares_its_layers_with_tail_and_head(trained, run_trunk, pixels):
    head_model, tail_model, joined, _ = trained
    values = run_trunk(pixels)[Cut(1)]
    parts = head_model(tail_model(values, training=False), training=False)
    np.testing.assert_array_equal(np.asarray(joined(values, training=False)), np.asarray(parts))
    all_of_it = keras_model.get_tensors(joined)
    for part in (head_model, tail_model):
        assert all(np.array_equal(values, all_of_it[name]) for name, values in keras_model.get_tensors(part).items())


def test_a_missing_tensor_is_named():
    with pytest.raises(KeyError, match="head_logits/bias"):
        keras_model.set_tensors(head(()), {"head_logits/kernel": np.zeros((2048, 3), np.float32)})


def test_the_whole_takes_raw_images_and_lives_alone_in_a_keras_file(tensors, pixels, keras_outputs, tmp_path):
    head_model = head()
    for name, variable in keras_model.named_variables(head_model).items():  # its answers are to be neither 0 nor 1
        variable.assign(variable / 300 if name == "head_dense1/kernel" else variable + 0.1)
    whole = keras_model.whole(tensors, head_model)
    wanted = training.softmax(np.asarray(head_model(keras_outputs["pooled"], training=False)))
    assert wanted.min() > 0.01 and np.abs(wanted[0] - wanted[1]).max() > 1e-3
    found = np.asarray(whole(pixels, training=False))
    np.testing.assert_allclose(found, wanted, atol=1e-5)

    whole.save(tmp_path / "flowers.keras")
    loaded = backend.keras().models.load_model(tmp_path / "flowers.keras")
    assert loaded.input.dtype == "uint8" and loaded.output.shape == (None, 3)
    np.testing.assert_allclose(np.asarray(loaded(pixels, training=False)), found, atol=1e-6)
    (tmp_path / "flowers.keras").unlink()
