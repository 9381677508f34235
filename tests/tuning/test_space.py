"""The search space: ranges and choices become Optuna's distributions; an error names what cannot be searched."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ruamel.yaml import YAML

from flowers.common.errors import UserError
from flowers.config import params
from flowers.config.parameter_types import Dimension
from flowers.config.params import Training
from flowers.tuning.space import Space

SHIPPED = Path(__file__).parents[2] / "params.yaml"
FIXED = {"model.weights", "model.mirror", "train.on", "train.seed"}


class File:
    """A copy of the shipped params.yaml, in which the space, or anything else of the study, can be replaced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections = YAML(typ="safe").load(SHIPPED)
        self.tune = self.sections["tune"]

    def load(self) -> params.Params:
        with self.path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(self.sections, file)
        return params.load(self.path)

    def load_error(self) -> str:
        """The error of a file that does not load."""
        with pytest.raises(UserError) as error:
            self.load()
        message = str(error.value)
        assert message.startswith(f"{self.path}: ")
        assert "\n" not in message
        return message.removeprefix(f"{self.path}: ")

    def space(self, dimensions: dict) -> Space:
        self.tune["space"] = dimensions
        return Space(self.load())

    def error(self, dimensions: dict) -> str:
        """The error of a space that cannot be searched."""
        self.tune["space"] = dimensions
        settings = self.load()
        with pytest.raises(UserError) as error:
            Space(settings)
        message = str(error.value)
        assert message.startswith("params.yaml: tune.space: ")
        assert "\n" not in message
        return message.removeprefix("params.yaml: tune.space: ")


@pytest.fixture
def file(tmp_path) -> File:
    return File(tmp_path / "params.yaml")


def test_the_shipped_space_contains_the_shipped_values():
    space = Space(params.load(SHIPPED))
    assert space.names == ["head.dropout", "train.learning_rate", "model.unfreeze_blocks"]
    assert space.distributions == {
        "head.dropout": FloatDistribution(0.0, 0.6),
        "train.learning_rate": FloatDistribution(0.0003, 0.01, log=True),
        "model.unfreeze_blocks": CategoricalDistribution((0, 1, 3)),
    }
    assert space.current() == {"head.dropout": 0.2, "train.learning_rate": 0.0005, "model.unfreeze_blocks": 0}
    assert space.holds_current()
    assert space.depths() == [0, 1, 3]


def test_the_ranges_in_comments_of_the_shipped_file_can_be_searched(file):
    lines = SHIPPED.read_text(encoding="utf-8").partition("  space:")[2].splitlines()[1:]
    assert sum(line.startswith("    # ") for line in lines) >= 4
    text = "\n".join(line.replace("    # ", "    ", 1) for line in lines)
    space = file.space(YAML(typ="safe").load("space:\n" + text)["space"])
    assert len(space.distributions) == len(lines)
    assert space.holds_current()


@pytest.mark.parametrize(
    ("name", "dimension", "distribution"),
    [
        ("head.dropout", {"low": 0.1, "high": 0.7, "step": 0.2}, FloatDistribution(0.1, 0.7, step=0.2)),
        ("train.weight_decay", {"low": 1e-05, "high": 1, "log": True}, FloatDistribution(1e-05, 1.0, log=True)),
        ("train.batch_size", {"low": 8, "high": 64, "step": 8}, IntDistribution(8, 64, step=8)),
        ("train.batch_size", {"low": 8, "high": 64, "log": True}, IntDistribution(8, 64, log=True)),
        ("augmentation.flip", {"choices": [True, False]}, CategoricalDistribution((True, False))),
        ("head.units", {"choices": [[], [64], [8, 4]]}, CategoricalDistribution(("[]", "[64]", "[8, 4]"))),
    ],
)
def test_a_dimension_becomes_the_distribution_of_its_kind(file, name, dimension, distribution):
    found = file.space({name: dimension}).distributions
    assert found == {name: distribution}
    assert repr(found[name]) == repr(distribution)  # 1, 1.0 and True are equal


def test_every_parameter_of_the_training_can_be_searched_unless_a_reason_is_known(file):
    names = {f"{section}.{key}" for section in Training.model_fields for key in file.sections[section]}
    assert names > FIXED
    for name in names:
        section, key = name.split(".")
        dimensions = {name: {"choices": [file.sections[section][key]]}}
        if name in FIXED:
            assert file.error(dimensions).startswith(f"{name} cannot be searched: ")
        else:
            space = file.space(dimensions)
            assert space.holds_current()
            assert space.apply(space.current()) == space.settings


def test_applied_values_are_those_of_a_params_file_and_all_others_stay(file):
    space = file.space({"head.units": {"choices": [[], [64, 8]]}, "train.batch_size": {"low": 1, "high": 64}})
    settings = space.apply({"head.units": "[64, 8]", "train.batch_size": 3, "another": 1})
    assert settings.head.units == (64, 8)
    assert space.apply({"head.units": "[]", "train.batch_size": 3}).head.units == ()
    file.sections["head"]["units"] = [64, 8]
    file.sections["train"]["batch_size"] = 3
    assert settings == file.load()
    assert space.settings.head.units == (256, 128, 64)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("head.droput", "did you mean 'head.dropout'?"),
        ("split.seed", "there are model.unfreeze_blocks, "),
    ],
)
def test_a_name_that_is_not_a_parameter_of_the_training_raises_an_error_with_those_that_are(file, name, remedy):
    message = file.error({name: {"choices": [0]}})
    assert message.startswith(f"'{name}' is not a parameter of the training; {remedy}")


