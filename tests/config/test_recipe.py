"""The files of recipes/: those that ship fit params.yaml, and what is wrong in one is told in a line."""

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


def complaint(name: str = "mine") -> str:
    with pytest.raises(UserError) as error:
        recipes.load(name)
    return str(error.value)


@pytest.mark.parametrize("name", [*NAMES, "defaults"])
def test_every_file_that_ships_fits_params_yaml(name, monkeypatch):
    monkeypatch.chdir(SHIPPED)
    shipped = YAML(typ="safe").load(SHIPPED / "params.yaml")
    written = YAML(typ="safe").load(SHIPPED / "recipes" / f"{name}.yaml")
    if name == "defaults":
        assert written == {section: shipped[section] for section in SECTIONS}
        return
    recipe = recipes.load(name)
    assert plain(recipe.params) == flat(written["params"])
    assert recipe.params.keys() <= flat(shipped).keys()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_to_be_measured_was_measured_of_the_values_of_now(name, monkeypatch):
    monkeypatch.chdir(SHIPPED)
    recipe = recipes.load(name)
    rows = json.loads(Path("benchmarks/results/recipes.json").read_text(encoding="utf-8"))
    rows = [row for row in rows if (row["recipe"], row["params"]) == (name, plain(recipes.values(recipe)))]
    photos = {row["photos"]: [other["scores"] for other in rows if other["photos"] == row["photos"]] for row in rows}
    assert len(photos) == len(recipe.measured)
    for measured in recipe.measured:
        each = photos[measured.command.removeprefix("make bench-recipes ").partition("=")[0].lower()]
        assert len(each) == measured.seeds
        assert measured.score == pytest.approx(sum(row[measured.measure] for row in each) / len(each), abs=1e-4)


def test_the_recipes_are_those_files_that_are_not_the_defaults(checkout):
    assert recipes.names() == []
    for name in ("b", "a"):
        checkout.recipe(name, {})
    Path("recipes/README.md").write_text("not one")
    assert recipes.names() == ["a", "b"]


def test_a_recipe_holds_what_it_changes_and_its_values_are_those_of_every_key(checkout):
    checkout.recipe("mine", {"head": {"units": [512]}, "train": {"learning_rate": 1e-05}}, "A wide head")
    recipe = recipes.load("mine")
    assert (recipe.name, recipe.description, recipe.measured) == ("mine", "A wide head", ())
    assert recipe.params == {"head.units": (512,), "train.learning_rate": 1e-05}
    shipped = flat({name: YAML(typ="safe").load(checkout.params)[name] for name in SECTIONS})
    assert recipes.defaults().keys() == shipped.keys()
    assert plain(recipes.values(recipe)) == shipped | {"head.units": [512], "train.learning_rate": 1e-05}
    assert recipes.defaults() == params.training_values(params.load())


def test_the_defaults_are_those_of_the_file_whatever_params_yaml_holds(checkout):
    checkout.recipe("mine", {"head": {"units": []}})
    checkout.edit("dropout: 0.2 ", "dropout: 0.4 ")
    assert recipes.values(recipes.load("mine"))["head.dropout"] == 0.2
    checkout.edit("dropout: 0.2\n", "dropout: 0.3\n", "recipes/defaults.yaml")
    assert recipes.values(recipes.load("mine"))["head.dropout"] == 0.3


def test_what_was_measured_is_read(checkout):
    write("mine", {"description": "x", "measured": [MEASUREMENT | {"gain": -0.01}, MEASUREMENT], "params": {}})
    first, second = recipes.load("mine").measured
    expected = MEASUREMENT | {"gain": -0.01, "range": (0.93, 0.95), "wall_s": 95.0, "memory_mib": 2100.0}
    assert first.model_dump() == expected
    assert second.gain is None
    with pytest.raises(ValueError, match="frozen"):
        first.score = 1.0


