"""New values in params.yaml: theirs are the only bytes that change; and what git does not hold yet is told."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml as pyyaml
from ruamel.yaml import YAML

from flowers.common.errors import UserError
from flowers.config import edit, params

SHIPPED = Path(__file__).parents[2] / "params.yaml"

SMALL = """\
# A file with everything around its values.

train:                      # not this one
  dropout: 0.1
  'rate' :  0.001           # quoted key, two spaces
head:
  units:
  - 256
  - 128

  # about dropout
  dropout: 0.2            # after each layer
  flip: false # one space
  mirror:                 # (none)
  empty:
  last: 3"""


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "params.yaml"


def written(path: Path, text: str, values: dict) -> str:
    """The file's text after the values are in it."""
    path.write_bytes(text.encode())
    edit.write(values, path)
    return path.read_bytes().decode()


def refused(path: Path, values: dict) -> str:
    """What is said of values that cannot be written; the file, and its folder, stay as they are."""
    before = path.read_bytes()
    with pytest.raises(UserError) as error:
        edit.write(values, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "old", "new"),
    [
        ("train.dropout", 0.25, "one\n  dropout: 0.1\n", "one\n  dropout: 0.25\n"),
        ("train.rate", 1e-05, "'rate' :  0.001           # q", "'rate' :  1.0e-05         # q"),
        ("head.dropout", 0.5, "dropout: 0.2            # after", "dropout: 0.5            # after"),
        ("head.dropout", 0.30000000000000004, "0.2            # after", "0.30000000000000004  # after"),
        ("head.dropout", 0.12345678901234, "0.2            # after", "0.12345678901234  # after"),
        ("head.dropout", 0.123456789012, "0.2            # after", "0.123456789012 # after"),
        ("head.flip", True, "flip: false # one", "flip: true  # one"),
        ("head.mirror", "/mnt/a b", "mirror:                 # (n", "mirror: /mnt/a b        # (n"),
        ("head.empty", 7, "empty:\n", "empty: 7\n"),
        ("head.last", 4, "last: 3", "last: 4"),
        ("head.last", [1, 2], "last: 3", "last:\n  - 1\n  - 2"),
        ("head.units", [], "units:\n  - 256\n  - 128\n\n", "units: []\n\n"),
        ("head.units", (64,), "units:\n  - 256\n  - 128\n\n", "units:\n  - 64\n\n"),
        ("head.units", [1, 2, 3], "units:\n  - 256\n  - 128\n\n", "units:\n  - 1\n  - 2\n  - 3\n\n"),
    ],
)
def test_a_new_value_is_all_that_changes(path, key, value, old, new):
    assert SMALL.count(old) == 1
    assert written(path, SMALL, {key: value}) == SMALL.replace(old, new)
    section, name = key.split(".")
    read = YAML(typ="safe").load(path)[section][name]
    assert repr(read) == repr(list(value) if isinstance(value, tuple) else value)


def test_several_keys_change_at_once_and_back_again_to_the_same_bytes(path):
    values = {"head.last": 10, "head.units": [1], "train.dropout": 0.5, "head.flip": True, "head.mirror": "x"}
    text = written(path, SMALL, values)
    assert text == (
        SMALL.replace("last: 3", "last: 10")
        .replace("  - 256\n  - 128\n", "  - 1\n")
        .replace("dropout: 0.1", "dropout: 0.5")
        .replace("flip: false #", "flip: true  #")
        .replace("mirror:                 #", "mirror: x               #")
    )
    old = {"head.last": 3, "head.units": (256, 128), "train.dropout": 0.1, "head.flip": False, "head.mirror": None}
    assert written(path, text, old) == SMALL.replace("mirror:                 #", "mirror: null            #")


@pytest.mark.parametrize(
    ("old", "value", "new"),
    [
        ("  units: []\n", [256, 128], "  units:\n  - 256\n  - 128\n"),
        ("  units: []    # none\n\n  # next\n", [5], "  units:       # none\n  - 5\n\n  # next\n"),
        ("  units: [256, 128]\n", [64], "  units:\n  - 64\n"),
        ("  units: [256,\n    128]\n", [64], "  units:\n  - 64\n"),
        ("  units: [256, 128]  # two\n", [], "  units: []          # two\n"),
        ("  units:   # two\n    - 256\n    - 128\n", [], "  units: []  # two\n"),
        ("  units:   # two\n    - 256\n    - 128\n", [1, 2, 3], "  units:   # two\n    - 1\n    - 2\n    - 3\n"),
        ("  units:\n  - 256   # a\n  # b\n  - 128   # c\n\n  # d\n", [1], "  units:\n  - 1     # a\n  # b\n\n  # d\n"),
        ("  units:\n  - 1\n\n  # d\n", [1, 2], "  units:\n  - 1\n  - 2\n\n  # d\n"),
        ("  units: 3\n", [1], "  units:\n  - 1\n"),
        ("  units:\n  - 3\n", 5, "  units: 5\n"),
        ("  units:\n", [1], "  units:\n  - 1\n"),
    ],
)
@pytest.mark.parametrize("after", ["  last: 1\n", "other: {}  # x\n", ""])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_list_stands_in_block_form_and_what_follows_it_stays(path, old, value, new, after, line_end):
    before, expected = (f"# é 😀\nhead:\n{body}{after}".replace("\n", line_end) for body in (old, new))
    assert written(path, before, {"head.units": value}) == expected


