"""The export to OpenVINO: errors before and after it, the files that remain, and the predictions in int8."""

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
from flowers.serving.openvino import export, exported
from flowers.training import subsets


class Trained(Classifier):
    """Stands in for a trained network: the strongest colour is the prediction."""

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
    """A function that exports one stand-in, with another one as its int8 network; returns the calibration images."""

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


def test_a_network_that_passes_is_written_with_the_figures_of_its_check(world, stand_in, capsys):
    Path("new/int8").mkdir(parents=True)  # an empty folder is allowed
    calibrated_on = stand_in(Trained(world.classes), Trained(world.classes), Path("new/int8"))
    assert sorted(path.name for path in Path("new/int8").iterdir()) == ["model.json", "network.xml"]
    assert [path.name for path in Path("new").iterdir()] == ["int8"]
    description = json.loads(Path("new/int8/model.json").read_text(encoding="utf-8"))
    train, val = subsets.read("train"), subsets.read("val")
    # The world has few validation images: training images are compared, too.
    assert description["checked"] == {
        "validation": len(val),
        "right_before": len(val),
        "lost": 0,
        "gained": 0,
        "compared": len(val) + len(train),
        "changed": 0,
    }
    assert {item.path for item in calibrated_on} == {item.path for item in train.plain()}
    lines = capsys.readouterr().err.splitlines()
    assert "100.0 % of 6 validation images right before, 100.0 % after" in lines[-2]
    assert "0 of 18 images" in lines[-2] and lines[-1].startswith("wrote new/int8: ")


