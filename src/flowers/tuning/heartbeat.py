"""Heartbeats of trials in training: a trial is neither lost with its process nor trained twice.

Optuna's own heartbeat (RDBStorage with RetryHeartbeatStaleTrialCallback) does not fit: JournalStorage, the default here,
has none; a retried trial gets a new number there, so a study would hold more than n_trials trials and sample others than
an uninterrupted one; and a process that died on this machine would be noticed only after the grace period.
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
WORKER = "worker"  # machine, process id and start of the process
HEARTBEAT = "heartbeat"  # the last one, in seconds since 1970

INTERVAL_SECONDS = 60.0
STALE_SECONDS = 600.0  # without a heartbeat, after which a worker on another machine counts as dead
_CLOCK_SECONDS = 5.0  # by which the start of a process may seem to move when the clock is set


def machine() -> str:
    """The machine as processes with a common space of process ids know it.

    Names alone do not tell machines apart: many are called localhost, and a container may have its host's name.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()}/{boot}-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:  # not Linux
        return f"{platform.node()}/{uuid.getnode():x}"


def this_worker() -> str:
    """The value of WORKER for this process."""
    import psutil

    return f"{machine()} {os.getpid()} {psutil.Process().create_time():.0f}"


def is_alive(trial: "FrozenTrial") -> bool:
    """Whether a trial's worker runs: its process on this machine, its last heartbeat on another one."""
    import psutil

    if WORKER not in trial.user_attrs:  # the process died before it wrote the attribute
        return False
    where, process, began = trial.user_attrs[WORKER].rsplit(" ", 2)
    if where != machine():
        return time.time() - float(trial.user_attrs.get(HEARTBEAT, 0)) < STALE_SECONDS
    try:
        found = psutil.Process(int(process))
        same = abs(found.create_time() - float(began)) < _CLOCK_SECONDS
        return bool(same and found.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def beating(trial: "Trial") -> contextlib.AbstractContextManager[None]:
    """Write heartbeats of a trial while the body runs."""
    return repeating(lambda: trial.set_user_attr(HEARTBEAT, time.time()), INTERVAL_SECONDS)
