"""What Spark's Python workers run: a model a process, asked about the photos of a task as they stream in."""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.serving import models, stream
from flowers.serving.scoring import schema

if TYPE_CHECKING:
    import pyarrow as pa


def answers(
    batches: Iterator["pa.RecordBatch"], archive: str, threshold: float | None, every_class: bool
) -> Iterator["pa.RecordBatch"]:
    """Batches of path and content to batches of `flowers.serving.scoring.schema.columns`; `archive` is the model's."""
    model = _model(archive)
    threshold = model.threshold if threshold is None else threshold
    for batch in stream.batches(model, _photos(batches), lambda photo: photo.pop()):  # once decoded it can go
        paths = [path for (path,) in batch.items]
        found = schema.rows(model.classes, threshold, every_class, paths, batch.errors, batch.probabilities)
        yield from found.combine_chunks().to_batches()


def _photos(batches: Iterator["pa.RecordBatch"]) -> Iterator[list[Any]]:
    """Path and content of each photo."""
    for batch in batches:
        for path, content in zip(batch["path"], batch["content"], strict=True):
            yield [path.as_py(), content.as_py()]


@functools.cache
def _model(archive: str) -> stream.Model:
    """The model, once a process: Spark keeps its workers from task to task."""
    from pyspark import SparkFiles, TaskContext

    context = TaskContext.get()
    # An executor runs as many tasks at once as it has cores for. TensorFlow reads these when it is imported.
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(context.cpus() if context else 1)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    return models.load(Path(SparkFiles.get(archive)))
