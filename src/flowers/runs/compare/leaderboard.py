"""The command `flowers leaderboard`: runs and groups on the same test images, ranked; which are as good as the best."""

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config import params
from flowers.config.params import Params
from flowers.metrics import groups as two_way
from flowers.metrics import paired
from flowers.reporting import document
from flowers.reporting.document import Document, Section, Table
from flowers.reporting.measures import count, number
from flowers.tracking import groups, lookup, runs, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

LABELS = f"evaluation/{paths.LABELS.name}"
_READERS = 8  # artifacts at a time


@dataclass(frozen=True)
class Entry:
    """A run or a group: path and label of test images, (images, 2), and predictions, (trainings, images)."""

    name: str
    run_id: str
    images: np.ndarray
    predicted: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The true classes, (images,)."""
        found: np.ndarray = self.images[:, 1]
        return found

    @property
    def right(self) -> np.ndarray:
        """Whether each training has each image right, float64 (trainings, images)."""
        found: np.ndarray = (self.predicted == self.labels).astype(np.float64)
        return found

    @property
    def accuracy(self) -> float:
        """Over all images and trainings."""
        return float(self.right.mean())


def leaderboard(markdown: bool, html: Path | None) -> None:
    """Rank the results of the data set of params.yaml in MLflow. Raises UserError where there are none."""
    with store.explained("reading the runs of"), store.patience(*store.SHORT):
        entries, others = _entries()
    page = ranked(entries, others)
    print(document.markdown(page), end="") if markdown else document.show(page)
    if html:
        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(document.html(page), encoding="utf-8")
        console.say(f"wrote {html}")


def ranked(entries: Sequence[Entry], others: int = 0) -> Document:
    """The ranking by accuracy; `others` is the number of results on other test images, which are left out.

    The best is compared with each other result, by McNemar's exact test or, for groups, by the two-way analysis of
    variance (Holm's correction: Scandinavian Journal of Statistics 6, 1979, 65-70). As the best was selected by these
    scores, the correction is for all pairs.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.accuracy, entry.name, entry.run_id))
    best, pairs = ordered[0], len(ordered) * (len(ordered) - 1) // 2
    tests = [_against(best, entry) for entry in ordered[1:]]
    apart = holm([p for p, _, _ in tests], pairs)
    rows = [["=", "1", *_shown(best), "", ""]]
    for place, (entry, told, (_, low, high)) in enumerate(zip(ordered[1:], apart, tests, strict=True), start=2):
        ends = f"{100 * low:+.1f} to {100 * high:+.1f}"
        difference = f"{100 * (entry.accuracy - best.accuracy):+.1f}"
        rows.append(["" if told else "=", str(place), *_shown(entry), difference, ends])
    images, as_good = count(len(best.labels), "test image"), len(ordered) - sum(apart)
    lead = [f"{count(len(ordered), 'result')} on {images}; {as_good} marked =: the best, and those not told from it."]
    if others:
        lead.append(f"{count(others, 'result')} on other test images are left out.")
    header = ["", "", "result", "run", "accuracy", "difference", "95 % interval"]
    explained = (
        "± is the standard deviation of the seeds of a group. Differences are from the best, in percentage points; an "
        "interval holds other images, and where one of the two is a group, other seeds. = : no significant "
        f"difference, after Holm's correction for {count(pairs, 'pair')}."
    )
    return Document("Leaderboard", lead, [Section("Test accuracy", [Table(header, rows, left=4), explained])])


def _shown(entry: Entry) -> list[str]:
    spread = f" ± {100 * entry.right.mean(axis=1).std(ddof=1):.1f}" if len(entry.predicted) > 1 else ""
    return [entry.name, entry.run_id[:8], number("accuracy", entry.accuracy) + spread]


def holm(p: Sequence[float], comparisons: int, level: float = paired.LEVEL) -> list[bool]:
    """Which p, the smallest of so many comparisons, are significant; any false one has the probability `level`."""
    found, last = [False] * len(p), True
    for place, index in enumerate(np.argsort(p, kind="stable")):
        last = last and p[index] < level / (comparisons - place)
        found[index] = last
    return found


def _against(best: Entry, entry: Entry) -> tuple[float, float, float]:
    """The p of no difference from the best, and the ends of the difference's 95 % interval."""
    if len(best.predicted) == len(entry.predicted) == 1:
        test = paired.mcnemar(best.labels, best.predicted[0], entry.predicted[0])
        return test.p, *paired.accuracy_interval(test, len(best.labels))
    found = two_way.difference(best.labels, best.right, entry.right)
    return found.p, *found.interval()


def _entries() -> tuple[list[Entry], int]:
    """The results on the test images of the newest one, and the number of other results."""
    settings = params.load()
    with store.lock():
        client = store.connect()
    results = [run for run in runs.search(client, "") if _is_result(run, settings)]
    with ThreadPoolExecutor(_READERS) as pool:
        entries = [entry for entry in pool.map(lambda run: _entry(client, run), results) if entry]
    if not entries:
        raise UserError("no result of this data set is in MLflow; `dvc repro` and `flowers seeds` make some")
    alike = [entry for entry in entries if np.array_equal(entry.images, entries[-1].images)]
    return alike, len(entries) - len(alike)


def _is_result(run: "Run", settings: Params) -> bool:
    """Whether a run of any experiment holds a result of this data set: a pipeline run, or a group."""
    dataset = settings.dataset
    same = (run.data.params.get("dataset.name"), run.data.params.get("dataset.path")) == (dataset.name, dataset.path)
    return same and (
        runs.RESULT in run.data.tags or (runs.GROUP in run.data.tags and groups.TRAINING not in run.data.tags)
    )


def _entry(client: "MlflowClient", run: "Run") -> Entry | None:
    """The result of a run or group; None, with a warning, where it has lost its predictions."""
    of_group = runs.GROUP in run.data.tags
    trainings = groups.members(client, run).values() if of_group else [run]
    path = groups.PREDICTIONS if of_group else LABELS
    tables = [table for each in trainings if (table := _table(client, each, path)) is not None]
    if not tables or len(tables) < len(trainings):
        console.warn(f"run {lookup.described(run)} has no readable {path}: left out")
        return None
    return Entry(
        name=str(run.info.run_name),
        run_id=str(run.info.run_id),
        images=tables[0][["path", "label"]].to_numpy(str),
        predicted=np.stack([table["predicted"].to_numpy(str) for table in tables]),
    )


def _table(client: "MlflowClient", run: "Run", path: str) -> pd.DataFrame | None:
    content, columns = lookup.artifact(client, run, path), ["path", "label", "predicted"]
    try:
        table = pd.read_csv(io.BytesIO(content or b""), usecols=columns, dtype=str, keep_default_na=False)
    except ValueError:
        return None
    return table.sort_values("path", ignore_index=True)
