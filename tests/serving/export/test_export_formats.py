"""Every format: a network comes back from its file as it was, and a file that is not whole, or not ours, does not."""

import json
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from export_world import CLASSES, Small, given, noise

from flowers.common.errors import UserError
from flowers.serving import models
from flowers.serving.export import formats, seal

SIZE = 64
# Those whose packages every installation has, and those of the extra.
EXTRAS = [name for name in formats.FORMATS if name not in ("keras", "saved_model")]
ALL = ["keras", "saved_model", *(pytest.param(name, marks=pytest.mark.slow) for name in EXTRAS)]


@pytest.fixture(scope="module")
def small() -> Small:
    return Small(threshold=0.25, size=SIZE)


@pytest.fixture(scope="module")
def exports(small, tmp_path_factory):
    """A function that returns the folder of a format, which is written once."""
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name in EXTRAS:
            for package in ("onnx", "tf2onnx", "onnxruntime", "ai_edge_litert", "openvino", "nncf"):
                pytest.importorskip(package)
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            form = formats.FORMATS[name]
            form.require()
            form.write(given(small, name), made[name])
        return made[name]

    return folder


def copied(folder: Path, to: Path) -> Path:
    """A copy of an export that a test may change, as the file of its network."""
    for file in folder.rglob("*"):
        if file.is_file():
            target = to / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    found = formats.find(to)
    assert found
    return found


