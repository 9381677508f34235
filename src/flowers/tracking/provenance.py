"""The origin of a result: git commit, uncommitted changes, DVC experiment, processor."""

import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

CLEAN, CHANGED = "clean", "with changes"  # after a commit: whether it alone reproduces the run

_DECIDES = ("src", "dvc.yaml", "params.yaml", "pyproject.toml", "*.dvc")
_TAG_LIMIT = 5000  # characters, MLflow's limit

# Flags of /proc/cpuinfo, the widest instruction set first.
_INSTRUCTION_SETS = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with bfloat16",
    "avx512f": "AVX-512",
    "avx2": "AVX2",
    "avx": "AVX",
    "sse4_1": "SSE4.1",
}


def commit() -> str | None:
    """HEAD, and whether it alone reproduces the run: '<40 hex digits> clean' or '... with changes'; None without git.

    Only files that decide a result count: dvc.lock always changes while the pipeline runs.
    """
    head = git("rev-parse", "HEAD")
    if not head:
        return None
    changes = git("status", "--porcelain", "--untracked-files=normal", "--", *_DECIDES)
    return f"{head} {CLEAN if changes == '' else CHANGED}"


def changes() -> bytes | None:
    """The uncommitted changes as a patch for `git apply`; None if git fails.

    The patch includes new files that git does not ignore. The user's index is not touched: a temporary one is used.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        new = None
        if _run(["read-tree", "HEAD"], environment) is not None:
            new = _run(["ls-files", "--others", "--exclude-standard", "-z", "--", *_DECIDES], environment)
        if new:  # intent-to-add: the patch below then includes their content
            add = ["--literal-pathspecs", "add", "--intent-to-add", "--pathspec-from-file=-", "--pathspec-file-nul"]
            if _run(add, environment, new) is None:
                return None
        # The user's settings must not change the form of the patch.
        form = ["--binary", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative", "-U3"]
        prefixes = ["--src-prefix=a/", "--dst-prefix=b/"]
        return None if new is None else _run(["diff", *form, *prefixes, "HEAD", "--", *_DECIDES], environment)


def experiment() -> str | None:
    """The name of the running DVC experiment, if any."""
    return os.environ.get("DVC_EXP_NAME") or None


def processor() -> str:
    """The kind of processor with its widest instruction set: on one kind, equal inputs give equal bits."""
    try:
        first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return f"{platform.processor() or platform.system()} ({platform.machine()})"
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    flags = facts.get("flags", "").split()
    widest = next((name for flag, name in _INSTRUCTION_SETS.items() if flag in flags), "")
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "")
    details = [platform.machine(), widest, limit and f"oneDNN limited to {limit}"]
    return f"{facts.get('model name', platform.system())} ({', '.join(filter(None, details))})"


def extended(tag: str | None, item: str | None) -> str | None:
    """The JSON list in `tag` with `item` added, cut to MLflow's limit from its start; None if nothing changes."""
    listed = items(tag)
    if item is None or item in listed:
        return None
    listed.append(item)
    while len(json.dumps(listed)) > _TAG_LIMIT and len(listed) > 1:
        listed.pop(0)
    return json.dumps(listed, ensure_ascii=False)


def items(tag: str | None) -> list[str]:
    """The JSON list in `tag`."""
    try:
        found = json.loads(tag or "[]")
    except ValueError:  # edited by hand in the UI
        found = [tag]
    return [str(item) for item in found] if isinstance(found, list) else [str(found)]


def refusal() -> str | None:
    """Why git finds no repository in the current directory, in its own words; None if it finds one."""
    try:
        subprocess.run(["git", "rev-parse", "--git-dir"], capture_output=True, check=True, timeout=60)
    except subprocess.CalledProcessError as error:
        return " ".join(error.stderr.decode("utf-8", "replace").split()) or str(error)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None


def git(*arguments: str) -> str | None:
    """The stripped output of a git command; None if it fails or there is no git."""
    output = _run(arguments)
    return None if output is None else output.decode("utf-8", "replace").strip()


def file(revision: str, path: Path) -> bytes | None:
    """A file, relative to the current directory, as a git revision holds it; None if there is none, or no git."""
    return _run(["show", f"{revision}:./{path.as_posix()}"])


def _run(arguments: Sequence[str], env: Mapping[str, str] | None = None, given: bytes | None = None) -> bytes | None:
    try:
        done = subprocess.run(["git", *arguments], env=env, input=given, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
