"""A store with runs that were judged on validation photos, and a probe that answers as it is told."""

import pytest
from results import table
from tracking_world import closed_port, fresh_database, make_world, world  # noqa: F401

from flowers import tracking
from flowers.runs.promote import decide, probe, run


class Store:
    """Runs by the photos that they get wrong, and promotions of them."""

    def __init__(self, checkout) -> None:
        self.world, self.answers = checkout, True

    def publish(self, wrong=(), batch_size=32, **kind) -> str:
        """The id of a new run."""
        self.world.set("train.batch_size", batch_size)  # which makes it another run
        self.world.write("build/evaluation/validation.csv", table(wrong, **kind).to_csv(index=False))
        tracking.publish(self.world.params)
        return max(self.world.runs(), key=lambda each: each.info.start_time).info.run_id

    def promote(self, name: str, force: str | None = None) -> int:
        return run.promote(self.world.params, name, force)

    @property
    def champion(self):
        """The version that holds the alias, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return self.world.client().get_model_version_by_alias("flowers-local", "champion")
        except MlflowException:
            return None


@pytest.fixture
def store(world, monkeypatch) -> Store:  # noqa: F811
    found = Store(world)
    monkeypatch.setattr(probe, "check", lambda *_: decide.Check(probe.NAME, found.answers, "as told"))
    return found
