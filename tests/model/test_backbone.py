"""The frozen backbone, compared with Keras's own network: two images, every feature layer, random statistics."""

import numpy as np
import pytest

from flowers.model import backbone, backend, keras_model
from flowers.model.feature_layer import FeatureLayer

SUBSAMPLED = (3, 9, 13)  # below conv5, conv4 and conv3, whose first blocks stride


@pytest.fixture(scope="module")
def outputs(run_backbone, pixels):
    return run_backbone(pixels)


def test_activations_at_every_feature_layer_are_those_of_keras(outputs, keras_outputs):
    for layer in map(FeatureLayer, range(17)):
        wanted = keras_outputs[layer.name]
        if layer.unfreeze_blocks in SUBSAMPLED:
            wanted = wanted[:, ::2, ::2]
        assert outputs[layer].shape == wanted.shape == (2, *layer.shape)
        assert np.abs(outputs[layer] - wanted).max() <= 1e-4 * np.abs(wanted).max(), layer
        assert wanted.std() > 0.1 and np.abs(wanted[0] - wanted[1]).max() > 0.1  # the comparison means something


def test_images_of_another_size(tensors, monkeypatch):
    monkeypatch.setattr(backbone, "BATCH", 2)
    keras = backend.keras()
    images = np.random.default_rng(3).integers(0, 256, (2, 96, 96, 3), np.uint8)
    reference = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(96, 96, 3))
    keras_model.set_tensors(reference, tensors)
    wanted = np.asarray(reference(keras.applications.resnet50.preprocess_input(images.astype(np.float32))))
    layers = [FeatureLayer(unfreeze, 96) for unfreeze in (0, 2, 3, 9)]
    found = backbone.Backbone(tensors, layers, "float32")(images)
    assert np.abs(found[FeatureLayer(0, 96)] - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert [found[layer].shape for layer in layers] == [(2, *layer.shape) for layer in layers]
    assert [layer.name for layer in layers[:2]] == ["pooled-96px", "conv5_block1_out-96px"]
    assert FeatureLayer(0).name == "pooled"


def test_features_of_conv4_are_pooled_over_the_positions_that_conv5_reads(keras_outputs, tensors, pixels, monkeypatch):
    monkeypatch.setattr(backbone, "BATCH", 2)
    both = FeatureLayer(0, conv4=True)
    found = backbone.Backbone(tensors, [both, FeatureLayer(3)], "float32")(pixels)[both]
    conv4 = keras_outputs[FeatureLayer(3).name][:, ::2, ::2].mean(axis=(1, 2))
    wanted = np.concatenate([conv4, keras_outputs["pooled"]], axis=1)
    assert found.shape == wanted.shape == (2, *both.shape) and both.name != FeatureLayer(0).name
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_only_feature_layers_below_a_striding_block_are_subsampled():
    assert [unfreeze for unfreeze in range(17) if FeatureLayer(unfreeze).subsampled] == list(SUBSAMPLED)


def test_the_bits_of_a_row_do_not_depend_on_the_batch(run_backbone, pixels, outputs):
    alone, full = run_backbone(pixels[:1]), run_backbone(np.concatenate([pixels, pixels[::-1]]))
    for layer, values in outputs.items():
        assert alone[layer].shape[0] == 1
        assert alone[layer][0].tobytes() == values[0].tobytes() == full[layer][0].tobytes()


def test_batches_keep_the_order_of_a_stream(cheap_backbone, monkeypatch):
    monkeypatch.setattr(backbone, "BATCH", 3)
    images = np.zeros((7, 224, 224, 3), np.uint8)
    images += np.arange(7, dtype=np.uint8)[:, None, None, None] * 30
    batches = list(cheap_backbone({}, [FeatureLayer(0)], "float32").batches(iter(images)))
    assert [len(batch[FeatureLayer(0)]) for batch in batches] == [3, 3, 1]
    joined = np.concatenate([batch[FeatureLayer(0)] for batch in batches])[:, 0]
    np.testing.assert_allclose(joined, np.arange(7) * 30 / 255, rtol=1e-6)


def test_bfloat16_activations_are_close_to_float32(tensors, pixels, outputs, monkeypatch):
    monkeypatch.setattr(backbone, "BATCH", 2)
    found = backbone.Backbone(tensors, [FeatureLayer(0), FeatureLayer(3)], "bfloat16")(pixels)
    for layer, values in found.items():
        assert values.dtype.name == "bfloat16"
        for short, long in zip(values.astype(np.float64), outputs[layer].astype(np.float64), strict=True):
            cosine = (short * long).sum() / np.linalg.norm(short) / np.linalg.norm(long)
            assert 0.999 <= cosine < 1 - 1e-9  # close, but rounded


def test_the_best_precision_is_bfloat16_if_the_processor_multiplies_in_it(monkeypatch, tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(backbone, "Path", lambda _: cpuinfo)
    for flags, wanted in (
        ("fpu avx512f avx512_bf16", "bfloat16"),
        ("amx_bf16", "bfloat16"),
        ("fpu avx512f", "float32"),
    ):
        cpuinfo.write_text(f"processor : 0\nflags\t\t: {flags}\n")
        assert backbone.best_precision() == wanted
    cpuinfo.unlink()
    assert backbone.best_precision() == "float32"


@pytest.mark.parametrize(("details", "wanted"), [((9, 0), "bfloat16"), ((7, 5), "float32"), (None, "float32")])
def test_the_best_precision_depends_on_the_gpu_if_there_is_one(monkeypatch, details, wanted):
    config = backend.tensorflow().config
    monkeypatch.setattr(backend, "device", lambda: "gpu")
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: [kind] if kind == "GPU" else [])
    found = {"compute_capability": details} if details else {}
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: found)
    assert backbone.best_precision() == wanted
