"""Scoring on this machine: shard after shard, each complete or not there.

A shard is a fixed number of photos in the walk's order. Its files have names of its own, one in the folder of every
label that it holds; a marker in `_progress`, written last, says that they are complete and holds a digest of the
paths. A run that is killed loses the shard that it was at; the next one writes that again under the same names.
"""

import hashlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.common import console, locks
from flowers.serving import stream
from flowers.serving.scoring import files, schema
from flowers.serving.scoring import job as jobs

if TYPE_CHECKING:
    import pyarrow as pa
    import tqdm

SHARD = 8192  # photos: as many can be lost at a kill, and a label has a file for each
_LOCK = ".lock"


def score(model: stream.Model, job: jobs.Job, output: Path, force: bool) -> Counter[str]:
    """Score the job's photos into `output`; returns counts: photos, unreadable and unsure in all, and new ones.

    Raises UserError where `output` belongs to something else, or the photos have changed since it was begun; with
    `force` what flowers score has written there is removed first.
    """
    output.mkdir(parents=True, exist_ok=True)
    with locks.held(output / _LOCK, f"Another flowers score writes into {output}; waiting for it"):
        _begin(job, output, force)
        counts: Counter[str] = Counter()
        shards = sum(1 for _ in (output / jobs.PROGRESS).glob("[0-9]*.json"))
        if shards and not (output / jobs.DONE).exists():
            console.say(f"Going on after {shards * SHARD:,} photos that were scored before")
        with console.progress_bar(job.photos, "Scoring", "photos") as bar:
            for number, paths in enumerate(_shards(Path(job.input))):
                marker = output / jobs.PROGRESS / f"{number:05d}.json"
                done = json.loads(marker.read_text(encoding="utf-8")) if marker.exists() else None
                if done is None:
                    done = _score_shard(model, job, output, number, paths, bar)
                    _write_text(marker, json.dumps(done) + "\n")
                    counts["new"] += len(paths)
                elif done["digest"] == _digest(paths):
                    bar.update(len(paths))
                else:
                    jobs.refuse_changed(str(output), job.input)
                counts.update({name: done[name] for name in ("photos", "unreadable", "unsure")})
        _write_text(output / jobs.DONE, "")
    return counts


def _begin(job: jobs.Job, output: Path, force: bool) -> None:
    """Make sure that the output is this job's."""
    file = output / jobs.FILE
    if file.exists():
        if force:
            _remove(output)
        else:
            jobs.refuse_another(job, file.read_text(encoding="utf-8"), str(output))
            return
    elif any(path.name not in (_LOCK, jobs.PROGRESS) for path in output.iterdir()):
        jobs.refuse_foreign(str(output))
    file.parent.mkdir(exist_ok=True)
    _write_text(file, job.text())


def _remove(output: Path) -> None:
    """Remove what is there, what says that something is complete first: this, too, may be killed."""
    (output / jobs.DONE).unlink(missing_ok=True)
    for marker in (output / jobs.PROGRESS).iterdir():
        if marker.name != Path(jobs.FILE).name:
            marker.unlink()
    for folder in output.glob("label=*"):
        shutil.rmtree(folder)


def _shards(folder: Path) -> Iterator[list[str]]:
    names = files.walk(folder)
    while shard := list(itertools.islice(names, SHARD)):
        yield shard


def _digest(paths: list[str]) -> str:
    return hashlib.sha256(os.fsencode("\0".join(paths))).hexdigest()


def _score_shard(
    model: stream.Model, job: jobs.Job, output: Path, number: int, paths: list[str], bar: "tqdm.tqdm[Any]"
) -> dict[str, Any]:
    """Write a shard's files; returns what its marker says."""
    import pyarrow as pa

    folder, found = Path(job.input), []
    for batch in stream.batches(model, paths, lambda path: folder / path):
        shown = [files.shown(path) for path in batch.items]
        threshold = model.threshold if job.threshold is None else job.threshold
        found.append(schema.rows(model.classes, threshold, job.every_class, shown, batch.errors, batch.probabilities))
        bar.update(len(shown))
    table = pa.concat_tables(found)
    _write_tables(table, output, f"part-{number:05d}.parquet")
    unsure = pa.compute.sum(table["unsure"]).as_py() or 0
    return {
        "digest": _digest(paths),
        "photos": len(table),
        "unreadable": len(table) - table["error"].null_count,
        "unsure": unsure,
    }


def _write_tables(table: "pa.Table", output: Path, name: str) -> None:
    """Write the rows of each label, in the place of all that a killed run may have left of this shard."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for leftover in (*output.glob(f"label=*/{name}"), *output.glob(f"label=*/.{name}")):
        leftover.unlink()
    labels = table["label"]
    for label in labels.unique().to_pylist():
        chosen = pc.is_null(labels) if label is None else pc.equal(labels, label)
        folder = output / schema.partition(label)
        folder.mkdir(exist_ok=True)
        pq.write_table(table.filter(chosen).drop_columns(["label"]), folder / f".{name}")
        _settle(folder / f".{name}", folder / name)


def _write_text(file: Path, text: str) -> None:
    unsettled = file.with_name(f".{file.name}")
    unsettled.write_text(text, encoding="utf-8")
    _settle(unsettled, file)


def _settle(unsettled: Path, file: Path) -> None:
    """Give a file its name once its content is on the disk: a marker must not outlive what it speaks of."""
    with unsettled.open("rb+") as content:
        os.fsync(content.fileno())
    unsettled.replace(file)
