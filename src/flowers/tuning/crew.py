"""Several workers on one machine: processes that take trials of one study, each with its share of the cores."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess

from flowers.common import console
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.tuning.study import Study
from flowers.tuning.worker import Stop

_POLL_SECONDS = 0.5
_DEATHS = 4  # without a trial that ended in between: it is not a trial that kills the workers


@dataclass(frozen=True)
class Task:
    """What a worker process is told: all of it can be sent to another process."""

    settings: Params
    storage: str
    study: str
    n_trials: int


def work(task: Task, study: Study, workers: int, stop: Stop) -> None:
    """Let that many processes train the trials that are left; one that dies is replaced.

    Raises UserError where workers die, or end with an error, again and again.
    """
    crew: list[BaseProcess] = []
    ended, deaths, dismissed = _ended(study), 0, False
    while crew or not (stop.asked or study.finished(task.n_trials)):
        for process in [process for process in crew if process.exitcode is not None]:
            crew.remove(process)
            if process.exitcode and not stop.asked:
                deaths = deaths + 1 if ended == (ended := _ended(study)) else 1
                console.warn(
                    f"a worker ended with {_reason(process.exitcode)}; a trial that it left is trained once more"
                )
        if (stop.asked or deaths >= _DEATHS) and not dismissed:
            dismissed = True
            for process in crew:
                process.terminate()  # it ends after its epoch
        if deaths >= _DEATHS:
            for process in crew:
                process.join()
            raise UserError(f"{deaths} workers ended one after the other; try fewer --workers (memory?), or one")
        while len(crew) < workers and not (stop.asked or study.finished(task.n_trials)):
            crew.append(_start(task, workers))
        time.sleep(_POLL_SECONDS)


def _start(task: Task, workers: int) -> BaseProcess:
    """A fresh process: TensorFlow does not survive a fork, and takes its number of threads from the environment."""
    share = str(max(1, (os.cpu_count() or 1) // workers))
    names = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: share for name in names if before[name] is None})
    # Ctrl-C reaches all processes of a terminal, but the first one passes it on: here it waits, there it never comes.
    resource_tracker.ensure_running()  # else starting the process does, and lets signals through
    before_mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = multiprocessing.get_context("spawn").Process(target=_train, args=(task,), daemon=True)
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before_mask)
        for name in [name for name in names if before[name] is None]:
            del os.environ[name]
    return process


def _train(task: Task) -> None:
    """What a worker process does."""
    from flowers.tuning import worker
    from flowers.tuning.run import study_runs
    from flowers.tuning.space import Space
    from flowers.tuning.storage import Storage

    own = Stop()
    threading.Thread(target=_end_with_the_command, args=(own,), daemon=True).start()
    try:
        with own.listening():
            space = Space(task.settings)
            study = Study(Storage(task.storage), space, task.study)
            worker.work(study, worker.Trainer(space), study_runs(study), task.n_trials, own)
    except (UserError, OSError) as error:
        console.fail(str(error))
        sys.exit(1)


def _end_with_the_command(own: Stop) -> None:
    """Nobody would see what a worker does whose command was killed, and Ctrl-C would not reach it."""
    command = multiprocessing.parent_process()
    assert command is not None
    command.join()
    own.asked = True


def _ended(study: Study) -> int:
    return sum(trial.state.is_finished() for trial in study.trials())


def _reason(exitcode: int) -> str:
    return f"signal {-exitcode}" if exitcode < 0 else f"exit status {exitcode}"
