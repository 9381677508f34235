"""Scoring with Spark: images on any file system that Hadoop supports, on all cores of a cluster.

The output of a finished task stays when the run is killed; the next run leaves out the images that have a row already.
"""

import contextlib
import functools
import math
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark import SparkConf, SparkContext, SparkFiles, TaskContext
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import broadcast
from pyspark.sql.pandas.types import from_arrow_schema

from flowers.common import console
from flowers.common.errors import UserError
from flowers.serving import models, sources, stream
from flowers.serving.scoring import job as jobs
from flowers.serving.scoring import schema

TASK = 2048  # images at most: a task writes a file for each label in it, and is lost whole
LARGEST = 32 * 2**20  # bytes of an image file; Java holds several copies of it at once
_MODEL = "flowers-model"

# Defaults, which the user's own configuration (spark-defaults.conf, PYSPARK_SUBMIT_ARGS) overrides.
_SETTINGS = {
    "spark.app.name": "flowers score",
    "spark.master": "local[*]",
    "spark.ui.enabled": "false",
    # The most that a Python worker is sent at once, whichever is reached first.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(32 * 2**20),
    # An image that cannot be read does not end the job; it gets its row afterwards.
    "spark.sql.files.ignoreCorruptFiles": "true",
    "spark.sql.files.ignoreMissingFiles": "true",
    # The output of a finished task stays when the driver is killed. `_SUCCESS` is written at the very end instead.
    "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
}


