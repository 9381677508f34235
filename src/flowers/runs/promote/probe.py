"""Whether the model that would be served answers like the one that was evaluated, on a fixed set of photos."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.runs.predictions import Answers
from flowers.runs.promote.decide import Check

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "answers like the evaluated model"
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}  # of a probability: another processor rounds otherwise
SCRIPT = Path(__file__).with_name("answer.py")


def check(client: "MlflowClient", run: "Run", candidate: Answers, count: int) -> Check:
    """Ask the logged model, in a process and with the code of its own, about the first photos by their hashes.

    Raises UserError where the model cannot be loaded.
    """
    from flowers.tracking import registry, store

    rows = range(min(count, len(candidate.table)))
    photos = [_content(candidate, row) for row in rows]
    if lost := sum(photo is None for photo in photos):
        return Check(NAME, False, f"{lost} of {len(rows)} photos to ask about are not in {paths.IMAGES} any more")
    address = f"models:/{registry.logged_model(client, run)}"
    encoded = [base64.b64encode(photo or b"").decode("ascii") for photo in photos]
    given = json.dumps({"store": store.uri(), "model": address, "photos": encoded})
    console.say(f"Asking the model of run {candidate.name} about {len(rows)} photos")
    # The model brings a copy of the code it was trained with, which must not meet the one that runs here.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT)], input=given, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        reason = store.without_password(last)[:200]
        raise UserError(f"the model of run {candidate.name} cannot be loaded: {reason}")
    answers = json.loads(done.stdout.splitlines()[-1])
    labels = [candidate.classes[number] for number in candidate.predicted[: len(rows)]]
    tolerance = TOLERANCE.get(run.data.tags.get("flowers.precision", ""), max(TOLERANCE.values()))
    gaps = np.abs(np.array(answers["probability"]) - candidate.probabilities[: len(rows)].max(axis=1))
    same = sum(one == other for one, other in zip(labels, answers["label"], strict=True))
    found = f"{same} of {len(rows)} labels the same, probabilities within {gaps.max():.1g}"
    return Check(NAME, same == len(rows) and float(gaps.max()) <= tolerance, found)


def _content(candidate: Answers, row: int) -> bytes | None:
    """The photo of a row, if it is in this checkout."""
    try:
        content = (paths.IMAGES / candidate.table["path"][row]).read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == candidate.table["sha256"][row] else None
