"""An exported network's folder: loading, errors, and predictions."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from flowers.common.errors import UserError
from flowers.serving import models
from flowers.serving.openvino import exported
from flowers.serving.openvino.exported import Exported


def describe(folder, **changes) -> None:
    content = {
        "classes": ["NA", "café", "rose"],
        "temperature": 1.0,
        "threshold": 0.5,
        "precision": "int8",
        "input": "images",
        "model_digest": "00",
        "files": exported.digests(folder),
        "made_with": {},
        "calibrated_on": 3,
        "checked": {},
    }
    (folder / "model.json").write_text(json.dumps(content | changes), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """The files of an export with an empty network."""
    (tmp_path / "network.xml").write_text("<net/>")
    (tmp_path / "network.bin").write_bytes(b"numbers")
    describe(tmp_path)
    return tmp_path


def test_an_export_is_loaded_like_other_models(folder, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(exported, "Exported", lambda path: ("loaded", path))
    assert models.load(folder) == ("loaded", folder)
    assert not exported.is_export(tmp_path_factory.mktemp("other"))


@pytest.mark.parametrize("content", [b"{", b'{"classes": []}', b"\xff\xfe", None])
def test_a_damaged_description_is_named(folder, content):
    (folder / "model.json").unlink()
    if content is not None:
        (folder / "model.json").write_bytes(content)
    with pytest.raises(UserError, match=f"{folder}: not a network that `flowers export --openvino` wrote"):
        Exported(folder)


@pytest.mark.parametrize("name", ["network.xml", "network.bin"])
def test_a_changed_file_raises_an_error(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match="has changed since it was written; export it again"):
        Exported(folder)


def test_without_openvino_the_error_names_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"make extras.*pip install 'flowers\[openvino\]'"):
        Exported(folder)


@pytest.mark.slow
def test_a_network_that_openvino_cannot_load_is_one_line(folder):
    pytest.importorskip("openvino")
    with pytest.raises(UserError, match=f"{folder}: OpenVINO cannot load this network: ") as raised:
        Exported(folder)
    assert "\n" not in str(raised.value)


@pytest.fixture
def by_colour(folder):
    """A network that compares the colours."""
    pytest.importorskip("openvino")
    ov = exported.runtime()
    import openvino.opset13 as op

    image = op.parameter([-1, 224, 224, 3], np.uint8, name="image")
    means = op.reduce_mean(op.convert(image, np.float32), op.constant(np.array([1, 2])), keep_dims=False)
    probabilities = op.softmax(op.divide(means, op.constant(np.float32(50))), 1)
    ov.save_model(ov.Model([probabilities], [image]), folder / "network.xml", compress_to_fp16=False)
    describe(folder)
    return Exported(folder)


@pytest.mark.slow
def test_any_number_of_images_from_any_thread_get_their_own_predictions(by_colour):
    images = np.random.default_rng(0).integers(0, 256, (70, 1, 1, 3)).repeat(224, 1).repeat(224, 2).astype(np.uint8)
    logits = images[:, 0, 0].astype(np.float64) / 50
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert (by_colour.classes, by_colour.threshold) == (["NA", "café", "rose"], 0.5)
    assert by_colour.probabilities(images[:0]).shape == (0, 3)
    for found in (by_colour.probabilities(images), [by_colour.probabilities(image[None])[0] for image in images]):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda start: by_colour.probabilities(images[start : start + 5]), range(0, 70, 5)))
    np.testing.assert_allclose(np.concatenate(parts), expected, rtol=1e-4)
    assert parts[0].dtype == np.float32
