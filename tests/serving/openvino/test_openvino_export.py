"""The export to OpenVINO: what is refused before and after, what is left behind, and that int8 answers alike."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flowers import cli
from flowers.common import paths
from flowers.common.errors import UserError
from flowers.model import keras_model
from flowers.model.classifier import Classifier, Description
from flowers.model.feature_layer import FeatureLayer
from flowers.serving import models
from flowers.serving.openvino import export, exported, graph
from flowers.training import subsets


class Trained(Classifier):
    """Stands in for a trained network: the colour that is strongest is the answer."""

    def __init__(self, classes, threshold: float | None = 0.5) -> None:
        super().__init__(Description(list(classes), [], 0.0, 0, "float32", "00", threshold=threshold), {}, {})

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        sums = images.sum(axis=(1, 2)).astype(np.float32)
        return sums / sums.sum(axis=1, keepdims=True)


class Contrary(Trained):
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return 1 - super().probabilities(images)


@pytest.fixture
def stand_in(monkeypatch):
    """A function that exports a stand-in whose network in int8 is another one."""

    def run(trained, in_int8, folder: Path) -> list[subsets.Item]:
        calibrated_on = []

        def write(model, calibration, made):
            calibrated_on.extend(calibration)
            (made / "network.xml").write_text("<net/>")
            return {"classes": model.classes}

        monkeypatch.setattr(export, "_nncf", lambda: None)
        monkeypatch.setattr(export, "_write_network", write)
        monkeypatch.setattr(export, "Exported", lambda made: in_int8)
        export.export(trained, "the model", folder)
        return calibrated_on

    return run


def entries() -> set[str]:
    return {path.as_posix() for path in Path().iterdir()}


def test_what_passes_is_written_with_how_it_was_checked(world, stand_in, capsys):
    Path("new/int8").mkdir(parents=True)  # an empty folder is as good as none
    calibrated_on = stand_in(Trained(world.classes), Trained(world.classes), Path("new/int8"))
    assert sorted(path.name for path in Path("new/int8").iterdir()) == ["model.json", "network.xml"]
    assert [path.name for path in Path("new").iterdir()] == ["int8"]
    said = json.loads(Path("new/int8/model.json").read_text(encoding="utf-8"))
    train, val = subsets.read("train"), subsets.read("val")
    # The world's validation photos are few: training photos are compared, too.
    assert said["checked"] == {
        "validation": len(val),
        "right_before": len(val),
        "lost": 0,
        "gained": 0,
        "compared": len(val) + len(train),
        "changed": 0,
    }
    assert {item.path for item in calibrated_on} == {item.path for item in train.plain()}
    lines = capsys.readouterr().err.splitlines()
    assert "100.0% of 6 validation photos right before, 100.0% after" in lines[-2]
    assert "0 of 18 photos" in lines[-2] and lines[-1].startswith("wrote new/int8: ")


def test_a_model_that_was_trained_on_the_photos_of_the_check_says_so(world, stand_in, capsys):
    stand_in(Trained(world.classes, threshold=None), Trained(world.classes), Path("int8"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: the model was trained on these photos, too: they say little of how many it gets right"
    ]


def test_what_fails_the_check_leaves_nothing_behind(world, stand_in):
    before = entries()
    with pytest.raises(UserError, match=r"not written: in int8 100\.0% fewer validation photos are right"):
        stand_in(Trained(world.classes), Contrary(world.classes), Path("int8"))
    assert entries() == before


def test_test_photos_are_never_looked_at(world, stand_in):
    for item in subsets.read("test").plain():
        item.path.unlink()
    stand_in(Trained(world.classes), Trained(world.classes), Path("int8"))


def test_a_model_of_other_classes_is_refused(world, stand_in):
    with pytest.raises(UserError, match="the model: a model of other classes than the photos here"):
        stand_in(Trained(["oak", "elm"]), None, Path("int8"))


def test_an_exported_network_is_not_exported_again(world, stand_in):
    with pytest.raises(UserError, match="the model: an exported network already"):
        stand_in(object(), None, Path("int8"))


@pytest.mark.parametrize("place", ["photos", "params.yaml"])
def test_what_holds_something_is_left_alone(world, stand_in, place):
    Path("params.yaml").write_text("{}")
    with pytest.raises(UserError, match=f"{place} is not an empty folder"):
        stand_in(Trained(world.classes), None, Path(place))


def test_any_beginning_of_the_calibration_photos_holds_all_classes_alike(world):
    train = subsets.read("train", "val")
    found = export.spread(train, 224)
    assert {item.path for item in found} == {item.path for item in train.plain()}
    for count in (3, 6, 9):
        assert len({*Counter(item.path.parent.name for item in found[:count]).values()}) == 1
    for name in world.classes:
        hashes = [item.sha256 for item in found if item.path.parent.name == name]
        assert hashes == sorted(hashes)


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["flowers", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_missing_package_is_a_line(world, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(models, "load", lambda folder: Trained(world.classes))
    assert run(monkeypatch, "export", "--openvino", "int8") == 1
    assert "make extras" in capsys.readouterr().err
    assert not Path("int8").exists()


def test_without_a_trained_model_the_remedy_is_named(world, monkeypatch, capsys):
    assert run(monkeypatch, "export", "--openvino", "int8") == 1
    assert capsys.readouterr().err == "error: build/model/model.json: no such file; run `dvc repro` to train a model\n"


def test_an_export_is_not_exported_again(world, monkeypatch, capsys):
    monkeypatch.setattr(models, "load", lambda folder: object())
    assert run(monkeypatch, "export", "flowers.keras") == 1
    assert "export the model that it was made from" in capsys.readouterr().err


def random_head(features: np.ndarray) -> dict[str, np.ndarray]:
    """A head of one hidden layer and three classes that tells features (n, 2048) like these apart."""
    random = np.random.default_rng(5)
    shapes = {"head_dense1/kernel": (2048, 8), "head_dense1/bias": (8,), "head_logits/kernel": (8, 3)}
    head = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    head["head_dense1/kernel"] /= np.ptp(features, axis=0).mean() * 10
    return head | {"head_logits/bias": np.array([0.1, 0.2, -0.3], np.float32)}


@pytest.mark.slow
def test_the_network_is_keras_network(tensors, pixels, keras_outputs):
    pytest.importorskip("openvino")
    features = keras_outputs["pooled"]
    whole = tensors | random_head(features)
    hidden = features @ whole["head_dense1/kernel"] + whole["head_dense1/bias"]
    logits = (np.maximum(hidden, 0) @ whole["head_logits/kernel"] + whole["head_logits/bias"]) / 1.5
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    network = graph.build(whole, temperature=1.5)
    compiled = exported.runtime().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(pixels)[0], expected, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.01  # the two photos are told apart


@pytest.mark.slow
def test_normalization_mirror_images_and_another_size_are_part_of_the_network(tensors):
    pytest.importorskip("openvino")
    head = keras_model.head(3, (), 0.0, 5, "root", FeatureLayer(0, conv4=True).features)
    for variable in keras_model.named_variables(head).values():
        variable.assign(variable / 4)  # answers that are neither 0 nor 1
    whole = keras_model.whole(tensors, head, temperature=1.5, mirror=True, size=96, conv4=True)
    subsets = np.random.default_rng(3).integers(0, 256, (2, 96, 96, 3), np.uint8)
    expected = np.asarray(whole(subsets, training=False))
    found = tensors | {name: np.asarray(variable) for name, variable in keras_model.named_variables(head).items()}
    network = graph.build(found, 1.5, "root", mirror=True, size=96, conv4=True)
    compiled = exported.runtime().compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(subsets)[0], expected, atol=1e-4)
    np.testing.assert_allclose(compiled(subsets[:, :, ::-1].copy())[0], expected, atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.001 and expected.min() > 0.01


@pytest.mark.slow
def test_in_int8_the_head_stays_as_it_was(tensors):
    """Pooled features near 0, of which a root is taken, would not survive 8 bits."""
    pytest.importorskip("nncf")
    head = keras_model.head(3, (4,), 0.0, 5, "root", FeatureLayer(0, conv4=True).features)
    found = tensors | {name: np.asarray(variable) for name, variable in keras_model.named_variables(head).items()}
    network = graph.build(found, 1.5, "root", mirror=True, size=96, conv4=True)
    after = graph.head_operations(network)
    kinds = {op.get_friendly_name(): op.get_type_name() for op in network.get_ordered_ops()}
    assert Counter(kinds[name] for name in after) >= Counter({"MatMul": 2, "Sqrt": 2, "Split": 1, "Softmax": 1})
    subsets = np.random.default_rng(3).integers(0, 256, (2, 96, 96, 3), np.uint8)
    made = export.quantised(network, list(subsets))
    assert graph.head_operations(made) == after  # nothing was put between
    assert any(op.get_type_name() == "FakeQuantize" for op in made.get_ordered_ops())


@pytest.mark.slow
def test_a_trained_model_goes_through_the_command_and_comes_back(real_world, monkeypatch, capfd):
    pytest.importorskip("nncf")
    real_world.train(head={"units": []}, train={"epochs": 20})
    capfd.readouterr()
    assert run(monkeypatch, "export", "--openvino", "int8") == 0
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 3  # nothing but what this project says
    model, trained = models.load(Path("int8")), models.load(paths.MODEL)
    assert isinstance(model, exported.Exported)
    assert (model.classes, model.threshold) == (trained.classes, trained.threshold)
    assert model.description.checked["validation"] == 6 and model.description.calibrated_on == 12
    images = np.stack([export.pixels(item) for item in subsets.read("test").plain()])
    found, expected = model.probabilities(images), trained.probabilities(images)
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.ptp(expected, axis=0).min() > 0.3  # the classes are told apart
    assert (Path("int8/network.bin")).stat().st_size < 26e6  # a byte a weight


@pytest.mark.slow
def test_nothing_is_reported_to_the_makers(tmp_path):
    """In a process of its own: NNCF reports nothing while pytest is loaded."""
    pytest.importorskip("nncf")
    code = """if True:
        import socket, subprocess, sys
        def never(*arguments, **others):
            raise SystemExit("connects")
        socket.socket.connect = socket.create_connection = never
        from flowers.serving import openvino_export
        openvino_export._nncf()
        import openvino.tools.ovc.telemetry_utils as used_by_openvino, nncf.telemetry as used_by_nncf
        print(used_by_openvino.tm.__name__, type(used_by_nncf.telemetry).__name__)
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "NNCF"))}
    home = environment | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=home, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "MagicMock"]
    assert not (tmp_path / "intel").exists()
