"""`flowers score`: choose the model and the engine, and say what came of it."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flowers.common import console
from flowers.common.errors import UserError
from flowers.serving import models, sources
from flowers.serving.scoring import files, local, model_folder
from flowers.serving.scoring import job as jobs

Engine = Literal["local", "spark"]


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    input: str
    output: str
    engine: Engine = "local"
    model: str | None = None
    every_class: bool = False
    threshold: float | None = None
    master: str | None = None  # of Spark
    force: bool = False


def score(settings: models.Settings, request: Request) -> None:
    """Score all photos below a folder into another one; see `flowers.serving.scoring.schema` for what is written.

    Run again, it goes on where it ended. Raises UserError where there is no such folder or model, or the output is
    that of other photos, another model or other options.
    """
    if request.engine == "local" and request.master:
        raise UserError("--master names a Spark cluster; add --engine spark")
    if request.engine == "local":
        _require_folder(Path(request.input), Path(request.output))
    with models.located(request.model, settings) as (folder, name):
        (_local if request.engine == "local" else _spark)(request, folder, name)


def _require_folder(source: Path, output: Path) -> None:
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    if output.resolve().is_relative_to(source.resolve()):
        raise UserError(f"{output} lies among the photos; choose an --output outside of {source}")


def _local(request: Request, folder: Path, name: str) -> None:
    source = Path(request.input)
    model = models.load(folder)
    count = sum(1 for _ in files.walk(source))
    job = _job(request, str(source.resolve()), count, folder)
    console.say(f"Scoring {count:,} photos of {source} with {name}")
    start = time.monotonic()
    counts = local.score(model, job, Path(request.output), request.force)
    tell(counts, time.monotonic() - start, request.output)


def _spark(request: Request, folder: Path, name: str) -> None:
    from flowers.serving.scoring import spark, spark_session

    model = models.load(folder)
    with spark_session.session(request.master) as session:
        source = spark.Photos(session, request.input)
        # Elsewhere than on this machine's disks it would take another listing to know.
        local = source.folder.removeprefix("file:") if source.folder.startswith("file:") else None
        if unseen := files.unseen_by_spark(files.walk(Path(local))) if local else 0:
            console.warn(f"Spark does not see {unseen:,} photos: they, or their folders, have names that begin with _")
        job = _job(request, source.folder, source.count, folder)
        console.say(f"Scoring {job.photos:,} photos of {job.input} with {name} on Spark, {session.sparkContext.master}")
        start = time.monotonic()
        counts = spark.score(session, model, folder, job, source, request.output, request.force)
        tell(counts, time.monotonic() - start, request.output)


def _job(request: Request, source: str, count: int, folder: Path) -> jobs.Job:
    if not count:
        raise UserError(f"{request.input}: no photos there ({', '.join(sources.SUFFIXES)})")
    digest = model_folder.digest(folder)
    return jobs.Job(request.engine, source, count, digest, request.every_class, request.threshold)


def tell(counts: dict[str, int], seconds: float, output: str) -> None:
    """Say what came of it."""
    if not counts["new"]:
        console.say(f"{output} is complete already: {_listed(counts)}; nothing was scored")
        return
    earlier = f", {counts['photos'] - counts['new']:,} of them before" if counts["new"] < counts["photos"] else ""
    rate = f"{counts['new'] / seconds:,.1f} photos/s"
    console.say(f"Scored {_listed(counts)}{earlier}; {seconds:,.0f} s, {rate}. They are in {output}")


def _listed(counts: dict[str, int]) -> str:
    return f"{counts['photos']:,} photos, {counts['unsure']:,} unsure, {counts['unreadable']:,} unreadable"
