"""Whether a logged model, loaded from the store, predicts a fixed set of images as it did when it was evaluated."""

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
from flowers.runs.predictions import Predictions
from flowers.runs.promote.checks import Check
from flowers.tracking import registry, store

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME = "same predictions as evaluated"
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2}  # of a probability: rounding differs between processors
SCRIPT = Path(__file__).with_name("predict_logged.py")


def check(client: "MlflowClient", run: "Run", candidate: Predictions, count: int) -> Check:
    """Predict the first `count` images by hash with the logged model and its own code. Raises UserError if it fails."""
    rows = range(min(count, len(candidate.table)))
    images = [_content(candidate, row) for row in rows]
    if lost := sum(image is None for image in images):
        return Check(NAME, False, f"{lost} of {len(rows)} images are not in {paths.IMAGES} any more")
    address = f"models:/{registry.logged_model(client, run)}"
    encoded = [base64.b64encode(image or b"").decode("ascii") for image in images]
    request = json.dumps({"store": store.uri(), "model": address, "images": encoded})
    console.say(f"Predicting {len(rows)} images with the model of run {candidate.name}")
    # The model has a copy of the code it was trained with, which must not meet the code that runs here.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-P", str(SCRIPT)], input=request, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        reason = store.without_password(last)[:200]
        raise UserError(f"the model of run {candidate.name} cannot be loaded: {reason}")
    predicted = json.loads(done.stdout.splitlines()[-1])
    labels = [candidate.classes[number] for number in candidate.predicted[: len(rows)]]
    tolerance = TOLERANCE.get(run.data.tags.get("flowers.precision", ""), max(TOLERANCE.values()))
    gaps = np.abs(np.array(predicted["probability"]) - candidate.probabilities[: len(rows)].max(axis=1))
    same = sum(one == other for one, other in zip(labels, predicted["label"], strict=True))
    found = f"{same} of {len(rows)} labels the same, probabilities within {gaps.max():.1g}"
    return Check(NAME, same == len(rows) and float(gaps.max()) <= tolerance, found)


def _content(candidate: Predictions, row: int) -> bytes | None:
    """The image of a row; None where it is not in this checkout."""
    try:
        content = (paths.IMAGES / candidate.table["path"][row]).read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == candidate.table["sha256"][row] else None
