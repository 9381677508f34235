"""The key of a run: one hash over everything that decides train and evaluate, known before training begins.

Tracking finds a run by this key instead of an id on disk. So a result from DVC's cache, a clone, and a deleted store
all lead to the same run, and two experiments with equal inputs are one run.
"""

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import Params, read

PIPELINE = Path("dvc.yaml")
PROJECT = Path("pyproject.toml")

# In words, by the names of the digests
INPUTS = {"data": "images", "split": "split of the images", "weights": "ImageNet weights", "code": "training code"}

_STAGES = ("train", "evaluate")
_SOURCES = (".py", ".html")  # modules, and the templates of pages
# Without `dataset` and `split`: what they decide is in the image list and the split, which are hashed. Parameters that
# give the same split (another seed for an official one) are the same run.
_SECTIONS = ("model", "head", "augmentation", "train", "evaluate")


@dataclass(frozen=True)
class RunKey:
    """The key (64 hex digits) and the digests in it, which are also tags of the run."""

    key: str
    data: str  # of the image list, which holds the hash of each image
    split: str
    weights: str
    code: str

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a run with these inputs."""
        return {f"flowers.{name}_digest": getattr(self, name) for name in ("data", "split", "weights", "code")}


def compute(params: Params) -> RunKey:
    """Hash the inputs of train and evaluate in the current directory.

    Raises UserError if a file is missing (download and split come first) or dvc.yaml or pyproject.toml lacks a part.
    """
    data, split, weights = file_digest(paths.IMAGE_LIST), file_digest(paths.SPLIT), file_digest(paths.WEIGHTS)
    code = files_digest(source_files())
    document = {
        "params": params.model_dump(mode="json", include={*_SECTIONS}),
        "data": data,
        "split": split,
        "weights": weights,
        "code": code,
        "versions": versions(),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return RunKey(hashlib.sha256(text.encode()).hexdigest(), data, split, weights, code)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits. Raises UserError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def files_digest(files: list[Path]) -> str:
    """One SHA-256 over the names and bytes of several files, in any order. Raises UserError if one cannot be read."""
    lines = sorted(f"{path.as_posix()}\0{file_digest(path)}\n" for path in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def source_files() -> list[Path]:
    """The source files among the dependencies of train and evaluate, also those in folders. Raises UserError."""
    document = read(PIPELINE)
    stages = document.get("stages", {}) if isinstance(document, dict) else {}
    if lost := [name for name in _STAGES if name not in stages]:
        raise UserError(f"{PIPELINE}: stage '{lost[0]}' is missing; restore it with `git checkout {PIPELINE}`")
    found: set[Path] = set()
    for path in (Path(str(dependency)) for name in _STAGES for dependency in stages[name].get("deps", [])):
        # The outputs of earlier stages are thousands of images and no code.
        inside = () if path.is_relative_to(paths.BUILD) else path.rglob("*")
        found.update(file for file in (path, *inside) if file.suffix in _SOURCES)
    if not found:
        raise UserError(f"{PIPELINE}: train and evaluate have no source file in their deps")
    return sorted(found)


def versions() -> dict[str, str]:
    """The pinned versions of the packages that decide the bits of a result."""
    try:
        table: dict[str, str] = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["flowers"]["numerics"]
    except KeyError:
        raise UserError(f"{PROJECT}: the table [tool.flowers.numerics] is missing") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{PROJECT}: cannot be read ({error})") from None
    return table
