"""Scoring on this machine, shard by shard; a shard is either complete or absent.

A shard is a fixed number of images in the order of the list, with one file for each label in it. A marker in
`_progress`, written last, says that they are complete, and holds a digest of the paths and of each file. The next run
writes a shard that is unfinished or damaged again under the same names.
"""

import contextlib
import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from flowers.common import console, sealed
from flowers.common.errors import UserError
from flowers.serving import stream
from flowers.serving.scoring import job as jobs
from flowers.serving.scoring import schema
from flowers.serving.scoring.places import Place

if TYPE_CHECKING:
    import pyarrow as pa

COUNTED = ("photos", "unreadable", "unsure", "unknown")  # in each marker
SHARD = 8192  # images: as many can be lost at a kill, and each label has a file for each shard


def score(
    model: stream.Model, job: jobs.Job, source: Place, names: Sequence[str], output: Place, force: bool
) -> Counter[str]:
    """Score the images with these names into `output`; returns how many are unreadable, unsure, unknown, new.

    Raises UserError.
    """
    with output.held():
        begin(job, output, force)
        counts: Counter[str] = Counter()
        shards = len(_markers(output))
        if shards and jobs.DONE not in output.names():
            console.say(f"Continuing after {shards * SHARD:,} images that were scored before")
        left = iter(names)
        with console.progress_bar(job.photos, "Scoring", "images") as bar:
            for number, paths in enumerate(iter(lambda: list(itertools.islice(left, SHARD)), [])):
                done = finished(number, paths, output, job)
                if done:
                    bar.update(len(paths))
                else:
                    done = score_shard(model, job, source, output, number, paths, bar.update)
                    counts["new"] += len(paths)
                counts.update({name: done[name] for name in COUNTED})
        output.write(jobs.DONE, b"")
    return counts


def begin(job: jobs.Job, output: Place, force: bool) -> None:
    """Make sure that the output is this job's."""
    try:
        before = output.read(jobs.FILE).decode("utf-8", "replace")
    except OSError:
        before = None
    names = [name for name in output.names() if name != jobs.PROGRESS]
    if jobs.continues(job, before, names, output.name, force):
        return
    # What marks something as complete goes first: a kill may end this, too.
    output.remove(jobs.DONE)
    for marker in _markers(output):
        output.remove(marker)
    for folder in names:
        if folder.startswith("label="):
            output.remove(folder)
    output.write(jobs.FILE, job.text().encode())


def _markers(output: Place) -> list[str]:
    names = output.names(jobs.PROGRESS)
    return [f"{jobs.PROGRESS}/{name}" for name in names if name[0].isdigit() and name.endswith(".json")]


def finished(number: int, paths: list[str], output: Place, job: jobs.Job) -> dict[str, Any]:
    """The content of a shard's marker; empty if the shard is unfinished or damaged. UserError if it has other paths."""
    marker = _marker(number)
    try:
        content = output.read(marker)
    except FileNotFoundError:
        return {}
    except OSError:
        content = b""
    done: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, LookupError):
        found = sealed.parsed(content.decode("utf-8"), marker)
        if all(hashlib.sha256(output.read(name)).hexdigest() == digest for name, digest in found["files"].items()):
            done = found
    if not done:
        console.warn(f"{output.name}: shard {number:05d} is damaged; scoring its images again")
    elif done["paths"] != _digest(paths):
        raise UserError(f"{job.input} holds other images than when the output was begun; {jobs.REMEDY}")
    return done


def _marker(number: int) -> str:
    return f"{jobs.PROGRESS}/{number:05d}.json"


def _digest(paths: list[str]) -> str:
    return hashlib.sha256(os.fsencode("\0".join(paths))).hexdigest()


def score_shard(
    model: stream.Model,
    job: jobs.Job,
    source: Place,
    output: Place,
    number: int,
    paths: list[str],
    progress: Callable[[int], object] | None = None,
) -> dict[str, Any]:
    """Write a shard's files, and last its marker, whose content is returned."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = []
    for batch in stream.batches(model, paths, source.image):
        # A name need not be valid UTF-8: other bytes are written as \xNN.
        shown = [os.fsencode(path).decode("utf-8", "backslashreplace") for path in batch.items]
        found.append(schema.rows(model, job, shown, batch))
        if progress:
            progress(len(shown))
    table = pa.concat_tables(found)
    done = {
        "paths": _digest(paths),
        "files": _write_tables(table, output, f"part-{number:05d}.parquet"),
        "photos": len(table),
        "unreadable": len(table) - table["error"].null_count,
        "unsure": pc.sum(table["unsure"]).as_py() or 0,
        "unknown": pc.sum(pc.invert(table["known"])).as_py() or 0,
    }
    output.write(_marker(number), sealed.text(done).encode())
    return done


def _write_tables(table: "pa.Table", output: Place, name: str) -> dict[str, str]:
    """Write the rows of each label, a file each, and return their digests.

    Files of this shard that a killed run left are removed first.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for folder in (entry for entry in output.names() if entry.startswith("label=")):
        for leftover in {name, f".{name}"} & {*output.names(folder)}:
            output.remove(f"{folder}/{leftover}")
    labels, written = table["label"], {}
    for label in labels.unique().to_pylist():
        chosen = pc.is_null(labels) if label is None else pc.equal(labels, label)
        sink = pa.BufferOutputStream()
        pq.write_table(table.filter(chosen).drop_columns(["label"]), sink)
        content = sink.getvalue().to_pybytes()
        output.write(f"{schema.partition(label)}/{name}", content)
        written[f"{schema.partition(label)}/{name}"] = hashlib.sha256(content).hexdigest()
    return written
