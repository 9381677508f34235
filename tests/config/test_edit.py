"""New values in params.yaml: comments, order and other values stay; edits that no commit holds are found."""

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
  'rate': 0.001             # quoted key
head:
  units:
  - 256
  - 128

  # about dropout
  dropout: 0.2            # after each layer
  flip: false # one space
  mirror: null            # (none)
  last: 3
"""


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "params.yaml"


def written(path: Path, text: str, values: dict) -> str:
    """The text of the file after the edit."""
    path.write_bytes(text.encode())
    edit.write(values, path)
    return path.read_bytes().decode()


def error_of(path: Path, values: dict) -> str:
    """The error of values that cannot be written; the file and its folder stay as they are."""
    before = path.read_bytes()
    with pytest.raises(UserError) as error:
        edit.write(values, path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    return str(error.value)


def test_the_shipped_file_keeps_every_byte_but_those_of_the_values(path):
    shipped = SHIPPED.read_text(encoding="utf-8")
    values = {
        "head.units": (512, 128),
        "head.dropout": 0.35,
        "train.learning_rate": 2.5e-05,
        "train.class_weights": False,
        "model.unfreeze_blocks": 3,
        "dataset.mirror": "/mnt/a b",
    }
    expected = shipped
    for old, new in (
        ("  units:\n  - 256\n  - 128\n  - 64\n", "  units:\n  - 512\n  - 128\n"),
        ("  dropout: 0.2            #", "  dropout: 0.35           #"),
        ("  learning_rate: 0.0005\n", "  learning_rate: 2.5e-05\n"),
        ("  class_weights: true     #", "  class_weights: false    #"),
        ("  unfreeze_blocks: 0      #", "  unfreeze_blocks: 3      #"),
        ("  mirror: null            #", "  mirror: /mnt/a b        #"),
    ):
        assert expected.count(old) == 1
        expected = expected.replace(old, new)
    assert written(path, shipped, values) == expected
    settings = params.load(path)
    assert {name: getattr(getattr(settings, name.split(".")[0]), name.split(".")[1]) for name in values} == values
    before = params.load(SHIPPED)
    back = {name: getattr(getattr(before, name.split(".")[0]), name.split(".")[1]) for name in values}
    assert written(path, expected, back) == shipped


@pytest.mark.parametrize("units", [[], [64], [1, 2, 3, 4]])
def test_a_list_may_become_shorter_longer_and_empty_and_its_neighbours_stay(path, units):
    text = written(path, SMALL, {"head.units": units})
    assert written(path, text, {"head.units": (256, 128)}) == SMALL
    read = YAML(typ="safe").load(written(path, SMALL, {"head.units": units}))
    assert read["head"] == YAML(typ="safe").load(SMALL)["head"] | {"units": units}
    text = path.read_text()
    assert "# about dropout\n  dropout: 0.2            # after each layer\n" in text
    assert [line for line in text.splitlines() if "#" in line] == [line for line in SMALL.splitlines() if "#" in line]


@pytest.mark.parametrize("value", [1e-05, 0.1 + 0.2, 12, True, None, "null", "a: b # c", "é" * 200 + " b"])
def test_a_value_keeps_its_type_for_every_reader(path, value):
    text = written(path, "train:\n  rate: 5  # x\n", {"train.rate": value})
    assert "# x" in text
    for read in (YAML(typ="safe").load(text), pyyaml.safe_load(text)):
        assert repr(read) == repr({"train": {"rate": value}})


def test_an_equal_value_leaves_the_file_untouched(path):
    path.write_text("split:\n  train: 0.70\n  seed: 0x10\n")
    before = (path.stat().st_ino, path.stat().st_mtime_ns)
    edit.write({"split.train": 0.7, "split.seed": 16}, path)
    assert path.read_text() == "split:\n  train: 0.70\n  seed: 0x10\n"
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before  # the time of reading may change


@pytest.mark.parametrize("key", ["head.drop_out", "haed.dropout", "head"])
def test_a_missing_key_is_named(path, key):
    path.write_text(SMALL)
    assert error_of(path, {"head.dropout": 0.5, key: 1}) == f"{path}: key '{key}' is missing"


def test_a_file_without_sections_lacks_the_key(path):
    path.write_text("head: 3\n")
    assert error_of(path, {"head.units": []}) == f"{path}: key 'head.units' is missing"


def test_a_file_that_is_missing_or_not_yaml_is_named(path):
    path.write_text("head: [")
    assert error_of(path, {"head.units": []}).startswith(f"{path}: not valid YAML: ")
    path.unlink()
    with pytest.raises(UserError, match=r"params\.yaml: no such file"):
        edit.write({"head.units": []}, path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_read_only_file_or_folder_is_named(path, read_only):
    path.write_text(SMALL)
    place = path if read_only == "file" else path.parent
    place.chmod(0o500)
    try:
        assert error_of(path, {"head.dropout": 0.5}) == f"{path}: cannot be written (Permission denied)"
    finally:
        place.chmod(0o700)


def test_a_write_that_fails_leaves_the_old_file(path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path.write_text(SMALL)
    monkeypatch.setattr(Path, "replace", full)
    assert error_of(path, {"head.dropout": 0.5}) == f"{path}: cannot be written (No space left on device)"


@pytest.mark.skipif(os.name == "nt", reason="needs modes and links")
def test_the_file_mode_and_a_symbolic_link_stay(path, tmp_path):
    real = tmp_path / "elsewhere" / "real.yaml"
    real.parent.mkdir()
    real.write_text(SMALL)
    real.chmod(0o640)
    path.symlink_to(real)
    edit.write({"head.last": 4}, path)
    assert path.is_symlink()
    assert YAML(typ="safe").load(real)["head"]["last"] == 4
    assert real.stat().st_mode & 0o777 == 0o640
    assert list(real.parent.iterdir()) == [real]


class Git:
    """A repository with a parameter file in a folder of it, independent of the user's configuration."""

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


