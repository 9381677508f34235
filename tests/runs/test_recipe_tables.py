"""`flowers recipe list` and `show`: what is printed, at any width, on a terminal and into a pipe."""

import os
import re
import subprocess
import sys

import pytest

OXFORD = """\
- photos: Oxford 102, 89 of its classes, train and val
  measure: mean_per_class_accuracy
  score: {score}
  range: [0.939, 0.953]
  seeds: 3
  gain: {gain}
  wall_s: 1295
  memory_mib: 2560
  machine: AMD EPYC (Zen 5, bfloat16), 2 cores
  date: 2026-11-21
  command: make bench-recipes OXFORD=/photos/oxford102 RECIPES=linear
"""

FIVE = """\
- photos: five classes
  measure: accuracy
  score: 0.905
  range: [0.905, 0.905]
  seeds: 1
  wall_s: 38.4
  memory_mib: 1024
  machine: a laptop
  date: 2026-11-22
  command: make bench-recipes FOLDER=/photos/five_class RECIPES=linear,wide,mlp-head SEEDS=1
"""

COMMAND = "make bench-recipes"
LONG_NAME = "three-blocks-at-a-low-rate"
DESCRIPTION = "A linear head by regression on frozen features, nothing trained by epochs"


@pytest.fixture
def measured(checkout):
    """Three recipes, two of them with measurements on the same images."""
    checkout.recipe("linear", {"head": {"units": []}}, DESCRIPTION, OXFORD.format(score=0.9412, gain=0.012) + FIVE)
    checkout.recipe(LONG_NAME, {"model": {"unfreeze_blocks": 3}}, "x", OXFORD.format(score=0.951, gain=-0.0301))
    checkout.recipe("unmeasured", {}, "Brackets [red] and :rose: stay")
    return checkout


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.usefixtures("measured")
def test_the_list_has_every_recipe_and_a_table_for_each_set_of_images(flowers):
    done = flowers("list")
    assert (done.status, done.err) == (0, "")
    found = lines(done.out)
    names = ["linear", LONG_NAME, "unmeasured"]
    assert [line.split()[0] for line in found[2:5]] == names
    assert found[2].endswith(f"   {DESCRIPTION}")
    assert found[4].endswith("   Brackets [red] and :rose: stay")
    oxford = found.index("Oxford 102, 89 of its classes, train and val: mean per-class accuracy")
    assert found[oxford + 1].split() == ["recipe", "score", "over", "seeds", "gain", "time", "memory"]
    assert found[oxford + 3].split(maxsplit=1) == [LONG_NAME, "95.1 %   93.9 – 95.3 of 3   -3.0   1,295 s   2.5 GiB"]
    assert found[oxford + 4].split(maxsplit=1) == ["linear", "94.1 %   93.9 – 95.3 of 3   +1.2   1,295 s   2.5 GiB"]
    five = found.index("five classes: accuracy")
    assert found[five + 3].split() == ["linear", "90.5", "%", "one", "seed", "38", "s", "1.0", "GiB"]
    assert done.out.count("unmeasured") == 1


