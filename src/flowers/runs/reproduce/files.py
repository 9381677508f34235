"""A result against another one, file by file: the same bytes, or by how much they differ."""

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SAME, DIFFERS, NOT_IN_RUN, NOT_MADE = "the same bytes", "differs", "not in the run", "not made again"


@dataclass(frozen=True)
class File:
    """What became of one file, by its path in a checkout; `difference` says more of one that differs."""

    path: str
    verdict: str
    difference: str = ""


def compare(recorded: Mapping[str, Path], made: Mapping[str, Path]) -> list[File]:
    """The verdict on every file that the run holds or that was made again, by their paths in a checkout."""
    return [_compare(path, recorded.get(path), made.get(path)) for path in sorted({*recorded, *made})]


def by_digest(place: Path, recorded: str | None, made: str | None) -> File:
    """The verdict on a file (or a folder) of which the run holds the hash alone."""
    path = place.as_posix()
    if recorded is None:
        return File(path, NOT_IN_RUN)
    if made is None:
        return File(path, NOT_MADE)
    return File(path, SAME) if recorded == made else File(path, DIFFERS, "another hash; the run holds no more of it")


def _compare(path: str, recorded: Path | None, made: Path | None) -> File:
    if recorded is None:
        return File(path, NOT_IN_RUN)
    if made is None:
        return File(path, NOT_MADE)
    contents = recorded.read_bytes(), made.read_bytes()
    return File(path, SAME) if contents[0] == contents[1] else File(path, DIFFERS, difference(path, *contents))


def difference(path: str, one: bytes, other: bytes) -> str:
    """In what two files of a name differ: the largest difference of a number, and how many other values."""
    reader = _READERS.get(Path(path).suffix)
    if reader is None:
        return ""
    try:
        first, second = reader(one), reader(other)
    except Exception:  # each format has its own ways of being damaged
        return "one of them cannot be read"
    if first.keys() != second.keys():
        return f"{len(second)} values, not {len(first)}" if len(first) != len(second) else "other names"
    largest, where, others = 0.0, "", 0
    for name, value in first.items():
        distance = _distance(value, second[name])
        if distance is None:
            others += 1
        elif distance > largest:
            largest, where = distance, name
    parts = [f"by at most {largest:.2g} ({where})"] if largest else []
    parts += [f"{others} other value{'s' * (others != 1)}"] if others else []
    return ", ".join(parts) or "in form alone: the values are equal"


def _distance(one: Any, other: Any) -> float | None:
    """The largest difference of two numbers or arrays of one shape; None where they are no numbers and not equal."""
    if one is other or (isinstance(one, str) and one == other):
        return 0.0
    try:
        first, second = np.asarray(one, np.float64), np.asarray(other, np.float64)
    except (TypeError, ValueError):
        return None
    if first.shape != second.shape:
        return None
    equal = (first == second) | (np.isnan(first) & np.isnan(second))
    with np.errstate(invalid="ignore"):  # infinity minus itself
        apart = np.abs(np.where(equal, 0.0, first - second))
    return float(apart.max(initial=0.0)) if not np.isnan(apart).any() else None


def _csv(content: bytes) -> dict[str, Any]:
    header, *rows = csv.reader(io.StringIO(content.decode("utf-8")))
    return {
        f"{column}, row {number}": cell
        for number, row in enumerate(rows, start=1)
        for column, cell in zip(header, row, strict=True)
    }


def _json(content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict | list):
            for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
                walk(f"{name}.{key}" if name else str(key), inner)
        else:
            found[name] = value

    walk("", json.loads(content))
    return found


def _npz(content: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


_READERS = {".csv": _csv, ".json": _json, ".npz": _npz}
