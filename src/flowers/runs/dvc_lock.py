"""What a dvc.lock records of a result: hashes of inputs and outputs by path, parameters and package versions."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowers.common import console, paths
from flowers.config.params import DECIDE_NO_RESULT

FILE = Path("dvc.lock")

_STAGES = ("download", "split", "train", "evaluate")
_TRAINED = (paths.MODEL.as_posix(), paths.HISTORY.as_posix())


@dataclass(frozen=True)
class Lock:
    """MD5 hashes by path, flat parameters (head.dropout: 0.2) and the versions that pyproject.toml pinned.

    `inputs` are dependencies of the stages and outputs of download and split; `outputs` are in order of the pipeline.
    """

    inputs: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def read(content: bytes) -> Lock:
    """Parse a dvc.lock; what is missing or not YAML gives an empty one."""
    stages, lock = yaml(content.decode("utf-8", "replace")).get("stages", {}), Lock()
    for name in _STAGES:
        stage = stages.get(name, {})
        outputs = _hashes(stage.get("outs", []))
        lock.outputs.update(outputs)
        lock.inputs.update(_hashes(stage.get("deps", [])) | (outputs if name in ("download", "split") else {}))
        lock.params.update(flat(stage.get("params", {}).get("params.yaml", {})))
        lock.versions.update(stage.get("params", {}).get("pyproject.toml", {}).get("tool.flowers.numerics", {}))
    for path in _TRAINED:
        lock.inputs.pop(path, None)
    return lock


def md5(path: Path) -> str:
    """The hash of an output as dvc.lock holds it. Raises FileNotFoundError."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    files = sorted(file for file in path.rglob("*") if file.is_file())
    entries = [{"md5": md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    return f"{hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest()}.dir"


def warn_if_other(*outputs: Path) -> None:
    """Warn if an output is not the one that dvc.lock names: damaged, or made by hand since."""
    known = read(FILE.read_bytes()).outputs if FILE.exists() else {}
    for path in outputs:
        if known.get(path.as_posix()) not in (None, md5(path)):
            console.warn(f"{path} is not the one of {FILE}; `dvc repro` makes it again")


def _hashes(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["path"]: entry["md5"] for entry in entries if "md5" in entry}


def flat(document: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that decide a result on one level (head.dropout: 0.2), values as params.yaml writes them."""
    return {
        f"{section}.{name}": value if isinstance(value, str) else json.dumps(value)
        for section, values in document.items()
        if section not in DECIDE_NO_RESULT and isinstance(values, Mapping)
        for name, value in values.items()
    }


def warn_if_changed(name: str, made_with: Mapping[str, str], folder: Path) -> None:
    """Warn if params.yaml in a folder has other values than those a result was made with."""
    file = folder / paths.PARAMS
    now = flat(yaml(file.read_text(encoding="utf-8"))) if file.exists() else {}
    if any(now.get(key, value) != value for key, value in made_with.items()):
        console.warn(f"{name}: {paths.PARAMS} was changed since the result was made; `dvc repro` brings it up to date")


def yaml(text: str) -> Mapping[str, Any]:
    """The mapping in a YAML text; an empty one where it is damaged or no mapping."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        document = YAML(typ="safe").load(text)
    except YAMLError:
        return {}
    return document if isinstance(document, dict) else {}
