"""`flowers recipe use` and `show --set`: params.yaml, or an experiment, holds exactly the recipe."""

import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from flowers.config import edit, params, recipes

SHIPPED = Path(__file__).parents[2]
WIDE = {"head": {"units": [512, 64], "dropout": 0.4}, "train": {"weight_decay": 1e-05, "class_weights": False}}
DEEP = {"model": {"unfreeze_blocks": 3}, "head": {"dropout": 0.5}}


@pytest.fixture(autouse=True)
def three(checkout):
    """Two recipes that share a key, and the defaults."""
    checkout.recipe("wide", WIDE)
    checkout.recipe("deep", DEEP)
    checkout.recipe("plain", {})


def last_written(path: Path) -> tuple[int, int]:
    """The file and the time of its last writing; not that of its last reading."""
    return path.stat().st_ino, path.stat().st_mtime_ns


def now() -> dict:
    return params.training_values(params.load())


def wanted(name: str) -> dict:
    return recipes.values(recipes.load(name))


def test_a_recipe_is_written_into_params_yaml_and_no_other_byte_changes(checkout, flowers):
    expected = checkout.params.read_bytes().decode()
    for old, new in (
        ("  units:\n  - 256\n  - 128\n  - 64\n", "  units:\n  - 512\n  - 64\n"),
        ("  dropout: 0.2            #", "  dropout: 0.4            #"),
        ("  weight_decay: 0.0001\n", "  weight_decay: 1.0e-05\n"),
        ("  class_weights: true     #", "  class_weights: false    #"),
    ):
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    done = flowers("use", "wide")
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "head.units: [256, 128, 64] -> [512, 64]",
        "head.dropout: 0.2 -> 0.4",
        "train.weight_decay: 0.0001 -> 1e-05",
        "train.class_weights: true -> false",
        "Next: dvc repro",
    ]
    assert checkout.params.read_bytes().decode() == expected
    assert now() == wanted("wide")


def test_the_next_recipe_replaces_the_one_before(checkout, flowers):
    before = checkout.params.read_bytes()
    for name in ("wide", "deep", "wide", "plain"):
        assert flowers("use", name).status == 0
        assert now() == wanted(name)
    assert checkout.params.read_bytes() == before


def test_through_all_shipped_recipes_and_back_no_byte_of_params_yaml_changes(checkout, flowers):
    for file in (SHIPPED / "recipes").glob("*.yaml"):
        shutil.copy(file, "recipes")
    before = checkout.params.read_bytes()
    for name in [*recipes.names(), "mlp-head"]:
        assert flowers("use", name).status == 0
        assert now() == wanted(name)
    assert checkout.params.read_bytes() == before


def test_edits_of_keys_that_a_recipe_may_change_are_reset_to_the_defaults(checkout, flowers):
    checkout.edit("patience: 20 ", "patience: 12 ")
    checkout.edit("gallery: 12 ", "gallery: 13 ")
    assert flowers("use", "deep").status == 0
    settings = params.load()
    assert (settings.train.patience, settings.evaluate.gallery) == (20, 13)


def test_a_recipe_that_is_in_use_changes_nothing(checkout, flowers):
    flowers("use", "wide")
    checkout.edit("dropout: 0.4 ", "dropout: 0.40 ")  # the same number
    before = last_written(checkout.params)
    done = flowers("use", "wide")
    assert (done.status, done.out, done.err) == (0, "params.yaml already holds 'wide': nothing to change\n", "")
    assert last_written(checkout.params) == before


def test_an_error_in_params_yaml_is_reported_before_anything_is_written(checkout, flowers):
    checkout.edit("patience: 20 ", "patience: 0 ")
    before = checkout.params.read_bytes()
    for arguments in (("use", "wide"), ("show", "wide", "--set")):
        done = flowers(*arguments)
        assert (done.status, done.out) == (1, "")
        assert done.err.startswith("error: params.yaml: train.patience: ")
    assert checkout.params.read_bytes() == before


@pytest.mark.parametrize("missing", [True, False])
def test_a_recipe_in_int8_says_what_to_install_first(checkout, flowers, monkeypatch, missing):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if missing else name)
    checkout.recipe("quick", {"model": {"precision": "int8"}})
    first = "make extras && " if missing else ""
    assert flowers("show", "quick").out.splitlines()[-2] == f"Next: {first}flowers recipe use quick && dvc repro"
    assert flowers("use", "quick").out.splitlines()[-1] == f"Next: {first}dvc repro"


@pytest.fixture
def commit(checkout):
    """Commit params.yaml as it is."""
    if not shutil.which("git"):
        pytest.skip("needs git")

    def commit() -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        for command in (["init", "--quiet"], ["add", "params.yaml"], [*identity, "commit", "--quiet", "-m", "one"]):
            subprocess.run(["git", *command], check=True, capture_output=True)

    commit()
    return commit


