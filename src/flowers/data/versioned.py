"""The folder `data/`, after a check that it holds the version that `data.dvc` names.

DVC allows no stage to depend on a `.dvc` file, so the stage depends on `data.yaml`, a link to `data.dvc`. Without the
check, images that were not added to DVC would enter a result that names another version.
"""

import json
import subprocess
import sys
from pathlib import Path

from flowers.common.errors import UserError

LINK, POINTER, FOLDER = Path("data.yaml"), Path("data.dvc"), Path("data")


def folder() -> Path:
    """`data/`; raises UserError if it or `data.dvc` is missing, or if it holds another version."""
    if not POINTER.is_file():
        raise UserError(f"{POINTER} is missing; put images into {FOLDER}/<class>/ and type: dvc add {FOLDER}")
    if not FOLDER.is_dir():
        raise UserError(f"{FOLDER}/ does not exist yet. Type: dvc pull {POINTER}")
    if _changed():
        raise UserError(
            f"{FOLDER}/ is not the version that {POINTER} names. To keep what is in it, type: dvc add {FOLDER}   "
            f"(to have that version: dvc pull {POINTER})"
        )
    return FOLDER


def _changed() -> bool:
    # `dvc status` reports a version that was not pulled yet as "not in cache", whatever data/ holds.
    command = [sys.executable, "-m", "dvc", "data", "status", "--json", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{POINTER}: dvc data status failed: {' '.join(done.stderr.split())[:500]}")
    return bool(json.loads(done.stdout).get("uncommitted"))
