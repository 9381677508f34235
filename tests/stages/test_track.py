"""The stage around publishing: the marker, and what an unreachable server means. MLflow is not needed here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flowers import tracking
from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config import params
from flowers.stages import track

MARKER = {"run_key": "k", "result": "r"}
PUBLISHED = tracking.PublishResult("id-of-this-run", "resnet50", "flowers local", "sqlite:///here", False)
THERE = tracking.PublishResult("id", "resnet50", "flowers local", "sqlite:///here", True)
UNREACHABLE = tracking.StoreUnreachable("http://there cannot be reached")


@pytest.fixture
def settings(tmp_path, monkeypatch) -> params.Params:
    settings = params.load(Path(__file__).parents[2] / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "fingerprint", lambda _: MARKER)
    return settings


@pytest.fixture
def publishing(monkeypatch) -> Callable:
    """Decides what publishing returns or raises."""

    def decide(outcome):
        def publish(_, force):
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(tracking, "publish", publish)

    return decide


@pytest.mark.parametrize(
    ("outcome", "messages"),
    [
        (PUBLISHED, ["Run 'resnet50' published: experiment 'flowers local' of sqlite:///here"]),
        (THERE, ["Run 'resnet50' is already in MLflow"]),
        (UNREACHABLE, ["http://there cannot be reached", "flowers track --force"]),
    ],
)
def test_the_marker_holds_the_result_whatever_publishing_does(settings, publishing, capsys, outcome, messages):
    publishing(outcome)
    track.run(settings)
    assert json.loads(paths.TRACKING_MARKER.read_bytes()) == MARKER
    printed = " ".join(capsys.readouterr().err.split())
    assert [message for message in messages if message not in printed] == []


@pytest.mark.parametrize(("outcome", "force"), [(UNREACHABLE, True), (UserError("history.csv: no such file"), False)])
def test_an_unreachable_server_with_force_and_any_other_error_leave_no_marker(settings, publishing, outcome, force):
    publishing(outcome)
    with pytest.raises(UserError, match=str(outcome)):
        track.run(settings, force=force)
    assert not paths.TRACKING_MARKER.exists()


def test_a_marker_that_cannot_be_written_is_an_error_naming_it(settings, publishing):
    publishing(PUBLISHED)
    paths.TRACKING.write_text("a file in the way")
    with pytest.raises(FileExistsError, match="tracking"):
        track.run(settings)
