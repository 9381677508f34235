"""A temporary git worktree of a commit, in which the pipeline runs with this repository's DVC cache."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.tracking import provenance

# Variables with these prefixes tie a process to another repository, stage, experiment or run.
_TIES = ("DVC_EXP", "DVC_ROOT", "DVC_STAGE", "GIT_DIR", "GIT_INDEX", "GIT_OBJECT", "GIT_PREFIX", "GIT_WORK", "MLFLOW_")


def git(*arguments: str, folder: Path | None = None, given: bytes = b"") -> str:
    """Run git and return its output. Raises UserError with git's reason where it fails or is not installed."""
    try:
        # Without hooks: DVC's would check outputs out.
        command = ["git", "-c", "core.hooksPath=/dev/null", *arguments]
        done = subprocess.run(command, cwd=folder, input=given, capture_output=True, check=False)
    except FileNotFoundError:
        raise UserError("git is not installed; a run is reproduced in a clone that has its commit") from None
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed: {' '.join(done.stderr.decode().split())[:500]}")
    return done.stdout.decode().strip()


def has(commit: str) -> bool:
    """Whether this clone has a commit."""
    return provenance.git("cat-file", "-e", f"{commit}^{{commit}}") is not None


@contextlib.contextmanager
def checkout(commit: str, patch: bytes | None, keep: bool) -> Iterator[Path]:
    """Check a commit out into a temporary folder, and apply a patch; yields the project's folder there.

    The worktree is removed at the end unless `keep`. Raises UserError where the patch does not fit.
    """
    prefix = git("rev-parse", "--show-prefix")  # the project may be a folder of a larger repository
    above = Path(tempfile.mkdtemp(prefix="flowers-reproduce-")).resolve()
    folder = above / "checkout"
    try:
        git("worktree", "add", "--quiet", "--detach", str(folder), commit)
        if patch:
            git("apply", "--whitespace=nowarn", "-", folder=folder, given=patch)
        yield folder / prefix
    finally:
        if keep:
            console.say(f"Kept: {folder / prefix}. To remove it: git worktree remove --force {folder}")
        else:
            provenance.git("worktree", "remove", "--force", str(folder))
            shutil.rmtree(above, ignore_errors=True)


def share_dvc(folder: Path) -> None:
    """Give DVC in the worktree this repository's cache and local settings; remotes are those of the commit."""
    from dvc.config import Config

    here = Config(dvc_dir=".dvc")
    cache = Path(here.get("cache", {}).get("dir") or ".dvc/cache").resolve()
    with Config(dvc_dir=str(folder / ".dvc")).edit("local") as there:
        # Through JSON paths become plain strings; DVC would write its own type relative to the file.
        there.update(json.loads(json.dumps(here.read("local"))))
        there.setdefault("cache", {})["dir"] = str(cache)
        there.setdefault("core", {})["autostage"] = True  # else DVC prints which git commands to type


def environment(folder: Path, fresh: bool) -> dict[str, str]:
    """The environment of commands in the worktree: this Python, a throw-away MLflow store, the user's cache.

    With `fresh`, the cache holds no activations, only links to archives and weights, which are verified by hash.
    """
    cache = paths.cache_folder().resolve()
    if fresh:
        links = folder / ".dvc/tmp/cache"
        links.mkdir(parents=True)
        for name in ("archives", "weights"):
            (cache / name).mkdir(parents=True, exist_ok=True)
            (links / name).symlink_to(cache / name, target_is_directory=True)
        cache = links
    return {name: value for name, value in os.environ.items() if not name.startswith(_TIES)} | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / ".dvc/tmp/site"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{(folder / 'mlflow.db').as_posix()}",
        "FLOWERS_CACHE": str(cache),
    }


def fetch_data(folder: Path, variables: Mapping[str, str]) -> None:
    """Check data/ out as data.dvc versions it, from DVC's cache, else from the remote. Raises UserError."""
    for command in ("checkout", "pull"):
        dvc = [sys.executable, "-m", "dvc", command, "data.dvc"]
        done = subprocess.run(dvc, cwd=folder, env=dict(variables), capture_output=True, text=True, check=False)
        if not done.returncode:
            return
    reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    raise UserError(f"the images of the run are in no DVC cache or remote any more: {reason}")


def repro(stages: tuple[str, ...], folder: Path, variables: Mapping[str, str]) -> None:
    """Run these stages whether or not they are up to date; their output goes to standard error.

    Nothing enters DVC's cache, which is that of this repository. Raises UserError where a stage fails.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--force", "--no-commit", "--single-item", *stages]
    # A process group, so that an interrupt ends the stage with it before the worktree is removed.
    process = subprocess.Popen(command, cwd=folder, env=dict(variables), stdout=2, start_new_session=True)
    try:
        status = process.wait()
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if status:
        raise UserError(f"the pipeline failed ({', '.join(stages)}) with the code of the run; see above")