def test_keys_whose_values_differ_from_the_last_commit_are_found(git, monkeypatch):
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


def test_a_key_that_is_new_or_gone_is_found(git):
    git.commit()
    git.path.write_text("head:\n  new: 1\n")
    assert edit.uncommitted(["head.new", "head.last", "train.dropout", "no.key"], git.path) == {
        "head.new": (None, 1),
        "head.last": (3, None),
        "train.dropout": (0.1, None),
    }


def test_without_a_commit_of_the_file_nothing_is_found(git):
    assert edit.uncommitted(NAMES, git.path) == {}
    git.path.rename(git.folder / "away")
    git.commit()
    (git.folder / "away").rename(git.path)
    assert edit.uncommitted(NAMES, git.path) == {}


def test_outside_a_repository_and_without_git_nothing_is_found(git, monkeypatch):
    git.commit()
    git.path.write_text(SMALL.replace("0.2", "0.3"))
    assert edit.uncommitted(NAMES, git.path) == {"head.dropout": (0.2, 0.3)}
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(git.folder))
        assert edit.uncommitted(NAMES, git.path) == {}
    shutil.rmtree(git.folder / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(git.folder.parent))
    assert edit.uncommitted(NAMES, git.path) == {}


def test_line_ends_stay_as_they_are(path):
    path.write_bytes(b"head:\r\n  dropout: 0.2  # rate\r\n")
    edit.write({"head.dropout": 0.3}, path)
    assert path.read_bytes() == b"head:\r\n  dropout: 0.3  # rate\r\n"


@pytest.mark.parametrize("value", [True, 1.0])
def test_a_value_of_another_kind_is_another_value(path, value):
    path.write_text("a:\n  b: 1\n")
    edit.write({"a.b": value}, path)
    assert repr(YAML(typ="safe").load(path)["a"]["b"]) == repr(value)
