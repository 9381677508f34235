"""The files of one finished training, read for publishing. This module does not use MLflow."""

import csv
import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeVar

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.config.params import DECIDE_NO_RESULT, Params
from flowers.tracking import run_key

Point = tuple[int, dict[str, float]]  # epoch, metrics
T = TypeVar("T")

SCORE = "val_mean_per_class_accuracy"  # of an epoch: what a study maximises


@dataclass(frozen=True)
class Result:
    """The result in the files of this checkout."""

    params: Params
    key: run_key.RunKey
    digest: str  # SHA-256 of what is published, except params.yaml and dvc.lock, which may differ between equal runs
    model_digest: str  # SHA-256 of the model folder and of the weights below it
    classes: list[str]  # in the order of the network's outputs
    precision: str  # of the backbone
    epochs: list[Point]
    phases: dict[str, int]  # the number of epochs of each
    scores: dict[str, float]  # of the test
    novelty: dict[str, float]  # how well unknown images are told from known ones: novelty.json on one level
    intervals: dict[str, tuple[float, float]]  # 95 % intervals of the scores that have one
    counts: dict[str, int]  # of the images in each subset
    test_images: list[Path]

    @property
    def test_metrics(self) -> dict[str, float]:
        """Scores and novelty under their names in the store, where they are step 0."""
        scores = {f"test_{name}": value for name, value in self.scores.items()}
        return scores | {f"novelty/{name}": value for name, value in self.novelty.items()}

    def example_image(self) -> Path | None:
        """The smallest test image that exists: an input to try a served model on."""
        there = [path if path.is_file() else paths.IMAGES / path for path in self.test_images]
        return min((path for path in there if path.is_file()), key=lambda path: path.stat().st_size, default=None)


def read(params: Params) -> Result:
    """The result of `params` in the current directory.

    Raises UserError if a file is missing or broken: the stages before track come first.
    """
    key = run_key.compute(params)
    history, split = _read(paths.HISTORY, _rows), _read(paths.SPLIT, _rows)
    model, model_files = _read(paths.MODEL / "model.json", _object), _files(paths.MODEL)
    scores, intervals = _read(paths.METRICS, _object), _read(paths.INTERVALS, _object)
    novelty = _read(paths.NOVELTY, _object)
    model_digest = f"{run_key.files_digest(model_files)} {key.weights}"
    try:
        return Result(
            params=params,
            key=key,
            digest=run_key.files_digest([paths.HISTORY, paths.SPLIT, *_files(paths.EVALUATION), *model_files]),
            model_digest=hashlib.sha256(model_digest.encode()).hexdigest(),
            classes=[str(name) for name in model.get("classes", [])],
            precision=str(model.get("precision", "unknown")),
            epochs=[point(row) for row in history],
            phases=Counter(row.get("phase", "") for row in history),
            scores={name: float(value) for name, value in scores.items() if value is not None},
            novelty=dict(_levelled(novelty)),
            intervals={name: (float(low), float(high)) for name, (low, high) in intervals.items()},
            counts=Counter(row["subset"] for row in split),
            test_images=[Path(row["path"]) for row in split if row["subset"] == "test"],
        )
    except (ValueError, TypeError, LookupError) as error:
        files = f"{paths.HISTORY}, {paths.SPLIT}, {paths.METRICS}, {paths.INTERVALS} or {paths.NOVELTY}"
        raise UserError(f"{files} is damaged ({error!r}); `dvc repro` makes it again") from None


def fingerprint(params: Params) -> dict[str, str]:
    """The identity of a result, equal on every machine: its run key and the hash of what is published.

    Raises UserError if a stage before track has not run.
    """
    result = read(params)
    return {"run_key": result.key.key, "result": result.digest}


def point(row: dict[str, Any]) -> Point:
    """One epoch's row as its step and metrics, without text and empty cells. Raises UserError.

    The score comes first, because MLflow's comparison opens with the metric that was logged first.
    """
    metrics = {}
    for name, value in sorted(row.items(), key=lambda item: item[0] != SCORE):
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


def _levelled(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in content.items():
        if isinstance(value, dict):
            yield from _levelled(value, f"{prefix}{name}_")
        else:
            yield f"{prefix}{name}", float(value)


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