@pytest.mark.parametrize("text", ["", "measured:\n", "measured: []\n"])
def test_a_recipe_need_not_be_measured(checkout, text):
    Path("recipes/mine.yaml").write_text(f"description: x\n{text}params: {{}}\n")
    assert recipes.load("mine").measured == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": {"dropout": 1.0}}, "params.head.dropout: Input should be less than 1, not 1.0"),
        ({"head": {"dropout": "0.3"}}, "params.head.dropout: Input should be a valid number, not '0.3'"),
        ({"head": {"units": 3}}, "params.head.units: Input should be a list, not 3"),
        ({"train": {"epochs": 2.5}}, "params.train.epochs: Input should be a valid integer, not 2.5"),
        ({"train": {"class_weights": 1}}, "params.train.class_weights: Input should be a valid boolean, not 1"),
        ({"train": {"on": "val"}}, "params.train.on: Input should be 'train' or 'train+val', not 'val'"),
        ({"head": {"droput": 0.3}}, "unknown key 'params.head.droput'; did you mean 'dropout'?"),
        ({"haed": {"dropout": 0.3}}, "unknown key 'params.haed'; did you mean 'head'?"),
        ({"head": 3}, "params.head must hold keys and their values, not 3"),
        ({"head": None}, "params.head must hold keys and their values, not None"),
        ({"dataset": {"name": "local"}}, "unknown key 'params.dataset'; known here: model, head, augmentation, train"),
        ({"evaluate": {"seed": 1}}, "unknown key 'params.evaluate'; known here: model, head, augmentation, train"),
        ({"head": {"dropout": 0.2}}, "params.head.dropout: that is the default; a recipe holds only what differs"),
        ({"head": {"units": [256, 128, 64]}, "train": {"label_smoothing": 0}}, None),
        ([], "params must hold keys and their values, not []"),
        (None, "params must hold keys and their values, not None"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_wrong(checkout, changes, said):
    write("mine", {"description": "x", "params": changes})
    if said is not None:
        assert complaint() == f"recipes/mine.yaml: {said}"
        return
    keys = [line.split(": ")[1] for line in complaint().splitlines()]
    assert keys == ["params.head.units", "params.train.label_smoothing"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"score": 94.1}, "measured.0.score: Input should be less than or equal to 1, not 94.1"),
        ({"score": 0.951}, "measured.0: score 0.951 does not lie in range, from 0.93 to 0.95"),
        ({"range": [0.95, 0.93]}, "measured.0: score 0.94 does not lie in range, from 0.95 to 0.93"),
        ({"measure": "macro_f1"}, "measured.0.measure: Input should be 'mean_per_class_accuracy' or 'accuracy', not "),
        ({"seeds": 0}, "measured.0.seeds: Input should be greater than or equal to 1, not 0"),
        ({"wall_s": 0}, "measured.0.wall_s: Input should be greater than 0, not 0"),
        ({"memory_mib": "2 GB"}, "measured.0.memory_mib: Input should be a valid number, not '2 GB'"),
        ({"gain": float("nan")}, "measured.0.gain: "),
        ({"date": "21.11.2026"}, "measured.0.date: Input should be a valid date, not '21.11.2026'"),
        ({"date": datetime.datetime(2026, 11, 21, 9)}, "measured.0.date: "),
        ({"command": ""}, "measured.0.command: String should have at least 1 character, not ''"),
        ({"comand": "x"}, "unknown key 'measured.0.comand'; did you mean 'command'?"),
        ({"zzz": 1}, "unknown key 'measured.0.zzz'; known here: photos, measure, score, range, "),
    ],
)
def test_what_is_wrong_with_a_measurement_is_told(checkout, changes, said):
    write("mine", {"description": "x", "measured": [MEASUREMENT | changes], "params": {}})
    assert complaint().startswith(f"recipes/mine.yaml: {said}")
    assert "\n" not in complaint()


