"""Scoring with Spark where Hadoop has no driver, as for s3://: each task does with one shard what `local` does.

Images and predictions go between the bucket and the executors, through fsspec. The executors find the keys as any
program does: in the environment, in a file, or from the machine that they run on.
"""

import functools
import itertools
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pyspark.sql import SparkSession

from flowers.common import console
from flowers.serving.scoring import job as jobs
from flowers.serving.scoring import local, places, spark


def score(
    session: SparkSession, folder: Path, job: jobs.Job, names: Sequence[str], output: str, force: bool
) -> Counter[str]:
    """As `local.score`; `folder` is the model's."""
    place, left = places.place(output), iter(names)
    local.begin(job, place, force)
    shards = list(enumerate(iter(lambda: list(itertools.islice(left, spark.TASK)), [])))
    before = {number: local.finished(number, paths, place, job) for number, paths in shards}
    new = [(number, paths) for number, paths in shards if not before[number]]
    if new and len(new) < len(shards):
        console.say(f"Continuing after {len(shards) - len(new):,} of {len(shards):,} shards that were scored before")
    with tempfile.TemporaryDirectory(prefix="flowers-spark-") as packed:
        spark.ship(session, folder, Path(packed))
        tasks = session.sparkContext.parallelize(new, max(1, len(new)))
        scored = tasks.map(functools.partial(_score, job=job, output=output)).collect()
    place.write(jobs.DONE, b"")
    counts: Counter[str] = Counter(new=sum(len(paths) for _, paths in new))
    for done in [*filter(None, before.values()), *scored]:
        counts.update({name: done[name] for name in local.COUNTED})
    return counts


def _score(shard: tuple[int, list[str]], job: jobs.Job, output: str) -> dict[str, int]:
    """Score one shard, in a Python worker of Spark; returns its counts."""
    number, paths = shard
    done = local.score_shard(spark.model(), job, places.place(job.input), places.place(output), number, paths)
    return {name: done[name] for name in local.COUNTED}
