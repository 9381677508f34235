"""Streaming: each epoch appears in the store while training runs, and trouble there never reaches the training."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flowers.common import console
from flowers.config.params import Params
from flowers.tracking import provenance, run_key, runs, store
from flowers.tracking.result import Point, point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Row = dict[str, float | str]  # the columns of build/history.csv
OnEpoch = Callable[[Row], None]
Opened = tuple["MlflowClient", "Run"] | None  # None: there is nothing to add to the run

_EVERY_SECONDS = 1.0  # epochs of a head take a tenth of a second: a few of them are written together


@contextlib.contextmanager
def live_run(params: Params) -> Iterator[OnEpoch]:
    """Open or resume the run of these inputs, and yield what is to be called with each epoch's row of the history.

    If the body raises, the run ends as FAILED (KILLED when it was interrupted) and the exception goes on. Whatever
    goes wrong with the store itself is said in one warning, and training continues without it.
    """
    stream = Stream(lambda: _open(params), "To publish it later: flowers track --force")
    try:
        yield stream.on_epoch
    except BaseException as error:
        stream.close("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    stream.close("FINISHED")


def _open(params: Params) -> Opened:
    key = run_key.compute(params)
    with store.lock():
        client = store.connect()
        found = runs.with_key(client, key.key)
        unfinished = [run for run in found if runs.RESULT not in run.data.tags]
        run = runs.obtain(client, params, key, (unfinished or found or [None])[-1])
        runs.note_origin(client, run)
    if runs.RESULT in run.data.tags:
        return None  # trained again although it is complete: there is nothing to add
    client.set_tag(run.info.run_id, runs.PROCESSOR, provenance.processor())
    return client, run


class Stream:
    """The open end of a run. Where there is none (complete already, or after trouble), epochs are let go by."""

    def __init__(self, open_run: Callable[[], Opened], later: str) -> None:
        """`open_run` finds or makes the run; `later` tells the user what to run where that failed."""
        self._waiting: list[Point] = []
        self._written = float("-inf")
        self._run: Any = None
        self._later = later
        self._attempt(lambda: self._begin(open_run()))

    def on_epoch(self, row: Row) -> None:
        """Take one epoch; it is in the store at once, or within the second."""
        if self._run is not None:
            self._attempt(lambda: self._take(row))

    def close(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Write what waits, add the tags, and end the run. FINISHED means trained: `publish` adds the rest."""
        if self._run is not None:
            self._attempt(self._write)
        if self._run is not None:
            self._attempt(lambda: self._end(status, tags or {}))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            with store.patience(*store.SHORT):
                act()
        except Exception as error:
            self._run = None
            reason = store.without_password(" ".join(str(error).split()))[:200]
            console.warn(f"not tracked while it trains: {reason}. {self._later}")

    def _begin(self, opened: Opened) -> None:
        if opened is None:
            return
        self._client, run = opened
        if run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._run = run

    def _end(self, status: str, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self._client.set_tag(self._run.info.run_id, name, value)
        runs.end(self._client, self._run, status)

    def _take(self, row: Row) -> None:
        self._waiting.append(point(row))
        if time.monotonic() - self._written >= _EVERY_SECONDS:
            self._write()

    def _write(self) -> None:
        """Write the waiting epochs that are not there yet: MLflow keeps a point that comes twice as two."""
        rows, self._waiting = [row for row in self._waiting if row[1]], []
        self._written = time.monotonic()
        if not rows:
            return
        run_id = self._run.info.run_id
        with store.lock():  # another process may stream the same run, from an experiment with equal inputs
            # An epoch is written in one transaction, so that one of its metrics stands for all.
            first = {next(iter(values)) for _, values in rows}
            there = {(name, metric.step) for name in first for metric in self._client.get_metric_history(run_id, name)}
            missing = [row for row in rows if (next(iter(row[1])), row[0]) not in there]
            runs.log_points(self._client, run_id, missing)