@pytest.mark.parametrize("name", ALL)
def test_predictions_classes_and_threshold_come_back(small, exports, name):
    folder = exports(name)
    images = noise(40, SIZE)
    expected = small.probabilities(images)
    assert np.ptp(expected, axis=0).min() > 0.05
    limit = {"float32": 1e-5, "float16": 2e-3, "int8": 0.1}[formats.FORMATS[name].precision]
    for place in (folder, formats.find(folder)):
        model = models.load(place)
        assert (model.classes, model.threshold, model.size) == (CLASSES, 0.25, SIZE)
        assert model.about.origin["commit"] == "0f" * 20
        np.testing.assert_allclose(model.probabilities(images), expected, atol=limit)
    assert model.probabilities(images[:0]).shape == (0, 3)
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda start: model.probabilities(images[start : start + 5]), range(0, 40, 5)))
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=limit)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_one_line(exports, tmp_path, name, damage):
    file = copied(exports(name), tmp_path / "copy")
    content = bytearray(file.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    file.write_bytes({"cut": content[: len(content) // 2], "flipped": content, "empty": b""}[damage])
    with pytest.raises(UserError, match=r"damaged|cut short|is empty") as raised:
        models.load(file)
    assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openvino"])
def test_damaged_weights_beside_a_network_are_one_line(exports, tmp_path, name):
    weights = copied(exports(name), tmp_path / "copy").with_suffix(".bin")
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(UserError, match=r"model\.bin has changed since it was written"):
        models.load(weights.parent)


def test_a_saved_model_without_a_file_or_with_another_one_is_one_line(exports, tmp_path):
    file = copied(exports("saved_model"), tmp_path / "copy")
    (weights,) = file.parent.glob("variables/*.data*")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"damaged: variables/.* has changed"):
        models.load(file)
    weights.unlink()
    with pytest.raises(UserError, match="No such file"):
        models.load(file)


class Foreign:
    """Networks of another project, saved by the packages' own means."""

    @staticmethod
    def keras(folder: Path) -> None:
        Small(size=SIZE).keras.save(folder / "model.keras")

    @staticmethod
    def saved_model(folder: Path) -> None:
        Small(size=SIZE).keras.export(folder, format="tf_saved_model", verbose=False)


@pytest.mark.parametrize("name", ["keras", "saved_model"])
def test_a_network_of_another_project_is_one_line(tmp_path, name):
    getattr(Foreign, name)(tmp_path)
    with pytest.raises(UserError, match=r"not a (file|SavedModel) that `flowers export` wrote") as raised:
        models.load(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".xml"])
def test_a_sealed_file_of_anything_else_is_one_line(tmp_path, suffix):
    pytest.importorskip("onnxruntime")
    file = tmp_path / f"model{suffix}"
    file.write_bytes(b"nothing " * 9 + seal.BLANK.encode())
    seal.seal(file)
    with pytest.raises(UserError, match=f"{file}: ") as raised:
        models.load(file)
    assert "\n" not in str(raised.value)


def test_a_file_of_another_kind_names_those_that_are_known(tmp_path):
    file = tmp_path / "model.pkl"
    file.write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match=r"model\.pkl: not a network: the name of one ends in \.keras, .*\.onnx"):
        models.load(file)


def test_no_code_in_a_keras_file_is_run(exports, tmp_path, monkeypatch):
    """Even in a file that is sealed: Keras would import what its configuration names."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    for changed in (
        {"module": "evil_module", "class_name": "Layer", "config": {}, "registered_name": None},
        {"module": "keras.layers", "class_name": "Lambda", "config": {}, "registered_name": "Lambda"},
        {"module": "os", "class_name": "function", "config": "system", "registered_name": "function"},
    ):
        file = tmp_path / "model.keras"
        with zipfile.ZipFile(exports("keras") / "model.keras") as whole, zipfile.ZipFile(file, "w") as other:
            for name in whole.namelist():
                content = whole.read(name)
                if name == "config.json":
                    config = json.loads(content)
                    config["config"]["layers"][1] |= changed
                    content = json.dumps(config).encode()
                other.writestr(name, content)
            other.comment = seal.BLANK.encode()
        seal.seal(file)
        with pytest.raises(UserError, match=f"it holds .*{changed['class_name']}"):
            models.load(file)


def test_a_saved_model_that_reads_files_is_not_loaded(exports, tmp_path):
    from flowers.model import backend
    from flowers.serving.export import description, runtime

    tf = backend.tensorflow()
    module = tf.Module()
    signature = [tf.TensorSpec((None, SIZE, SIZE, 3), tf.uint8)]
    module.read = tf.function(lambda images: {"text": tf.io.read_file("/etc/hostname")}, input_signature=signature)
    tf.saved_model.save(module, str(tmp_path), signatures=module.read)
    about = description.read((exports("saved_model") / "assets.extra/flowers.json").read_text())
    files = {"saved_model.pb": runtime.digest(tmp_path / "saved_model.pb")}
    (tmp_path / "assets.extra").mkdir()
    sealed = tmp_path / "assets.extra/flowers.json"
    sealed.write_text(about.model_copy(update={"files": files, "seal": seal.BLANK}).text)
    seal.seal(sealed)
    with pytest.raises(UserError, match=r"it holds .*ReadFile"):
        models.load(tmp_path)


@pytest.mark.parametrize(("name", "needed"), [("onnx", "onnx"), ("litert", "ai-edge-litert"), ("openvino", "openvino")])
def test_a_format_without_its_package_names_what_to_install(monkeypatch, tmp_path, name, needed):
    monkeypatch.setitem(sys.modules, needed.replace("-", "_"), None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    form = formats.FORMATS[name]
    with pytest.raises(UserError, match=rf"needs the package {needed}; .*make extras.*pip install -e '.\[export\]'"):
        form.require()
    file = tmp_path / {"onnx": "a.onnx", "litert": "a.tflite", "openvino": "a.xml"}[name]
    file.write_bytes(b"x")
    with pytest.raises(UserError, match=r"This model needs the package .*pip install -e '.\[export\]'"):
        models.load(file)


@pytest.mark.slow
@pytest.mark.parametrize("name", EXTRAS)
def test_tensorflow_is_not_imported_to_predict(exports, name, tmp_path):
    code = f"""if True:
        import sys
        sys.modules["tensorflow"] = sys.modules["keras"] = None
        import numpy as np
        from pathlib import Path
        from flowers.serving import models
        model = models.load(Path({str(exports(name))!r}))
        print(model.probabilities(np.zeros((2, {SIZE}, {SIZE}, 3), np.uint8)).shape)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == "(2, 3)", done.stderr


def test_labels_are_a_class_a_line(tmp_path):
    from flowers.serving.export import description

    description.write_labels(["a, b", "c\nd", "é"], tmp_path)
    assert (tmp_path / "labels.txt").read_bytes() == "a, b\nc d\né\n".encode()


def test_several_networks_in_one_folder_must_be_named(tmp_path):
    for name in ("a.onnx", "b.tflite"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"several networks \(a\.onnx, b\.tflite\); name one of them"):
        models.load(tmp_path)