@pytest.mark.parametrize(("value", "new"), [([2, 3, 4], "\n  - 2\n  - 3\n  - 4"), ([2], "\n  - 2"), ([], " []")])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_list_at_the_very_end_needs_no_line_end(path, value, new, line_end):
    before, expected = (f"head:\n  units:{end}".replace("\n", line_end) for end in ("\n  - 1\n  - 2", new))
    assert written(path, before, {"head.units": value}) == expected


@pytest.mark.parametrize("value", [1e-05, 3e-07, 1.5e-07, 1e22, 1.0, 0.0, -0.5, 0.1 + 0.2, 1 / 3, 12, -3, 10**20])
def test_numbers_keep_their_kind_and_all_their_digits_for_every_reader(path, value):
    text = written(path, "train:\n  rate: 5  # x\n", {"train.rate": value})
    for read in (YAML(typ="safe").load(text), YAML(typ="safe", pure=True).load(text), pyyaml.safe_load(text)):
        assert repr(read) == repr({"train": {"rate": value}})


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "true"),
        (False, "false"),
        (None, "null"),
        ("train+val", "train+val"),
        ("", "''"),
        ("null", "'null'"),
        ("1e-3", "'1e-3'"),
        ("a: b # c", "'a: b # c'"),
        ("it's", "it's"),
        ("é" * 200 + " b", "é" * 200 + " b"),
        ("two\nlines", '"two\\nlines"'),
    ],
)
def test_strings_are_quoted_where_they_must_be(path, value, shown):
    assert written(path, "model:\n  weights: 'old'\n  z: 1\n", {"model.weights": value}) == (
        f"model:\n  weights: {shown}\n  z: 1\n"
    )


def test_a_value_that_stands_there_already_is_not_touched(path):
    path.write_text("split:\n  train: 0.70\n  seed: 0x10\n")
    before = path.stat()
    edit.write({"split.train": 0.7, "split.seed": 16}, path)
    assert path.read_text() == "split:\n  train: 0.70\n  seed: 0x10\n"
    assert path.stat() == before


def test_a_whole_number_becomes_a_float_if_the_value_is_one(path):
    assert written(path, "a:\n  b: 1\n", {"a.b": 1.0}) == "a:\n  b: 1.0\n"


def test_the_shipped_file_takes_every_kind_of_value_and_stays_valid(path):
    shipped = SHIPPED.read_text(encoding="utf-8")
    values = {
        "head.units": (512, 128),
        "head.dropout": 0.35,
        "train.learning_rate": 2.5e-05,
        "train.class_weights": False,
        "model.unfreeze_blocks": 3,
        "model.precision": "bfloat16",
    }
    expected = shipped
    for old, new in (
        ("  units:\n  - 256\n  - 128\n  - 64\n", "  units:\n  - 512\n  - 128\n"),
        ("  dropout: 0.2            #", "  dropout: 0.35           #"),
        ("  learning_rate: 0.001\n", "  learning_rate: 2.5e-05\n"),
        ("  class_weights: true     #", "  class_weights: false    #"),
        ("  unfreeze_blocks: 0      #", "  unfreeze_blocks: 3      #"),
        ("  precision: auto         #", "  precision: bfloat16     #"),
    ):
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    assert written(path, shipped, values) == expected
    settings = params.load(path)
    assert {name: getattr(getattr(settings, name.split(".")[0]), name.split(".")[1]) for name in values} == values


@pytest.mark.parametrize("key", ["head.drop_out", "haed.dropout", "head", "head.", "dropout"])
def test_a_key_that_is_not_there_is_named(path, key):
    path.write_text(SMALL)
    assert refused(path, {"head.dropout": 0.5, key: 1}) == f"{path}: key '{key}' is missing"


@pytest.mark.parametrize("text", ["", "# nothing\n", "- 1\n", "head: 3\n"])
def test_a_file_without_sections_lacks_the_key(path, text):
    path.write_text(text)
    assert refused(path, {"head.units": []}) == f"{path}: key 'head.units' is missing"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("base: &base {dropout: 0.2}\nhead: *base\n", 0.3),
        ("base:\n  dropout: &it 0.2\nhead:\n  dropout: *it\n", 0.3),
        ("head:\n  dropout: &it 0.2\nbase:\n  dropout: *it\n", 0.3),
        ("head: {dropout: 0.2, units: [1]}\n", [1, 2]),
    ],
    ids=["section shared", "value shared", "value that others share", "a block list in a flow section"],
)
def test_what_cannot_be_replaced_alone_is_left_to_the_person(path, text, value):
    path.write_text(text)
    said = refused(path, {"head.dropout": value})
    assert said == f"{path}: head.dropout cannot be replaced as the file is written; edit it by hand"