def test_a_value_that_no_commit_holds_is_not_overwritten_without_force(checkout, flowers, commit):
    checkout.edit("  dropout: 0.2 ", "  dropout: 0.3 ")
    before = checkout.params.read_bytes()
    done = flowers("use", "wide")
    assert (done.status, done.out) == (1, "")
    error = "params.yaml has edits that no commit holds: head.dropout (0.2, now 0.3). Commit them, or add --force"
    assert done.err == f"error: {error}\n"
    assert checkout.params.read_bytes() == before

    assert flowers("use", "wide", "--force").status == 0
    assert now() == wanted("wide")
    commit()
    assert flowers("use", "deep").status == 0


def test_one_recipe_after_another_needs_no_commit_between_them(checkout, flowers, commit):
    assert flowers("use", "wide").status == 0
    assert flowers("use", "deep").status == 0
    assert now() == wanted("deep")
    checkout.edit("  dropout: 0.5 ", "  dropout: 0.6 ")
    done = flowers("use", "wide")
    error = (
        "error: params.yaml has edits that no commit holds: head.dropout (0.5, now 0.6). Commit them, or add --force\n"
    )
    assert (done.status, done.err) == (1, error)  # the other values are kept in the recipe


def test_an_error_in_another_recipe_does_not_matter(checkout, flowers, commit):
    checkout.recipe("mine", {"head": {"dropout": 1.0}})
    assert flowers("use", "wide").status == 0
    assert now() == wanted("wide")


def test_edits_of_keys_that_stay_do_not_matter(checkout, flowers, commit):
    checkout.edit("  dropout: 0.2 ", "  dropout: 0.4 ")  # as the recipe has it
    checkout.edit("gallery: 12 ", "gallery: 13 ")
    assert flowers("use", "wide").status == 0
    assert now() == wanted("wide")


def words(line: str) -> list[str]:
    """The words that a shell makes of a line that comes out of `$(...)`."""
    done = subprocess.run(["sh", "-c", 'printf "%s\\n" $0', line], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def experiment(flowers, name: str) -> None:
    """Change params.yaml as `dvc exp run $(flowers recipe show NAME --set)` does."""
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides

    done = flowers("show", name, "--set")
    assert (done.status, done.err, done.out.count("\n")) == (0, "", 1)
    options = words(done.out)
    assert options[::2] == ["-S"] * (len(options) // 2)
    for path, overrides in to_path_overrides(options[1::2]).items():
        apply_overrides(path, overrides)


EVERY_KIND = {
    "model": {"weights": "My-weights_1.5/resnet50.npz", "unfreeze_blocks": 2, "train_batch_norm": True},
    "head": {"units": [512]},
    "augmentation": {"flip": False, "views": 0},
    "train": {"on": "train+val", "learning_rate": 1e-05, "weight_decay": 3e-07, "label_smoothing": 0.1},
}


def test_the_options_make_an_experiment_of_the_recipe_from_any_params_yaml(checkout, flowers):
    checkout.recipe("every-kind", EVERY_KIND)
    checkout.recipe("linear", {"head": {"units": []}})
    checkout.edit("patience: 20 ", "patience: 12 ")
    checkout.edit("gallery: 12 ", "gallery: 13 ")
    for name in ("every-kind", "linear", "wide", "plain", "every-kind", "deep"):
        experiment(flowers, name)
        assert {key: repr(value) for key, value in now().items()} == {
            key: repr(value) for key, value in wanted(name).items()
        }
    assert params.load().evaluate.gallery == 13


def test_the_options_name_only_keys_in_which_params_yaml_differs(checkout, flowers):
    assert flowers("show", "deep", "--set").out == "-S model.unfreeze_blocks=3 -S head.dropout=0.5\n"
    edit.write({"head.dropout": 0.5, "train.epochs": 7})
    assert flowers("show", "deep", "--set").out == "-S model.unfreeze_blocks=3 -S train.epochs=60\n"
    flowers("use", "deep")
    assert flowers("show", "deep", "--set").out == "\n"


def test_printing_the_options_does_not_change_params_yaml(checkout, flowers):
    before = last_written(checkout.params)
    flowers("show", "wide", "--set")
    assert last_written(checkout.params) == before


@pytest.mark.parametrize("weights", ["/my photos/w.npz", "$HOME/w.npz", "a,b", "1e5", "null"])
def test_a_value_that_is_no_single_word_is_an_error(checkout, flowers, weights):
    checkout.recipe("mine", {"model": {"weights": weights}})
    done = flowers("show", "mine", "--set")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"error: model.weights: {weights!r} is no single word")
    assert done.err.endswith("flowers recipe use mine\n")
    assert flowers("use", "mine").status == 0
    assert YAML(typ="safe").load(checkout.params)["model"]["weights"] == weights
