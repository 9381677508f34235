"""Who trains a trial, and whether it still does: so that a trial is neither lost with its process nor trained twice."""

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

# Attributes of a trial
WORKER = "worker"  # host, process, and when that began
SAID = "alive"  # when the worker last said so, in seconds since 1970

BEAT_SECONDS = 60.0
SILENT_SECONDS = 600.0  # after which a worker on another machine is taken for dead


def myself() -> str:
    """What this process is called in the attributes of its trial."""
    import psutil

    return f"{platform.node()} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_alive(trial: "FrozenTrial") -> bool:
    """Whether a trial's worker is: on this machine its process is looked for, on another one its last word counts."""
    import psutil

    if WORKER not in trial.user_attrs:  # it died before it could say its name
        return False
    host, process, began = trial.user_attrs[WORKER].rsplit(" ", 2)
    if host != platform.node():
        return time.time() - float(trial.user_attrs.get(SAID, 0)) < SILENT_SECONDS
    try:
        there = psutil.Process(int(process))
        # The start is rounded, and the clock may have been set since.
        same: bool = abs(there.create_time() - float(began)) < 5
        return same and bool(there.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


@contextlib.contextmanager
def said(trial: "Trial") -> Iterator[None]:
    """Say now and then that this process still trains the trial."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(BEAT_SECONDS):
            with contextlib.suppress(Exception):  # the training itself will notice a storage that is gone
                trial.set_user_attr(SAID, time.time())

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
