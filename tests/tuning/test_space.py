"""What a study searches: ranges and choices become Optuna's distributions, and whatever cannot be searched is named."""

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from ruamel.yaml import YAML

from flowers.common.errors import UserError
from flowers.config import params
from flowers.config.params import Dimension
from flowers.tuning.space import Space

SHIPPED = Path(__file__).parents[2] / "params.yaml"

TUNABLE = (
    *("model.unfreeze_blocks", "model.train_batch_norm", "model.input_size", "model.precision"),
    *("head.units", "head.dropout", "head.features", "head.normalization", "head.initialization", "head.penalty"),
    *("augmentation.views", "augmentation.size", "augmentation.flip", "augmentation.min_area", "augmentation.seed"),
    *("train.epochs", "train.fine_tune_epochs", "train.batch_size", "train.learning_rate"),
    *("train.fine_tune_learning_rate", "train.schedule", "train.warmup_epochs"),
    *("train.weight_decay", "train.label_smoothing", "train.class_weights"),
    "train.patience",
)


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

    def complaint(self) -> str:
        """What is said of a file that does not load."""
        with pytest.raises(UserError) as error:
            self.load()
        said = str(error.value)
        assert said.startswith(f"{self.path}: ") and "\n" not in said
        return said.removeprefix(f"{self.path}: ")

    def space(self, dimensions: dict) -> Space:
        self.tune["space"] = dimensions
        return Space(self.load())

    def refused(self, name: str, dimension: dict) -> str:
        """What is said of a dimension that cannot be searched."""
        self.tune["space"] = {name: dimension}
        settings = self.load()
        with pytest.raises(UserError) as error:
            Space(settings)
        said = str(error.value)
        assert said.startswith("params.yaml: tune.space: ") and "\n" not in said
        return said.removeprefix("params.yaml: tune.space: ")


@pytest.fixture
def file(tmp_path) -> File:
    return File(tmp_path / "params.yaml")


def test_the_shipped_space_is_what_the_file_says_and_holds_its_own_values():
    space = Space(params.load(SHIPPED))
    assert space.names == ["head.dropout", "train.learning_rate", "model.unfreeze_blocks"]
    assert space.distributions == {
        "head.dropout": FloatDistribution(0.0, 0.6),
        "train.learning_rate": FloatDistribution(0.0003, 0.01, log=True),
        "model.unfreeze_blocks": CategoricalDistribution((0, 1, 3)),
    }
    assert space.current() == {"head.dropout": 0.2, "train.learning_rate": 0.001, "model.unfreeze_blocks": 0}
    assert space.holds_current()
    assert space.depths() == [0, 1, 3]


def test_the_ranges_that_the_shipped_file_proposes_in_comments_are_possible(file):
    lines = SHIPPED.read_text(encoding="utf-8").partition("  space:")[2].splitlines()[1:]
    assert sum(line.startswith("    # ") for line in lines) >= 4
    text = "\n".join(line.replace("    # ", "    ", 1) for line in lines)
    proposed = YAML(typ="safe").load("space:\n" + text)["space"]
    space = file.space(proposed)
    assert len(space.distributions) == len(lines)
    assert space.holds_current()


@pytest.mark.parametrize(
    ("name", "dimension", "distribution"),
    [
        ("head.dropout", {"low": 0, "high": 0.5}, FloatDistribution(0.0, 0.5)),
        ("head.dropout", {"low": 0.1, "high": 0.7, "step": 0.2}, FloatDistribution(0.1, 0.7, step=0.2)),
        ("head.dropout", {"low": 0, "high": 0.3, "step": 0.1}, FloatDistribution(0.0, 0.3, step=0.1)),
        ("train.weight_decay", {"low": 1e-05, "high": 1, "log": True}, FloatDistribution(1e-05, 1.0, log=True)),
        ("train.weight_decay", {"low": 0, "high": 0, "log": False}, FloatDistribution(0.0, 0.0)),
        ("train.batch_size", {"low": 8, "high": 64}, IntDistribution(8, 64)),
        ("train.batch_size", {"low": 8, "high": 64, "step": 8}, IntDistribution(8, 64, step=8)),
        ("train.batch_size", {"low": 8, "high": 64, "log": True}, IntDistribution(8, 64, log=True)),
        ("train.batch_size", {"choices": [16, 64]}, CategoricalDistribution((16, 64))),
        ("head.dropout", {"choices": [0, 0.5]}, CategoricalDistribution((0, 0.5))),
        ("augmentation.flip", {"choices": [True, False]}, CategoricalDistribution((True, False))),
        ("model.precision", {"choices": ["float32"]}, CategoricalDistribution(("float32",))),
        ("head.units", {"choices": [[], [64], [8, 4]]}, CategoricalDistribution(("[]", "[64]", "[8, 4]"))),
    ],
)
def test_a_dimension_becomes_the_distribution_of_its_kind(file, name, dimension, distribution):
    found = file.space({name: dimension}).distributions
    assert found == {name: distribution}
    assert repr(found[name]) == repr(distribution)  # 1, 1.0 and True are equal


