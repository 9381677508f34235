"""The files of recipes/: the shipped ones fit params.yaml, and each error is reported in a line."""

import datetime
import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flowers.common.errors import UserError
from flowers.config import params, recipes

SHIPPED = Path(__file__).parents[2]
NAMES = sorted(file.stem for file in (SHIPPED / "recipes").glob("*.yaml") if file.stem != "defaults")
SECTIONS = ("model", "head", "augmentation", "train")

MEASUREMENT = {
    "photos": "Oxford 102",
    "measure": "accuracy",
    "score": 0.94,
    "range": [0.93, 0.95],
    "seeds": 3,
    "wall_s": 95,
    "memory_mib": 2100,
    "machine": "AMD EPYC, 2 cores",
    "date": datetime.date(2026, 11, 21),
    "command": "make bench-recipes",
}


def flat(sections: dict) -> dict:
    """Sections of a YAML file by dotted names."""
    return {f"{section}.{key}": value for section, content in sections.items() for key, value in content.items()}


def plain(values: dict) -> dict:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


def write(name: str, document: object) -> None:
    with Path(f"recipes/{name}.yaml").open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(document, file)


def error_of(name: str = "mine") -> str:
    with pytest.raises(UserError) as error:
        recipes.load(name)
    return str(error.value)


def test_every_shipped_recipe_fits_params_yaml(monkeypatch):
    monkeypatch.chdir(SHIPPED)
    shipped = YAML(typ="safe").load(SHIPPED / "params.yaml")
    defaults = YAML(typ="safe").load(SHIPPED / "recipes" / "defaults.yaml")
    assert defaults == {section: shipped[section] for section in SECTIONS}
    assert "mlp-head" in NAMES and recipes.load("mlp-head").params == {}
    for name in NAMES:
        written = YAML(typ="safe").load(SHIPPED / "recipes" / f"{name}.yaml")
        assert plain(recipes.load(name).params) == flat(written["params"])


def test_the_scores_of_a_recipe_are_those_of_benchmarks_with_its_present_values(monkeypatch):
    monkeypatch.chdir(SHIPPED)
    measurements = json.loads(Path("benchmarks/results/recipes.json").read_text(encoding="utf-8"))
    for name in NAMES:
        recipe = recipes.load(name)
        rows = [row for row in measurements if (row["recipe"], row["params"]) == (name, plain(recipes.values(recipe)))]
        by_photos: dict[str, list] = {}
        for row in rows:
            by_photos.setdefault(row["photos"], []).append(row["scores"])
        assert len(by_photos) == len(recipe.measured)
        for measured in recipe.measured:
            scores = by_photos[measured.command.removeprefix("make bench-recipes ").partition("=")[0].lower()]
            assert len(scores) == measured.seeds
            assert measured.score == pytest.approx(sum(row[measured.measure] for row in scores) / len(scores), abs=1e-4)


def test_every_yaml_file_but_the_defaults_is_a_recipe(checkout):
    assert recipes.names() == []
    for name in ("b", "a"):
        checkout.recipe(name, {})
    Path("recipes/README.md").write_text("no recipe")
    assert recipes.names() == ["a", "b"]


def test_a_recipe_holds_its_changes_and_values_gives_every_key(checkout):
    checkout.recipe("mine", {"head": {"units": [512]}, "train": {"learning_rate": 1e-05}}, "A wide head")
    recipe = recipes.load("mine")
    assert (recipe.name, recipe.description, recipe.measured) == ("mine", "A wide head", ())
    assert recipe.params == {"head.units": (512,), "train.learning_rate": 1e-05}
    shipped = flat({name: YAML(typ="safe").load(checkout.params)[name] for name in SECTIONS})
    assert recipes.defaults().keys() == shipped.keys()
    assert plain(recipes.values(recipe)) == shipped | {"head.units": [512], "train.learning_rate": 1e-05}
    assert recipes.defaults() == params.training_values(params.load())


def test_the_defaults_come_from_their_file_and_not_from_params_yaml(checkout):
    checkout.recipe("mine", {"head": {"units": []}})
    checkout.edit("dropout: 0.2 ", "dropout: 0.4 ")
    assert recipes.values(recipes.load("mine"))["head.dropout"] == 0.2
    checkout.edit("dropout: 0.2\n", "dropout: 0.3\n", "recipes/defaults.yaml")
    assert recipes.values(recipes.load("mine"))["head.dropout"] == 0.3


def test_measurements_are_read(checkout):
    write("mine", {"description": "x", "measured": [MEASUREMENT | {"gain": -0.01}, MEASUREMENT], "params": {}})
    first, second = recipes.load("mine").measured
    expected = MEASUREMENT | {"gain": -0.01, "range": (0.93, 0.95), "wall_s": 95.0, "memory_mib": 2100.0}
    assert first.model_dump() == expected
    assert second.gain is None
    with pytest.raises(ValueError, match="frozen"):
        first.score = 1.0


