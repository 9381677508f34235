"""Whether a result is that of a commit or a run: the same bytes, equivalent, or different, with the likely cause.

Equivalent is decided by McNemar's exact test on the same test images, because bits differ between kinds of processors,
and how many predictions that changes depends on the images.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.metrics import paired
from flowers.reporting import measures
from flowers.runs import predictions
from flowers.runs.dvc_lock import Lock
from flowers.tracking import provenance

SAME, DIFFERS, NOT_IN_RUN, NOT_MADE = "the same bytes", "differs", "not in the run", "not made again"
METRICS, PREDICTIONS, LABELS = (path.as_posix() for path in (paths.METRICS, paths.PREDICTIONS, paths.LABELS))


@dataclass(frozen=True)
class Result:
    """A result: its dvc.lock, metrics.json and labels.csv or predictions.csv by path; "" where something is unknown."""

    lock: Lock
    files: Mapping[str, bytes]
    precision: str = ""
    processor: str = ""

    @property
    def outputs(self) -> dict[str, str]:
        """MD5 hashes of outputs by path; of files that are here, of what they hold."""
        hashes = {path: hashlib.md5(file, usedforsecurity=False).hexdigest() for path, file in self.files.items()}
        return self.lock.outputs | hashes


@dataclass(frozen=True)
class Verdict:
    """`kind` is same bytes, equivalent or different; `text` gives the reason, `note` what the test could not show."""

    kind: str
    text: str
    note: Sequence[str] = ()

    @property
    def lines(self) -> list[str]:
        """The verdict and the note."""
        return [f"{self.kind}: {self.text}", *self.note]

    @property
    def status(self) -> int:
        """The exit status: 1 for a different result."""
        return int(self.kind == "different")


def judge(then: Result, here: Result, lost: bool = False, fresh: bool = True) -> Verdict:
    """The verdict on the result here. Other parameters or data are another experiment, and so a different result.

    `lost`: then had uncommitted changes that are lost; `fresh`: no activations came from the cache.
    """
    rows = [row for row in compare(then, here) if row[0] not in then.lock.inputs]
    if same(rows):
        return Verdict("same bytes", f"all {sum(row[1] == SAME for row in rows)} outputs of train and evaluate")
    decisive, likely = _decisive(then, here, lost), "; ".join(_likely(then, here, fresh))
    one, other = (_labels(result) for result in (then, here))
    if one is None or other is None:
        return Verdict("different", "; ".join(decisive or ["a result has no labels of the test images", likely]))
    common = len(one.merge(other, on=["path", "label"]))
    if not common == len(one) == len(other):
        images = f"other test images, {common:,} of {len(one):,} are the same"
        return Verdict("different", "; ".join([*decisive, images]))
    labels, first, second = (table.to_numpy(str) for table in (one["label"], one["predicted"], other["predicted"]))
    test = paired.mcnemar(labels, first, second)
    counted, note = _evidence(labels, first, second, test)
    if decisive:
        return Verdict("different", "; ".join([*decisive, counted]))
    if test.p < paired.LEVEL:
        return Verdict("different", f"{counted}, exact McNemar p = {test.p:.2g}; likely cause: {likely}", note)
    return Verdict("equivalent", f"{counted}; {likely}", note)


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
            rows.append([path, DIFFERS, difference(path, *files) if len(files) == 2 else ""])
    return rows


def difference(path: str, one: bytes, other: bytes) -> str:
    """By how much two metrics.json or predictions.csv differ."""
    try:
        if path == METRICS:
            first, second = json.loads(one), json.loads(other)
            values = [(name, first.get(name), second.get(name)) for name in first | second]
            return ", ".join(f"{name} {old} -> {new}" for name, old, new in values if old != new)
        if path != PREDICTIONS:
            return ""
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


def of_machine(processor: str, versions: Mapping[str, str]) -> list[str]:
    """Differences of a run's package versions and processor ("" if unknown) from those here."""
    here = {name: _installed(name) for name in versions}
    others = [f"{name} {versions[name]} then, {here[name]} here" for name in versions if here[name] != versions[name]]
    found = [f"other package versions: {'; '.join(others)}"] if others else []
    if processor and processor != provenance.processor():
        found.append(f"another processor: {processor} then, {provenance.processor()} here")
    return found


def _decisive(then: Result, here: Result, lost: bool) -> list[str]:
    """Why the two cannot be the same experiment."""
    found, one, other = [], then.lock.params, here.lock.params
    names = one | other if METRICS in here.outputs else other  # before train its parameters are not in the lock
    values = [(name, one.get(name, "none"), other.get(name, "none")) for name in names]
    if others := [f"{name} {old} -> {new}" for name, old, new in values if old != new]:
        found.append(f"not the same experiment: {console.listed(others)}")
    if data := [path for path in _other_inputs(then, here) if not path.startswith("src/")]:
        found.append(f"other data: {console.listed(data)}")
    if then.outputs != then.lock.outputs:
        found.append(f"{' or '.join(then.files)} was changed, or dvc.lock is of another result")
    if lost:
        found.append("uncommitted changes at the time, which the run does not hold")
    return found


def _likely(then: Result, here: Result, fresh: bool) -> list[str]:
    """Likely causes of other bytes in the same experiment; never empty."""
    code = [path for path in _other_inputs(then, here) if path.startswith("src/")]
    found = [f"other code: {console.listed(code)}"] if code else []
    if then.precision and here.precision and then.precision != here.precision:
        found.append(f"another precision: {then.precision} then, {here.precision} here")
    found += of_machine(then.processor, then.lock.versions)
    if not found and not then.processor:
        found.append(f"{here.precision} on another processor".strip())
    none = "no cause known: images, code, package versions, precision and processor are the same"
    cached = [] if fresh else ["activations came from your cache (`--fresh` computes them anew)"]
    return found or [none, *cached]


def _other_inputs(then: Result, here: Result) -> list[str]:
    return [path for path, md5 in then.lock.inputs.items() if here.lock.inputs.get(path, md5) != md5]


def _labels(result: Result) -> pd.DataFrame | None:
    """Columns path, label and predicted of the test images, ordered by path; None if there are none to read."""
    content = next((result.files[path] for path in (LABELS, PREDICTIONS) if path in result.files), b"")
    try:
        columns = ["path", "label", "predicted"]
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False, usecols=columns)
    except ValueError:
        return None
    return table.sort_values("path", ignore_index=True)


def _evidence(labels: np.ndarray, one: np.ndarray, other: np.ndarray, test: paired.McNemar) -> tuple[str, list[str]]:
    """The counts behind a verdict, and with few images how large a difference they can show."""
    images = len(labels)
    was, now = (100 * float((predicted == labels).mean()) for predicted in (one, other))
    low, high = (100 * end for end in paired.accuracy_interval(test, images))
    text = (
        f"{int((one == other).sum()):,} of {measures.count(images, 'test image')} have the same label, accuracy "
        f"{now:.1f} % against {was:.1f} %, 95 % CI of the difference {low:+.1f} to {high:+.1f}"
    )
    return text, measures.few(images, "test", (test.lost + test.gained) / images)


def _installed(package: str) -> str:
    for name in (package, f"{package}-cpu"):  # TensorFlow has two names
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "not installed"
