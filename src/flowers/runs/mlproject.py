"""What `mlflow run . -e <entry point> -P name=value` means: `dvc exp run -S key=value`, or `dvc repro` without any.

The entry point tune is `flowers tune --name value` after `dvc repro split`.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from flowers.common.errors import UserError

STAGES = ("main", "download", "split", "train", "evaluate")
ENTRY_POINTS = (*STAGES, "tune")
TUNE_OPTIONS = ("n_trials", "study")  # no storage: MLflow logs them, and its address may hold a password


def run(stage: str, values: Sequence[str]) -> int:
    """Bring `stage` (main: the whole pipeline) up to date, or tune; returns the exit status of the command.

    `values` are `section_key=value`, as MLproject names its parameters, or options of `flowers tune`; an empty value
    changes nothing. Raises UserError for an unknown stage or a value without a name.
    """
    # DVC takes a bare `python` from the PATH; it must be the one that runs here.
    python = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": os.pathsep.join([python, os.environ.get("PATH", "")])}
    status = 0
    for line in commands(stage, values):
        status = status or subprocess.run([sys.executable, "-m", *line], env=environment, check=False).returncode
    return status


def commands(stage: str, values: Sequence[str]) -> list[list[str]]:
    """The commands to run in order, each without `python -m`."""
    if stage not in ENTRY_POINTS:
        raise UserError(f"no entry point '{stage}'; known: {', '.join(ENTRY_POINTS)}")
    if stage == "tune":
        return [["dvc", "repro", "split"], ["flowers", "tune", *(word for value in values for word in _option(value))]]
    changes = [change for value in values for change in _change(value)]
    target = [] if stage == "main" else [stage]
    return [["dvc", "exp", "run", *changes, *target] if changes else ["dvc", "repro", *target]]


def _option(value: str) -> list[str]:
    name, _, content = value.partition("=")
    if name not in TUNE_OPTIONS:
        raise UserError(f"'{value}' is no option of tune; known: {', '.join(TUNE_OPTIONS)}")
    return [f"--{name.replace('_', '-')}", content] if content else []


def _change(value: str) -> list[str]:
    name, equals, content = value.partition("=")
    section, _, key = name.partition("_")
    if not (equals and section and key):
        raise UserError(f"'{value}' is not section_key=value, for example head_dropout=0.3")
    return ["-S", f"{section}.{key}={content}"] if content else []