@pytest.mark.parametrize("width", ["80", "140"])
@pytest.mark.usefixtures("measured")
def test_names_and_figures_are_not_wrapped_at_any_width(flowers, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    done = flowers("list")
    assert max(map(len, lines(done.out))) <= int(width)
    for whole in ("unmeasured", "94.1 %", "-3.0", "1,295 s", "2.5 GiB"):
        assert whole in done.out
    assert done.out.count(LONG_NAME) == 2
    for line in flowers("show", LONG_NAME).out.splitlines():
        assert len(line) <= int(width) or COMMAND in line or line.startswith(("Next: ", "  or: "))


@pytest.mark.usefixtures("measured")
def test_output_into_a_pipe_is_not_cut():
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    command = [sys.executable, "-m", "flowers", "recipe"]
    done = subprocess.run([*command, "list"], capture_output=True, encoding="utf-8", env=environment, check=True)
    assert "…" not in done.stdout and "\x1b" not in done.stdout
    for word in DESCRIPTION.split():
        assert word in done.stdout
    done = subprocess.run([*command, "show", "linear"], capture_output=True, encoding="utf-8", env=environment)
    whole = f"a laptop, 2026-11-22: {COMMAND} FOLDER=/photos/five_class RECIPES=linear,wide,mlp-head SEEDS=1"
    assert f"{whole}\n" in done.stdout


def test_a_word_wider_than_its_column_is_folded(checkout, flowers, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    checkout.recipe(LONG_NAME, {}, "backpropagation")
    assert "".join(line.split()[-1] for line in lines(flowers("list").out)[2:]) == "backpropagation"


def test_without_measurements_the_list_is_names_and_descriptions(checkout, flowers):
    checkout.recipe("mine", {}, "Nothing special")
    assert [line.split() for line in lines(flowers("list").out)[2:]] == [["mine", "Nothing", "special"]]


@pytest.mark.usefixtures("measured")
def test_a_recipe_in_full(flowers):
    done = flowers("show", "linear")
    assert (done.status, done.err) == (0, "")
    found = [line for line in lines(done.out) if not line.startswith("─")]
    assert found[:13] == [
        "linear",
        DESCRIPTION,
        "",
        "Oxford 102, 89 of its classes, train and val: mean per-class accuracy",
        "recipe    score         over seeds   gain      time    memory",
        "linear   94.1 %   93.9 – 95.3 of 3   +1.2   1,295 s   2.5 GiB",
        f"AMD EPYC (Zen 5, bfloat16), 2 cores, 2026-11-21: {COMMAND} OXFORD=/photos/oxford102 RECIPES=linear",
        "",
        "five classes: accuracy",
        "recipe    score   over seeds   gain   time    memory",
        "linear   90.5 %     one seed          38 s   1.0 GiB",
        f"a laptop, 2026-11-22: {COMMAND} FOLDER=/photos/five_class RECIPES=linear,wide,mlp-head SEEDS=1",
        "",
    ]
    assert found[13].startswith("score: the mean over seeds; gain: ")
    assert found[-6:] == [
        "",
        "parameter    default          recipe",
        "head.units   [256, 128, 64]   []",
        "",
        "Next: flowers recipe use linear && dvc repro",
        "  or: dvc exp run $(flowers recipe show linear --set)",
    ]


@pytest.mark.usefixtures("measured")
def test_a_recipe_without_measurements_that_changes_nothing(flowers):
    done = flowers("show", "unmeasured")
    assert "Brackets [red] and :rose: stay\n\nNothing was measured.\n" in done.out
    assert "It changes nothing: every value is that of recipes/defaults.yaml.\n" in done.out


def test_values_are_written_as_in_a_parameter_file(checkout, flowers):
    changes = {"class_weights": False, "learning_rate": 1e-05, "on": "train+val", "epochs": 5}
    checkout.recipe("mine", {"train": changes, "head": {"units": [512, 64]}})
    shown = [line for line in lines(flowers("show", "mine").out) if line.startswith(("head.", "train."))]
    assert [re.split(r" {2,}", line) for line in shown] == [
        ["head.units", "[256, 128, 64]", "[512, 64]"],
        ["train.on", "train", "train+val"],
        ["train.epochs", "60", "5"],
        ["train.learning_rate", "0.0005", "1e-05"],
        ["train.class_weights", "true", "false"],
    ]


def test_the_list_warns_of_a_recipe_with_validation_errors(checkout, flowers):
    checkout.recipe("mine", {"head": {"dropout": 1.0}})
    checkout.recipe("other", {}, "Nothing special")
    done = flowers("list")
    assert [line.split() for line in lines(done.out)[2:]] == [["other", "Nothing", "special"]]
    warning = "warning: recipes/mine.yaml: params.head.dropout: Input should be less than 1, not 1.0\n"
    assert (done.status, done.err) == (0, warning)


@pytest.mark.parametrize("arguments", [("show", "mine"), ("show", "mine", "--set"), ("use", "mine")])
def test_a_validation_error_of_a_recipe_is_one_line(checkout, flowers, arguments):
    checkout.recipe("mine", {"head": {"dropout": 1.0}})
    before = checkout.params.read_bytes()
    done = flowers(*arguments)
    assert (done.status, done.out) == (1, "")
    assert done.err == "error: recipes/mine.yaml: params.head.dropout: Input should be less than 1, not 1.0\n"
    assert checkout.params.read_bytes() == before
