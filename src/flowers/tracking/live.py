"""Streaming: each epoch appears in the store while training runs, and trouble there never reaches the training."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from flowers import console, run_key
from flowers.params import Params
from flowers.tracking import provenance, runs, store
from flowers.tracking.result import Point, point

Row = dict[str, float | str]  # the columns of build/history.csv
OnEpoch = Callable[[Row], None]

_EVERY_SECONDS = 1.0  # epochs of a head take a tenth of a second: a few of them are written together


@contextlib.contextmanager
def live_run(params: Params) -> Iterator[OnEpoch]:
    """Open or resume the run of these inputs, and yield what is to be called with each epoch's row of the history.

    If the body raises, the run ends as FAILED (KILLED when it was interrupted) and the exception goes on. Whatever
    goes wrong with the store itself is said in one warning, and training continues without it.
    """
    stream = _Stream(params)
    try:
        yield stream.on_epoch
    except BaseException as error:
        stream.close("FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    stream.close("FINISHED")


class _Stream:
    """The open end of a run. While `_run` is None (complete already, or after trouble) epochs are let go by."""

    def __init__(self, params: Params) -> None:
        self._waiting: list[Point] = []
        self._written = float("-inf")
        self._run: Any = None
        self._attempt(lambda: self._open(params))

    def on_epoch(self, row: Row) -> None:
        """Take one epoch; it is in the store at once, or within the second."""
        if self._run is not None:
            self._attempt(lambda: self._take(row))

    def close(self, status: str) -> None:
        """Write what waits, and end the run. FINISHED means trained: `publish` adds the rest."""
        if self._run is not None:
            self._attempt(self._write)
        if self._run is not None:
            self._attempt(lambda: runs.end(self._client, self._run, status))

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            with store.patience(*store.SHORT):
                act()
        except Exception as error:
            self._run = None
            reason = " ".join(str(error).split())[:200]
            console.warn(f"not tracked while it trains: {reason}. To publish it later: flowers track --force")

    def _open(self, params: Params) -> None:
        key = run_key.compute(params)
        with store.lock():
            self._client = store.connect()
            found = runs.with_key(self._client, key.key)
            unfinished = [run for run in found if runs.RESULT not in run.data.tags]
            run = runs.obtain(self._client, params, key, (unfinished or found or [None])[-1])
            runs.note_origin(self._client, run)
        if runs.RESULT in run.data.tags:
            return  # trained again although it is complete: there is nothing to add
        self._client.set_tag(run.info.run_id, runs.PROCESSOR, provenance.processor())
        if run.info.status != "RUNNING":
            self._client.update_run(run.info.run_id, status="RUNNING")
        self._run = run

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
            there = {metric.step for metric in self._client.get_metric_history(run_id, next(iter(rows[0][1])))}
            runs.log_points(self._client, run_id, [row for row in rows if row[0] not in there])