@pytest.mark.parametrize("name", TUNABLE)
def test_every_parameter_that_decides_the_training_can_be_searched(file, name):
    section, key = name.split(".")
    space = file.space({name: {"choices": [file.sections[section][key]]}})
    assert space.holds_current()
    assert space.apply(space.current()) == space.settings


def test_applied_values_are_those_of_a_params_file_and_all_others_stay(file):
    space = file.space({"head.units": {"choices": [[], [64, 8]]}, "train.batch_size": {"low": 1, "high": 64}})
    settings = space.apply({"head.units": "[64, 8]", "train.batch_size": 3, "what others": 1})
    assert settings.head.units == (64, 8)
    assert space.apply({"head.units": "[]", "train.batch_size": 3}).head.units == ()
    file.sections["head"]["units"] = [64, 8]
    file.sections["train"]["batch_size"] = 3
    assert settings == file.load()
    assert space.settings.head.units == (256, 128, 64)
    assert space.settings.train.batch_size == 32


def test_a_list_that_is_current_is_found_among_the_choices(file):
    assert file.space({"head.units": {"choices": [[], [256, 128, 64]]}}).holds_current()
    assert not file.space({"head.units": {"choices": [[], [256, 128]]}}).holds_current()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("head.droput", "did you mean 'head.dropout'?"),
        ("dropout", "did you mean 'head.dropout'?"),
        ("train.lerning_rate", "did you mean 'train.learning_rate'?"),
        ("head", f"there are {', '.join(TUNABLE)}"),
        ("split.seed", f"there are {', '.join(TUNABLE)}"),
        ("dataset.name", f"there are {', '.join(TUNABLE)}"),
        ("evaluate.bootstrap_samples", f"there are {', '.join(TUNABLE)}"),
    ],
)
def test_a_name_that_is_no_parameter_of_the_training_is_told_with_what_there_is(file, name, remedy):
    assert file.refused(name, {"choices": [0]}) == f"'{name}' is no parameter of the training; {remedy}"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("train.seed", 1, "a lucky seed is no better model; tune.repeats averages over seeds"),
        ("train.on", "train", "without validation photos a trial has no score"),
        ("model.weights", "imagenet", "the download stage decides it"),
    ],
)
def test_what_must_not_be_searched_is_refused_with_the_reason(file, name, value, reason):
    assert file.refused(name, {"choices": [value]}) == f"{name} cannot be searched: {reason}"


@pytest.mark.parametrize(
    ("name", "dimension", "value"),
    [
        ("head.dropout", {"low": 0, "high": 1}, 1.0),
        ("head.dropout", {"low": -0.1, "high": 0.5}, -0.1),
        ("train.learning_rate", {"low": 0, "high": 0.1}, 0.0),
        ("model.unfreeze_blocks", {"low": 0, "high": 17}, 17),
        ("model.unfreeze_blocks", {"choices": [0, 17]}, 17),
        ("train.batch_size", {"choices": [0]}, 0),
        ("train.epochs", {"choices": [1, 2.5]}, 2.5),
        ("model.unfreeze_blocks", {"choices": [0, True]}, True),
        ("head.dropout", {"choices": [0.1, "0.2"]}, "0.2"),
        ("head.dropout", {"choices": [None]}, None),
        ("augmentation.flip", {"choices": [1]}, 1),
        ("model.precision", {"choices": ["float32", "float16"]}, "float16"),
        ("head.units", {"choices": [[256], 128]}, 128),
        ("head.units", {"choices": [[256], "[128]"]}, "[128]"),
        ("head.units", {"choices": [[256], [0]]}, [0]),
        ("head.units", {"choices": [[8] * 9]}, [8] * 9),
    ],
)
def test_a_value_that_the_parameter_does_not_take_is_named(file, name, dimension, value):
    said = file.refused(name, dimension)
    assert said.startswith(f"{name}: ") and said.endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("dimension", "value"), [({"low": 224, "high": 320}, 225), ({"low": 224, "high": 320, "step": 48}, 272)]
)
def test_values_between_the_ends_must_be_possible_too(file, dimension, value):
    said = file.refused("model.input_size", dimension)
    hint = "" if "step" in dimension else "; give the range a step"
    assert said == f"model.input_size: Input should be a multiple of 32, not {value}{hint}"
    assert file.space({"model.input_size": {"low": 224, "high": 320, "step": 32}}).distributions


