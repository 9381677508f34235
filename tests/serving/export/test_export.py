"""`flowers export`: errors before and after it, the files that remain, and what they say of themselves."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from export_world import Small, given

from flowers import cli
from flowers.common import extras, paths
from flowers.common.errors import UserError
from flowers.config import params
from flowers.model import classifier, keras_model
from flowers.model.feature_layer import FeatureLayer
from flowers.serving import models
from flowers.serving.export import formats, network, run
from flowers.training import subsets


@pytest.fixture
def export(monkeypatch, world):
    """A function that exports a model, as `flowers export` does; another one may be what is read again."""

    def call(trained, folder: Path, name="keras", read_again=None) -> None:
        monkeypatch.setattr(models, "load", lambda place: trained)
        if read_again is not None:
            monkeypatch.setattr(formats, "load", lambda file: read_again)
        run.export(name, folder, "build/model", world.settings)

    return call


def entries() -> set[str]:
    return {path.as_posix() for path in Path().iterdir()}


class Contrary(Small):
    """Gives every class the probability of another one."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return np.roll(super().probabilities(images), 1, axis=1)


class Nearly(Small):
    """Probabilities that differ a little, and no label."""

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return super().probabilities(images) * np.float32(1 - 3e-4)


def test_an_export_that_is_proved_is_written_with_its_labels_and_its_proof(world, export, capsys):
    Path("new/flowers").mkdir(parents=True)  # an empty folder is allowed
    export(Small(world.classes), Path("new/flowers"))
    found = sorted(path.name for path in Path("new/flowers").iterdir())
    assert found == ["labels.txt", "model.keras", "proof.json", "proof.md"]
    assert [path.name for path in Path("new").iterdir()] == ["flowers"]
    labels = Path("new/flowers/labels.txt").read_text(encoding="utf-8")
    assert labels.splitlines() == list(world.classes)
    content = json.loads(Path("new/flowers/proof.json").read_text(encoding="utf-8"))
    val = subsets.read("val")
    assert content["proof"]["validation"] == content["proof"]["compared"] == len(val)
    assert content["proof"]["changed"] == 0 and content["proof"]["difference"] < 1e-5
    assert (content["classes"], content["threshold"], content["size"]) == (list(world.classes), 0.5, 224)
    assert content["origin"].keys() == {"run", "commit", "model_digest", "weights_digest"}
    assert content["bytes"] > 5000
    table = Path("new/flowers/proof.md").read_text(encoding="utf-8")
    out = capsys.readouterr().err
    assert table in out and "other labels, of 6" in table
    assert out.splitlines()[-1] == "wrote new/flowers; to use it: flowers predict --model new/flowers IMAGES"


def test_without_a_destination_the_folder_is_named_after_the_format(world, export):
    export(Small(world.classes), None, "saved_model")
    assert isinstance(formats.load(Path("build/exports/saved_model/saved_model.pb")).classes, list)


def test_a_model_trained_on_the_validation_images_gives_a_warning(world, export, capsys):
    export(Small(world.classes, threshold=None), Path("out"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == ["warning: the model was trained on the validation images, too: their accuracy is too high"]


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (Contrary, r"not written: as Keras \d of 6 images get another label, more than 1"),
        (Nearly, r"not written: as Keras a probability differs by 0\.000\d+, more than 0\.0001"),
    ],
)
def test_an_export_that_fails_its_proof_leaves_nothing_behind(world, export, other, reason):
    before = entries()
    with pytest.raises(UserError, match=reason):
        export(Small(world.classes), Path("out"), read_again=stand_in(other(world.classes)))
    assert entries() == before


def stand_in(model: Small) -> Small:
    model.about = given(model, "keras").about
    return model


def test_test_images_are_never_read(world, export):
    for item in subsets.read("test").plain():
        item.path.unlink()
    export(Small(world.classes), Path("out"))


def test_a_model_of_other_classes_raises_an_error(world, export):
    with pytest.raises(UserError, match="build/model: its classes are not those of the images here"):
        export(Small(["oak", "elm", "yew"]), Path("out"))


