"""The pipeline in a temporary worktree: that commit's code, DVC's cache, the user's cache, a store to throw away."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.runs.reproduce import worktree

PHOTOS, RESULT = ("download", "split"), ("train", "evaluate")  # never track: the user's store stays as it is

_PATIENCE = 20  # seconds for the pipeline to end when it is interrupted
# What ties a process to another repository, run or experiment.
_TIES = ("DVC_ROOT", "DVC_STAGE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_OBJECT_DIRECTORY")
_TIED = ("DVC_EXP", "MLFLOW_")


def environment(folder: Path, fresh: bool) -> dict[str, str]:
    """The variables for what runs in the worktree `folder`.

    With `fresh` the activations are computed anew: only archives and weights, which are checked by their hash, come
    from the user's cache.
    """
    ours = {name: value for name, value in os.environ.items() if name not in _TIES and not name.startswith(_TIED)}
    # DVC takes a bare `python` from the PATH, and it must be the one whose packages are in use here.
    python = os.path.dirname(sys.executable)  # noqa: PTH120
    ours |= {
        "PATH": os.pathsep.join([python, ours.get("PATH", os.defpath)]),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / ".dvc/tmp/site"),
        # The store into which the training streams its epochs goes with the worktree.
        "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / paths.TRACKING / 'mlflow.db').as_posix()}",
        "FLOWERS_CACHE": str(_fresh_cache(folder) if fresh else paths.cache_folder().resolve()),
    }
    return ours


def _fresh_cache(folder: Path) -> Path:
    """A cache without activations in the worktree; links lead to the rest of the user's."""
    cache = folder / ".dvc/tmp/cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in ("archives", "weights"):
        shared = paths.cache_folder().resolve() / name
        shared.mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(shared, target_is_directory=True)
    return cache


def fetch_data(folder: Path, variables: Mapping[str, str]) -> None:
    """Bring data/ as data.dvc versions it into the worktree: from DVC's cache, else from a remote.

    Raises UserError where neither has it.
    """
    if _dvc(folder, variables, "checkout", "data.dvc").returncode == 0:
        return
    console.say("Pulling the photos: they are not in DVC's cache")
    if _dvc(folder, variables, "pull", "data.dvc").returncode == 0:
        return
    worktree.share_dvc(folder, remotes=True)
    done = _dvc(folder, variables, "pull", "data.dvc")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or ["DVC gives no reason"]
        raise UserError(f"the photos of the run are in no DVC cache or remote any more: {reason[0]}")


def run(stages: Sequence[str], folder: Path, variables: Mapping[str, str]) -> None:
    """Run these stages in the worktree, whatever DVC knows of them; raises UserError where one fails.

    What they say goes to standard error. Nothing enters DVC's cache: there, another result would take the place of the
    one that this repository has.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-commit", "--single-item", *stages]
    # A group of its own, so that all of it can be ended before the folder is removed.
    child = subprocess.Popen(command, cwd=folder, env=dict(variables), stdout=2, start_new_session=True)
    try:
        status = child.wait()
    except BaseException:
        _end(child)
        raise
    if status:
        raise UserError(
            f"the pipeline failed ({' or '.join(stages)}) with the code of the run; its reason stands above"
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(child.pid, signal.SIGINT)
        child.wait(_PATIENCE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


@contextlib.contextmanager
def ended_in_order() -> Iterator[None]:
    """Let a request to terminate end the command as Ctrl-C does: what was made is removed first."""

    def leave(*_: object) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _dvc(folder: Path, variables: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, env=dict(variables), capture_output=True, text=True, check=False)
