"""Whether a model answers as it was evaluated: the model is a script here, which says what it is told to."""

import json

import pytest
from results import table

from flowers.common.errors import UserError
from flowers.runs import predictions
from flowers.runs.promote import probe

SAYS = """\
import json, sys
asked = json.load(sys.stdin)
assert asked["model"].startswith("models:/m-") and asked["store"].startswith("sqlite:")
print("noise of a library")
print(json.dumps({"label": LABELS[: len(asked["photos"])], "probability": CHANCES[: len(asked["photos"])]}))
"""


@pytest.fixture
def asked(world, monkeypatch):
    """Ask the model of a published run about so many photos; it gives these labels and probabilities."""
    from flowers import tracking

    world.write("build/evaluation/validation.csv", table([0]).to_csv(index=False))
    tracking.publish(world.params)
    run = world.runs(only=1)[0]
    content = (world.folder / "build/evaluation/validation.csv").read_bytes()
    candidate = predictions.Answers("a run", "", {}, {}, predictions.read(content, "a run"))
    for path in candidate.table["path"]:
        world.write(f"build/images/{path}", path)  # whose hash is that of the table

    def ask(count=5, labels=None, chances=None, script=SAYS):
        right = [candidate.classes[number] for number in candidate.predicted]
        text = script.replace("LABELS", json.dumps(labels or right)).replace(
            "CHANCES", json.dumps(chances or [0.8] * 60)
        )
        world.write("answer.py", text)
        monkeypatch.setattr(probe, "SCRIPT", world.folder / "answer.py")
        return probe.check(world.client(), run, candidate, count)

    ask.candidate = candidate
    return ask


def test_equal_answers_pass(asked):
    check = asked()
    assert check.passed and check.found.startswith("5 of 5 labels the same")
    assert asked(count=1000).found.startswith("60 of 60 labels the same")


def test_another_label_or_probability_does_not(asked):
    assert not asked(labels=["daffodil"] * 60).passed
    assert asked(chances=[0.8005] * 60).passed  # another processor's rounding
    assert not asked(chances=[0.81] * 60).passed


@pytest.mark.parametrize("change", ["lost", "altered"])
def test_the_photos_are_fixed_and_must_all_be_there(world, asked, change):
    photo = world.folder / "build/images" / asked.candidate.table["path"][2]
    photo.unlink() if change == "lost" else photo.write_text("another photo")
    check = asked()
    assert not check.passed and "1 of 5 photos to ask about are not in build/images any more" in check.found
    assert asked(count=2).passed


def test_a_model_that_cannot_be_loaded_says_why_without_a_password(asked):
    script = "raise RuntimeError('no model at http://user:secret@host/model')"
    with pytest.raises(UserError, match="cannot be loaded: RuntimeError: no model at http://host/model"):
        asked(script=script)