@pytest.mark.parametrize("place", ["photos", "params.yaml"])
def test_a_destination_that_exists_is_left_alone(world, export, place):
    Path("params.yaml").write_text("{}")
    with pytest.raises(UserError, match=f"{place} is not an empty folder"):
        export(Small(world.classes), Path(place))


def test_an_export_is_not_exported_again(world, export):
    export(Small(world.classes), Path("out"))
    with pytest.raises(UserError, match="export the model that it was made from"):
        export(formats.load(Path("out/model.keras")), Path("again"))


def test_a_model_in_bfloat16_is_exported_in_float32(world):
    shape = classifier.Description(list(world.classes), [], 0.0, 0, "bfloat16", "00")
    assert run.trained(classifier.Classifier(shape, {}, {}), "it", "onnx").description.precision == "float32"


def test_only_openvino_keeps_the_numbers_of_a_model_in_int8(world):
    model = classifier.Classifier(classifier.Description(list(world.classes), [], 0.0, 0, "int8", "00"), {}, {})
    assert run.trained(model, "it", "openvino-int8") is model
    with pytest.raises(UserError, match=r"it: was trained in 8 bits.*only `flowers export openvino-int8` keeps"):
        run.trained(model, "it", "onnx")


def test_each_beginning_of_the_calibration_images_is_balanced(world):
    train = subsets.read("train", "val")
    found = run.spread(train, 224)
    assert {item.path for item in found} == {item.path for item in train.plain()}
    for count in (3, 6, 9):
        assert len({*Counter(item.path.parent.name for item in found[:count]).values()}) == 1
    for name in world.classes:
        hashes = [item.sha256 for item in found if item.path.parent.name == name]
        assert hashes == sorted(hashes)


def command(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["flowers", *arguments])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_without_a_trained_model_the_command_names_the_remedy(world, monkeypatch, capsys):
    assert command(monkeypatch, "export", "keras", "out") == 1
    assert capsys.readouterr().err == "error: build/model/model.json: no such file; run `dvc repro` to train a model\n"


@pytest.fixture
def whole(tensors):
    """A Keras model with all that an export can hold: a hidden layer, roots, conv4, mirror images, another size."""
    head = keras_model.head(3, (4,), 0.0, 5, "root", FeatureLayer(0, conv4=True).features)
    for variable in keras_model.named_variables(head).values():
        variable.assign(variable / 2)  # probabilities that are neither 0 nor 1
    return keras_model.whole(tensors, head, temperature=1.5, mirror=True, size=96, conv4=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name, form in formats.FORMATS.items() if form.precision != "int8" and not name.startswith("web")]
)
def test_all_that_a_network_can_hold_is_the_same_in_every_format(whole, tmp_path, name):
    for package in ("onnx", "tf2onnx", "onnxruntime", "ai_edge_litert", "openvino"):
        pytest.importorskip(package)
    images = np.random.default_rng(3).integers(0, 256, (3, 96, 96, 3), np.uint8)
    images[1] //= 4
    expected = np.asarray(whole(images, training=False))
    assert np.ptp(expected, axis=0).max() > 0.001 and expected.min() > 0.01
    about = given(Small(size=96), name).about
    form = formats.FORMATS[name]
    form.write(network.Network(whole, about, lambda count: []), tmp_path)
    model = models.load(tmp_path)
    limit = 1e-4 if form.precision == "float32" else 1e-2
    np.testing.assert_allclose(model.probabilities(images), expected, atol=limit)
    np.testing.assert_allclose(model.probabilities(images[:1, :, ::-1]), expected[:1], atol=limit)


