"""Grad-CAM, compared with the equations of the paper on the exported Keras model."""

import numpy as np
import pytest

from flowers.model import backbone, backend, classifier, gradcam, keras_model, resnet, weights
from flowers.model.trainable import TrainablePart

CLASSES = ["NA", "café", "rose"]


def model_of(tensors, unfreeze=0, units=(), precision="float32", features="conv5", **changed) -> classifier.Classifier:
    """A model whose trained blocks differ from the pretrained ones, as after fine-tuning; `changed`: its last layer."""
    names = resnet.block_tensors(backbone.FeatureLayer(unfreeze).blocks)
    blocks = {name: tensors[name] * (0.9 if name.endswith("kernel") else 1) for name in names}
    widths = backbone.FeatureLayer(0, conv4=features != "conv5").features
    head = TrainablePart(
        backbone.FeatureLayer(0), {}, keras_model.head(3, units, 0.5, seed=5, features=widths)
    ).get_tensors()
    head |= {f"head_logits/{name}": values for name, values in changed.items()}
    digest = weights.digest(tensors)
    shape = classifier.Description(CLASSES, [*units], 0.5, unfreeze, precision, digest, features=features)
    return classifier.Classifier(shape, blocks | head, tensors)


def textbook(model, pixels, classes) -> np.ndarray:
    """Through the exported Keras model: weights are the gradients' means over the positions (equations 1 and 2)."""
    keras, tf = backend.keras(), backend.tensorflow()
    whole = model.export()
    base, head = whole.get_layer("resnet50"), whole.get_layer("head")
    graph = keras.Model(base.input, [base.get_layer("conv5_block3_out").output, head(base.output)])
    inputs = keras.applications.resnet50.preprocess_input(pixels.astype(np.float32))
    with tf.GradientTape() as tape:
        activations, logits = graph(inputs, training=False)
        chosen = tf.gather(logits, classes, batch_dims=1)
    importance = tf.reduce_mean(tape.gradient(chosen, activations), axis=(1, 2))
    heat = np.maximum(np.einsum("nijk,nk->nij", activations, importance), 0)
    return heat / heat.max(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize(("unfreeze", "units"), [(0, (16, 8)), pytest.param(3, (), marks=pytest.mark.slow)])
def test_maps_are_those_of_the_paper(tensors, pixels, unfreeze, units):
    model, classes = model_of(tensors, unfreeze, units), np.array([2, 0])
    found = gradcam.maps(model, pixels, classes)
    assert found.shape == (2, 7, 7) and found.dtype == np.float32
    np.testing.assert_allclose(found, textbook(model, pixels, classes), atol=2e-3)
    assert found.max(axis=(1, 2)).tolist() == [1, 1] and found.min() >= 0
    assert found.std() > 0.1 and np.abs(found[0] - found[1]).max() > 0.1  # the comparison means something


def test_maps_depend_on_the_class_and_not_on_other_images(tensors, pixels, cheap_backbone):
    model = model_of(tensors)
    one, other, alone = (
        gradcam.maps(model, *query) for query in ((pixels, [0, 0]), (pixels, [1, 1]), (pixels[1:], [0]))
    )
    assert np.abs(one - other).max() > 0.1
    np.testing.assert_array_equal(one[1], alone[0])


def test_maps_include_conv4_if_it_is_pooled(tensors, pixels):
    """The mean over a map before its ReLU is the class's logit without the bias."""
    model = model_of(tensors, features="conv4+conv5")
    maps = model.feature_maps(pixels[0])
    assert maps.shape == (7, 7, 1024 + 2048)
    head = model.trainable.head
    kernel = np.asarray(head.get_layer("head_logits").kernel)[:, 2]
    logit = np.asarray(head(maps.mean(axis=(0, 1))[None], training=False))[0, 2]
    heat = np.maximum(maps @ kernel, 0)
    np.testing.assert_allclose((maps @ kernel).mean(), logit, rtol=1e-3)
    np.testing.assert_allclose(gradcam.maps(model, pixels[:1], [2])[0], heat / heat.max(), atol=2e-3)


@pytest.mark.slow
def test_bfloat16_maps_are_close_to_float32(tensors, pixels):
    exact, rounded = (
        gradcam.maps(model_of(tensors, precision=kind), pixels, [2, 0]) for kind in ("float32", "bfloat16")
    )
    assert 0 < np.abs(exact - rounded).max() < 0.1


def test_a_map_is_zero_if_no_position_raises_the_logit(tensors, pixels, cheap_backbone):
    kernel = np.ones((2048, 3), np.float32) * [1, -1, 1]  # features are never negative
    found = gradcam.maps(model_of(tensors, kernel=kernel), pixels, [0, 1])
    assert found[0].max() == 1 and not found[1].any()


def test_no_images_give_no_maps(tensors):
    assert gradcam.maps(model_of(tensors), [], []).shape == (0, 7, 7)
