"""`flowers score`: choose the model and the engine, and report the counts."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flowers.common import console
from flowers.common.errors import UserError
from flowers.data import formats
from flowers.serving import models, sources
from flowers.serving.scoring import job as jobs
from flowers.serving.scoring import local, places

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Engine = Literal["local", "spark"]
KINDS = {"unknown": "unknown", "unsure": "low confidence", "unreadable": "unreadable"}  # of images, in the report


@dataclass(frozen=True)
class Request:
    """The options of the command line."""

    input: str
    output: str
    engine: Engine = "local"
    model: str | None = None
    every_class: bool = False
    threshold: float | None = None
    master: str | None = None  # of Spark
    force: bool = False


def score(settings: models.Settings, request: Request) -> None:
    """Score all images below a folder into another one (see `schema`), or continue. Raises UserError."""
    if request.engine == "local":
        if request.master:
            raise UserError("--master names a Spark cluster; add --engine spark")
        source, output = places.place(request.input), places.place(request.output)
        if not source.exists():
            raise UserError(f"{request.input}: no such folder")
        if places.inside(output, source):
            raise UserError(f"{request.output} lies among the images; choose an --output outside of {request.input}")
    with models.located(request.model, settings) as (folder, name):
        (_local if request.engine == "local" else _spark)(request, folder, name)


def _local(request: Request, folder: Path, name: str) -> None:
    source, output = places.place(request.input), places.place(request.output)
    model = models.load(folder)
    names, listed = source.images()
    job = _job(request, source.name, len(names), folder)
    if listed is not None:
        listed.report_skipped()
    console.say(f"Scoring {job.photos:,} images of {request.input} with {name}")
    start = time.monotonic()
    _report(local.score(model, job, source, names, output, request.force), start, request.output)


def _spark(request: Request, folder: Path, name: str) -> None:
    try:
        from flowers.serving.scoring import spark
    except ModuleNotFoundError:
        raise UserError("--engine spark needs PySpark: `make extras`, or pip install -e '.[spark]'") from None

    model = models.load(folder)
    with spark.session(request.master) as session:
        if request.input.startswith("s3://") or request.output.startswith("s3://"):
            _spark_shards(request, folder, name, session)
            return
        source = spark.Images(session, request.input)
        # On other file systems than this machine's it would take another listing to know.
        on_disk = source.folder.startswith("file:")
        if on_disk and (count := ignored_by_spark(sources.walk(Path(source.folder.removeprefix("file:"))))):
            console.warn(f"Spark ignores {count:,} images: their names, or those of their folders, begin with _")
        job = _job(request, source.folder, len(source.paths), folder)
        console.say(f"Scoring {job.photos:,} images of {job.input} with {name} on Spark, {session.sparkContext.master}")
        start = time.monotonic()
        counts = spark.score(session, model, folder, job, source, request.output, request.force)
        _report(counts, start, request.output)


def _spark_shards(request: Request, folder: Path, name: str, session: "SparkSession") -> None:
    from flowers.serving.scoring import spark_shards

    source = places.place(request.input)
    if not source.exists():
        raise UserError(f"{request.input}: no such folder")
    names, _ = source.images()
    job = _job(request, source.name, len(names), folder)
    console.say(f"Scoring {job.photos:,} images of {job.input} with {name} on Spark, {session.sparkContext.master}")
    start = time.monotonic()
    _report(spark_shards.score(session, folder, job, names, request.output, request.force), start, request.output)


def ignored_by_spark(names: Iterable[str]) -> int:
    """How many of these paths Spark's readers ignore: a file or a folder in them begins with an underscore."""
    return sum("/_" in f"/{name}" for name in names)


def _job(request: Request, source: str, count: int, folder: Path) -> jobs.Job:
    if not count:
        raise UserError(f"{request.input}: no images there ({', '.join(formats.SUFFIXES)})")
    digest = models.digest(folder)
    return jobs.Job(request.engine, source, count, digest, request.every_class, request.threshold)


def _report(counts: Counter[str], start: float, output: str) -> None:
    kinds = [f"{counts[kind]:,} {name}" for kind, name in KINDS.items()]
    found = ", ".join([f"{counts['photos']:,} images", *kinds])
    if not counts["new"]:
        console.say(f"{output} is complete already: {found}; nothing was scored")
        return
    seconds = time.monotonic() - start
    earlier = f", {counts['photos'] - counts['new']:,} of them before" if counts["new"] < counts["photos"] else ""
    console.say(f"Scored {found}{earlier}; {seconds:,.0f} s, {counts['new'] / seconds:,.1f} images/s. Output: {output}")
