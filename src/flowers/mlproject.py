"""What `mlflow run . -e <entry point> -P name=value` means: `dvc exp run -S key=value`, or `dvc repro` without any."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flowers.errors import UserError

ENTRY_POINTS = ("main", "download", "split", "train", "evaluate")


def run(stage: str, values: Sequence[str]) -> int:
    """Bring `stage` (or, for main, the whole pipeline) up to date; returns DVC's exit status.

    `values` are `section_key=value`, as MLproject names its parameters; one with an empty value changes nothing. Raises
    UserError for an unknown stage or a value without a name.
    """
    # DVC takes a bare `python` from the PATH, and it must be the one whose packages are in use here.
    python = os.path.dirname(sys.executable)  # noqa: PTH120
    environment = os.environ | {"PATH": os.pathsep.join([python, os.environ.get("PATH", "")])}
    if environment.get("MLFLOW_TRACKING_URI") == f"sqlite:///{Path.cwd() / 'mlflow.db'}":
        # MLflow's own default, which nobody chose: the result belongs into the project's store, beside the others.
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
            environment.pop(name, None)
    return subprocess.run([sys.executable, "-m", *command(stage, values)], env=environment).returncode


def command(stage: str, values: Sequence[str]) -> list[str]:
    """The DVC command, from `dvc` on."""
    if stage not in ENTRY_POINTS:
        raise UserError(f"no entry point '{stage}'; there are {', '.join(ENTRY_POINTS)}")
    changes = [change for value in values for change in _change(value)]
    target = [] if stage == "main" else [stage]
    return ["dvc", "exp", "run", *changes, *target] if changes else ["dvc", "repro", *target]


def _change(value: str) -> list[str]:
    name, equals, content = value.partition("=")
    section, _, key = name.partition("_")
    if not (equals and section and key):
        raise UserError(f"'{value}' is not section_key=value, head_dropout=0.3 say")
    return ["-S", f"{section}.{key}={content}"] if content else []
