"""Overlays of Grad-CAM, and the folder that they are written to."""

import io
import shutil
import sys
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image
from stand_in import StandIn

from flowers import cli
from flowers.common.errors import UserError
from flowers.model import classifier, gradcam
from flowers.serving import explain, predict


@pytest.fixture
def model() -> classifier.Classifier:
    """A model without weights."""
    return classifier.Classifier(classifier.Description(["a", "b", "c"], [], 0.0, 0, "float32", ""), {}, {})


def test_an_overlay_is_grey_with_the_supporting_regions_in_colour(model, monkeypatch):
    heat = np.zeros((1, 7, 7), np.float32)
    heat[0, :3, :3] = 1
    calls = []
    monkeypatch.setattr(gradcam, "maps", lambda *given: calls.append(given) or heat)
    pixels = np.full((224, 224, 3), (200, 30, 100), np.uint8)
    with Image.open(io.BytesIO(explain.overlay(model, pixels, 2))) as found:
        assert (found.format, found.size) == ("JPEG", (224, 224))
        shown = np.asarray(found).astype(int)
    assert np.ptp(shown[200, 200]) <= 4  # grey
    assert np.ptp(shown[20, 20]) > 60  # coloured
    ((used, images, numbers),) = calls
    assert used is model and images[0] is pixels and numbers == [2]


class Exported(StandIn):
    classes, threshold, size = ("rose",), None, 224

    def probabilities(self, images: np.ndarray) -> np.ndarray:
        return np.ones((len(images), 1), np.float32)


def test_an_exported_network_cannot_be_explained(model):
    explain.check(model)
    for call in (lambda: explain.check(Exported()), lambda: explain.overlay(Exported(), np.zeros((224, 224, 3)), 0)):
        with pytest.raises(UserError, match="an exported network cannot be explained"):
            call()


def test_overlays_are_at_the_places_of_their_images_and_none_replaces_another(tmp_path):
    folder = tmp_path / "new" / "one"
    places = ["rose.jpg", "a/rose.JPG", "rose.jpg", "rose.jpeg", "rose.png", "rose (2).jpg", "stdin", "a.b/c.d.jpg"]
    files = [explain.save(folder, PurePath(place), str(number).encode()) for number, place in enumerate(places)]
    assert [file.relative_to(tmp_path / "new/one").as_posix() for file in files] == [
        *("rose.jpg", "a/rose.jpg", "rose (2).jpg", "rose (3).jpg", "rose.png.jpg", "rose (2) (2).jpg"),
        *("stdin.jpg", "a.b/c.d.jpg"),
    ]
    assert [file.read_text() for file in files] == [str(number) for number in range(len(places))]


def test_a_folder_in_use_is_left_as_it_is(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "mine.txt"):
        with pytest.raises(UserError, match="is not an empty folder"):
            predict.predict(["rose.jpg"], predict.Options(explain=place), None)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.slow
@pytest.mark.usefixtures("cheap_backbone")
def test_a_trained_model_explains_its_predictions(world, monkeypatch, capsys):
    world.train()
    shutil.copy(Path(__file__).parents[2] / "params.yaml", "params.yaml")
    monkeypatch.setattr(
        sys, "argv", ["flowers", "predict", "photos/rose", "--model", "build/model", "--explain", "why"]
    )
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    predictions = capsys.readouterr().out.splitlines()[1:]
    assert [line.split(",")[:2] for line in predictions] == [
        [f"photos/rose/{number}.png", "rose"] for number in range(8)
    ]
    assert sorted(file.name for file in Path("why").iterdir()) == [f"{number}.png.jpg" for number in range(8)]
    for file in Path("why").iterdir():
        with Image.open(file) as overlay:
            assert overlay.size == (224, 224)
