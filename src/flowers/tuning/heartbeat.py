"""Which process trains a trial, and whether it is alive: no trial is lost with its process, and none is trained twice.

Optuna's own heartbeat exists for relational storages only, not for a journal file, and has only the clock to go by; a
process that was killed on this machine is found at once here.
"""

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
HEARTBEAT = "alive"  # the time of the last heartbeat, in seconds since 1970

BEAT_SECONDS = 60.0
STALE_SECONDS = 600.0  # without a heartbeat, after which a worker on another machine counts as dead


def machine() -> str:
    """The machine: its name, its boot, and the namespace of its process ids.

    The name alone is not enough: many machines are called localhost, and a container may have its host's name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()}/{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return f"{platform.node()}/{uuid.getnode():x}"


def worker_id() -> str:
    """The name of this process in the attributes of its trial."""
    import psutil

    return f"{machine()} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_alive(trial: "FrozenTrial") -> bool:
    """Whether a trial's worker is alive: on this machine by its process, on another one by its last heartbeat."""
    import psutil

    if WORKER not in trial.user_attrs:  # it died before it wrote its name
        return False
    where, process, began = trial.user_attrs[WORKER].rsplit(" ", 2)
    if where != machine():
        last = float(trial.user_attrs.get(HEARTBEAT, 0))
        rebooted = where.partition("/")[0] == platform.node() and last < psutil.boot_time()
        return not rebooted and time.time() - last < STALE_SECONDS
    try:
        found = psutil.Process(int(process))
        same = abs(found.create_time() - float(began)) < _CLOCK_SECONDS
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def beating(trial: "Trial") -> contextlib.AbstractContextManager[None]:
    """Write a heartbeat every minute while the body runs."""
    # A heartbeat that fails is ignored: the training itself notices that the storage is gone.
    return repeating(lambda: trial.set_user_attr(HEARTBEAT, time.time()), BEAT_SECONDS)
