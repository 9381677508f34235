"""The stage around publishing: the marker, and what a server that does not answer means. MLflow is not needed here."""

import json
from pathlib import Path

import pytest

from flowers import tracking
from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config import params
from flowers.stages import track

MARKER = {"run_key": "k", "result": "r"}
PUBLISHED = tracking.PublishResult("id-of-this-run", "resnet50", "flowers local", "sqlite:///here", False)


@pytest.fixture
def settings(tmp_path, monkeypatch) -> params.Params:
    settings = params.load(Path(__file__).parents[2] / "params.yaml")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "fingerprint", lambda _: MARKER)
    return settings


@pytest.fixture
def store(monkeypatch):
    """Decides what publishing does; notes how it was asked."""
    asked: list[bool] = []

    def answer(outcome):
        def publish(_, force):
            asked.append(force)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(tracking, "publish", publish)
        return asked

    return answer


def marker() -> bytes:
    return paths.TRACKING_MARKER.read_bytes()


def test_the_marker_holds_the_result_and_nothing_of_run_time_or_place(settings, store):
    store(PUBLISHED)
    track.run(settings)
    assert json.loads(marker()) == MARKER


def test_the_marker_is_the_same_however_the_result_came_to_the_store(settings, store):
    written = []
    for outcome in (PUBLISHED, tracking.PublishResult("other", "n", "e", "s", True), tracking.StoreUnreachable("away")):
        store(outcome)
        track.run(settings)
        written.append(marker())
    assert len(set(written)) == 1


def test_a_server_that_is_away_is_a_warning_that_says_what_to_run_later(settings, store, capsys):
    store(tracking.StoreUnreachable("http://there cannot be reached"))
    track.run(settings)
    said = capsys.readouterr().err
    assert "http://there cannot be reached" in said and "flowers track --force" in said


def test_with_force_a_server_that_is_away_is_an_error(settings, store):
    asked = store(tracking.StoreUnreachable("away"))
    with pytest.raises(UserError, match="away"):
        track.run(settings, force=True)
    assert asked == [True]
    assert not paths.TRACKING_MARKER.exists()


def test_other_trouble_is_an_error_and_leaves_no_marker(settings, store):
    store(UserError("build/history.csv: no such file"))
    with pytest.raises(UserError, match="history"):
        track.run(settings)
    assert not paths.TRACKING_MARKER.exists()


def test_a_marker_that_cannot_be_written_is_named(settings, store):
    store(PUBLISHED)
    paths.TRACKING.write_text("a file in the way")
    with pytest.raises(UserError, match=r"published\.json"):
        track.run(settings)


@pytest.mark.parametrize(("there", "said"), [(True, "is there already"), (False, "published: 'resnet50'")])
def test_it_says_whether_anything_was_new(settings, store, capsys, there, said):
    store(tracking.PublishResult("id", "resnet50", "flowers local", "sqlite:///here", there))
    track.run(settings)
    assert said in capsys.readouterr().err