@contextlib.contextmanager
def session(master: str | None) -> Iterator[SparkSession]:
    """Spark on `master`, else on its configuration's, else on this machine; its errors become a UserError."""
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")  # of which little is used here
    if "--debug" not in sys.argv:
        log = Path(__file__).with_name("log4j2.properties").as_uri()
        os.environ.setdefault("SPARK_SUBMIT_OPTS", f"-Dlog4j2.configurationFile={log}")
    try:
        SparkContext._ensure_initialized()  # starts Java, so that the configuration includes its own files
        conf = SparkConf().setMaster(master) if master else SparkConf()
        for name, value in _SETTINGS.items():
            conf.setIfMissing(name, value)
        conf.set("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
        if conf.get("spark.master", "").startswith("local"):
            conf.setIfMissing("spark.driver.host", "127.0.0.1")
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        with SparkSession.builder.config(conf=conf).getOrCreate() as spark:
            yield spark
    except (Py4JError, PySparkException) as error:
        raise UserError(f"Spark: {_reason(error)} (flowers --debug ... shows more)") from error


class Folder:
    """A folder on any file system that Hadoop supports; `path` is its full address, scheme included."""

    def __init__(self, session: SparkSession, path: str) -> None:
        self._java = session.sparkContext._jvm.org.apache
        self._place = self._java.hadoop.fs.Path(path)
        self._system = self._place.getFileSystem(session.sparkContext._jsc.hadoopConfiguration())
        self._place = self._system.makeQualified(self._place)
        self.path: str = self._place.toString()
        self.pattern = re.sub(r"[\\{}\[\]*?]", r"\\\g<0>", self.path)  # that Spark's readers take literally

    def names(self) -> list[str] | None:
        """The files and folders in it; None where there is no such folder."""
        if not self._system.isDirectory(self._place):
            return None
        return [entry.getPath().getName() for entry in self._system.listStatus(self._place)]

    def read(self, name: str) -> str | None:
        """A small file's text; None where there is none."""
        file = self._java.hadoop.fs.Path(self._place, name)
        return self._java.commons.io.IOUtils.toString(self._system.open(file)) if self._system.exists(file) else None

    def write(self, name: str, text: str) -> None:
        """Write a small file, replacing one of the same name."""
        stream = self._system.create(self._java.hadoop.fs.Path(self._place, name), True)
        stream.write(bytearray(text.encode()))
        stream.close()

    def remove(self, name: str) -> None:
        """Remove a file, or a folder and all in it."""
        self._system.delete(self._java.hadoop.fs.Path(self._place, name), True)


class Images:
    """The image files below a folder: `folder`, its full address, `paths`, relative to it, and a table of them."""

    def __init__(self, session: SparkSession, folder: str) -> None:
        """Lists the folder. Raises UserError where there is none."""
        place = Folder(session, folder)
        if place.names() is None:
            raise UserError(f"{folder}: no such folder")
        self.folder, start = place.path, len(place.path.rstrip("/")) + 1
        reader = session.read.format("binaryFile").option("recursiveFileLookup", True)
        found = reader.option("pathGlobFilter", sources.GLOB).load(place.pattern)
        # One text, because to hand over an array from Java takes a call for each element.
        text = session._jvm.org.apache.hadoop.util.StringUtils.join("\n", found._jdf.inputFiles())
        self.paths = [unquote(address).replace("file:///", "file:/", 1)[start:] for address in text.splitlines()]
        self.table = found.selectExpr(f"substring(path, {start + 1}) as path", "length", "content")


def score(
    session: SparkSession, model: stream.Model, folder: Path, job: jobs.Job, source: Images, output: str, force: bool
) -> Counter[str]:
    """As `flowers.serving.scoring.local.score`; `folder` is the model's."""
    place, columns = Folder(session, output), from_arrow_schema(schema.columns(model.classes, job.every_class))

    def written() -> DataFrame:
        return session.read.schema(columns).parquet(place.pattern)

    def write(rows: DataFrame) -> None:
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
        cores = session.sparkContext.defaultParallelism
        tasks = cores * math.ceil(job.photos / (cores * TASK))
        content = source.table.where(f"length <= {LARGEST}").select("path", "content").coalesce(tasks)
        left = content.join(broadcast(written().select("path")), "path", "left_anti")
        # Batches of Arrow in and out: the rows are made by the same code as those of --engine local.
        # The executors fetch model and code: only the packages must be installed there.
        with tempfile.TemporaryDirectory(prefix="flowers-spark-") as packed:
            ship(session, folder, Path(packed))
            write(left.mapInArrow(functools.partial(predictions, job=job), columns))
        # The rest gets rows of nulls with an error.
        why = f"if(length > {LARGEST}, 'larger than {LARGEST:,} bytes', 'empty file, or cannot be read') as error"
        rest = session.createDataFrame(pa.table({"path": source.paths})).join(written(), "path", "left_anti")
        sizes = source.table.select("path", "length").coalesce(tasks)
        errors = rest.join(sizes, "path", "left").selectExpr("path", why).coalesce(1)
        write(session.createDataFrame([], columns).unionByName(errors, allowMissingColumns=True))
        counts = _count(written())
    place.write(jobs.DONE, "")
    return counts + Counter(new=counts["photos"] - before["photos"])


def predictions(batches: Iterator[pa.RecordBatch], job: jobs.Job) -> Iterator[pa.RecordBatch]:
    """Batches of path and content to batches of `schema.columns`, in a Python worker of Spark."""
    network = model()
    images = (image for batch in batches for image in zip(batch["path"], batch["content"], strict=True))
    for batch in stream.batches(network, images, lambda image: image[1].as_py()):
        rows = schema.rows(network, job, [path.as_py() for path, _ in batch.items], batch)
        yield from rows.combine_chunks().to_batches()


def ship(session: SparkSession, folder: Path, packed: Path) -> None:
    """Let the executors fetch the model in `folder`, and this package, from archives in `packed`."""
    models.pack(folder, packed / f"{_MODEL}.zip")
    session.sparkContext.addArchive(f"{packed}/{_MODEL}.zip#{_MODEL}")
    code = shutil.make_archive(f"{packed}/code", "zip", Path(__file__).parents[3], "flowers")
    session.sparkContext.addPyFile(code)


@functools.cache
def model() -> stream.Model:
    """The shipped model, loaded once per process: Spark reuses its workers from task to task."""
    # An executor runs as many tasks at once as it has cores for. TensorFlow reads these when it is imported.
    os.environ |= {"TF_NUM_INTRAOP_THREADS": str(TaskContext.get().cpus()), "TF_NUM_INTEROP_THREADS": "1"}
    return models.load(Path(SparkFiles.get(_MODEL), "model"))


def _count(rows: DataFrame) -> Counter[str]:
    kinds = ("count(path) photos", "count(error) unreadable", "count_if(unsure) unsure", "count_if(not known) unknown")
    found = rows.selectExpr(*kinds).first()
    return Counter(found.asDict())


def _reason(error: Exception) -> str:
    """One line: Java's root cause, else the last line of a Python worker's traceback, else the first line."""
    text = str(error).partition("JVM stacktrace:")[0].strip()
    if "JAVA_GATEWAY_EXITED" in text:
        return "Java did not start; version 17 or later is needed (Debian: apt install openjdk-17-jre-headless)"
    if "S3AFileSystem not found" in text:
        return (
            "s3a:// needs Hadoop's driver, org.apache.hadoop:hadoop-aws; s3:// needs pip install -e '.[team]' instead"
        )
    causes = re.findall(r"^(?:Caused by)?: (.+)", text, re.MULTILINE)
    lines = causes or text.splitlines()
    return lines[-1] if causes or "Traceback" in text else lines[0]
