"""Where an exported model comes from: the run and the commit in its description."""

from pathlib import Path

import pytest
from tracking_world import fresh_database, make_world, published, world  # noqa: F401

from flowers.common import paths
from flowers.serving import models
from flowers.serving.export import origin


def test_a_published_model_names_its_run_and_its_commit(published):  # noqa: F811
    world, run = published  # noqa: F811
    expected = {"run": run.info.run_id}
    assert origin.of(paths.MODEL, lambda: world.params).items() >= expected.items()
    with models.located(run.info.run_name, lambda: world.params) as (folder, _):
        found = origin.of(folder, lambda: world.params)
    assert found["run"] == run.info.run_id
    assert origin.of(paths.MODEL, lambda: world.params)["commit"] == found["commit"]


def test_a_model_that_was_not_published_has_no_run(make_world):  # noqa: F811
    world = make_world(store=False)  # noqa: F811
    assert origin.of(paths.MODEL, lambda: world.params)["run"] is None
    assert not Path("tracking").exists()


@pytest.mark.usefixtures("world")
def test_a_model_of_elsewhere_has_neither(tmp_path):
    assert origin.of(tmp_path, pytest.fail) == {"run": None, "commit": None}
