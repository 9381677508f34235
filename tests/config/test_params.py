"""params.yaml: a valid file loads, and each error is one line that names the file and the key."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flowers.common.errors import UserError
from flowers.config import params

SHIPPED = Path(__file__).parents[2] / "params.yaml"


class File:
    """A copy of the shipped params.yaml to change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections = YAML(typ="safe").load(SHIPPED)

    def load(self) -> params.Params:
        with self.path.open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(self.sections, file)
        return params.load(self.path)

    def set(self, key: str, value: object) -> None:
        section, name = key.split(".")
        assert name in self.sections[section]
        self.sections[section][name] = value

    def error(self) -> str:
        """The message, without the path at the start of each line."""
        with pytest.raises(UserError) as error:
            self.load()
        lines = str(error.value).splitlines()
        assert all(line.startswith(f"{self.path}: ") for line in lines)
        return "\n".join(line.removeprefix(f"{self.path}: ") for line in lines)


@pytest.fixture
def file(tmp_path) -> File:
    return File(tmp_path / "params.yaml")


def error_of(path: Path) -> str:
    """The one line of the error of a file."""
    with pytest.raises(UserError) as error:
        params.load(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_shipped_file_loads_with_its_values_which_are_frozen(monkeypatch):
    monkeypatch.chdir(SHIPPED.parent)
    settings = params.load()
    assert settings.model_dump(mode="json", exclude_unset=True) == YAML(typ="safe").load(SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        settings.head.dropout = 0.5


def test_every_key_and_every_section_is_required(file):
    shipped = YAML(typ="safe").load(SHIPPED)
    file.sections = {section: {} for section in shipped}
    missing = [line.split("'")[1] for line in file.error().splitlines() if line.endswith("is missing")]
    assert missing == [f"{section}.{key}" for section, content in shipped.items() for key in content]
    file.sections = {}
    assert file.error().splitlines() == [f"key '{section}' is missing" for section in shipped]


@pytest.mark.parametrize(
    ("section", "typo", "remedy"),
    [
        ("head", "droput", "did you mean 'dropout'?"),
        ("head", "qqq", "known here: units, dropout, features, normalization, initialization, penalty"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(file, section, typo, remedy):
    file.sections[section][typo] = 0.1
    assert file.error() == f"unknown key '{section}.{typo}'; {remedy}"


def test_an_unknown_section_is_named_with_the_nearest_one(file):
    file.sections["modle"] = {}
    assert file.error() == "unknown key 'modle'; did you mean 'model'?"


def test_a_mistyped_key_is_reported_once(file):
    file.sections["train"]["epoch"] = file.sections["train"].pop("epochs")
    assert file.error() == "unknown key 'train.epoch'; did you mean 'epochs'?"


def test_all_errors_of_a_file_are_reported_together(file):
    file.set("head.dropout", 1.0)
    file.set("train.epochs", -1)
    assert [line.split(": ")[0] for line in file.error().splitlines()] == ["head.dropout", "train.epochs"]


def test_a_folder_elsewhere_needs_an_absolute_path(file, tmp_path):
    file.set("dataset.path", "photos")
    assert file.error() == "dataset.path: 'photos' must be data.yaml or an absolute path"
    file.set("dataset.path", str(tmp_path))
    assert file.load().dataset.path == str(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.bad_images", "ignore"),
        ("split.seed", 2**31),
        ("split.val", float("nan")),
        ("model.unfreeze_blocks", 17),
        ("model.unfreeze_blocks", "3"),
        ("model.input_size", 230),
        ("model.input_size", 672),
        ("head.penalty", 0),
        ("head.units", 256),
        ("head.units", [0]),
        ("head.units", [8] * 9),
        ("head.dropout", 1.0),
        ("head.dropout", float("nan")),
        ("augmentation.size", 64),
        ("augmentation.flip", 1),
        ("augmentation.min_area", 0.0),
        ("train.epochs", 2.5),
        ("train.learning_rate", float("inf")),
        ("train.weight_decay", -1e-4),
        ("train.label_smoothing", 1.0),
        ("train.patience", 0),
        ("evaluate.bootstrap_samples", 99),
        ("evaluate.gallery", 201),
        ("promote.probe_photos", 0),
    ],
)
def test_a_wrong_type_or_a_value_out_of_range_is_named_with_key_and_value(file, key, value):
    file.set(key, value)
    error = file.error()
    assert error.startswith(key)
    shown = value if not isinstance(value, list) or len(value) > 1 else value[0]  # the one item that is wrong
    assert error.endswith(f", not {shown!r}")


@pytest.mark.parametrize(
    "values",
    [
        {"model.unfreeze_blocks": 16, "model.input_size": 640, "augmentation.size": None, "head.dropout": 0},
        {"model.input_size": 96, "augmentation.views": 0, "augmentation.min_area": 1, "train.fine_tune_epochs": 0},
        {"head.units": [], "train.on": "train+val", "train.warmup_epochs": 0.5, "split.seed": 2**31 - 1},
    ],
)
def test_the_ends_of_each_range_are_accepted(file, values):
    for key, value in values.items():
        file.set(key, value)
    loaded = file.load().model_dump(mode="json")
    assert {key: loaded[key.split(".")[0]][key.split(".")[1]] for key in values} == values


@pytest.mark.parametrize(
    ("fractions", "error"),
    [
        ((0.7, 0.2, 0.2), "train, val and test add up to 1.1; they must add up to 1"),
        ((0.85, 0.0, 0.15), "train, val and test must each be more than 0"),
    ],
)
def test_fractions_must_add_up_to_1(file, fractions, error):
    for name, fraction in zip(("train", "val", "test"), fractions, strict=True):
        file.set(f"split.{name}", fraction)
    assert file.error() == f"split: {error}"
    for name in ("train", "val", "test"):
        file.set(f"split.{name}", 1 / 3)  # rounding is no error
    assert file.load().split.test == 1 / 3


@pytest.mark.parametrize(("written", "value"), [("1e-3", 0.001), ("5e-05", 5e-5), (".5", 0.5), ("2", 2.0)])
def test_a_rate_is_read_in_every_common_notation(tmp_path, written, value):
    path = tmp_path / "params.yaml"
    text = SHIPPED.read_text(encoding="utf-8")
    assert "\n  learning_rate: 0.0005\n" in text
    path.write_text(text.replace("\n  learning_rate: 0.0005\n", f"\n  learning_rate: {written}\n"), encoding="utf-8")
    assert params.load(path).train.learning_rate == value


@pytest.mark.parametrize("initialization", ["regression", "lda"])
def test_a_fitted_head_is_linear(file, initialization):
    file.set("head.initialization", initialization)
    assert file.error() == f"head: initialization: {initialization} makes a linear head; it needs units: []"
    file.set("head.units", [])
    assert file.load().head.initialization == initialization


def test_a_head_without_epochs_needs_an_initialization(file):
    file.set("train.epochs", 0)
    assert file.error() == "train.epochs: 0 trains no head; it needs head.initialization: regression or lda"
    file.set("head.units", [])
    file.set("head.initialization", "regression")
    assert file.load().train.epochs == 0


def test_features_of_conv4_need_conv5_frozen_or_unfrozen_as_a_whole(file):
    file.set("head.features", "conv4+conv5")
    for blocks, valid in ((0, True), (1, False), (2, False), (3, True)):
        file.set("model.unfreeze_blocks", blocks)
        if valid:
            assert file.load().head.features == "conv4+conv5"
        else:
            assert file.error() == "head.features: conv4+conv5 needs model.unfreeze_blocks: 0, or 3 and more"


@pytest.mark.parametrize("section", [None, [1]])
def test_a_section_that_is_not_a_mapping_is_named(file, section):
    file.sections["head"] = section
    assert file.error() == f"head must hold keys and their values, not {section!r}"


@pytest.mark.parametrize("text", ["", "just a sentence", "- a\n- list\n"])
def test_a_file_that_is_not_a_mapping_is_one_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert error_of(path).startswith(f"{path}: the file must hold keys and their values, not ")


@pytest.mark.parametrize("text", ["head: [", "head: {}\nhead: {}\n"])
def test_a_file_that_is_not_yaml_is_one_line_with_the_line_number(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    error = error_of(path)
    assert error.startswith(f"{path}: not valid YAML: ")
    assert "line " in error


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    path = tmp_path / "params.yaml"
    assert error_of(path) == f"{path}: no such file; run this from the root of the checkout"
    path.write_bytes(b"head: \xe4")
    assert error_of(path).startswith(f"{path}: cannot be read")
    assert error_of(tmp_path).startswith(f"{tmp_path}: cannot be read")