@pytest.mark.parametrize(
    ("name", "dimension", "value"),
    [
        ("train.learning_rate", {"low": 0, "high": 0.1}, 0.0),
        ("train.epochs", {"choices": [1, 2.5]}, 2.5),
        ("model.precision", {"choices": ["float32", "float16"]}, "float16"),
        ("model.input_size", {"low": 224, "high": 320, "step": 48}, 272),  # between the ends
    ],
)
def test_a_value_that_the_parameter_does_not_accept_raises_an_error_naming_it(file, name, dimension, value):
    message = file.error({name: dimension})
    assert message.startswith(f"{name}: ")
    assert message.endswith(f", not {value!r}")


def test_values_that_do_not_go_together_raise_an_error_before_the_first_trial(file):
    features, blocks = {"choices": ["conv5", "conv4+conv5"]}, {"choices": [0, 1, 3]}
    message = file.error({"head.features": features, "model.unfreeze_blocks": blocks})
    assert message.endswith("; a trial could have head.features: conv4+conv5 with model.unfreeze_blocks: 1")
    assert file.space({"head.features": features, "model.unfreeze_blocks": {"choices": [0, 3]}}).distributions


def test_values_that_fit_only_with_others_of_the_space_can_be_searched_with_them(file):
    start, units = {"head.initialization": {"choices": ["regression"]}}, {"head.units": {"choices": [[]]}}
    assert file.error(start).endswith("; a trial could have head.initialization: regression")
    for space in (start | units, units | start):
        assert file.space(space).distributions.keys() == space.keys()
        assert file.space(space | {"train.epochs": {"choices": [0, 30]}}).distributions
        assert "a trial could have " in file.error(space | {"head.units": {"choices": [[], [64]]}})


@pytest.mark.parametrize(
    ("name", "dimension", "message"),
    [
        ("head.units", {"low": 0, "high": 1}, "takes no range; use choices"),
        ("train.batch_size", {"low": 1, "high": 8.0}, "takes integers only"),
        (
            "head.dropout",
            {"low": 0.1, "high": 0.6, "step": 0.2},
            "the range from 0.1 to 0.6 is not a multiple of its st",
        ),
    ],
)
def test_a_range_that_the_parameter_cannot_have_raises_an_error(file, name, dimension, message):
    assert file.error({name: dimension}).startswith(f"{name}: {message}")


@pytest.mark.parametrize(
    ("dimension", "inside"),
    [
        ({"low": 0.2, "high": 0.3}, True),
        ({"low": 0.21, "high": 0.3}, False),
        ({"low": 0.0, "high": 0.6, "step": 0.3}, False),
        ({"choices": [0.1, 0.3]}, False),
    ],
)
def test_whether_a_trial_could_have_the_current_values(file, dimension, inside):
    assert file.sections["head"]["dropout"] == 0.2
    units = {"choices": [[], [256, 128, 64]]}
    assert file.space({"head.units": units, "head.dropout": dimension}).holds_current() is inside


@pytest.mark.parametrize(
    ("dimension", "depths"),
    [(None, [2]), ({"choices": [4, 0]}, [0, 2, 4]), ({"low": 3, "high": 9, "step": 3}, [2, 3, 6, 9])],
)
def test_the_depths_are_those_of_all_trials_and_the_current_one(file, dimension, depths):
    file.sections["model"]["unfreeze_blocks"] = 2
    dimensions = {"head.dropout": {"low": 0, "high": 0.5}}
    space = file.space(dimensions | ({"model.unfreeze_blocks": dimension} if dimension else {}))
    assert space.depths() == depths


def test_dimensions_are_described_in_words(file):
    space = file.space(
        {
            "head.dropout": {"low": 0.0, "high": 0.6},
            "train.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
            "train.batch_size": {"low": 8, "high": 64, "step": 8},
            "head.units": {"choices": [[], [8, 4]]},
        }
    )
    assert space.described() == {
        "head.dropout": "0.0 … 0.6",
        "train.learning_rate": "0.001 … 0.1 (log)",
        "train.batch_size": "8 … 64 (step 8)",
        "head.units": "[] | [8, 4]",
    }


# The section `tune` of params.yaml


@pytest.mark.parametrize(
    ("dimension", "message"),
    [
        ({"choices": [0.1], "low": 0}, "choices cannot be combined with low, high, step and log"),
        ({"low": 0.1}, "needs low and high, or choices"),
        ({"low": 0.2, "high": 0.1}, "low (0.2) is above high (0.1)"),
        ({"low": 0.1, "high": 0.2, "log": True, "step": 0.1}, "log needs a low above 0, and no step"),
    ],
)
def test_a_dimension_that_contradicts_itself_raises_an_error(file, dimension, message):
    file.tune["space"] = {"head.dropout": dimension}
    assert file.load_error() == f"tune.space.head.dropout: {message}"


def test_a_wrong_or_unknown_key_of_a_dimension_raises_an_error_naming_it(file):
    file.tune["space"] = {"head.dropout": {"low": 0.1, "high": 0.2, "step": 0}}
    assert file.load_error().startswith("tune.space.head.dropout.step: ")
    file.tune["space"] = {"head.dropout": {"lows": 0.1, "high": 0.2}}
    assert file.load_error().startswith("unknown key 'tune.space.head.dropout.lows'; did you mean 'low'?")


def test_a_dimension_may_have_a_single_value(file):
    file.tune["space"] = {"head.dropout": {"low": 0.2, "high": 0.2}}
    assert file.load().tune.space == {"head.dropout": Dimension(low=0.2, high=0.2)}


@pytest.mark.parametrize(("key", "value"), [("n_trials", 0), ("pruner", "medain"), ("confirm_seeds", 1)])
def test_a_wrong_value_of_the_study_raises_an_error_naming_the_key(file, key, value):
    assert key in file.tune
    file.tune[key] = value
    assert file.load_error().startswith(f"tune.{key}: ")
