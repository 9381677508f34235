"""The folder `data/`, once it is known to hold what `data.dvc` says.

DVC lets no stage depend on a `.dvc` file, and where a stage depends on a folder that is not there yet, its error does
not say what to type. So the stage depends on `data.yaml`, a link to `data.dvc`, and the check is made here, by DVC
itself: photos that were put in and not added would otherwise enter a result that names another version.
"""

import json
import subprocess
import sys
from pathlib import Path

from flowers.common.errors import UserError

LINK, POINTER, FOLDER = Path("data.yaml"), Path("data.dvc"), Path("data")


def folder() -> Path:
    """`data/`; raises UserError where it or `data.dvc` is missing, or it is another version."""
    if not POINTER.is_file():
        raise UserError(f"{POINTER} is missing; put photos into {FOLDER}/<class>/ and type: dvc add {FOLDER}")
    if not FOLDER.is_dir():
        raise UserError(f"{FOLDER}/ is not here yet. Type: dvc pull {POINTER}")
    if _changed():
        raise UserError(
            f"{FOLDER}/ is not the version that {POINTER} names. To keep what is in it, type: dvc add {FOLDER}   "
            f"(to have that version: dvc pull {POINTER})"
        )
    return FOLDER


def _changed() -> bool:
    # `dvc status` would not do: of a version that was not pulled yet it says "not in cache", whatever is in data/.
    command = [sys.executable, "-m", "dvc", "data", "status", "--json", str(FOLDER)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{POINTER}: dvc data status failed: {' '.join(done.stderr.split())}")
    return bool(json.loads(done.stdout).get("uncommitted"))
