"""The output of scoring: one row per image, in Parquet files that are partitioned by label as Hive does.

Columns: path (relative to the input, with forward slashes), label, probability, unsure, known, novelty, nearest, best,
error, and, if wanted, p(<class>) of each class; see `flowers.serving.results.table`. For an image that cannot be read
all columns but path and error are null; for the others error is null. docs/inference.md shows how to read it, with the
type of label.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flowers.serving import results, stream
from flowers.serving.scoring.job import Job

if TYPE_CHECKING:
    import pyarrow as pa

UNREADABLE = "__HIVE_DEFAULT_PARTITION__"  # the name that Hive, Spark and Arrow use for null
_ESCAPED = {chr(code) for code in (*range(1, 32), 127)} | set("\"#%'*/:=?\\{[]^")  # by Hive and Spark, no others


def columns(classes: Sequence[str], every_class: bool) -> "pa.Schema":
    """Names and types of the columns; label is in the names of folders instead of in the files."""
    import pyarrow as pa

    best = pa.list_(pa.field("element", pa.struct([("label", pa.string()), ("probability", pa.float64())])))
    return pa.schema(
        [
            ("path", pa.string()),
            ("label", pa.string()),
            ("probability", pa.float64()),
            ("unsure", pa.bool_()),
            ("known", pa.bool_()),
            ("novelty", pa.float64()),
            ("nearest", pa.list_(pa.string())),
            ("best", best),
            ("error", pa.string()),
            *((f"p({name})", pa.float64()) for name in (classes if every_class else ())),
        ]
    )


def rows(model: stream.Model, job: Job, paths: Sequence[str], batch: stream.Batch[Any]) -> "pa.Table":
    """One row per image of a batch, under these paths."""
    import pyarrow as pa

    wanted = columns(model.classes, job.every_class)
    good = np.array([error is None for error in batch.errors], bool)
    threshold = model.threshold if job.threshold is None else job.threshold
    found = results.table(model.classes, batch.predicted[good], threshold, job.every_class)
    known = [pa.Array.from_pandas(found[name], type=wanted.field(name).type) for name in found]
    # Taking the index null gives null: so the unreadable images get rows between the others.
    places = pa.array(np.cumsum(good) - 1, mask=~good)
    values = {name: column.take(places) for name, column in zip(found, known, strict=True)}
    values |= {"path": pa.array(paths, pa.string()), "error": pa.array(batch.errors, pa.string())}
    return pa.table([values[name] for name in wanted.names], schema=wanted)


def partition(label: str | None) -> str:
    """The name of the folder that holds the rows of a label."""
    if label is None:
        return f"label={UNREADABLE}"
    return "label=" + "".join(f"%{ord(letter):02X}" if letter in _ESCAPED else letter for letter in label)
