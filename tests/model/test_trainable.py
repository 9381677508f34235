"""The trainable part: activations, gradients and steps, compared with Keras's own network."""

import numpy as np
import pytest
from schedules import schedule

from flowers.model import backend, keras_model, resnet
from flowers.model.feature_layer import FeatureLayer
from flowers.model.trainable import TrainablePart
from flowers.training import phases
from flowers.training.epochs import TrainingSet

LABELS = np.array([0, 2], np.int32)
RATE, DECAY = 1e-3, 0.1


def make_trainable(feature_layer: FeatureLayer, tensors, **options) -> TrainablePart:
    return TrainablePart(feature_layer, tensors, keras_model.head(3, (), 0.0, seed=0), **options)


def trained(trainable: TrainablePart, activations: np.ndarray, epochs: int = 1) -> dict[str, np.ndarray]:
    """The tensors of `trainable` after epochs of one step on two images."""
    data = TrainingSet(activations, np.arange(2)[:, None], LABELS, np.ones(2, np.float32))
    one_step = schedule(phase="fine_tune", epochs=epochs, batch_size=2, learning_rate=RATE, weight_decay=DECAY)
    phases.train(trainable, data, None, one_step, phases.Progress(), lambda _: None)
    return trainable.get_tensors()


@pytest.mark.parametrize("unfreeze", [0, 1, 3, 9, 13, 16])
def test_features_from_any_feature_layer_are_those_of_keras(run_backbone, pixels, tensors, keras_outputs, unfreeze):
    feature_layer = FeatureLayer(unfreeze)
    found = np.asarray(make_trainable(feature_layer, tensors).features(run_backbone(pixels)[feature_layer]))
    wanted = keras_outputs["pooled"]
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("unfreeze", [3, 9])
def test_features_of_conv4_precede_those_of_conv5(run_backbone, pixels, tensors, keras_outputs, unfreeze):
    feature_layer = FeatureLayer(unfreeze, conv4=True)
    trainable = TrainablePart(feature_layer, tensors, keras_model.head(3, (), 0.0, 0, features=feature_layer.features))
    found = np.asarray(trainable.features(run_backbone(pixels)[FeatureLayer(unfreeze)]))
    conv4 = keras_outputs[FeatureLayer(3).name][:, ::2, ::2].mean(axis=(1, 2))
    np.testing.assert_allclose(found, np.concatenate([conv4, keras_outputs["pooled"]], axis=1), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("unfreeze", [0, 3])
def test_it_has_the_tensors_of_its_blocks_and_head(tensors, unfreeze):
    found = make_trainable(FeatureLayer(unfreeze), tensors).get_tensors()
    blocks = tuple(block.name for block in resnet.BLOCKS[16 - unfreeze :])
    unfrozen = {name for name in tensors if unfreeze and name.startswith(blocks)}
    assert set(found) == {*unfrozen, "head_logits/kernel", "head_logits/bias"}
    assert all(np.array_equal(found[name], tensors[name]) for name in unfrozen)


def test_set_tensors_restores_get_tensors(tensors, run_backbone, pixels):
    feature_layer = FeatureLayer(1)
    first, other = make_trainable(feature_layer, tensors), make_trainable(feature_layer, tensors)
    values = run_backbone(pixels)[feature_layer]
    trained(first, values, epochs=2)
    assert not np.array_equal(first.logits(values), other.logits(values))
    other.set_tensors(first.get_tensors())
    np.testing.assert_array_equal(first.logits(values), other.logits(values))


@pytest.mark.parametrize("train_batch_norm", [False, True])
def test_training_changes_batch_norm_only_if_asked(tensors, run_backbone, pixels, train_batch_norm):
    feature_layer = FeatureLayer(1)
    trainable = make_trainable(feature_layer, tensors, train_batch_norm=train_batch_norm)
    before, after = trainable.get_tensors(), trained(trainable, run_backbone(pixels)[feature_layer])
    assert before.keys() == after.keys() and len(before) == 3 * 6 + 2
    moved = {name.split("/")[1] for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {"kernel", "bias"} | ({"gamma", "beta"} if train_batch_norm else set())


@pytest.fixture(scope="module")
def signed(tensors):
    """The tensors with every third scale negative, which training can lead to."""
    changed = {name: values.copy() for name, values in tensors.items()}
    for name, values in changed.items():
        if name.endswith("/gamma"):
            values[::3] *= -1
    return changed


def keras_step(tensors, activations, unfreeze: int, train_batch_norm: bool) -> tuple[dict, dict]:
    """Gradients, and all tensors after a step, of Keras's own ResNet50, BatchNorm in inference mode, with its AdamW."""
    keras, tf = backend.keras(), backend.tensorflow()
    base = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(224, 224, 3))
    keras_model.set_tensors(base, tensors)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = train_batch_norm
    # From the input of the first trained block; a subsampled activation is spread out again.
    unfrozen = keras.Model(base.get_layer(resnet.feature_layer_name(unfreeze)).output, base.output)
    if FeatureLayer(unfreeze).subsampled:
        spread = np.zeros((len(activations), *unfrozen.input.shape[1:]), np.float32)
        spread[:, ::2, ::2] = activations
        activations = spread
    head = keras_model.head(3, (), 0.0, seed=0)
    variables = {
        f"{layer.name}/{variable.name}": variable
        for layer in (*unfrozen.layers, *head.layers)
        for variable in layer.trainable_variables
    }
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    with tf.GradientTape() as tape:
        scores = head(unfrozen(activations, training=False))
        loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(LABELS, scores, from_logits=True))
    gradients = tape.gradient(loss, list(variables.values()))
    optimizer.apply(gradients, list(variables.values()))
    after = {
        name: np.asarray(variable)
        for part in (base, head)
        for name, variable in keras_model.named_variables(part).items()
    }
    return dict(zip(variables, gradients, strict=True)), after


