"""Where a result comes from: git commit, DVC experiment, processor."""

import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

_TAG_LIMIT = 5000  # characters; MLflow refuses longer tags


def commit() -> str | None:
    """HEAD, and whether it alone reproduces the run: '<40 hex digits> clean' or '... with changes'; None without git.

    Only what decides a result is looked at: dvc.lock is always changed while the pipeline runs, and a stray note in
    the checkout changes nothing.
    """
    head = _git("rev-parse", "HEAD")
    if not head:
        return None
    changes = _git("status", "--porcelain", "--", "src", "dvc.yaml", "params.yaml", "pyproject.toml", "*.dvc")
    return f"{head} {'clean' if changes == '' else 'with changes'}"


def experiment() -> str | None:
    """The name of the DVC experiment that is running, if one is."""
    return os.environ.get("DVC_EXP_NAME") or None


def processor() -> str:
    """The kind of processor, as a person would name it: results are equal bit by bit on one kind."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()} ({platform.machine()})"
    except OSError:
        pass
    return f"{platform.processor() or platform.system()} ({platform.machine()})"


def extended(tag: str | None, item: str | None) -> str | None:
    """The JSON list in `tag` with `item` added; None if there is nothing to add.

    When the tag is full the oldest items give way.
    """
    items = _items(tag)
    if item is None or item in items:
        return None
    items.append(item)
    while len(json.dumps(items)) > _TAG_LIMIT and len(items) > 1:
        items.pop(0)
    return json.dumps(items, ensure_ascii=False)


def _items(tag: str | None) -> list[str]:
    try:
        items = json.loads(tag or "[]")
    except ValueError:  # edited by hand in the UI
        items = [tag]
    return [str(item) for item in items] if isinstance(items, list) else [str(items)]


def _git(*arguments: str) -> str | None:
    if not (git := shutil.which("git")):
        return None
    try:
        done = subprocess.run([git, *arguments], capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
