"""The model as MLflow serves it: encoded images in, label and probability out."""

import base64
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from stand_in import StandIn

from flowers.model import classifier

CHECKOUT = Path(__file__).parents[2]


def encoded(colour: str, kind: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (300, 250), colour).save(stream, kind)
    return stream.getvalue()


class ByColour(StandIn):
    """A stand-in model: the share of red, green and blue in an image."""

    threshold = 0.4
    size = 224

    def __init__(self) -> None:
        self.classes = ["rose", "leaf", "NA"]

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        assert images.dtype == np.uint8 and images.shape[1:] == (224, 224, 3)
        sums = images.sum(axis=(1, 2)).astype(np.float32)
        return sums / sums.sum(axis=1, keepdims=True)


@pytest.fixture
def servable():
    """Imported here, because it costs the seconds that MLflow costs."""
    from flowers.serving import servable

    return servable


@pytest.fixture
def predict(monkeypatch, servable):
    loaded = []

    def load(folder: Path, weights: Path) -> ByColour:
        loaded.append((folder, weights))
        return ByColour()

    monkeypatch.setattr(classifier, "load", load)
    model = servable.FlowerClassifier()
    context = SimpleNamespace(artifacts={"model": "/some/model", "weights": "/some/weights.npz"})
    model.load_context(context)
    assert loaded == [(Path("/some/model"), Path("/some/weights.npz"))]
    return lambda images, params=None: model.predict(context, images, params)


COLUMNS = ["label", "probability", "unsure", "known", "novelty", "nearest", "best"]
MIXED = encoded("#ff8000")
RED, GREEN, BLUE = encoded("#ff0000"), encoded("#00ff00", "JPEG"), encoded("#0000ff")


def base64_text(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "images",
    [
        pd.DataFrame({"image": [RED, base64_text(GREEN), bytearray(BLUE)]}, index=[7, 7, 9]),
        [RED, base64_text(GREEN).encode(), BLUE],
        {"image": [RED, GREEN, BLUE]},
        np.array([[RED], [GREEN], [BLUE]], dtype=object),
    ],
    ids=["frame", "list", "dict", "array"],
)
def test_each_image_gets_its_label_in_order(predict, images):
    found = predict(images)
    assert list(found.columns) == COLUMNS
    assert list(found["label"]) == ["rose", "leaf", "NA"]
    assert found["probability"].dtype == np.float64
    assert (found["probability"] > 0.95).all()
    assert [best[0]["label"] for best in found["best"]] == ["rose", "leaf", "NA"]


def test_more_images_than_a_batch_keep_their_order(predict):
    assert list(predict([RED, GREEN, BLUE] * 15)["label"]) == ["rose", "leaf", "NA"] * 15


def test_params_set_the_threshold_and_add_every_class(predict):
    found = predict([RED, MIXED], {"every_class": True, "threshold": 0.9})
    assert list(found.columns) == [*COLUMNS, "p(rose)", "p(leaf)", "p(NA)"]
    assert found["unsure"].tolist() == [False, True]
    np.testing.assert_allclose(found[["p(rose)", "p(leaf)", "p(NA)"]].sum(axis=1), 1, rtol=1e-6)
    assert not predict([MIXED])["unsure"].any() and not predict([MIXED], {"threshold": 0.0})["unsure"].any()


def test_no_images_give_no_rows(predict):
    found = predict(pd.DataFrame({"image": []}))
    assert len(found) == 0 and list(found.columns) == COLUMNS


@pytest.mark.parametrize("bad", [RED[:40], "not base64!", base64_text(b"not an image"), 7])
def test_an_unreadable_image_is_a_bad_request_that_names_its_row(predict, bad):
    from mlflow import MlflowException

    with pytest.raises(MlflowException, match="row 1") as caught:
        predict([RED, bad])
    assert caught.value.get_http_status_code() == 400


# Records the imports of the served code, to compare them with the requirements.
ELSEWHERE = """
import builtins, json, sys
assert not any("flowers" in name for name in sys.modules)
sys.path = [entry for entry in sys.path if not entry.startswith(sys.argv[2])]
wanted, original = set(), builtins.__import__

def noted(name, globals=None, locals=None, fromlist=(), level=0):
    if level == 0 and str((globals or {}).get("__name__", "")).startswith("flowers"):
        wanted.add(name.split(".")[0])
    return original(name, globals, locals, fromlist, level)

builtins.__import__ = noted
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
import flowers
image = open(sys.argv[3], "rb").read()
found = model.predict(pandas.DataFrame({"image": [image, image]}))
print(json.dumps([flowers.__file__, sorted(wanted), found.to_dict("list")]))
"""


@pytest.mark.slow
def test_a_saved_model_works_alone_and_its_requirements_are_complete(tmp_path, monkeypatch):
    from importlib.metadata import packages_distributions

    from flowers.common import paths
    from flowers.model import keras_model, weights
    from flowers.model.feature_layer import FeatureLayer
    from flowers.model.trainable import TrainablePart
    from flowers.tracking import model

    monkeypatch.chdir(tmp_path)
    tensors = weights.random_tensors()
    paths.WEIGHTS.parent.mkdir(parents=True)
    weights.write(tensors, paths.WEIGHTS)
    head = keras_model.head(3, (4,), 0.0, seed=0)
    description = classifier.Description(["NA", "rose", "tulip"], [4], 0.0, 0, "float32", weights.digest(tensors))
    classifier.save(paths.MODEL, description, TrainablePart(FeatureLayer(0), {}, head).get_tensors())
    paths.IMAGES.mkdir()
    (paths.IMAGES / "red.png").write_bytes(RED)
    model.save(tmp_path / "saved", paths.IMAGES / "red.png")

    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(paths.IMAGES / "red.png", elsewhere)
    shutil.rmtree(tmp_path / "build")  # the model must not need the files that it was made from
    command = [sys.executable, "-I", "-c", ELSEWHERE, str(tmp_path / "saved"), str(CHECKOUT / "src"), "red.png"]
    done = subprocess.run(command, cwd=elsewhere, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file, wanted, found = json.loads(done.stdout.splitlines()[-1])
    assert Path(file).is_relative_to(tmp_path / "saved")
    assert found["label"][0] == found["label"][1] in description.classes
    assert 1 / 3 <= found["probability"][0] <= 1

    pinned = {line.split("==")[0] for line in (tmp_path / "saved/requirements.txt").read_text().split()}
    foreign = [name for name in wanted if name != "flowers" and name not in sys.stdlib_module_names]
    made_of = packages_distributions()
    missing = [name for name in foreign if not pinned & {package.replace("_", "-") for package in made_of[name]}]
    assert "tensorflow" in foreign and missing == []