@pytest.mark.parametrize(("unfreeze", "train_batch_norm"), [(1, False), (3, True)])
def test_gradients_and_steps_are_those_of_keras(signed, run_backbone, pixels, unfreeze, train_batch_norm):
    feature_layer = FeatureLayer(unfreeze)
    values = run_backbone(pixels)[feature_layer]
    wanted, wanted_after = keras_step(signed, values, unfreeze, train_batch_norm)

    tf = backend.tensorflow()
    trainable = make_trainable(feature_layer, signed, train_batch_norm=train_batch_norm)
    with tf.GradientTape() as tape:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, trainable(values, training=True))
        loss = tf.reduce_mean(losses)
    gradients = dict(zip(trainable.variables, tape.gradient(loss, list(trainable.variables.values())), strict=True))
    assert gradients.keys() == wanted.keys()
    assert any(name.endswith("/gamma") for name in wanted) == train_batch_norm
    for name, gradient in gradients.items():
        right = np.asarray(wanted[name])
        assert np.linalg.norm(right) > 0, name
        assert np.linalg.norm(gradient - right) <= 0.01 * np.linalg.norm(right), name  # a ReLU may switch

    # Adam divides by the size of a gradient, so tiny gradients may change sign.
    after = trained(trainable, values)
    for name, gradient in wanted.items():
        clear = np.abs(gradient) > 0.01 * np.abs(gradient).max()
        np.testing.assert_allclose(
            after[name][clear], wanted_after[name][clear], rtol=0, atol=0.05 * RATE, err_msg=name
        )


def test_bfloat16_keeps_float32_variables_and_takes_a_similar_step(tensors, run_backbone, pixels):
    feature_layer = FeatureLayer(1)
    values = run_backbone(pixels)[feature_layer]
    steps = {}
    for precision in ("float32", "bfloat16"):
        trainable = make_trainable(feature_layer, tensors, precision=precision)
        before, after = trainable.get_tensors(), trained(trainable, values)
        assert all(tensor.dtype == np.float32 for tensor in after.values())
        steps[precision] = np.concatenate([(after[name] - before[name]).ravel() for name in before])
    cosine = steps["float32"] @ steps["bfloat16"] / np.prod([np.linalg.norm(step) for step in steps.values()])
    assert 0.9 < cosine < 1 - 1e-6


def test_bfloat16_features_are_close_to_float32(tensors, run_backbone, pixels):
    feature_layer = FeatureLayer(3)
    values = run_backbone(pixels)[feature_layer]
    exact, rounded = (
        np.asarray(make_trainable(feature_layer, tensors, precision=precision).features(values), np.float64)
        for precision in ("float32", "bfloat16")
    )
    for one, other in zip(exact, rounded, strict=True):
        assert 0.9995 <= one @ other / np.linalg.norm(one) / np.linalg.norm(other) < 1 - 1e-9
