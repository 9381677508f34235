"""Spark, started as its own configuration says and quietly; without it or Java, a line that says what to install."""

import contextlib
import importlib.util
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flowers.common.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# What the user's own configuration (spark-defaults.conf, PYSPARK_SUBMIT_ARGS) does not say.
_SETTINGS = {
    "spark.app.name": "flowers score",
    "spark.ui.enabled": "false",
    # At most so much goes to a Python worker at once, whichever is reached first.
    "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(32 * 2**20),
    # A photo that cannot be read ends no job; it is missed afterwards, and named.
    "spark.sql.files.ignoreCorruptFiles": "true",
    "spark.sql.files.ignoreMissingFiles": "true",
    # What a task has written stays when the driver is killed. That it is all is said by _SUCCESS, which comes last.
    "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
    "spark.hadoop.mapreduce.fileoutputcommitter.marksuccessfuljobs": "false",
}
_LOCAL = "local[*]"
_LOGGING = """\
rootLogger.level = {level}
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
logger.repl.name = org.apache.spark.api.python.PythonGatewayServer
logger.repl.level = {level}
"""


@contextlib.contextmanager
def session(master: str | None) -> Iterator["SparkSession"]:
    """Spark on `master`, else on what its configuration names, else on this machine's cores.

    Spark's own errors in here become a UserError of one line.
    """
    _require_java_and_pyspark()
    from pyspark import SparkConf, SparkContext
    from pyspark.sql import SparkSession

    with tempfile.TemporaryDirectory(prefix="flowers-spark-") as folder, _explained():
        _quiet(Path(folder))
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas")  # of which little is used here
        SparkContext._ensure_initialized()  # starts Java, so that the configuration holds what its own files say
        conf = SparkConf()
        if master:
            conf.setMaster(master)
        if (conf.get("spark.master") or _LOCAL).startswith("local"):
            conf.setIfMissing("spark.master", _LOCAL)
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
            for name in ("spark.driver.host", "spark.driver.bindAddress"):
                conf.setIfMissing(name, "127.0.0.1")
        for name, value in _SETTINGS.items():
            conf.setIfMissing(name, value)
        conf.set("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
        spark = SparkSession.builder.config(conf=conf).getOrCreate()
        try:
            yield spark
        finally:
            spark.stop()


def _require_java_and_pyspark() -> None:
    if importlib.util.find_spec("pyspark") is None:
        raise UserError("--engine spark needs PySpark: `make extras`, or pip install 'flowers[spark]'")
    home = os.environ.get("JAVA_HOME")
    started = "PYSPARK_GATEWAY_PORT" in os.environ  # by spark-submit, which starts Java before Python
    if not started and not shutil.which("java", path=str(Path(home) / "bin") if home else None):
        where = f"; JAVA_HOME, {home}, has none" if home else ""
        raise UserError(f"--engine spark needs Java 17 or later{where} (Debian: apt install openjdk-17-jre-headless)")


def _quiet(folder: Path) -> None:
    """Have Java's log silent, unless everything is to be shown or the user has chosen otherwise."""
    file = folder / "log4j2.properties"
    file.write_text(_LOGGING.format(level="warn" if "--debug" in sys.argv else "off"), encoding="utf-8")
    os.environ.setdefault("SPARK_SUBMIT_OPTS", f"-Dlog4j2.configurationFile={file.as_uri()}")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn Spark's errors into a line."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (Py4JError, PySparkException) as error:
        raise UserError(f"Spark: {_reason(error)} (flowers --debug ... shows more)") from error


def _reason(error: Exception) -> str:
    if cause := getattr(error, "java_exception", None):
        while cause.getCause() is not None:
            cause = cause.getCause()
        return str(cause.toString()).strip().splitlines()[0]
    lines = [line.strip() for line in str(error).partition("JVM stacktrace:")[0].splitlines() if line.strip()]
    if "JAVA_GATEWAY_EXITED" in lines[0]:
        return "Java ended as it began; Spark needs version 17 or later"
    return lines[-1] if any(line.startswith("Traceback") for line in lines) else lines[0]
