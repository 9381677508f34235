"""The files of one finished training, read for publishing. This module does not use MLflow."""

import csv
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, TypeVar

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import DECIDE_NO_RESULT, Params
from flowers.tracking import run_key

Point = tuple[int, dict[str, float]]  # epoch, metrics
T = TypeVar("T")


@dataclass(frozen=True)
class Result:
    """The result in the files of this checkout. Its properties raise UserError if one is missing or broken."""

    params: Params
    key: run_key.RunKey

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what is published, except params.yaml and dvc.lock, which may differ between equal runs."""
        return run_key.files_digest([paths.HISTORY, paths.SPLIT, *_files(paths.EVALUATION), *_files(paths.MODEL)])

    @cached_property
    def model_digest(self) -> str:
        """SHA-256 of the model folder and of the weights below it."""
        return hashlib.sha256(f"{run_key.files_digest(_files(paths.MODEL))} {self.key.weights}".encode()).hexdigest()

    @cached_property
    def model(self) -> dict[str, Any]:
        """The content of model.json."""
        return _read(paths.MODEL / "model.json", _object)

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the network's outputs."""
        return [str(name) for name in self.model.get("classes", [])]

    @property
    def precision(self) -> str:
        """The precision of the backbone."""
        return str(self.model.get("precision", "unknown"))

    @cached_property
    def epochs(self) -> list[Point]:
        """The metrics of every epoch."""
        return [point(row) for row in _read(paths.HISTORY, _rows)]

    @cached_property
    def phases(self) -> dict[str, int]:
        """The number of epochs of each phase."""
        names = [row.get("phase", "") for row in _read(paths.HISTORY, _rows)]
        return {name: names.count(name) for name in dict.fromkeys(names)}

    @cached_property
    def scores(self) -> dict[str, float]:
        """The test scores by name."""
        return {name: float(value) for name, value in _read(paths.METRICS, _object).items() if value is not None}

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """The 95 % intervals of the scores that have one."""
        return {name: (float(low), float(high)) for name, (low, high) in _read(paths.INTERVALS, _object).items()}

    @cached_property
    def counts(self) -> dict[str, int]:
        """The number of images in each subset."""
        subsets = [row["subset"] for row in _read(paths.SPLIT, _rows)]
        return {name: subsets.count(name) for name in dict.fromkeys(subsets)}

    @property
    def test_metrics(self) -> dict[str, float]:
        """Scores and the ends of their intervals under their names in the store."""
        metrics = {f"test_{name}": value for name, value in self.scores.items()}
        for name, (low, high) in self.intervals.items():
            metrics |= {f"test_{name}_low": low, f"test_{name}_high": high}
        return metrics

    @property
    def points(self) -> list[Point]:
        """All metrics: those of every epoch, and last the test metrics as step 0."""
        return [*self.epochs, (0, self.test_metrics)]

    def example_image(self) -> Path | None:
        """The smallest test image that exists: an input to try a served model on."""
        candidates = [Path(row["path"]) for row in _read(paths.SPLIT, _rows) if row["subset"] == "test"]
        there = [path if path.is_file() else paths.IMAGES / path for path in candidates]
        return min((path for path in there if path.is_file()), key=lambda path: path.stat().st_size, default=None)


def read(params: Params) -> Result:
    """The result of `params` in the current directory. Raises UserError if the stages before track have not run."""
    result = Result(params, run_key.compute(params))
    # Read everything now: an error must come before anything is published.
    _ = result.epochs, result.phases, result.scores, result.intervals, result.counts, result.model, result.digest
    return result


def fingerprint(params: Params) -> dict[str, str]:
    """The identity of a result, equal on every machine: its run key and the hash of what is published.

    Raises UserError if a stage before track has not run.
    """
    result = read(params)
    return {"run_key": result.key.key, "result": result.digest}


def point(row: dict[str, Any]) -> Point:
    """One epoch's row as its step and metrics, without text and empty cells. Raises UserError."""
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
    """Whether two values are the same measurement: text may round, and stores cannot hold infinity."""
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
        raise UserError(f"{folder}: no files; `dvc repro` makes them")
    return found


def _read(path: Path, parse: Callable[[TextIO], T]) -> T:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return parse(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `dvc repro` makes it") from None
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); `dvc repro --force` makes it again") from None


def _object(file: TextIO) -> dict[str, Any]:
    document = json.load(file)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")
    return document


def _rows(file: TextIO) -> list[dict[str, str]]:
    return list(csv.DictReader(file))
