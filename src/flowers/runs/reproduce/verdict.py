"""Which outputs of a run and of the same run made again differ, by how much, and the likely causes."""

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flowers.common import paths
from flowers.common.errors import UserError
from flowers.reporting.document import Document, Section, Table
from flowers.runs import predictions
from flowers.runs.dvc_lock import Lock
from flowers.tracking import provenance

SAME, DIFFERS, NOT_IN_RUN, NOT_MADE = "the same bytes", "differs", "not in the run", "not made again"
METRICS, PREDICTIONS = paths.METRICS.as_posix(), paths.PREDICTIONS.as_posix()


@dataclass(frozen=True)
class Result:
    """A result: its dvc.lock, its metrics.json and predictions.csv by path, and its precision ("" if unknown)."""

    lock: Lock
    files: Mapping[str, bytes]
    precision: str

    @property
    def outputs(self) -> dict[str, str]:
        """MD5 hashes of outputs by path; of files that are here, of what they hold."""
        hashes = {path: hashlib.md5(file, usedforsecurity=False).hexdigest() for path, file in self.files.items()}
        return self.lock.outputs | hashes


def compare(then: Result, here: Result) -> list[list[str]]:
    """Path, verdict and difference of every output of either result, in the order of the pipeline."""
    one, other, rows = then.outputs, here.outputs, []
    for path in one | other:
        if path not in one or path not in other:
            rows.append([path, NOT_MADE if path in one else NOT_IN_RUN, ""])
        elif one[path] == other[path]:
            rows.append([path, SAME, ""])
        else:
            files = [result.files[path] for result in (then, here) if path in result.files]
            rows.append([path, DIFFERS, difference(path, *files) if files else ""])
    return rows


def difference(path: str, one: bytes, other: bytes) -> str:
    """By how much two metrics.json or predictions.csv differ."""
    try:
        if path == METRICS:
            first, second = json.loads(one), json.loads(other)
            values = [(name, first.get(name), second.get(name)) for name in first | second]
            return ", ".join(f"{name} {old} -> {new}" for name, old, new in values if old != new)
        before, after = (predictions.Predictions("", "", {}, {}, predictions.read(file, path)) for file in (one, other))
    except (UserError, ValueError) as error:
        return f"one of them cannot be read ({error})"
    if before.images() != after.images() or before.classes != after.classes:
        return "other images or classes"
    labels = int((before.predicted != after.predicted).sum())
    largest = np.abs(before.probabilities - after.probabilities).max()
    return f"{labels} of {len(before.labels)} predicted labels, probabilities by at most {largest:.2g}"


def same(rows: Sequence[Sequence[str]]) -> bool:
    """Whether all outputs of the run were made again with the same bytes, the metrics among them."""
    verdicts = {path: verdict for path, verdict, _ in rows}
    return verdicts.get(METRICS) == SAME and {*verdicts.values()} <= {SAME, NOT_IN_RUN}


def causes(then: Result, here: Result, machine: Sequence[str], changes_lost: bool, fresh: bool) -> list[str]:
    """Likely causes of a difference, the certain ones first; never empty. `machine` is what `of_machine` found."""
    found = []
    if then.outputs != then.lock.outputs:
        found.append("the run's files were changed in MLflow, or its dvc.lock is of another result")
    if changes_lost:
        found.append("uncommitted changes at the time, which the run does not hold")
    inputs = [
        path
        for path, md5 in then.lock.inputs.items()
        if here.lock.inputs.get(path, md5) != md5 and not (changes_lost and path.startswith("src/"))
    ]
    if inputs:
        found.append(f"other inputs than those of the run: {', '.join(inputs)}")
    if then.precision and here.precision and then.precision != here.precision:
        found.append(f"another precision: {then.precision} then, {here.precision} here")
    none = "none known: images, code, package versions, precision and processor are the same"
    cached = [] if fresh else ["activations came from your cache; `--fresh` computes them anew"]
    return [*found, *machine] or [none, *cached]


def of_machine(processor: str, versions: Mapping[str, str]) -> list[str]:
    """Differences of a run's package versions and processor ("" if unknown) from those here."""
    here = {name: _installed(name) for name in versions}
    others = [f"{name} {versions[name]} then, {here[name]} here" for name in versions if here[name] != versions[name]]
    found = [f"other package versions: {'; '.join(others)}"] if others else []
    if processor and processor != provenance.processor():
        found.append(f"another processor: {processor} then, {provenance.processor()} here")
    return found


def _installed(package: str) -> str:
    for name in (package, f"{package}-cpu"):  # TensorFlow has two names
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "not installed"


def document(title: str, rows: Sequence[Sequence[str]], reasons: Sequence[str]) -> Document:
    """The table of outputs and the verdict; `reasons` are the likely causes where it is not the same."""
    table = Table(["output", "verdict", "difference"], rows, left=3)
    count = sum(verdict == SAME for _, verdict, _ in rows)
    lines = [f"{count} outputs: the same bytes"]
    if not same(rows):
        compared = sum(verdict != NOT_IN_RUN for _, verdict, _ in rows)
        lines = [f"Not the same: {compared - count} of {compared} outputs differ.", f"Likely cause: {reasons[0]}."]
        lines += [f"Or: {reason}." for reason in reasons[1:]]
    return Document(title, [], [Section("Outputs", [table]), Section("Verdict", lines)])