def test_values_that_do_not_go_together_are_refused_before_the_first_trial(file):
    features, blocks = {"choices": ["conv5", "conv4+conv5"]}, {"choices": [0, 1, 3]}
    with pytest.raises(UserError) as error:
        file.space({"head.features": features, "model.unfreeze_blocks": blocks})
    rule = "head.features: conv4+conv5 needs model.unfreeze_blocks: 0, or 3 and more"
    trial = "head.features: conv4+conv5 with model.unfreeze_blocks: 1"
    assert str(error.value) == f"params.yaml: tune.space: {rule}; a trial could have {trial}"
    assert file.space({"head.features": features, "model.unfreeze_blocks": {"choices": [0, 3]}}).distributions


def test_values_that_fit_only_beside_others_of_the_space_can_be_searched_with_them(file):
    start, units = {"head.initialization": {"choices": ["regression"]}}, {"head.units": {"choices": [[]]}}
    said = file.refused("head.initialization", start["head.initialization"])
    assert said.endswith("it needs units: []; a trial could have head.initialization: regression")
    for space in (start | units, units | start):
        assert file.space(space).distributions.keys() == space.keys()
        assert file.space(space | {"train.epochs": {"choices": [0, 30]}}).distributions
        with pytest.raises(UserError, match=r"a trial could have .*(regression with|with .*regression)"):
            file.space(space | {"head.units": {"choices": [[], [64]]}})


def test_a_study_without_epochs_for_a_drawn_head_is_refused(file):
    said = file.refused("train.epochs", {"choices": [0, 30]})
    assert said.endswith("it needs head.initialization: regression; a trial could have train.epochs: 0")


@pytest.mark.parametrize("name", ["head.units", "augmentation.flip", "model.precision", "train.class_weights"])
def test_a_range_of_what_is_no_number_is_refused(file, name):
    assert file.refused(name, {"low": 0, "high": 1}) == f"{name}: takes no range; give it choices"


@pytest.mark.parametrize(
    "dimension", [{"low": 1.5, "high": 8}, {"low": 1, "high": 8.0}, {"low": 1, "high": 2, "step": 0.5}]
)
def test_a_whole_number_takes_whole_numbers_only(file, dimension):
    assert file.refused("train.batch_size", dimension) == "train.batch_size: takes whole numbers only"


@pytest.mark.parametrize(
    ("name", "low", "high", "step"),
    [
        ("train.batch_size", 8, 60, 8),
        ("train.batch_size", 8, 12, 8),
        ("head.dropout", 0.1, 0.6, 0.2),
        ("head.dropout", 0, 0.5, 0.6),
    ],
)
def test_steps_that_miss_the_end_are_refused(file, name, low, high, step):
    said = file.refused(name, {"low": low, "high": high, "step": step})
    assert said == f"{name}: from {low} to {high} is no whole number of steps of {step}"


@pytest.mark.parametrize(
    ("dimension", "inside"),
    [
        ({"low": 0.2, "high": 0.3}, True),
        ({"low": 0.1, "high": 0.2}, True),
        ({"low": 0.21, "high": 0.3}, False),
        ({"low": 0, "high": 0.19}, False),
        ({"low": 0.0, "high": 0.6, "step": 0.1}, True),
        ({"low": 0.0, "high": 0.6, "step": 0.3}, False),
        ({"choices": [0.1, 0.2]}, True),
        ({"choices": [0.1, 0.3]}, False),
    ],
)
def test_whether_a_trial_could_have_the_current_values(file, dimension, inside):
    rate = {"low": 0.0001, "high": 0.01, "log": True}
    assert file.sections["head"]["dropout"] == 0.2
    assert file.space({"train.learning_rate": rate, "head.dropout": dimension}).holds_current() is inside


@pytest.mark.parametrize(
    ("dimension", "depths"),
    [
        (None, [2]),
        ({"choices": [4, 0]}, [0, 2, 4]),
        ({"choices": [2]}, [2]),
        ({"low": 1, "high": 4}, [1, 2, 3, 4]),
        ({"low": 3, "high": 9, "step": 3}, [2, 3, 6, 9]),
        ({"low": 1, "high": 3, "log": True}, [1, 2, 3]),
    ],
)
def test_the_depths_are_those_of_all_trials_and_the_current_one(file, dimension, depths):
    file.sections["model"]["unfreeze_blocks"] = 2
    dimensions = {"head.dropout": {"low": 0, "high": 0.5}}
    space = file.space(dimensions | ({"model.unfreeze_blocks": dimension} if dimension else {}))
    assert space.depths() == depths


