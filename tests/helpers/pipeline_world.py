"""Repositories in which the real pipeline runs: the files of this project, a few small images, and little training."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

CHECKOUT = Path(__file__).parents[2]
PARTS = (
    *("src", "dvc.yaml", "params.yaml", "MLproject", "pyproject.toml", "python_env.yaml", "requirements.lock"),
    *(".gitignore", ".dvcignore", ".dvc/.gitignore", ".dvc/config", ".dvc/plots", "data.dvc", "data.yaml"),
)
CLASSES = ("rose", "sun flower", "tulip")
PER_CLASS = 8
QUICK = {
    "split.train": 0.5,
    "split.val": 0.25,
    "split.test": 0.25,
    "model.weights": "random",
    "model.precision": "float32",
    "head.units": [8],
    "augmentation.views": 1,
    "train.epochs": 4,
    "train.fine_tune_epochs": 2,
    "train.batch_size": 6,
    "evaluate.bootstrap_samples": 100,
}
EVALUATION = (
    *("metrics.json", "intervals.json", "calibration.json"),
    *("predictions.csv", "validation.csv", "per_class.csv", "confusion.csv", "labels.csv", "curves.csv"),
    *("confusion.png", "curves.png", "per_class.png", "reliability.png", "report.html"),
    *("novelty.json", "novelty.png"),
)


class Repository:
    """A folder under git and DVC, and a way to type commands in it."""

    def __init__(self, folder: Path, cache: Path, environment: Mapping[str, str] | None = None) -> None:
        """`cache` is the user's cache folder for weights and activations; `environment` is added for commands."""
        self.folder = folder
        self._environment = _environment() | {"FLOWERS_CACHE": str(cache)} | dict(environment or {})

    def run(self, *command: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command at the root of the repository; with `check` it must end well."""
        variables = self._environment | environment
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command at the root of the repository, silent, as the leader of a process group of its own."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command, cwd=self.folder, env=self._environment, stdout=quiet, stderr=quiet, start_new_session=True
        )

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout

    def dvc(self, *arguments: str, **environment: str) -> str:
        """The output of a DVC command, standard output and error."""
        done = self.run(sys.executable, "-m", "dvc", *arguments, **environment)
        return done.stdout + done.stderr

    def flowers(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the project's command with the code of this repository."""
        command = (sys.executable, "-m", "flowers", *arguments)
        return self.run(*command, check=check, PYTHONPATH="src", **environment)

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "test")

    def clone(self, folder: Path, cache: Path, environment: Mapping[str, str] | None = None) -> "Repository":
        """A clone, with its own user cache, and variables of its own."""
        self.git("clone", "--quiet", str(self.folder), str(folder))
        return Repository(folder, cache, environment)

    def copy(self, folder: Path) -> "Repository":
        """The same repository elsewhere with outputs and cache; large files are linked.

        Without the store, so that it holds what the test publishes.
        """

        def copy(source: str, target: str) -> None:
            (os.link if source.endswith(".npz") or "/.dvc/cache/files/" in source else shutil.copy2)(source, target)

        ignored = shutil.ignore_patterns("mlflow.db*", "mlruns")
        shutil.copytree(self.folder, folder, copy_function=copy, symlinks=True, ignore=ignored)
        return Repository(folder, Path(self._environment["FLOWERS_CACHE"]))

    def set(self, **values: object) -> None:
        """Change params.yaml: set(head__dropout=0.3)."""
        self.change({name.replace("__", "."): value for name, value in values.items()})

    def change(self, values: Mapping[str, object]) -> None:
        """Change params.yaml: change({"head.dropout": 0.3})."""
        yaml, path = YAML(), self.folder / "params.yaml"
        document = yaml.load(path)
        for name, value in values.items():
            section, key = name.split(".")
            assert key in document[section]
            document[section][key] = value
        yaml.dump(document, path)

    def replace(self, path: str, old: str, new: str) -> None:
        """Change the text of a file at one place."""
        text = (self.folder / path).read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{path} holds {old!r} {text.count(old)} times"
        (self.folder / path).write_text(text.replace(old, new), encoding="utf-8")

    def outputs(self) -> dict[str, bytes]:
        """Every file below build/, byte for byte."""
        files = sorted(path for path in (self.folder / "build").rglob("*") if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def json(self, path: str) -> dict:
        return json.loads(self.read(path))

    def status(self) -> dict:
        """The stages that would run again, and why, from `dvc status`."""
        return json.loads(self.run(sys.executable, "-m", "dvc", "status", "--json").stdout)

    def runs(self) -> list:
        """Every run in the local store, oldest first."""
        experiments = [experiment.experiment_id for experiment in self.client().search_experiments()]
        return list(self.client().search_runs(experiments, order_by=["attributes.start_time ASC"]))

    def client(self):
        from mlflow import MlflowClient

        from flowers.tracking import store

        store.read_relative_locations()
        database = self.folder / "mlflow.db"
        assert database.is_file()
        return MlflowClient(f"sqlite:///{database}")


def ran(output: str) -> list[str]:
    """The stages that DVC ran, without those from its cache."""
    return re.findall(r"Running stage '(\w+)'", output)


def create(folder: Path, cache: Path) -> Repository:
    """The working tree of this project as a repository of its own, committed, with small images in data/."""
    for part in PARTS:
        source, target = CHECKOUT / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, target, follow_symlinks=False)
    repository = Repository(folder, cache)
    repository.change(QUICK)
    draw(folder / "data")
    repository.git("init", "--quiet")
    repository.dvc("add", "--quiet", "data")
    repository.dvc("push", "--quiet", "data.dvc")
    repository.commit()
    return repository


def draw(folder: Path) -> None:
    """Noisy little images whose colour depends on the class."""
    for label, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(PER_CLASS):
            random = np.random.default_rng([label, number])
            pixels = random.normal(90, 25, (60, 80, 3))
            pixels[..., label] += 90
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number}.png")


def _environment() -> dict[str, str]:
    """Environment variables without settings of DVC, git, MLflow or a person."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_", "MLFLOW_"))}
    ours.pop("PYTHONPATH", None)
    path = os.pathsep.join([str(Path(sys.executable).parent), ours.get("PATH", os.defpath)])
    return ours | {
        "PATH": path,
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(Path(ours["HOME"]) / "site cache"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
