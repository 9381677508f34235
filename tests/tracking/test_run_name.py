"""Run names: what was tried, in one line."""

import pytest

from flowers.tracking.run_name import run_name


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"head.dropout": 0.25}, "256-128-64 dropout 0.25 unfreeze 0 lr 0.0005"),
        (
            {"head.units": [], "head.initialization": "regression", "model.unfreeze_blocks": 3},
            "linear from a regression unfreeze 3 lr 0.0005 then 0.0001",
        ),
        ({"model.precision": "bfloat16"}, "256-128-64 dropout 0.2 unfreeze 0 lr 0.0005 bfloat16"),
        (
            {"train.label_smoothing": 0.1, "train.on": "train+val", "train.seed": 7},
            "256-128-64 dropout 0.2 unfreeze 0 lr 0.0005 smoothing 0.1 on train+val seed 7",
        ),
    ],
)
def test_a_run_name_shows_what_differs_from_the_default(world, changes, name):
    for key, value in changes.items():
        world.set(key, value)
    assert run_name(world.params) == name
