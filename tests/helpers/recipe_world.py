"""A checkout with the shipped params.yaml and defaults, recipes of the tests, and the command line."""

import shutil
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

SHIPPED = Path(__file__).parents[2]


class Checkout:
    """The current folder, with params.yaml and recipes/."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.params = folder / "params.yaml"

    def recipe(self, name: str, params: dict, description: str = "What it is", measured: str = "") -> None:
        """Write a recipe; `measured` is its YAML."""
        document = {"description": description, "measured": YAML(typ="safe").load(measured), "params": params}
        with (self.folder / "recipes" / f"{name}.yaml").open("w", encoding="utf-8") as file:
            YAML(typ="safe").dump(document, file)

    def edit(self, old: str, new: str, file: str = "params.yaml") -> None:
        path = self.folder / file
        text = path.read_bytes().decode()
        assert text.count(old) == 1
        path.write_bytes(text.replace(old, new).encode())


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Checkout:
    folder = tmp_path / "checkout"
    (folder / "recipes").mkdir(parents=True)
    for name in ("params.yaml", "recipes/defaults.yaml"):
        shutil.copyfile(SHIPPED / name, folder / name)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return Checkout(folder)


class Done:
    """Exit status and output of a command."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def flowers(checkout, monkeypatch, capsys):
    """Run `flowers recipe ...` in this process."""
    from flowers import cli

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["flowers", "recipe", *arguments])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        return Done(status, *capsys.readouterr())

    return run
