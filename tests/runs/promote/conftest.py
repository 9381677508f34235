"""A store with runs that have predictions on validation images, and a prediction check with a given outcome."""

import pytest
from results import table
from tracking_world import closed_port, fresh_database, make_world, world  # noqa: F401

from flowers import tracking
from flowers.runs.promote import checks, prediction_check, run


class Store:
    """Runs by the images that they get wrong, and promotions of them."""

    def __init__(self, checkout) -> None:
        self.world, self.same_predictions = checkout, True

    def publish(self, wrong=(), batch_size=32, **kind) -> str:
        """The id of a new run."""
        self.world.set("train.batch_size", batch_size)  # another run key
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
    outcome = lambda *_: checks.Check(prediction_check.NAME, found.same_predictions, "as set")  # noqa: E731
    monkeypatch.setattr(prediction_check, "check", outcome)
    return found
