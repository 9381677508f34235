"""Run names: what differs from the shipped parameters, in one line."""

import shutil

import pytest
from tracking_world import CHECKOUT

from flowers.config import recipes
from flowers.tracking.run_name import run_name


@pytest.fixture
def shipped(world):
    """A world with the recipes, in which nothing was changed."""
    shutil.copytree(CHECKOUT / "recipes", world.folder / "recipes")
    return world


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "as shipped"),
        ({"evaluate.seed": 3, "split.seed": 3}, "as shipped"),
        ({"head.dropout": 0.25}, "dropout 0.25"),
        ({"head.dropout": 0.123456}, "dropout 0.123"),
        (
            {"train.learning_rate": 3e-4, "model.unfreeze_blocks": 3, "head.units": []},
            "linear, 3 blocks, lr 0.0003",
        ),
        ({"head.units": [512, 64], "model.unfreeze_blocks": 1}, "units 512-64, 1 block"),
        (
            {"train.label_smoothing": 0.1, "train.on": "train+val", "train.seed": 7, "augmentation.seed": 5},
            "view seed 5, on train+val, label smoothing 0.1, seed 7",
        ),
        ({"head.units": [], "head.initialization": "regression", "train.epochs": 0}, "linear, regression, epochs 0"),
        ({"model.mirror": True, "augmentation.flip": False}, "mirror, no flip"),
    ],
)
def test_a_run_name_holds_what_differs_from_the_shipped_parameters(shipped, changes, name):
    for key, value in changes.items():
        shipped.set(key, value)
    assert run_name(shipped.params) == name


def test_the_values_of_a_recipe_are_named_by_it(shipped):
    for key, value in recipes.load("balanced").params.items():
        shipped.set(key, list(value) if isinstance(value, tuple) else value)
    assert run_name(shipped.params) == "recipe balanced"
    shipped.set("train.seed", 1)
    assert run_name(shipped.params).startswith("linear, regression, 3 blocks, ")


def test_without_the_shipped_parameters_every_one_is_named(shipped):
    shutil.rmtree(shipped.folder / "recipes")
    name = run_name(shipped.params)
    assert name.startswith("units 256-128-64, random, 0 blocks, dropout 0.2, lr 0.0005, ")
    assert len(name) == 200
