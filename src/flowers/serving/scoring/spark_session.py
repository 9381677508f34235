"""A Spark session with the user's configuration; without PySpark or Java, an error names what to install."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

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
_LOG = Path(__file__).with_name("log4j2.properties")


@contextlib.contextmanager
def session(master: str | None) -> Iterator["SparkSession"]:
    """Spark on `master`, else on its configuration's, else on this machine; its errors become a UserError."""
    try:
        from py4j.protocol import Py4JError
        from pyspark import SparkConf, SparkContext
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError:
        raise UserError("--engine spark needs PySpark: `make extras`, or pip install 'flowers[spark]'") from None
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")  # of which little is used here
    if "--debug" not in sys.argv:
        os.environ.setdefault("SPARK_SUBMIT_OPTS", f"-Dlog4j2.configurationFile={_LOG.as_uri()}")
    with contextlib.ExitStack() as running:
        try:
            SparkContext._ensure_initialized()  # starts Java, so that the configuration includes its own files
            conf = SparkConf().setMaster(master) if master else SparkConf()
            for name, value in _SETTINGS.items():
                conf.setIfMissing(name, value)
            conf.set("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
            if conf.get("spark.master", "").startswith("local"):
                conf.setIfMissing("spark.driver.host", "127.0.0.1")
                os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            spark = SparkSession.builder.config(conf=conf).getOrCreate()
            running.callback(spark.stop)
            yield spark
        except (Py4JError, PySparkException) as error:
            raise UserError(f"Spark: {_reason(error)} (flowers --debug ... shows more)") from error


def _reason(error: Exception) -> str:
    """One line: the last of a Python worker's traceback, else the first of Java's root cause."""
    if "JAVA_GATEWAY_EXITED" in str(error):
        return "Java did not start; version 17 or later is needed (Debian: apt install openjdk-17-jre-headless)"
    if cause := getattr(error, "java_exception", None):
        while cause.getCause() is not None:
            cause = cause.getCause()
        return str(cause.toString()).strip().splitlines()[0]
    lines = [line.strip() for line in str(error).partition("JVM stacktrace:")[0].splitlines() if line.strip()]
    return lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]
