"""A temporary worktree: a commit, the changes that were kept, a run's parameters, and this repository's DVC cache."""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.runs.reproduce import yaml_file

# The hooks that DVC installs would check out outputs as soon as a commit is.
_NO_HOOKS = ("-c", "core.hooksPath=/dev/null")


def has(commit: str) -> bool:
    """Whether this clone has a commit. Raises UserError outside of a git repository."""
    return _git("cat-file", "-e", f"{commit}^{{commit}}", check=False).returncode == 0


def prefix() -> Path:
    """Where the project lies in its git repository; mostly at the root. Raises UserError where there is none."""
    return Path(_git("rev-parse", "--show-prefix").stdout.strip())


@contextlib.contextmanager
def checkout(commit: str, keep: bool) -> Iterator[Path]:
    """A commit in a temporary folder outside of the repository: yields the project's folder there.

    It is removed at the end, however that comes, unless it is to be kept.
    """
    inside = prefix()
    above = Path(tempfile.mkdtemp(prefix="flowers-reproduce-")).resolve()
    folder = above / "checkout"
    try:
        _git(*_NO_HOOKS, "worktree", "add", "--quiet", "--detach", str(folder), commit)
        yield folder / inside
    finally:
        if keep and folder.exists():
            console.say(f"Kept: {folder / inside}. To remove it: git worktree remove --force {folder}")
        else:
            _remove(folder)
            shutil.rmtree(above, ignore_errors=True)


def _remove(folder: Path) -> None:
    if not folder.exists():
        return
    # `git worktree prune` forgets every worktree whose folder is away, a user's on another disk too: only where needed.
    if _git("worktree", "remove", "--force", str(folder), check=False).returncode:
        shutil.rmtree(folder, ignore_errors=True)
        _git("worktree", "prune", check=False)


def apply(patch: Path, folder: Path) -> None:
    """Apply the changes that were kept. Raises UserError where they do not fit."""
    if not patch.stat().st_size:
        return  # git takes an empty one for a broken one
    top = Path(_git("rev-parse", "--show-toplevel", folder=folder).stdout.strip())
    _git("apply", "--whitespace=nowarn", str(patch.resolve()), folder=top)


def set_parameters(folder: Path, of_run: Path, counting: Collection[str]) -> list[str]:
    """Give the checkout the parameters of the run; returns those that the code of the checkout does not know.

    `counting` are the keys that decide a result (head.dropout, ...): the others, and the file where all are equal, stay
    as the commit has them. Raises UserError where one of the two files cannot be read.
    """
    file = folder / paths.PARAMS
    document, wanted = yaml_file.read(file, keep_form=True), yaml_file.read(of_run)
    changed, unknown = False, []
    for section, values in wanted.items():
        there = document.get(section)
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if f"{section}.{name}" not in counting:
                continue
            if not isinstance(there, dict) or name not in there:
                unknown.append(f"{section}.{name}")
            elif json.dumps(there[name], default=str) != json.dumps(value, default=str):
                there[name], changed = value, True
    if changed:
        yaml_file.write(document, file)
    return unknown


def share_dvc(folder: Path, remotes: bool) -> None:
    """Let DVC in the checkout use this repository's cache and its local settings; with `remotes`, its remotes as well.

    Otherwise the remotes are those of the commit: the photos of a remote inside of the repository may be in git. Call
    it first without.
    """
    from dvc.config import Config

    here = Config(dvc_dir=".dvc")
    cache = Path(here.get("cache", {}).get("dir") or ".dvc/cache").resolve()
    # Paths in a configuration are relative to it: DVC makes them absolute when it reads, and here they must stay so.
    levels = [here.read(level) for level in (("repo", "local") if remotes else ("local",))]
    with Config(dvc_dir=str(folder / ".dvc")).edit("local") as there:
        for level in levels:
            for section in ("core", "remote"):
                _merge(there.setdefault(section, {}), level.get(section, {}))
        there.setdefault("cache", {})["dir"] = str(cache)
        there["core"]["autostage"] = True  # else DVC says what to type, and this is no place to type it in


def _merge(into: dict[str, Any], update: Mapping[str, Any]) -> None:
    for name, value in update.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(name, {}), value)
        else:
            into[name] = str(value) if isinstance(value, str) else value


def _git(*arguments: str, folder: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run git, here or in a folder. Raises UserError without git or a repository, and, with `check`, if it fails."""
    if not (git := shutil.which("git")):
        raise UserError("git is not installed, which knows the commit of a run")
    environment = os.environ | {"LC_ALL": "C"}  # what it says is looked at below
    done = subprocess.run([git, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if "not a git repository" in done.stderr:
        raise UserError("this is no git repository: a run is reproduced in a clone that has its commit")
    if check and done.returncode:
        name = next(word for word in arguments if word in ("worktree", "apply", "rev-parse"))
        raise UserError(f"git {name} failed: {' '.join(done.stderr.split())}")
    return done
