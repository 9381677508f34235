"""The data set as an input of a run: its digest, and the number of images in each subset."""

import csv
import json
from collections import Counter
from typing import TYPE_CHECKING

from flowers.common import paths
from flowers.config.params import Params
from flowers.tracking import experiments
from flowers.tracking.run_key import RunKey

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

_DIGITS = 8  # of the digest: the table of runs shows them beside the name, and the whole digest is a tag


def described(params: Params, key: RunKey) -> "DatasetInput":
    """The data set of these parameters, by the split in the current directory."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    with paths.SPLIT.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    profile = {"classes": len({row["label"] for row in rows}), **Counter(row["subset"] for row in rows)}
    source = {"tags": {"dataset.name": params.dataset.name, "dataset.path": params.dataset.path}}
    entity = Dataset(
        name=experiments.experiment_name(params),
        digest=key.data[:_DIGITS],
        source_type="code",  # MLflow's type of data that the run itself can fetch again
        source=json.dumps(source),
        profile=json.dumps(profile),
    )
    return DatasetInput(dataset=entity, tags=[InputTag("mlflow.data.context", "train, val, test")])