def test_a_file_that_is_not_yaml_is_one_line(path):
    path.write_text("head: [")
    assert refused(path, {"head.units": []}).startswith(f"{path}: not valid YAML: ")


def test_a_missing_file_is_named(path):
    with pytest.raises(UserError, match="cannot be read") as error:
        edit.write({"head.units": []}, path)
    assert str(path) in str(error.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_read_only_file_or_folder_is_named(path, read_only):
    path.write_text(SMALL)
    place = path if read_only == "file" else path.parent
    place.chmod(0o500)
    try:
        assert refused(path, {"head.dropout": 0.5}) == f"{path}: cannot be written (Permission denied)"
    finally:
        place.chmod(0o700)


def test_a_write_that_fails_leaves_the_old_file_alone(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path.write_text(SMALL)
    monkeypatch.setattr(Path, "replace", full)
    assert refused(path, {"head.dropout": 0.5}) == f"{path}: cannot be written (No space left on device)"


@pytest.mark.skipif(os.name == "nt", reason="needs modes and links")
def test_the_mode_stays_and_a_link_stays_a_link(path, tmp_path):
    real = tmp_path / "elsewhere" / "real.yaml"
    real.parent.mkdir()
    real.write_text(SMALL)
    real.chmod(0o640)
    path.symlink_to(real)
    edit.write({"head.last": 4}, path)
    assert path.is_symlink()
    assert real.read_text() == SMALL.replace("last: 3", "last: 4")
    assert real.stat().st_mode & 0o777 == 0o640
    assert list(real.parent.iterdir()) == [real]


class Git:
    """A repository with a parameter file in a folder of it, and commands that ask nobody's configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "project" / "params.yaml"
        self.path.parent.mkdir()
        self.path.write_text(SMALL)
        self.run("init", "--quiet")

    def run(self, *arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *arguments], cwd=self.folder, capture_output=True, check=True)

    def commit(self) -> None:
        self.run("add", ".")
        self.run("commit", "--quiet", "--allow-empty", "-m", "one")


@pytest.fixture
def git(tmp_path) -> Git:
    if not shutil.which("git"):
        pytest.skip("needs git")
    return Git(tmp_path)


NAMES = ("train.dropout", "head.dropout", "head.units", "head.mirror")


def test_the_asked_keys_that_differ_from_the_commit_are_told(git, monkeypatch):
    git.commit()
    assert edit.uncommitted(NAMES, git.path) == {}
    edit.write({"head.dropout": 0.5, "head.units": [], "head.last": 9}, git.path)
    git.run("add", ".")  # staged is not committed
    expected = {"head.dropout": (0.2, 0.5), "head.units": ([256, 128], [])}
    assert edit.uncommitted(NAMES, git.path) == expected
    monkeypatch.chdir(git.path.parent)
    assert edit.uncommitted(NAMES) == expected
    git.commit()
    assert edit.uncommitted(NAMES) == {}


def test_another_way_to_write_a_value_is_no_difference(git):
    git.commit()
    git.path.write_text(SMALL.replace("0.2  ", "0.20 ").replace("\n  - 256\n  - 128\n", " [256, 128]\n# new\n"))
    assert edit.uncommitted(NAMES, git.path) == {}


def test_a_key_that_is_new_or_gone_is_told(git):
    git.commit()
    git.path.write_text("head:\n  new: 1\n")
    assert edit.uncommitted(["head.new", "head.last", "train.dropout", "no.key"], git.path) == {
        "head.new": (None, 1),
        "head.last": (3, None),
        "train.dropout": (0.1, None),
    }


def test_nothing_is_told_without_a_commit_that_has_the_file(git):
    assert edit.uncommitted(NAMES, git.path) == {}
    git.path.rename(git.folder / "away")
    git.commit()
    (git.folder / "away").rename(git.path)
    assert edit.uncommitted(NAMES, git.path) == {}


def test_nothing_is_told_outside_git_or_without_it(git, monkeypatch):
    git.commit()
    git.path.write_text(SMALL.replace("0.2", "0.3"))
    assert edit.uncommitted(NAMES, git.path) == {"head.dropout": (0.2, 0.3)}
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(git.folder))
        assert edit.uncommitted(NAMES, git.path) == {}
    shutil.rmtree(git.folder / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(git.folder.parent))
    assert edit.uncommitted(NAMES, git.path) == {}


def test_a_commit_that_is_not_yaml_tells_nothing(git):
    git.path.write_text("head: [")
    git.commit()
    git.path.write_text(SMALL)
    assert edit.uncommitted(NAMES, git.path) == {}
