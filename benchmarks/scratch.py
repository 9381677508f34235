"""Temporary folders to measure in: images prepared by the project's own stages, and whole checkouts."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flowers.data import readers

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = (".jpg", ".jpeg", ".png")  # what TensorFlow decodes, too
PER_CLASS = 24  # images at least, if the folder has them: fewer classes rather than fewer images of each
FEWEST = 8
SPLIT = {"split.method": "random", "split.train": 0.6, "split.val": 0.15, "split.test": 0.25, "split.seed": 0}


def choose(folder: Path, size: int) -> list[readers.ImageFile]:
    """`size` images of a folder (0: all of them), as many of each class, whatever subsets the folder has."""
    by_class = defaultdict(list)
    for image in readers.read("folder", folder):
        if image.source.suffix.lower() in SUFFIXES:
            by_class[image.label].append(image)
    classes = sorted((c for c in by_class.values() if len(c) >= FEWEST), key=lambda c: (-len(c), c[0].label))
    if len(classes) < 2:
        raise SystemExit(f"{folder}: at least two classes with {FEWEST} JPEG or PNG images are needed")
    if size:
        classes = classes[: max(2, min(len(classes), size // PER_CLASS))]
    each = max(FEWEST, size // len(classes)) if size else None
    return [image for group in classes for image in sorted(group, key=_lot)[:each]]


def world(folder: Path, images: list[readers.ImageFile], weights: Path, precision: str, cache: Path) -> Path:
    """A folder with params.yaml, and in build/ the outputs of the stages download and split for these images."""
    for image in images:
        link = folder / "photos" / image.label / f"{image.subset or 'all'}_{image.source.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(image.source.resolve())
    changes = {
        "dataset.name": "local",
        "dataset.path": str(folder / "photos"),
        "model.weights": str(weights),
        "model.precision": precision,
        "train.batch_size": 32,
        "train.class_weights": False,
        "train.label_smoothing": 0.0,
    }
    write_params(folder, changes | SPLIT)
    for stage in ("download", "split"):
        run([sys.executable, "-m", "flowers", stage], folder, environment(cache))
    return folder


def checkout(folder: Path, weights: Path, precision: str, cache: Path) -> Path:
    """The files of this checkout as they are now, in a repository of their own whose pipeline ran on the drawn sample.

    It trains for few epochs, which does not change the time of a `dvc repro` with nothing to do.
    """
    copy_checkout(folder)
    changes = {"augmentation.views": 0, "train.epochs": 40, "train.patience": 40}
    write_params(folder, changes | {"model.weights": str(weights), "model.precision": precision})
    commit(folder)
    for command in ("dvc pull --quiet data.dvc", "dvc repro --quiet"):
        run(command.split(), folder, environment(cache))
    return folder


def copy_checkout(folder: Path) -> None:
    """The files of this checkout as they are now, those that git ignores left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def trivial_pipeline(folder: Path, cache: Path) -> Path:
    """A repository with as many stages as this one that only write a word: `dvc repro` in it takes DVC's own time."""
    folder.mkdir()
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    text = "".join(f"  {name}:\n    cmd: echo {name} > {name}.txt\n    outs: [{name}.txt]\n" for name in stages)
    (folder / "dvc.yaml").write_text(f"stages:\n{text}", encoding="utf-8")
    commit(folder)
    for command in ("dvc init --quiet", "dvc repro --quiet"):
        run(command.split(), folder, environment(cache))
    return folder


def environment(cache: Path) -> dict[str, str]:
    """The environment of every measurement: this source, this cache, oneDNN for both sides, no other store."""
    found = os.environ | {
        "FLOWERS_CACHE": str(cache),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "DVC_ROOT", "DVC_EXP_NAME", "FLOWERS_CACHE_LIMIT"):
        found.pop(name, None)
    return found


def run(command: list[str], folder: Path, variables: dict[str, str]) -> str:
    """Standard output of the command. If it fails, its output is printed and CalledProcessError raised."""
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:], sep="\n", file=sys.stderr, flush=True)
        done.check_returncode()
    return done.stdout


def machine(precision: str = "auto") -> str:
    """The processor in words, and the precision: model and family by number, because hypervisors hide the name."""
    from flowers.model.backbone import best_precision

    lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    found: dict[str, Any] = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    precision = best_precision() if precision == "auto" else precision
    kind = f"family {found['cpu family']} model {found['model']}"
    return f"{found['model name']} ({kind}), {os.cpu_count()} cores, {precision}"


def write_params(folder: Path, changes: dict[str, object]) -> None:
    """The project's params.yaml with these changes, by section.key."""
    yaml = YAML()
    document = yaml.load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, value in changes.items():
        section, name = key.split(".")
        document[section][name] = value
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def commit(folder: Path) -> None:
    """Make a folder a git repository with one commit of all its files."""
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "as it is"]):
        name = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *name, *command], cwd=folder, check=True)
    for who in ("name", "email"):
        subprocess.run(["git", "config", f"user.{who}", "bench@localhost"], cwd=folder, check=True)


def _lot(image: readers.ImageFile) -> str:
    return hashlib.sha256(f"{image.subset} {image.label} {image.source.name}".encode()).hexdigest()
