"""Whether a logged model predicts as it was evaluated; a script stands in for the model."""

import json

import pytest
from results import table

from flowers.common.errors import UserError
from flowers.runs import predictions
from flowers.runs.promote import prediction_check

SCRIPT = """\
import json, sys
request = json.load(sys.stdin)
assert request["model"].startswith("models:/m-") and request["store"].startswith("sqlite:")
print("noise of a library")
count = len(request["images"])
print(json.dumps({"label": LABELS[:count], "probability": PROBABILITIES[:count]}))
"""


@pytest.fixture
def check(world, monkeypatch):
    """Check the model of a published run on so many images; it predicts these labels and probabilities."""
    from flowers import tracking

    world.write("build/evaluation/validation.csv", table([0]).to_csv(index=False))
    tracking.publish(world.params)
    run = world.runs(only=1)[0]
    content = (world.folder / "build/evaluation/validation.csv").read_bytes()
    candidate = predictions.Predictions("a run", "", {}, {}, predictions.read(content, "a run"))
    for path in candidate.table["path"]:
        world.write(f"build/images/{path}", path)  # its hash is that of the table

    def check(count=5, labels=None, probabilities=None, script=SCRIPT):
        labels = labels or [candidate.classes[number] for number in candidate.predicted]
        script = script.replace("LABELS", json.dumps(labels))
        world.write("predict.py", script.replace("PROBABILITIES", json.dumps(probabilities or [0.8] * 60)))
        monkeypatch.setattr(prediction_check, "SCRIPT", world.folder / "predict.py")
        return prediction_check.check(world.client(), run, candidate, count)

    check.candidate = candidate
    return check


def test_equal_predictions_pass(check):
    found = check()
    assert found.passed and found.found.startswith("5 of 5 labels the same")
    assert check(count=1000).found.startswith("60 of 60 labels the same")


def test_another_label_or_probability_fails(check):
    assert not check(labels=["daffodil"] * 60).passed
    assert check(probabilities=[0.8005] * 60).passed  # rounding of another processor
    assert not check(probabilities=[0.81] * 60).passed


@pytest.mark.parametrize("change", ["lost", "altered"])
def test_an_image_that_is_lost_or_altered_fails(world, check, change):
    image = world.folder / "build/images" / check.candidate.table["path"][2]
    image.unlink() if change == "lost" else image.write_text("another image")
    found = check()
    assert not found.passed and "1 of 5 images are not in build/images any more" in found.found
    assert check(count=2).passed


def test_a_model_that_cannot_be_loaded_raises_the_reason_without_a_password(check):
    script = "raise RuntimeError('no model at http://user:secret@host/model')"
    with pytest.raises(UserError, match="cannot be loaded: RuntimeError: no model at http://host/model"):
        check(script=script)


def test_the_script_for_the_model_is_there():
    assert prediction_check.SCRIPT.is_file()
