"""Scoring with Spark: images on any file system that Hadoop supports, on all cores of a cluster.

The output of a finished task stays when the run is killed; the next run leaves out the images that have a row already.
"""

import contextlib
import functools
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from flowers.common import console
from flowers.common.errors import UserError
from flowers.serving import models, stream
from flowers.serving.scoring import files, model_folder, schema
from flowers.serving.scoring import job as jobs

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

TASK = 2048  # images at most: a task writes a file for each label in it, and is lost whole
LARGEST = 32 * 2**20  # bytes of an image file; Java holds several copies of it at once
_MODEL = "flowers-model"


class Folder:
    """A folder on any file system that Hadoop supports; `path` is its full address, scheme included."""

    def __init__(self, session: "SparkSession", path: str) -> None:
        self._java = cast(Any, session.sparkContext._jvm).org.apache
        place = self._java.hadoop.fs.Path(path)
        self._system = place.getFileSystem(session.sparkContext._jsc.hadoopConfiguration())
        self.path: str = self._system.makeQualified(place).toString()

    def _place(self, name: str) -> Any:
        return self._java.hadoop.fs.Path(f"{self.path}/{name}")

    def names(self) -> list[str] | None:
        """The files and folders in it; None where there is no such folder."""
        here = self._place("")
        if not (self._system.exists(here) and self._system.getFileStatus(here).isDirectory()):
            return None
        return [entry.getPath().getName() for entry in self._system.listStatus(here)]

    def read(self, name: str) -> str | None:
        """A small file's text; None where there is none."""
        if not self._system.exists(self._place(name)):
            return None
        return str(self._java.commons.io.IOUtils.toString(self._system.open(self._place(name)), "UTF-8"))

    def write(self, name: str, text: str) -> None:
        """Write a small file, replacing one of the same name."""
        stream = self._system.create(self._place(name), True)
        stream.write(bytearray(text.encode()))
        stream.close()

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and all in it."""
        self._system.delete(self._place(name), True)


class Images:
    """The image files below a folder: `folder`, its full address, `paths`, relative to it, and a table of them."""

    def __init__(self, session: "SparkSession", folder: str) -> None:
        """Lists the folder. Raises UserError where there is none."""
        place = Folder(session, folder)
        if place.names() is None:
            raise UserError(f"{folder}: no such folder")
        self.folder, start = place.path, len(place.path.rstrip("/")) + 1
        reader = session.read.format("binaryFile").option("recursiveFileLookup", True)
        found = reader.option("pathGlobFilter", files.GLOB).load(_literally(place.path))
        # One text, because to hand over an array from Java takes a call for each element.
        text = cast(Any, session._jvm).org.apache.hadoop.util.StringUtils.join("\n", found._jdf.inputFiles())
        self.paths = [unquote(address).replace("file:///", "file:/", 1)[start:] for address in text.splitlines()]
        self.table = found.selectExpr(f"substring(path, {start + 1}) as path", "length", "content")


def score(
    session: "SparkSession", model: stream.Model, folder: Path, job: jobs.Job, source: Images, output: str, force: bool
) -> Counter[str]:
    """As `flowers.serving.scoring.local.score`; `folder` is the model's."""
    import pyarrow as pa
    from pyspark.sql import functions
    from pyspark.sql.pandas.types import from_arrow_schema

    place, columns = Folder(session, output), from_arrow_schema(schema.columns(model.classes, job.every_class))

    def written() -> "DataFrame":
        return session.read.schema(columns).parquet(_literally(place.path))

    def write(rows: "DataFrame") -> None:
        rows.write.mode("append").partitionBy("label").parquet(place.path)

    names = place.names() or []
    if not jobs.continues(job, place.read(jobs.FILE), names, output, force):
        for name in (jobs.DONE, *(name for name in names if name.startswith("label="))):
            place.remove(name)
        place.write(jobs.FILE, job.text())
    before = counts = _count(written())
    if before["photos"] < job.photos:
        if before["photos"]:
            console.say(f"Continuing after {before['photos']:,} images that were scored before")
        # Spark fills a partition up to a share of all bytes, where opening a file counts as 4 MB.
        cores = session.sparkContext.defaultParallelism
        tasks = cores * math.ceil(job.photos / (cores * TASK))
        session.conf.set("spark.sql.files.maxPartitionBytes", str(2**50))
        session.conf.set("spark.sql.files.minPartitionNum", str(tasks))
        content = source.table.where(f"length <= {LARGEST}").select("path", "content").coalesce(tasks)
        left = content.join(functions.broadcast(written().select("path")), "path", "left_anti")
        # Batches of Arrow in and out: the rows are made by the same code as those of --engine local.
        predict = functools.partial(predictions, threshold=job.threshold, every_class=job.every_class)
        with _shipped(session, folder):
            write(left.mapInArrow(predict, columns))
        # The rest gets rows of nulls with an error.
        large = source.table.where(f"length > {LARGEST}").selectExpr("path", "true as large")
        why = f"if(large, 'larger than {LARGEST:,} bytes', 'empty file, or cannot be read') as error"
        rest = session.createDataFrame(pa.table({"path": source.paths})).join(written(), "path", "left_anti")
        errors = rest.join(large, "path", "left").selectExpr("path", why).coalesce(1)
        write(session.createDataFrame([], columns).unionByName(errors, allowMissingColumns=True))
        counts = _count(written())
    place.write(jobs.DONE, "")
    return counts + Counter(new=counts["photos"] - before["photos"])


@contextlib.contextmanager
def _shipped(session: "SparkSession", folder: Path) -> Iterator[None]:
    """The executors fetch model and code: only the packages must be installed there."""
    with tempfile.TemporaryDirectory(prefix="flowers-spark-") as packed:
        model_folder.pack(folder, Path(packed, f"{_MODEL}.zip"))
        model_folder.pack_code(Path(packed, "flowers.zip"))
        session.sparkContext.addArchive(f"{packed}/{_MODEL}.zip#{_MODEL}")
        session.sparkContext.addPyFile(f"{packed}/flowers.zip")
        yield


def predictions(
    batches: Iterator["pa.RecordBatch"], threshold: float | None, every_class: bool
) -> Iterator["pa.RecordBatch"]:
    """Batches of path and content to batches of `schema.columns`, in a Python worker of Spark."""
    model = _model()
    threshold = model.threshold if threshold is None else threshold
    images = (image for batch in batches for image in zip(batch["path"], batch["content"], strict=True))
    for batch in stream.batches(model, images, lambda image: image[1].as_py()):
        paths = [path.as_py() for path, _ in batch.items]
        rows = schema.rows(model.classes, threshold, every_class, paths, batch.errors, batch.probabilities)
        yield from rows.combine_chunks().to_batches()


@functools.cache
def _model() -> stream.Model:
    """The shipped model, loaded once per process: Spark reuses its workers from task to task."""
    from pyspark import SparkFiles, TaskContext

    context = TaskContext.get()
    # An executor runs as many tasks at once as it has cores for. TensorFlow reads these when it is imported.
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(context.cpus() if context else 1)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    return models.load(Path(SparkFiles.get(_MODEL), "model"))


def _literally(path: str) -> str:
    """A path for Spark's readers, in which some characters are patterns."""
    return "".join(f"\\{letter}" if letter in "\\{}[]*?" else letter for letter in path)


def _count(rows: "DataFrame") -> Counter[str]:
    found = rows.selectExpr("count(path) photos", "count(error) unreadable", "count_if(unsure) unsure").first()
    return Counter(found.asDict() if found else {})
