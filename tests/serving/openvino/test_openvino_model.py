"""An exported network's folder: what is found in it, what is refused, and what it answers."""

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
        "input": "photos",
        "model_digest": "00",
        "files": exported.digests(folder),
        "made_with": {},
        "calibrated_on": 3,
        "checked": {},
    }
    (folder / "model.json").write_text(json.dumps(content | changes), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """The files of an export, whose network is none."""
    (tmp_path / "network.xml").write_text("<net/>")
    (tmp_path / "network.bin").write_bytes(b"numbers")
    describe(tmp_path)
    return tmp_path


def test_an_export_is_told_from_other_folders(folder, tmp_path_factory):
    assert exported.is_export(folder)
    assert not exported.is_export(tmp_path_factory.mktemp("other"))


def test_it_is_a_model_like_others(folder, monkeypatch):
    monkeypatch.setattr(exported, "Exported", lambda path: ("loaded", path))
    assert models.load(folder) == ("loaded", folder)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"classes": []}', b"\xff\xfe", None])
def test_a_damaged_description_is_named(folder, content):
    (folder / "model.json").unlink()
    if content is not None:
        (folder / "model.json").write_bytes(content)
    with pytest.raises(UserError, match=f"{folder}: not a network that `flowers export --openvino` wrote"):
        Exported(folder)


@pytest.mark.parametrize("name", ["network.xml", "network.bin"])
def test_a_file_that_changed_is_refused(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(UserError, match="has changed since it was written; export it again"):
        Exported(folder)


def test_without_openvino_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"make extras.*pip install 'flowers\[openvino\]'"):
        Exported(folder)


@pytest.mark.slow
def test_what_openvino_cannot_load_is_a_line(folder):
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
    answers = op.softmax(op.divide(means, op.constant(np.float32(50))), 1)
    ov.save_model(ov.Model([answers], [image]), folder / "network.xml", compress_to_fp16=False)
    describe(folder)
    return Exported(folder)


@pytest.mark.slow
def test_any_number_of_photos_from_any_thread_get_their_own_answers(by_colour):
    photos = np.random.default_rng(0).integers(0, 256, (70, 1, 1, 3)).repeat(224, 1).repeat(224, 2).astype(np.uint8)
    logits = photos[:, 0, 0].astype(np.float64) / 50
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert (by_colour.classes, by_colour.threshold) == (["NA", "café", "rose"], 0.5)
    assert by_colour.probabilities(photos[:0]).shape == (0, 3)
    for found in (by_colour.probabilities(photos), [by_colour.probabilities(photo[None])[0] for photo in photos]):
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda start: by_colour.probabilities(photos[start : start + 5]), range(0, 70, 5)))
    np.testing.assert_allclose(np.concatenate(answers), expected, rtol=1e-4)
    assert answers[0].dtype == np.float32