def test_dimensions_are_told_in_words(file):
    space = file.space(
        {
            "head.dropout": {"low": 0.0, "high": 0.6},
            "train.learning_rate": {"low": 0.001, "high": 0.1, "log": True},
            "train.batch_size": {"low": 8, "high": 64, "step": 8},
            "model.unfreeze_blocks": {"choices": [0, 1, 3]},
            "head.units": {"choices": [[], [8, 4]]},
        }
    )
    assert space.described() == {
        "head.dropout": "0.0 … 0.6",
        "train.learning_rate": "0.001 … 0.1 (log)",
        "train.batch_size": "8 … 64 (step 8)",
        "model.unfreeze_blocks": "0 | 1 | 3",
        "head.units": "[] | [8, 4]",
    }


# The section `tune` of params.yaml


@pytest.mark.parametrize(
    ("dimension", "said"),
    [
        ({"choices": [0.1], "low": 0}, "choices cannot be combined with low, high, step and log"),
        ({"choices": [0.1], "log": False}, "choices cannot be combined with low, high, step and log"),
        ({"choices": [0.1, 0.2, 0.1]}, "a choice is repeated"),
        ({"choices": [[8], [8]]}, "a choice is repeated"),
        ({"low": 0.1}, "needs low and high, or choices"),
        ({"high": 0.1}, "needs low and high, or choices"),
        ({}, "needs low and high, or choices"),
        ({"low": 0.2, "high": 0.1}, "low (0.2) is above high (0.1)"),
        ({"low": 0, "high": 0.1, "log": True}, "log needs a low above 0, and no step"),
        ({"low": -1, "high": 0.1, "log": True}, "log needs a low above 0, and no step"),
        ({"low": 0.1, "high": 0.2, "log": True, "step": 0.1}, "log needs a low above 0, and no step"),
    ],
)
def test_a_dimension_that_contradicts_itself_is_told(file, dimension, said):
    file.tune["space"] = {"head.dropout": dimension}
    assert file.complaint() == f"tune.space.head.dropout: {said}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("low", "0"),
        ("low", True),
        ("high", float("inf")),
        ("high", float("nan")),
        ("step", 0),
        ("step", -0.1),
        ("step", "0.1"),
        ("log", 1),
        ("log", "yes"),
    ],
)
def test_a_wrong_type_or_value_in_a_dimension_is_named(file, key, value):
    file.tune["space"] = {"head.dropout": {"low": 0.1, "high": 0.2, key: value}}
    said = file.complaint()
    assert said.startswith(f"tune.space.head.dropout.{key}: ") and said.endswith(f", not {value!r}")


@pytest.mark.parametrize("choices", [[], 3, "abc", None])
def test_choices_are_a_list_of_at_least_one(file, choices):
    file.tune["space"] = {"head.dropout": {"choices": choices}}
    assert file.complaint().startswith("tune.space.head.dropout")


def test_a_dimension_of_one_value_is_one(file):
    file.tune["space"] = {"head.dropout": {"low": 0.2, "high": 0.2}}
    assert file.load().tune.space == {"head.dropout": Dimension(low=0.2, high=0.2)}


@pytest.mark.parametrize(
    ("typo", "remedy"),
    [("lows", "did you mean 'low'?"), ("choice", "did you mean 'choices'?"), ("qqq", "known here: low, high,")],
)
def test_an_unknown_key_in_a_dimension_is_named_with_the_nearest_one(file, typo, remedy):
    file.tune["space"]["head.dropout"][typo] = 0.1
    assert file.complaint().startswith(f"unknown key 'tune.space.head.dropout.{typo}'; {remedy}")


@pytest.mark.parametrize("dimension", [None, 0.3, [0.1, 0.2]])
def test_a_dimension_that_is_none_is_named(file, dimension):
    file.tune["space"] = {"head.dropout": dimension}
    said = file.complaint()
    assert said == f"tune.space.head.dropout must hold keys and their values, not {dimension!r}"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("n_trials", 0),
        ("n_trials", 2.5),
        ("repeats", 0),
        ("repeats", 101),
        ("pruner", "medain"),
        ("warmup_epochs", -1),
        ("confirm_seeds", -1),
        ("confirm_seeds", 1),
        ("confirm_seeds", 101),
        ("seed", -1),
        ("space", {}),
        ("space", None),
    ],
)
def test_a_wrong_value_of_the_study_is_named(file, key, value):
    assert key in file.tune
    file.tune[key] = value
    assert file.complaint().startswith(f"tune.{key}: ")


def test_one_seed_to_confirm_with_is_refused_with_what_to_give_instead(file):
    file.tune["confirm_seeds"] = 1
    said = "one seed has no spread: use 0 (no comparison), or 2 and more, not 1"
    assert file.complaint() == f"tune.confirm_seeds: {said}"


@pytest.mark.parametrize(
    ("key", "value"),
    [("n_trials", 1), ("repeats", 100), ("warmup_epochs", 0), ("confirm_seeds", 0), ("confirm_seeds", 2)],
)
def test_the_ends_of_the_ranges_are_accepted(file, key, value):
    file.tune[key] = value
    assert getattr(file.load().tune, key) == value