@pytest.mark.parametrize("key", MEASUREMENT)
def test_nothing_but_the_gain_may_be_missing_from_a_measurement(checkout, key):
    write("mine", {"description": "x", "measured": [{**MEASUREMENT, key: None}], "params": {}})
    assert complaint().startswith(f"recipes/mine.yaml: measured.0.{key}: ")
    measurement = {name: value for name, value in MEASUREMENT.items() if name != key}
    write("mine", {"description": "x", "measured": [MEASUREMENT, measurement], "params": {}})
    assert complaint() == f"recipes/mine.yaml: key 'measured.1.{key}' is missing"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description: x\n", "key 'params' is missing"),
        ("params: {}\n", "key 'description' is missing"),
        ("description: ''\nparams: {}\n", "description: String should have at least 1 character, not ''"),
        ("description: x\nparams: {}\nscore: 1\n", "unknown key 'score'; known here: description, measured, params"),
        ("description: x\nparms: {}\n", "unknown key 'parms'; did you mean 'params'?"),
        ("description: x\nmeasured: 0.94\nparams: {}\n", "measured: Input should be a list, not 0.94"),
        ("", "the file must hold keys and their values, not None"),
        ("- 1\n", "the file must hold keys and their values, not [1]"),
        ("description: [\n", "not valid YAML: "),
        ("description: x\nparams: {}\nparams: {}\n", "not valid YAML: "),
        ("description: \udce4\n", "cannot be read ("),
    ],
)
def test_a_file_that_is_no_recipe_is_told_in_a_line(checkout, text, said):
    Path("recipes/mine.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert complaint().startswith(f"recipes/mine.yaml: {said}")
    assert "\n" not in complaint()


def test_every_mistake_is_told_at_once(checkout):
    write("mine", {"measured": [{}], "params": {"head": {"dropout": 2.0}, "train": {"epoch": 3}}})
    lines = complaint().splitlines()
    assert len(lines) == len(MEASUREMENT) + 3
    for word in ("'description'", "'measured.0.score'", "params.head.dropout", "'params.train.epoch'"):
        assert sum(word in line for line in lines) == 1


def test_an_unknown_recipe_is_told_with_the_like_and_all_there_are(checkout):
    assert complaint() == "unknown recipe 'mine' (known: none)"
    for name in ("linear", "fine-tune"):
        checkout.recipe(name, {})
    assert complaint("liner") == "unknown recipe 'liner'; did you mean 'linear'? (known: fine-tune, linear)"
    for name in ("zzz", "defaults", "../params", ""):
        assert complaint(name) == f"unknown recipe '{name}' (known: fine-tune, linear)"


def test_outside_of_a_checkout_it_says_where_to_stand(checkout, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = "recipes: no such folder; run this from the root of the checkout"
    assert complaint() == said
    with pytest.raises(UserError, match=said):
        recipes.names()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  dropout: 0.2\n", "", "key 'head.dropout' is missing"),
        ("  flip: true\n", "  flop: true\n", "unknown key 'augmentation.flop'; did you mean 'flip'?"),
        ("  dropout: 0.2\n", "  dropout: 2\n", "head.dropout: Input should be less than 1, not 2"),
        (
            "model:\n",
            "evaluate: {}\n\nmodel:\n",
            "unknown key 'evaluate'; known here: model, head, augmentation, train",
        ),
        ("model:\n", "model: [\n", "not valid YAML: "),
    ],
)
def test_what_is_wrong_with_the_defaults_is_told(checkout, old, new, said):
    checkout.recipe("mine", {"head": {"units": []}})
    checkout.edit(old, new, "recipes/defaults.yaml")
    assert complaint().startswith(f"recipes/defaults.yaml: {said}")
    with pytest.raises(UserError, match=r"recipes/defaults\.yaml: "):
        recipes.defaults()


def test_without_the_defaults_it_says_how_to_have_them_back(checkout):
    checkout.recipe("mine", {})
    Path("recipes/defaults.yaml").unlink()
    assert complaint() == "recipes/defaults.yaml: no such file; restore it with `git checkout recipes/defaults.yaml`"