@pytest.mark.parametrize("text", ["", "measured:\n"])
def test_a_recipe_need_not_be_measured(checkout, text):
    Path("recipes/mine.yaml").write_text(f"description: x\n{text}params: {{}}\n")
    assert recipes.load("mine").measured == ()


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"head": {"dropout": "0.3"}}, ["params.head.dropout: Input should be a valid number, not '0.3'"]),
        ({"head": {"units": 3}}, ["params.head.units: Input should be a list, not 3"]),
        ({"head": {"droput": 0.3}}, ["unknown key 'params.head.droput'; did you mean 'dropout'?"]),
        ({"haed": {"dropout": 0.3}}, ["unknown key 'params.haed'; did you mean 'head'?"]),
        ({"head": None}, ["params.head must hold keys and their values, not None"]),
        (
            {"dataset": {"name": "local"}},
            ["unknown key 'params.dataset'; known here: model, head, augmentation, train"],
        ),
        (
            {"head": {"units": [256, 128, 64]}, "train": {"label_smoothing": 0}},
            [
                "params.head.units: that is the default; a recipe holds only what differs",
                "params.train.label_smoothing: that is the default; a recipe holds only what differs",
            ],
        ),
        ([], ["params must hold keys and their values, not []"]),
    ],
)
def test_a_wrong_parameter_is_named_with_the_error(checkout, changes, errors):
    write("mine", {"description": "x", "params": changes})
    assert error_of().splitlines() == [f"recipes/mine.yaml: {error}" for error in errors]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"score": 94.1}, "measured.0.score: Input should be less than or equal to 1, not 94.1"),
        ({"score": 0.951}, "measured.0: score 0.951 is outside its range, from 0.93 to 0.95"),
        ({"measure": "macro_f1"}, "measured.0.measure: Input should be 'mean_per_class_accuracy' or 'accuracy', not "),
        ({"wall_s": 0}, "measured.0.wall_s: Input should be greater than 0, not 0"),
        ({"date": "21.11.2026"}, "measured.0.date: Input should be a valid date, not '21.11.2026'"),
        ({"command": ""}, "measured.0.command: String should have at least 1 character, not ''"),
        ({"comand": "x"}, "unknown key 'measured.0.comand'; did you mean 'command'?"),
    ],
)
def test_a_wrong_measurement_is_named_with_the_error(checkout, changes, error):
    write("mine", {"description": "x", "measured": [MEASUREMENT | changes], "params": {}})
    assert error_of().startswith(f"recipes/mine.yaml: {error}")
    assert "\n" not in error_of()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("description: x\n", "key 'params' is missing"),
        ("params: {}\n", "key 'description' is missing"),
        ("description: x\nparms: {}\n", "unknown key 'parms'; did you mean 'params'?"),
        ("description: x\nmeasured: 0.94\nparams: {}\n", "measured: Input should be a list, not 0.94"),
        ("- 1\n", "the file must hold keys and their values, not [1]"),
        ("description: [\n", "not valid YAML: "),
    ],
)
def test_a_file_that_is_no_recipe_is_reported_in_a_line(checkout, text, error):
    Path("recipes/mine.yaml").write_text(text)
    assert error_of().startswith(f"recipes/mine.yaml: {error}")
    assert "\n" not in error_of()


def test_all_errors_are_reported_together(checkout):
    write("mine", {"measured": [{}], "params": {"head": {"dropout": 2.0}, "train": {"epoch": 3}}})
    lines = error_of().splitlines()
    assert len(lines) == len(MEASUREMENT) + 3  # of a measurement only the gain is optional
    for word in (
        "'description'",
        *(f"'measured.0.{key}'" for key in MEASUREMENT),
        "params.head.dropout",
        "train.epoch'",
    ):
        assert sum(word in line for line in lines) == 1


def test_an_unknown_recipe_is_named_with_the_nearest_and_the_known_ones(checkout):
    assert error_of() == "unknown recipe 'mine' (known: none)"
    for name in ("linear", "fine-tune"):
        checkout.recipe(name, {})
    assert error_of("liner") == "unknown recipe 'liner'; did you mean 'linear'? (known: fine-tune, linear)"
    for name in ("zzz", "../params", ""):
        assert error_of(name) == f"unknown recipe '{name}' (known: fine-tune, linear)"


def test_the_defaults_are_named_by_their_recipe(checkout):
    checkout.recipe("mlp-head", {})
    assert error_of("defaults") == "unknown recipe 'defaults'; params.yaml ships with 'mlp-head' (known: mlp-head)"


def test_outside_of_a_checkout_the_error_says_where_to_run(checkout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = "recipes: no such folder; run this from the root of the checkout"
    assert error_of() == error
    with pytest.raises(UserError, match=error):
        recipes.names()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("  dropout: 0.2\n", "", "key 'head.dropout' is missing"),
        ("  dropout: 0.2\n", "  dropout: 2\n", "head.dropout: Input should be less than 1, not 2"),
    ],
)
def test_errors_of_the_defaults_are_reported(checkout, old, new, error):
    checkout.recipe("mine", {"head": {"units": []}})
    checkout.edit(old, new, "recipes/defaults.yaml")
    assert error_of().startswith(f"recipes/defaults.yaml: {error}")
    with pytest.raises(UserError, match=r"recipes/defaults\.yaml: "):
        recipes.defaults()


def test_without_the_defaults_the_error_says_how_to_restore_them(checkout):
    checkout.recipe("mine", {})
    Path("recipes/defaults.yaml").unlink()
    assert error_of() == "recipes/defaults.yaml: no such file; restore it with `git checkout recipes/defaults.yaml`"