def test_a_model_trained_on_the_validation_images_gives_a_warning(world, stand_in, capsys):
    stand_in(Trained(world.classes, threshold=None), Trained(world.classes), Path("int8"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == ["warning: the model was trained on the validation images, too: their accuracy is too high"]


def test_a_network_that_fails_the_check_leaves_nothing_behind(world, stand_in):
    before = entries()
    with pytest.raises(UserError, match=r"not written: in int8 100\.0 % fewer validation images are right"):
        stand_in(Trained(world.classes), Contrary(world.classes), Path("int8"))
    assert entries() == before


def test_test_images_are_never_read(world, stand_in):
    for item in subsets.read("test").plain():
        item.path.unlink()
    stand_in(Trained(world.classes), Trained(world.classes), Path("int8"))


def test_a_model_of_other_classes_raises_an_error(world, stand_in):
    with pytest.raises(UserError, match="the model: its classes are not those of the images here"):
        stand_in(Trained(["oak", "elm"]), None, Path("int8"))


@pytest.mark.parametrize("place", ["photos", "params.yaml"])
def test_a_file_or_a_full_folder_is_left_alone(world, stand_in, place):
    Path("params.yaml").write_text("{}")
    with pytest.raises(UserError, match=f"{place} is not an empty folder"):
        stand_in(Trained(world.classes), None, Path(place))


def test_each_beginning_of_the_calibration_images_is_balanced(world):
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


def test_without_openvino_the_command_names_what_to_install(world, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(models, "load", lambda folder: Trained(world.classes))
    assert run(monkeypatch, "export", "--openvino", "int8") == 1
    assert "make extras" in capsys.readouterr().err
    assert not Path("int8").exists()


def test_without_a_trained_model_the_command_names_the_remedy(world, monkeypatch, capsys):
    assert run(monkeypatch, "export", "--openvino", "int8") == 1
    assert capsys.readouterr().err == "error: build/model/model.json: no such file; run `dvc repro` to train a model\n"


@pytest.mark.parametrize("arguments", [["flowers.keras"], ["--openvino", "int8"]])
def test_an_export_is_not_exported_again(world, monkeypatch, capsys, arguments):
    monkeypatch.setattr(models, "load", lambda folder: object())
    monkeypatch.setattr(export, "_nncf", lambda: None)
    assert run(monkeypatch, "export", *arguments) == 1
    assert "export the model that it was made from" in capsys.readouterr().err


@pytest.fixture
def whole(tensors):
    """A Keras model with all that an export can hold: a hidden layer, roots, conv4, mirror images, another size."""
    head = keras_model.head(3, (4,), 0.0, 5, "root", FeatureLayer(0, conv4=True).features)
    for variable in keras_model.named_variables(head).values():
        variable.assign(variable / 2)  # probabilities that are neither 0 nor 1
    return keras_model.whole(tensors, head, temperature=1.5, mirror=True, size=96, conv4=True)


@pytest.mark.slow
def test_the_converted_network_is_keras_network(whole):
    pytest.importorskip("openvino")
    images = np.random.default_rng(3).integers(0, 256, (3, 96, 96, 3), np.uint8)
    images[1] //= 4
    expected = np.asarray(whole(images, training=False))
    compiled = exported.runtime().compile_model(export.converted(whole), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(images)[0], expected, atol=1e-4)
    np.testing.assert_allclose(compiled(images[:1, :, ::-1].copy())[0], expected[:1], atol=1e-4)
    assert np.ptp(expected, axis=0).max() > 0.001 and expected.min() > 0.01


@pytest.mark.slow
def test_in_int8_the_first_convolution_and_the_head_stay_float32(whole):
    """Pooled features near 0, of which a root is taken, would not survive 8 bits."""
    pytest.importorskip("nncf")
    network = export.converted(whole)
    head = export.head_operations(network)
    kinds = Counter(op.get_type_name() for op in network.get_ordered_ops())
    in_head = Counter(op.get_type_name() for op in network.get_ordered_ops() if op.get_friendly_name() in head)
    assert in_head >= Counter({"MatMul": 2, "Softmax": 1, "Maximum": 1})
    assert kinds["Convolution"] == 53 and not in_head["Convolution"]  # BatchNorm is folded, and mirror images share
    assert kinds["Multiply"] < 5 and "ReverseSequence" not in kinds
    made = export.quantised(network, list(np.random.default_rng(3).integers(0, 256, (2, 96, 96, 3), np.uint8)))
    assert export.head_operations(made) == head  # nothing was put between
    quantised = [
        op.input(1).get_source_output().get_node().get_type_name() != "Constant"
        for op in made.get_ordered_ops()
        if op.get_type_name() == "Convolution"
    ]
    assert quantised == [False] + [True] * 52


@pytest.mark.slow
def test_a_trained_model_goes_through_the_command_and_comes_back(real_world, monkeypatch, capfd):
    pytest.importorskip("nncf")
    real_world.train(head={"units": []}, train={"epochs": 20})
    capfd.readouterr()
    assert run(monkeypatch, "export", "--openvino", "int8") == 0
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 3  # only the messages of this project
    model, trained = models.load(Path("int8")), models.load(paths.MODEL)
    assert isinstance(model, exported.Exported)
    assert (model.classes, model.threshold) == (trained.classes, trained.threshold)
    description = json.loads(Path("int8/model.json").read_text(encoding="utf-8"))
    assert description["checked"]["validation"] == 6 and description["calibrated_on"] == 12
    images = np.stack([export.pixels(item) for item in subsets.read("test").plain()])
    found, expected = model.probabilities(images), trained.probabilities(images)
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert np.ptp(expected, axis=0).min() > 0.3  # the classes are told apart
    assert (Path("int8/network.bin")).stat().st_size < 26e6  # a byte a weight


@pytest.mark.slow
def test_no_telemetry_is_sent(tmp_path):
    """In a process of its own: NNCF sends none while pytest is loaded."""
    pytest.importorskip("nncf")
    code = """if True:
        import socket, subprocess, sys
        def never(*arguments, **others):
            raise SystemExit("connects")
        socket.socket.connect = socket.create_connection = never
        from flowers.serving.openvino import export
        export._nncf()
        import openvino.tools.ovc.telemetry_utils as used_by_openvino, nncf.telemetry as used_by_nncf
        print(used_by_openvino.tm.__name__, type(used_by_nncf.telemetry).__name__)
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "NNCF"))}
    home = environment | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=home, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "MagicMock"]
    assert not (tmp_path / "intel").exists()
