"""params.yaml: what is right loads, and what is wrong is told in a line that names the file and the key."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flowers.common.errors import UserError
from flowers.config import params

SHIPPED = Path(__file__).parents[2] / "params.yaml"


class File:
    """A copy of the shipped params.yaml to spoil."""

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

    def complaint(self) -> str:
        with pytest.raises(UserError) as error:
            self.load()
        return str(error.value)


@pytest.fixture
def file(tmp_path) -> File:
    return File(tmp_path / "params.yaml")


def complaint(path: Path) -> str:
    with pytest.raises(UserError) as error:
        params.load(path)
    return str(error.value)


def keys() -> list[str]:
    sections = YAML(typ="safe").load(SHIPPED)
    return [f"{section}.{name}" for section, values in sections.items() for name in values]


def test_the_shipped_file_loads_with_the_values_it_shows(monkeypatch):
    monkeypatch.chdir(SHIPPED.parent)
    settings = params.load()
    assert settings.model_dump(mode="json", exclude_unset=True) == YAML(typ="safe").load(SHIPPED)
    assert settings.head.units == (256, 128, 64)
    assert settings.head.dropout == 0.2


def test_no_value_can_be_changed_after_loading(file):
    settings = file.load()
    with pytest.raises(ValueError, match="frozen"):
        settings.head.dropout = 0.5


@pytest.mark.parametrize("key", keys())
def test_a_missing_key_is_named(file, key):
    section, name = key.split(".")
    del file.sections[section][name]
    assert file.complaint() == f"{file.path}: key '{key}' is missing"


@pytest.mark.parametrize("section", ["dataset", "split", "model", "head", "augmentation", "train", "evaluate"])
def test_a_missing_section_is_named(file, section):
    del file.sections[section]
    assert file.complaint() == f"{file.path}: key '{section}' is missing"


@pytest.mark.parametrize(
    ("section", "typo", "remedy"),
    [
        ("train", "learning_rat", "did you mean 'learning_rate'?"),
        ("head", "drop_out", "did you mean 'dropout'?"),
        ("head", "qqq", "known here: units, dropout, features, normalization, initialization, penalty"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_one(file, section, typo, remedy):
    file.sections[section][typo] = 0.1
    assert file.complaint() == f"{file.path}: unknown key '{section}.{typo}'; {remedy}"


def test_an_unknown_section_is_named_with_the_nearest_one(file):
    file.sections["modle"] = {}
    assert file.complaint() == f"{file.path}: unknown key 'modle'; did you mean 'model'?"


def test_a_mistyped_key_is_told_once(file):
    file.sections["train"]["epoch"] = file.sections["train"].pop("epochs")
    assert file.complaint() == f"{file.path}: unknown key 'train.epoch'; did you mean 'epochs'?"


def test_a_folder_elsewhere_is_named_absolutely(file, tmp_path):
    file.set("dataset.path", "photos")
    assert "dataset.path: 'photos' must be data.yaml or an absolute path" in file.complaint()
    file.set("dataset.path", str(tmp_path))
    assert file.load().dataset.path == str(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.name", 3),
        ("dataset.path", None),
        ("dataset.mirror", 1),
        ("dataset.bad_images", "ignore"),
        ("split.method", "stratified"),
        ("split.seed", 1.5),
        ("split.seed", -1),
        ("split.seed", 2**31),
        ("model.weights", True),
        ("model.unfreeze_blocks", 17),
        ("model.unfreeze_blocks", -1),
        ("model.unfreeze_blocks", "3"),
        ("model.unfreeze_blocks", True),
        ("model.precision", "float16"),
        ("model.mirror", "yes"),
        ("model.input_size", 230),
        ("model.input_size", 64),
        ("model.input_size", 672),
        ("head.normalization", "l2"),
        ("head.initialization", "zeros"),
        ("head.penalty", 0),
        ("train.schedule", "linear"),
        ("train.warmup_epochs", -1),
        ("head.units", 256),
        ("head.units", [0]),
        ("head.units", [256.5]),
        ("head.units", [8] * 9),
        ("head.dropout", 1.0),
        ("head.dropout", -0.1),
        ("head.dropout", "0.2"),
        ("head.dropout", float("nan")),
        ("augmentation.views", -1),
        ("augmentation.size", 200),
        ("augmentation.size", 0),
        ("augmentation.flip", "yes"),
        ("augmentation.flip", 1),
        ("augmentation.min_area", 0.0),
        ("augmentation.min_area", 1.01),
        ("augmentation.min_area", float("nan")),
        ("train.on", "val"),
        ("train.epochs", -1),
        ("train.epochs", 2.5),
        ("train.fine_tune_epochs", -1),
        ("train.batch_size", 0),
        ("train.learning_rate", -1),
        ("train.learning_rate", 0),
        ("train.learning_rate", float("nan")),
        ("train.learning_rate", float("inf")),
        ("train.fine_tune_learning_rate", float("inf")),
        ("train.fine_tune_learning_rate", -1e-3),
        ("train.weight_decay", -1e-4),
        ("train.weight_decay", float("nan")),
        ("train.label_smoothing", 1.0),
        ("train.label_smoothing", float("nan")),
        ("train.class_weights", "true"),
        ("train.patience", 0),
        ("evaluate.bootstrap_samples", 99),
        ("evaluate.gallery", -1),
        ("evaluate.gallery", 201),
        ("evaluate.seed", "0"),
    ],
)
def test_a_wrong_type_or_a_value_out_of_range_is_one_line_with_file_key_and_value(file, key, value):
    file.set(key, value)
    said = file.complaint()
    assert said.startswith(f"{file.path}: {key}")
    shown = value if not isinstance(value, list) or len(value) > 1 else value[0]  # the one item that is wrong
    assert said.endswith(f", not {shown!r}")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dataset.mirror", "/mnt/archives"),
        ("model.unfreeze_blocks", 16),
        ("model.input_size", 96),
        ("model.input_size", 640),
        ("augmentation.size", 192),
        ("augmentation.size", None),
        ("head.units", []),
        ("head.dropout", 0),
        ("augmentation.views", 0),
        ("augmentation.min_area", 1),
        ("train.on", "train+val"),
        ("train.fine_tune_epochs", 0),
        ("train.weight_decay", 0),
        ("train.warmup_epochs", 0),
        ("train.warmup_epochs", 0.5),
        ("split.seed", 2**31 - 1),
    ],
)
def test_the_ends_of_each_range_are_accepted(file, key, value):
    file.set(key, value)
    section, name = key.split(".")
    read = getattr(getattr(file.load(), section), name)
    assert (list(read) if isinstance(value, list) else read) == value


@pytest.mark.parametrize(
    ("fractions", "said"),
    [
        ((0.7, 0.2, 0.2), "train, val and test add up to 1.1; they must add up to 1"),
        ((0.7, 0.1, 0.1), "train, val and test add up to 0.9; they must add up to 1"),
        ((0.85, 0.0, 0.15), "train, val and test must each be more than 0"),
    ],
)
def test_fractions_that_do_not_add_up_are_told(file, fractions, said):
    for name, fraction in zip(("train", "val", "test"), fractions, strict=True):
        file.set(f"split.{name}", fraction)
    assert file.complaint() == f"{file.path}: split: {said}"


@pytest.mark.parametrize("fractions", [(0.7, 0.2, 0.1), (0.8, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3)])
def test_fractions_add_up_but_for_rounding(file, fractions):
    for name, fraction in zip(("train", "val", "test"), fractions, strict=True):
        file.set(f"split.{name}", fraction)
    assert file.load().split.test == fractions[2]


@pytest.mark.parametrize("fraction", [-0.15, 1.15, float("nan")])
def test_a_fraction_that_is_none_is_named(file, fraction):
    file.set("split.val", fraction)
    assert file.complaint().startswith(f"{file.path}: split.val: ")


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 0.001), ("1E-3", 0.001), ("1.e-3", 0.001), ("2", 2.0), (".5", 0.5), ("5e-05", 5e-5)],
)
def test_a_rate_may_be_written_as_anybody_writes_numbers(tmp_path, written, value):
    path = tmp_path / "params.yaml"
    text = SHIPPED.read_text(encoding="utf-8")
    assert "\n  learning_rate: 0.001\n" in text
    path.write_text(text.replace("\n  learning_rate: 0.001\n", f"\n  learning_rate: {written}\n"), encoding="utf-8")
    assert params.load(path).train.learning_rate == value


def test_a_regression_makes_a_linear_head(file):
    file.set("head.initialization", "regression")
    said = file.complaint()
    assert said == f"{file.path}: head: initialization: regression makes a linear head; it needs units: []"
    file.set("head.units", [])
    assert file.load().head.initialization == "regression"


def test_a_head_without_epochs_needs_a_regression(file):
    file.set("train.epochs", 0)
    said = file.complaint()
    assert said == f"{file.path}: train.epochs: 0 trains no head; it needs head.initialization: regression"
    file.set("head.units", [])
    file.set("head.initialization", "regression")
    assert file.load().train.epochs == 0


@pytest.mark.parametrize("blocks", [1, 2])
def test_features_of_conv4_are_at_hand_only_where_conv5_is_trained_whole_or_not_at_all(file, blocks):
    file.set("head.features", "conv4+conv5")
    assert file.load().head.features == "conv4+conv5"
    file.set("model.unfreeze_blocks", 3)
    file.load()
    file.set("model.unfreeze_blocks", blocks)
    said = file.complaint()
    assert said == f"{file.path}: head.features: conv4+conv5 needs model.unfreeze_blocks: 0, or 3 and more"


def test_every_mistake_of_a_file_is_told_at_once(file):
    file.set("head.dropout", 1.0)
    file.set("train.epochs", -1)
    lines = file.complaint().splitlines()
    assert [line.split(": ")[1] for line in lines] == ["head.dropout", "train.epochs"]


@pytest.mark.parametrize("section", [None, 3, "text", [1]])
def test_a_section_that_is_none_is_named(file, section):
    file.sections["head"] = section
    assert file.complaint() == f"{file.path}: head must hold keys and their values, not {section!r}"


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "just a sentence", "- a\n- list\n", "12"])
def test_a_file_without_sections_is_one_line(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    said = complaint(path)
    assert said.startswith(f"{path}: the file must hold keys and their values, not ")
    assert "\n" not in said


@pytest.mark.parametrize(
    "text", ["head: [", "head:\n\tdropout: 0.2\n", "head: {}\nhead: {}\n", "head: &a {}\nhead2: *b\n"]
)
def test_a_file_that_is_not_yaml_is_one_line_that_says_where(tmp_path, text):
    path = tmp_path / "params.yaml"
    path.write_text(text)
    said = complaint(path)
    assert said.startswith(f"{path}: not valid YAML: ")
    assert "line " in said
    assert "\n" not in said


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"head: \xe4"])
def test_bytes_that_are_no_text_are_one_line(tmp_path, content):
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    said = complaint(path)
    assert said.startswith(f"{path}: cannot be read")
    assert "\n" not in said


def test_a_missing_file_says_where_to_stand(tmp_path):
    path = tmp_path / "params.yaml"
    assert complaint(path) == f"{path}: no such file; run this from the root of the checkout"


def test_a_folder_in_the_files_place_is_one_line(tmp_path):
    said = complaint(tmp_path)
    assert said.startswith(f"{tmp_path}: cannot be read")
    assert "\n" not in said
