"""Scoring with Spark: photos of any file system that Hadoop knows, on all cores of a cluster.

What a task has written stays when the run is killed; the next run reads which photos are there and leaves them out.
"""

import math
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flowers.common import console
from flowers.common.errors import UserError
from flowers.serving import stream
from flowers.serving.scoring import files, model_folder, schema, worker
from flowers.serving.scoring import job as jobs
from flowers.serving.scoring.hadoop import Folder

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

TASK = 2048  # photos at most: a task writes a file for each label it sees, and is lost whole
LARGEST = 32 * 2**20  # bytes of a photo's file; Java holds several copies of it at once
_MODEL = "flowers-model"


class Photos:
    """The photos below a folder: how many, and what Spark reads of them."""

    def __init__(self, session: "SparkSession", folder: str) -> None:
        """Lists the folder. Raises UserError where there is none."""
        self._session, self._folder = session, Folder(session, folder)
        if not self._folder.exists():
            raise UserError(f"{folder}: no such folder")
        self.folder = self._folder.path
        reader = session.read.format("binaryFile").option("recursiveFileLookup", True)
        self._files = reader.option("pathGlobFilter", files.GLOB).load(_literally(self.folder))
        self._listed: Any = self._files._jdf.inputFiles()  # names, encoded; they stay in Java
        self.count = len(self._listed)
        self._largest = min(LARGEST, int(session.conf.get("spark.sql.sources.binaryFile.maxLength") or LARGEST))

    def content(self, tasks: int) -> "DataFrame":
        """Path and content of all but the largest photos and the empty ones, in as many partitions of equal weight."""
        # Spark fills a partition up to a share of all bytes, where opening a file counts as 4 MB.
        self._session.conf.set("spark.sql.files.maxPartitionBytes", str(2**50))
        self._session.conf.set("spark.sql.files.minPartitionNum", str(tasks))
        readable = self._files.where(f"length <= {self._largest}").select(self._relative(), "content")
        return readable.coalesce(tasks)  # a few files may be left over for one more

    def missing(self, written: "DataFrame") -> list[tuple[str, str]]:
        """Photos of which there is no row, and why."""
        from pyspark.sql import Column, functions

        # One array, because handing them to Python and back takes a call each.
        names = Column(cast(Any, self._session._jvm).org.apache.spark.sql.functions.lit(self._listed))
        plus = functions.replace("name", functions.lit("+"), functions.lit("%2B"))  # which is no space in a file's name
        path = functions.regexp_replace(functions.url_decode(plus), "^file:///", "file:/").alias("path")
        listed = self._session.range(1).select(functions.explode(names).alias("name")).select(path)
        listed = listed.select(self._relative())
        return [(row["path"], self._why(row["path"])) for row in listed.join(written, "path", "left_anti").collect()]

    def _relative(self) -> Any:
        from pyspark.sql import functions

        prefix = self.folder.rstrip("/") + "/"
        return functions.expr(f"substring(path, {len(prefix) + 1})").alias("path")

    def _why(self, path: str) -> str:
        size = self._folder.size(path)
        if size is None:
            return "cannot be read: No such file or directory"
        if size > self._largest:
            return f"larger than {self._largest:,} bytes"
        return "cannot be read" if size else "empty file"


def score(
    session: "SparkSession", model: stream.Model, folder: Path, job: jobs.Job, source: Photos, output: str, force: bool
) -> Counter[str]:
    """As `flowers.serving.scoring.local.score`; `folder` is the model's."""
    from pyspark.sql import functions
    from pyspark.sql.pandas.types import from_arrow_schema

    place = Folder(session, output)
    _begin(job, place, output, force)
    columns = from_arrow_schema(schema.columns(model.classes, job.every_class))
    begun = any(name.startswith("label=") for name in place.names())
    before = _count(_written(session, place, columns)) if begun else Counter[str]()
    if before["photos"] < job.photos:
        if before["photos"]:
            console.say(f"Going on after {before['photos']:,} photos that were scored before")
        with tempfile.TemporaryDirectory(prefix="flowers-spark-") as packed:
            _ship(session, folder, Path(packed))
            content = source.content(_tasks(session, job.photos))
            if begun:
                done = functions.broadcast(_written(session, place, columns).select("path"))
                content = content.join(done, "path", "left_anti")
            # Batches of Arrow in and out: the rows are made by the same code as those of --engine local.
            answer = partial(worker.answers, archive=_MODEL, threshold=job.threshold, every_class=job.every_class)
            _write(content.mapInArrow(answer, columns), place)
    counts = _count(_written(session, place, columns))
    if counts["photos"] < job.photos:
        rows = source.missing(_written(session, place, columns).select("path"))
        errors = [dict.fromkeys(columns.names) | {"path": path, "error": why} for path, why in rows]
        _write(session.createDataFrame(errors, columns).coalesce(1), place)
        counts = _count(_written(session, place, columns))
    place.write(jobs.DONE, "")
    return counts + Counter(new=counts["photos"] - before["photos"])


def _begin(job: jobs.Job, place: Folder, output: str, force: bool) -> None:
    """Make sure that the output is this job's; see `flowers.serving.scoring.local`."""
    before = place.read(jobs.FILE)
    if before is not None and not force:
        jobs.refuse_another(job, before, output)
        return
    if before is None and place.names():
        jobs.refuse_foreign(output)
    for name in (jobs.DONE, *(name for name in place.names() if name.startswith("label="))):
        place.remove(name)
    place.write(jobs.FILE, job.text())


def _tasks(session: "SparkSession", count: int) -> int:
    """As many tasks as give each core the same number of photos, TASK at most at a time."""
    cores = max(1, int(session.sparkContext.defaultParallelism) // int(session.conf.get("spark.task.cpus", "1") or 1))
    return cores * math.ceil(count / (cores * TASK))


def _ship(session: "SparkSession", folder: Path, packed: Path) -> None:
    """Have every executor fetch model and code: nothing but the packages needs to be installed there."""
    model_folder.pack(folder, packed / f"{_MODEL}.zip")
    model_folder.pack_code(packed / "flowers.zip")
    session.sparkContext.addArchive(f"{packed / _MODEL}.zip#{_MODEL}")
    session.sparkContext.addPyFile(str(packed / "flowers.zip"))


def _write(rows: "DataFrame", place: Folder) -> None:
    rows.write.mode("append").partitionBy("label").parquet(place.path)


def _written(session: "SparkSession", place: Folder, columns: "StructType") -> "DataFrame":
    return session.read.schema(columns).parquet(_literally(place.path))


def _literally(path: str) -> str:
    """A path for Spark's readers, which take some letters for patterns."""
    return "".join(f"\\{letter}" if letter in "\\{}[]*?" else letter for letter in path)


def _count(rows: "DataFrame") -> Counter[str]:
    from pyspark.sql import functions

    unsure = functions.sum(functions.col("unsure").cast("long"))
    found = rows.agg(functions.count("path"), functions.count("error"), unsure).first()
    return Counter(dict(zip(("photos", "unreadable", "unsure"), (value or 0 for value in found or ()), strict=True)))
