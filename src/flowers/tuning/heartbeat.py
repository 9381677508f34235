"""Who trains a trial, and whether it still does: so that a trial is neither lost with its process nor trained twice."""

import contextlib
import os
import platform
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.tuning.background import repeating

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial, Trial

# Attributes of a trial
WORKER = "worker"  # machine, process, and when that began
SAID = "alive"  # when the worker last said so, in seconds since 1970

BEAT_SECONDS = 60.0
SILENT_SECONDS = 600.0  # after which a worker on another machine is taken for dead


def machine() -> str:
    """The machine, as processes that see each other know it: its name, this start of it, and the space of process ids.

    Names alone do not tell machines apart: many are called localhost, and a container's may be its host's.
    """
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        start += f"-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        start = f"{uuid.getnode():x}"
    return f"{platform.node()}/{start}"


def myself() -> str:
    """What this process is called in the attributes of its trial."""
    import psutil

    return f"{machine()} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_alive(trial: "FrozenTrial") -> bool:
    """Whether a trial's worker is: on this machine its process is looked for, on another one its last word counts."""
    import psutil

    if WORKER not in trial.user_attrs:  # it died before it could say its name
        return False
    where, process, began = trial.user_attrs[WORKER].rsplit(" ", 2)
    if where != machine():
        said = float(trial.user_attrs.get(SAID, 0))
        started_since = where.partition("/")[0] == platform.node() and said < psutil.boot_time()
        return not started_since and time.time() - said < SILENT_SECONDS
    try:
        there = psutil.Process(int(process))
        # The start is rounded, and the clock may have been set since.
        same: bool = abs(there.create_time() - float(began)) < 5
        return same and bool(there.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def said(trial: "Trial") -> contextlib.AbstractContextManager[None]:
    """Say now and then, while the body runs, that this process still trains the trial."""
    # Where it cannot be said, the training itself will notice that the storage is gone.
    return repeating(lambda: trial.set_user_attr(SAID, time.time()), BEAT_SECONDS)
