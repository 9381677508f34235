"""Streaming epochs to the store while training runs. Errors of the store never reach the training.

A thread of its own writes, so that a slow server does not slow a training down.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from flowers.common import console
from flowers.config.params import Params
from flowers.tracking import provenance, run_key, runs, store
from flowers.tracking.result import point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Row = dict[str, float | str]  # the columns of build/history.csv
OnEpoch = Callable[[Row], None]
Opened = tuple["MlflowClient", "Run"] | None  # None: the run is complete

_EVERY_SECONDS = 1.0  # epochs of a head take a tenth of a second: several are written together
_AGAIN_SECONDS = 5.0  # after an error, the next attempt: a server that was restarted is there again
_WAIT_SECONDS = 4.0  # that a training waits for a server: once for its run, once for the last epochs


@contextlib.contextmanager
def live_run(params: Params) -> Iterator[OnEpoch]:
    """Open or resume the run of these inputs, and yield a callback for each epoch's row of the history.

    If the body raises, the run ends as FAILED (KILLED when it was interrupted) and the exception goes on. An error of
    the store is one warning, and training continues; a server that comes back gets the epochs it missed.
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
        unfinished = runs.ours([run for run in found if runs.RESULT not in run.data.tags])
        complete = [run for run in found if runs.RESULT in run.data.tags]
        run = runs.obtain(client, params, key, (unfinished or complete or [None])[-1])
        runs.note_origin(client, run)
    if runs.RESULT in run.data.tags:
        return None
    client.set_tag(run.info.run_id, runs.PROCESSOR, provenance.processor())
    return client, run


class Stream:
    """An open run that epochs are written to. Without one (complete before, or after an error) epochs are dropped."""

    def __init__(self, open_run: Callable[[], Opened], later: str) -> None:
        """`open_run` finds or creates the run; `later` is what the user can do after an error."""
        self._open_run, self._later = open_run, later
        self._waiting: list[Row] = []
        self._time_ms: int | None = None  # of an attempt that failed: the points that did arrive are the same again
        self._patience = _WAIT_SECONDS if store.is_server(store.uri()) else None
        self._bounds = contextlib.ExitStack()
        self._bounds.enter_context(store.patience(*store.SHORT))
        self._opened, self._closing = threading.Event(), threading.Event()
        self._ending: tuple[str, Mapping[str, str]] = ("", {})
        self._abandoned = False
        store.load()  # here: modules must not be imported by two threads at once
        self._thread = threading.Thread(target=self._work, name="tracking", daemon=True)
        self._thread.start()
        self._opened.wait(self._patience)

    def on_epoch(self, row: Row) -> None:
        """Take one epoch; it is in the store within a second or two."""
        self._waiting.append(row)

    def close(self, status: str, tags: Mapping[str, str] | None = None) -> None:
        """Write the waiting epochs, add the tags, and end the run. FINISHED means trained: `publish` adds the rest."""
        self._ending = (status, tags or {})
        self._closing.set()
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._abandoned = True
            self._warn(f"{store.without_password(store.uri())} takes longer than {_WAIT_SECONDS:g} s")
        self._bounds.close()

    def _warn(self, reason: str) -> None:
        console.warn(f"MLflow tracking is off for this training: {reason}. {self._later}")

    def _work(self) -> None:
        """Open the run, and write to it until the stream is closed."""
        try:
            opened = self._open_run()
            if opened is not None and opened[1].info.status != "RUNNING":
                opened[0].update_run(opened[1].info.run_id, status="RUNNING")
        except Exception as error:
            self._warn(store.reason(error))
            return
        finally:
            self._opened.set()
        if opened is None:
            return
        pause = _EVERY_SECONDS
        while not self._abandoned:
            last = self._closing.wait(pause)
            try:
                self._write(*opened)
                if last:
                    self._end(*opened)
                    return
                pause = _EVERY_SECONDS
            except Exception as error:
                if last:
                    if not self._abandoned:
                        self._warn(store.reason(error))
                    return
                pause = _AGAIN_SECONDS

    def _write(self, client: "MlflowClient", run: "Run") -> None:
        rows = list(self._waiting)
        if rows:
            self._time_ms = self._time_ms or int(time.time() * 1000)
            with store.lock():  # another process may stream the same run, from an experiment with equal inputs
                runs.log_points(client, run.info.run_id, [point(row) for row in rows], time_ms=self._time_ms)
            del self._waiting[: len(rows)]  # only now: after an error they are written later
            self._time_ms = None

    def _end(self, client: "MlflowClient", run: "Run") -> None:
        status, tags = self._ending
        if tags:
            runs.set_tags(client, run.info.run_id, tags)
        runs.end(client, run, status)
