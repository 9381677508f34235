"""The frozen backbone, compared with Keras's own network: two images, every feature layer, random statistics."""

import numpy as np
import pytest

from flowers.model import backbone, backend, keras_model
from flowers.model.feature_layer import FeatureLayer

SUBSAMPLED = (3, 9, 13)  # below conv5, conv4 and conv3, whose first blocks stride


@pytest.fixture(scope="module")
def outputs(run_backbone, pixels):
    return run_backbone(pixels)


@pytest.mark.parametrize("unfreeze", range(17))
def test_the_backbone_says_what_keras_says_at_the_cut(outputs, keras_outputs, unfreeze):
    feature_layer = FeatureLayer(unfreeze)
    wanted = keras_outputs[feature_layer.name]
    if unfreeze in SUBSAMPLED:
        wanted = wanted[:, ::2, ::2]
    assert outputs[feature_layer].shape == wanted.shape == (2, *feature_layer.shape)
    assert np.abs(outputs[feature_layer] - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert wanted.std() > 0.1 and np.abs(wanted[0] - wanted[1]).max() > 0.1  # else anything might be equal


def test_photos_of_another_size_go_through_the_same_network(tensors, monkeypatch):
    monkeypatch.setattr(backbone, "BATCH", 2)
    keras = backend.keras()
    photos = np.random.default_rng(3).integers(0, 256, (2, 96, 96, 3), np.uint8)
    reference = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_shape=(96, 96, 3))
    keras_model.set_tensors(reference, tensors)
    wanted = np.asarray(reference(keras.applications.resnet50.preprocess_input(photos.astype(np.float32))))
    feature_layers = [FeatureLayer(0, 96), FeatureLayer(2, 96), FeatureLayer(3, 96), FeatureLayer(9, 96)]
    found = backbone.Backbone(tensors, feature_layers, "float32")(photos)
    assert np.abs(found[FeatureLayer(0, 96)] - wanted).max() <= 1e-4 * np.abs(wanted).max()
    assert [found[feature_layer].shape for feature_layer in feature_layers] == [
        (2, *feature_layer.shape) for feature_layer in feature_layers
    ]
    assert [feature_layer.name for feature_layer in feature_layers[:2]] == [
        "pooled-96px",
        "conv5_block1_out-96px",
    ] and FeatureLayer(0).name == "pooled"


def test_features_of_conv4_are_those_that_conv5_reads(run_backbone, keras_outputs, tensors, pixels, monkeypatch):
    monkeypatch.setattr(backbone, "BATCH", 2)
    both = FeatureLayer(0, conv4=True)
    found = backbone.Backbone(tensors, [both, FeatureLayer(3)], "float32")(pixels)[both]
    conv4 = keras_outputs[FeatureLayer(3).name][:, ::2, ::2].mean(axis=(1, 2))
    wanted = np.concatenate([conv4, keras_outputs["pooled"]], axis=1)
    assert found.shape == wanted.shape == (2, *both.shape) and both.name != FeatureLayer(0).name
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_only_the_cuts_below_a_striding_block_are_subsampled():
    assert [unfreeze for unfreeze in range(17) if FeatureLayer(unfreeze).subsampled] == list(SUBSAMPLED)


def test_the_bits_of_a_row_do_not_depend_on_the_rows_beside_it(run_backbone, pixels, outputs):
    alone, full = run_backbone(pixels[:1]), run_backbone(np.concatenate([pixels, pixels[::-1]]))
    for feature_layer, values in outputs.items():
        assert alone[feature_layer].shape[0] == 1
        assert alone[feature_layer][0].tobytes() == values[0].tobytes() == full[feature_layer][0].tobytes()


def test_a_stream_of_photos_keeps_its_order_over_the_batches(cheap_backbone, monkeypatch):
    monkeypatch.setattr(backbone, "BATCH", 3)
    photos = np.zeros((7, 224, 224, 3), np.uint8)
    photos += np.arange(7, dtype=np.uint8)[:, None, None, None] * 30
    batches = list(cheap_backbone({}, [FeatureLayer(0)], "float32").batches(iter(photos)))
    assert [len(batch[FeatureLayer(0)]) for batch in batches] == [3, 3, 1]
    joined = np.concatenate([batch[FeatureLayer(0)] for batch in batches])[:, 0]
    np.testing.assert_allclose(joined, np.arange(7) * 30 / 255, rtol=1e-6)


def test_bfloat16_points_where_float32_points(tensors, pixels, outputs, monkeypatch):
    monkeypatch.setattr(backbone, "BATCH", 2)
    found = backbone.Backbone(tensors, [FeatureLayer(0), FeatureLayer(3)], "bfloat16")(pixels)
    for feature_layer, values in found.items():
        assert values.dtype.name == "bfloat16"
        for short, long in zip(values.astype(np.float64), outputs[feature_layer].astype(np.float64), strict=True):
            cosine = (short * long).sum() / np.linalg.norm(short) / np.linalg.norm(long)
            assert 0.999 <= cosine < 1 - 1e-9  # as good, and really rounded


def test_auto_is_bfloat16_only_where_the_processor_multiplies_in_it(monkeypatch, tmp_path):
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
def test_auto_is_what_the_gpu_multiplies_in_where_there_is_one(monkeypatch, details, wanted):
    config = backend.tensorflow().config
    monkeypatch.setattr(backend, "device", lambda: "gpu")
    monkeypatch.setattr(config, "list_physical_devices", lambda kind: [kind] if kind == "GPU" else [])
    said = {"compute_capability": details} if details else {}
    monkeypatch.setattr(config.experimental, "get_device_details", lambda gpu: said)
    assert backbone.best_precision() == wanted
