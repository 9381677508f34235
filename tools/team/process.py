"""Background processes that a later process can end: each leaves its id in the folder of the servers."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 90.0  # seconds, to start or to end


class NotStarted(RuntimeError):
    """A server ended, or did not respond in time; the text is its log."""


class Process:
    """A server in a session of its own, which can be stopped and started again."""

    def __init__(self, name: str, folder: Path) -> None:
        """`folder` takes the log and the file with the process id."""
        self.log = folder / f"{name}.log"
        self._file = folder / f"{name}.pid"

    def start(
        self,
        command: list[str | Path],
        environment: Mapping[str, str],
        ready: Callable[[], bool],
        **as_whom: Any,
    ) -> None:
        """Start it and wait until it is ready. Raises NotStarted."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=self.log.parent,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **as_whom,
            )
        self._file.write_text(json.dumps([process.pid, psutil.Process(process.pid).create_time()]))
        deadline = time.monotonic() + PATIENCE
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGKILL)
                raise NotStarted(self.log.read_text(errors="replace")[-3000:])
            time.sleep(0.05)

    def stop(self, kind: signal.Signals) -> None:
        """Send a signal to it and to its children, and wait until all have ended."""
        family = self._family()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(kind)
        _, alive = psutil.wait_procs(family, PATIENCE)
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._file.unlink(missing_ok=True)

    def _family(self) -> list[psutil.Process]:
        """The process and its children; none if it has ended, even if another one has its id now."""
        try:
            number, created = json.loads(self._file.read_text())
            process = psutil.Process(number)
            if process.create_time() != created:
                return []
            return [process, *process.children(recursive=True)]
        except (OSError, ValueError, psutil.NoSuchProcess):
            return []


def free_port() -> int:
    """A loopback port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def listens(port: int) -> bool:
    """Whether somebody listens at a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def write_secret(file: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
