"""The network in 8 bits, against the one in float32."""

import numpy as np
import pytest

from flowers.model import backend, classifier, keras_model, weights
from flowers.model.backbone import BGR_MEANS, Backbone
from flowers.model.feature_layer import HEAD_FEATURES, FeatureLayer
from flowers.model.int8 import Int8Backbone, network
from flowers.model.trainable import TrainablePart
from flowers.serving.export import openvino
from flowers.serving.export.description import Description as About
from flowers.serving.export.network import Network

pytestmark = pytest.mark.slow  # needs OpenVINO

SIZE = 64
LAYERS = [FeatureLayer.below(blocks, SIZE) for blocks in (0, 2, 3, 13)]


@pytest.fixture(scope="module")
def tensors(images):
    """Random weights whose BatchNorms have learnt what they normalise, as trained ones have."""
    found, random = weights.random_tensors(), np.random.default_rng(0)
    found |= {name: random.normal(0, 0.3, each.shape) for name, each in found.items() if name.endswith("/beta")}
    keras = backend.keras()
    model = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(SIZE, SIZE, 3))
    keras_model.set_tensors(model, found)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images[..., ::-1].astype(np.float32) - BGR_MEANS, training=True)
    learnt = {name: np.asarray(variable) for name, variable in keras_model.named_variables(model).items()}
    return {name: learnt.get(name, values).astype(np.float32) for name, values in found.items()}


@pytest.fixture(scope="module")
def images():
    blocks = np.random.default_rng(1).integers(0, 256, (5, 8, 8, 3), np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module")
def exact(tensors, images):
    return Backbone(tensors, LAYERS, "float32")(images)


def test_without_int8_it_is_the_network_of_tensorflow(tensors, images, exact):
    found = Int8Backbone(tensors, LAYERS, float_blocks=16)(images)
    assert list(found) == list(exact)
    for layer, values in exact.items():
        assert found[layer].shape == values.shape == (5, *layer.shape)
        np.testing.assert_allclose(found[layer], values, atol=2e-4 * np.abs(values).max())


def test_in_8_bits_activations_are_similar(tensors, images, exact):
    found = Int8Backbone(tensors, LAYERS)(images)
    for layer, values in exact.items():
        error = np.abs(found[layer] - values).mean() / np.abs(values).mean()
        assert 1e-4 < error < 0.3, layer  # they are in 8 bits, but not far away
        assert np.corrcoef(found[layer].ravel(), values.ravel())[0, 1] > 0.97, layer


def test_trained_blocks_compute_in_float32(tensors, images):
    below, above = FeatureLayer.below(3, SIZE), FeatureLayer.below(0, SIZE)
    activations = Int8Backbone(tensors, [below])(images)[below]
    trainable = TrainablePart(below, tensors, keras_model.head(2, (), 0.0, 0), "int8")
    _, features = trainable.logits_and_features(activations)
    found = Int8Backbone(tensors, [above], float_blocks=3)(images)[above]
    np.testing.assert_allclose(found, features, atol=1e-4 * np.abs(features).max())


def test_the_bits_do_not_depend_on_the_batch(tensors, images):
    backbone = Int8Backbone(tensors, LAYERS)
    together = backbone(images)
    alone = list(backbone.batches(images[2:3]))
    assert len(alone) == 1
    for layer, values in together.items():
        assert np.array_equal(alone[0][layer], values[2:3])


def test_feature_maps_are_what_is_pooled(tensors, images):
    layer = FeatureLayer.below(0, SIZE)
    backbone = Int8Backbone(tensors, [layer])
    maps = backbone.maps(images)
    assert maps.shape == (5, SIZE // 32, SIZE // 32, 3072)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), backbone(images)[layer], rtol=1e-4, atol=1e-4)


def test_mirror_images_follow(tensors, images):
    import openvino

    model = network(tensors, [FeatureLayer.below(0, SIZE)], mirror=True)
    both = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([images])[0]
    backbone = Int8Backbone(tensors, [FeatureLayer.below(0, SIZE)])
    wanted = [next(iter(backbone(one).values())) for one in (images, images[:, :, ::-1])]
    np.testing.assert_allclose(both, np.concatenate(wanted), atol=1e-4 * np.abs(both).max())


@pytest.mark.parametrize("settings", [{}, {"mirror": True, "features": "conv4+conv5", "normalization": "root"}])
def test_an_export_of_a_model_in_int8_predicts_the_same(tensors, images, settings, tmp_path):
    blocks = 3
    features = HEAD_FEATURES[settings.get("features", "conv5")]
    head = keras_model.head(3, (), 0.0, 0, settings.get("normalization", "none"), features)
    trained = TrainablePart(FeatureLayer.below(blocks, SIZE), tensors, head).get_tensors()
    shape = classifier.Description(
        ["a", "b", "c"], [], 0.0, blocks, "int8", "00", temperature=20.0, size=SIZE, **settings
    )
    model = classifier.Classifier(shape, trained, tensors)
    about = About(
        format="openvino-int8",
        classes=shape.classes,
        size=SIZE,
        input="images",
        threshold=None,
        temperature=shape.temperature,
        origin={},
        made_with={},
    )
    openvino.write_int8(Network(None, about, lambda count: [], model.export_int8()), tmp_path)
    found = openvino.OpenVinoFile(tmp_path / openvino.FILE)
    np.testing.assert_allclose(found.probabilities(images), model.probabilities(images), atol=1e-5)
    assert found.probabilities(images).std() > 1e-3
