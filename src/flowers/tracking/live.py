"""Streaming epochs to the store while training runs. Errors of the store never reach the training."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from flowers.common import console
from flowers.config.params import Params
from flowers.tracking import provenance, run_key, runs, store
from flowers.tracking.result import Point, point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Row = dict[str, float | str]  # the columns of build/history.csv
OnEpoch = Callable[[Row], None]
Opened = tuple["MlflowClient", "Run"] | None  # None: the run is complete

_EVERY_SECONDS = 1.0  # epochs of a head take a tenth of a second: several are written together


@contextlib.contextmanager
def live_run(params: Params) -> Iterator[OnEpoch]:
    """Open or resume the run of these inputs, and yield a callback for each epoch's row of the history.

    If the body raises, the run ends as FAILED (KILLED when it was interrupted) and the exception goes on. An error of
    the store is one warning, and training continues without tracking.
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
        return None
    client.set_tag(run.info.run_id, runs.PROCESSOR, provenance.processor())
    return client, run


class Stream:
    """An open run that epochs are written to. Without one (complete before, or after an error) epochs are dropped."""

    def __init__(self, open_run: Callable[[], Opened], later: str) -> None:
        """`open_run` finds or creates the run; `later` is what the user can do after an error."""
        self._waiting: list[Point] = []
        self._written = float("-inf")
        self._opened: Opened = None
        self._later = later
        with self._attempt():
            opened = open_run()
            if opened is not None and opened[1].info.status != "RUNNING":
                opened[0].update_run(opened[1].info.run_id, status="RUNNING")
            self._opened = opened

    def on_epoch(self, row: Row) -> None:
        """Take one epoch; it is in the store within a second."""
        if self._opened is None:
            return
        with self._attempt():
            self._waiting.append(point(row))
            if time.monotonic() - self._written >= _EVERY_SECONDS:
                self._write(*self._opened)

    def close(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Write the waiting epochs, add the tags, and end the run. FINISHED means trained: `publish` adds the rest."""
        if self._opened is None:
            return
        with self._attempt():
            client, run = self._opened
            self._write(client, run)
            for name, value in (tags or {}).items():
                client.set_tag(run.info.run_id, name, value)
            runs.end(client, run, status)

    @contextlib.contextmanager
    def _attempt(self) -> Iterator[None]:
        try:
            with store.patience(*store.SHORT):
                yield
        except Exception as error:
            self._opened = None
            console.warn(f"MLflow tracking is off for this training: {store.reason(error)}. {self._later}")

    def _write(self, client: "MlflowClient", run: "Run") -> None:
        rows, self._waiting = self._waiting, []
        self._written = time.monotonic()
        with store.lock():  # another process may stream the same run, from an experiment with equal inputs
            runs.log_points(client, run.info.run_id, rows)
