"""What one finished training left on disk, read back for publishing. Knows the stages' files and nothing of MLflow."""

import csv
import hashlib
import json
import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import DECIDE_NO_RESULT, Params
from flowers.tracking import run_key

Point = tuple[int, dict[str, float]]  # epoch, metrics


@dataclass(frozen=True)
class Result:
    """The result that the files of this checkout hold. Its properties raise UserError if one is missing or broken."""

    params: Params
    key: run_key.RunKey

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is published, except params.yaml and dvc.lock, which may differ between equal runs."""
        return published_digest()

    @cached_property
    def model_digest(self) -> str:
        """SHA-256 of the model folder and of the weights under it."""
        return model_digest(self.key.weights)

    @cached_property
    def model(self) -> dict[str, Any]:
        """model.json: classes, precision and the rest."""
        return _json(paths.MODEL / "model.json")

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the network's outputs."""
        return [str(name) for name in self.model.get("classes", [])]

    @property
    def precision(self) -> str:
        """The precision that the backbone ran in."""
        return str(self.model.get("precision", "unknown"))

    @cached_property
    def epochs(self) -> list[Point]:
        """The metrics of every epoch."""
        return [point(row) for row in _rows(paths.HISTORY)]

    @cached_property
    def phases(self) -> dict[str, int]:
        """How many epochs each phase took."""
        names = [row.get("phase", "") for row in _rows(paths.HISTORY)]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    @cached_property
    def scores(self) -> dict[str, float]:
        """The test scores by name."""
        return {name: float(value) for name, value in _json(paths.METRICS).items() if value is not None}

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % interval of each score that has one."""
        found = _json(paths.INTERVALS)
        return {name: (float(low), float(high)) for name, (low, high) in found.items()}

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many photos each subset holds."""
        subsets = [row["subset"] for row in _rows(paths.SPLIT)]
        return {name: subsets.count(name) for name in dict.fromkeys(subsets)}

    @property
    def test_metrics(self) -> dict[str, float]:
        """Scores and the ends of their intervals under the names they have in the store."""
        metrics = {f"test_{name}": value for name, value in self.scores.items()}
        for name, (low, high) in self.intervals.items():
            metrics |= {f"test_{name}_low": low, f"test_{name}_high": high}
        return metrics

    def example_photo(self) -> Path | None:
        """The smallest test photo that is there: an input to try a served model on."""
        candidates = [Path(row["path"]) for row in _rows(paths.SPLIT) if row["subset"] == "test"]
        there = [path if path.is_file() else paths.IMAGES / path for path in candidates]
        return min((path for path in there if path.is_file()), key=lambda path: path.stat().st_size, default=None)


def read(params: Params) -> Result:
    """The result of `params` in the current directory. Raises UserError if the stages before track have not run."""
    result = Result(params, run_key.compute(params))
    # Now, and not when half of it is published.
    _ = result.epochs, result.phases, result.scores, result.intervals, result.counts, result.model, result.digest
    return result


def published_digest() -> str:
    """SHA-256 of the result in the current directory; see `Result.digest`. Raises UserError if a file is missing."""
    return run_key.files_digest([paths.HISTORY, paths.SPLIT, *_files(paths.EVALUATION), *_files(paths.MODEL)])


def model_digest(weights: str) -> str:
    """SHA-256 of the model in the current directory and of `weights`, the digest of the weights under it."""
    return hashlib.sha256(f"{run_key.files_digest(_files(paths.MODEL))} {weights}".encode()).hexdigest()


def fingerprint(params: Params) -> dict[str, str]:
    """What identifies a result, the same on every machine and day: its run key and the hash of what is published.

    Raises UserError if a stage before track has not run.
    """
    result = read(params)
    return {"run_key": result.key.key, "result": result.digest}


def point(row: dict[str, Any]) -> Point:
    """One epoch's row as its step and metrics; text and empty cells are left out. Raises UserError."""
    metrics = {}
    for name, value in row.items():
        if name in ("epoch", "phase") or value is None or value == "":
            continue
        try:
            metrics[name] = float(value)
        except ValueError:
            raise UserError(f"{paths.HISTORY}: '{value}' in column {name} is not a number") from None
    return int(row["epoch"]), metrics


def same_value(one: float, other: float) -> bool:
    """Whether two stored values are the same measurement: text may round, and stores cannot hold infinity."""
    if not (math.isfinite(one) and math.isfinite(other)):
        return not math.isfinite(one) or not math.isfinite(other)
    return math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6)


def flattened(params: Params) -> dict[str, str]:
    """The pipeline's parameters as one level, written as in params.yaml: head.units = [256, 128, 64]."""
    return {
        f"{section}.{name}": value if isinstance(value, str) else json.dumps(value)
        for section, values in params.model_dump(mode="json", exclude={*DECIDE_NO_RESULT}).items()
        for name, value in values.items()
    }


def _files(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    if not found:
        raise UserError(f"{folder}: nothing there; `dvc repro` makes it")
    return found


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); `dvc repro --force` makes it anew") from None
    if not isinstance(document, dict):
        raise UserError(f"{path}: not what evaluate and train write; `dvc repro --force` makes it anew")
    return document


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); `dvc repro --force` makes it anew") from None