def kinds_of_convolutions(name: str, file: Path) -> Counter:
    """How many convolutions of a file compute in 8 bits (True), and how many do not (False)."""
    if name == "openvino-int8":
        graph = extras.openvino("this test").Core().read_model(file)
        found = [op for op in graph.get_ordered_ops() if op.get_type_name() == "Convolution"]
        weights = [op.input(1).get_source_output().get_node().get_type_name() for op in found]
        return Counter(kind != "Constant" for kind in weights)
    if name == "onnx-int8":
        import onnx

        graph = onnx.load(str(file)).graph
        from_int8 = {output for node in graph.node if node.op_type == "DequantizeLinear" for output in node.output}
        return Counter(node.input[1] in from_int8 for node in graph.node if node.op_type == "Conv")
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(file.read_bytes(), 0)
    (graph,) = model.subgraphs
    codes = [code.builtinCode for code in model.operatorCodes]
    found = [op for op in graph.operators if codes[op.opcodeIndex] == schema.BuiltinOperator.CONV_2D]
    heads = (schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.SOFTMAX, schema.BuiltinOperator.SQRT)
    in_head = [op for op in graph.operators if codes[op.opcodeIndex] in heads]
    assert {graph.tensors[op.outputs[0]].type for op in in_head} == {schema.TensorType.FLOAT32}
    return Counter(graph.tensors[op.inputs[1]].type == schema.TensorType.INT8 for op in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in formats.FORMATS if name.endswith("-int8")])
def test_in_int8_the_first_convolution_and_the_head_stay_float32(whole, tmp_path, name):
    """Pooled features near 0, of which a root is taken, would not survive 8 bits."""
    for package in ("onnx", "tf2onnx", "onnxruntime", "ai_edge_litert", "openvino", "nncf"):
        pytest.importorskip(package)
    images = np.random.default_rng(3).integers(0, 256, (4, 96, 96, 3), np.uint8)
    about = given(Small(size=96), name).about
    formats.FORMATS[name].write(network.Network(whole, about, lambda count: list(images)), tmp_path)
    model = models.load(tmp_path)
    assert model.about.calibrated_on == 4
    file = formats.find(tmp_path)
    in_float32 = 11 if name == "litert-int8" else 1  # conv1, and conv2 with its ten
    expected = {False: in_float32, True: 53 - in_float32}  # BatchNorm is folded, and mirror images share
    assert kinds_of_convolutions(name, file) == expected
    assert sum(part.stat().st_size for part in formats.files(file)) < 26e6  # a byte a weight
    np.testing.assert_allclose(model.probabilities(images), np.asarray(whole(images, training=False)), atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "litert", "openvino"])
def test_a_trained_model_goes_through_the_command_and_comes_back(real_world, monkeypatch, capfd, name):
    for package in ("onnx", "tf2onnx", "onnxruntime", "ai_edge_litert", "openvino"):
        pytest.importorskip(package)
    real_world.train(head={"units": []}, train={"epochs": 20})
    monkeypatch.setattr(params, "load", real_world.settings)
    capfd.readouterr()
    assert command(monkeypatch, "export", name) == 0
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 9, err  # only the messages of this project, and its table
    model, trained = models.load(run.EXPORTS / name), models.load(paths.MODEL)
    assert (model.classes, model.threshold) == (trained.classes, trained.threshold)
    images = np.stack([run.pixels(item) for item in subsets.read("test").plain()])
    found, expected = model.probabilities(images), trained.probabilities(images)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 0.3  # the classes are told apart
    assert sum(file.stat().st_size for file in (run.EXPORTS / name).iterdir()) < 100e6


@pytest.mark.slow
def test_no_telemetry_is_sent(tmp_path):
    """In a process of its own: NNCF sends none while pytest is loaded."""
    pytest.importorskip("nncf")
    code = """if True:
        import socket, subprocess, sys
        def never(*arguments, **others):
            raise SystemExit("connects")
        socket.socket.connect = socket.create_connection = never
        from flowers.common import extras
        from flowers.serving.export import nncf_int8
        extras.openvino("this"), nncf_int8.require()
        import openvino.tools.ovc.telemetry_utils as used_by_openvino, nncf.telemetry as used_by_nncf
        print(used_by_openvino.tm.__name__, type(used_by_nncf.telemetry).__name__)
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CI", "NNCF"))}
    home = environment | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=home, check=True)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "MagicMock"]
    assert not (tmp_path / "intel").exists()
