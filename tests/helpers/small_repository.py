"""A repository with one quick stage and this project's DVC configuration."""

import shutil
from pathlib import Path

from pipeline_world import CHECKOUT, Repository

STAGE = """\
stages:
  write:
    cmd: python write.py
    deps: [write.py]
    params: [value]
    outs: [build/numbers, build/value.txt]
"""
WRITE = """\
import pathlib, re

value = re.search(r"value: (\\d+)", open("params.yaml").read())[1]
folder = pathlib.Path("build/numbers")
folder.mkdir(parents=True, exist_ok=True)
with open(folder / "large.txt", "w") as file:
    file.write(value * 10_000)
with open("build/value.txt", "w") as file:
    file.write(value)
"""


class SmallRepository(Repository):
    """A stage writes the value of params.yaml to two outputs, a file in a folder and a file."""

    def set(self, value: int) -> None:
        (self.folder / "params.yaml").write_text(f"value: {value}\n")

    def cached(self) -> dict[str, bytes]:
        """The files in DVC's cache by their hashes."""
        files = self.folder / ".dvc/cache/files/md5"
        return {file.parent.name + file.name: file.read_bytes() for file in files.glob("*/*")}

    def copy(self, folder: Path) -> "SmallRepository":
        shutil.copytree(self.folder, folder, symlinks=True)
        return SmallRepository(folder, folder)


def create(folder: Path) -> SmallRepository:
    """A committed repository with the value 1, after its stage has run."""
    for name in (".dvc/config", ".dvc/.gitignore"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(CHECKOUT / name, folder / name)
    for name, text in {
        "dvc.yaml": STAGE,
        "write.py": WRITE,
        ".gitignore": "/build/\n/tracking/\n/mlflow.db\n/mlruns/\n/src\n",
    }.items():
        (folder / name).write_text(text)
    (folder / "src").symlink_to(CHECKOUT / "src")
    repository = SmallRepository(folder, folder)
    repository.set(1)
    repository.git("init", "--quiet", "--initial-branch", "main")
    repository.dvc("repro", "--quiet")
    repository.commit()
    return repository
