"""Scoring on this machine, shard by shard; a shard is either complete or absent.

A shard is a fixed number of images in the walk's order, with one file for each label in it. A marker in `_progress`,
written last, says that they are complete, and holds a digest of the paths and of each file. The next run writes a shard
that is unfinished or damaged again under the same names.
"""

import hashlib
import itertools
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.common import console, locks, sealed
from flowers.common.errors import UserError
from flowers.serving import sources, stream
from flowers.serving.scoring import job as jobs
from flowers.serving.scoring import schema

if TYPE_CHECKING:
    import pyarrow as pa
    import tqdm

SHARD = 8192  # images: as many can be lost at a kill, and each label has a file for each shard
_LOCK = ".lock"


def score(model: stream.Model, job: jobs.Job, output: Path, force: bool) -> Counter[str]:
    """Score the job's images into `output`; returns how many are unreadable, unsure, unknown, new. Raises UserError."""
    output.mkdir(parents=True, exist_ok=True)
    with locks.held(output / _LOCK, f"Another flowers score writes into {output}; waiting for it"):
        _begin(job, output, force)
        counts: Counter[str] = Counter()
        shards = sum(1 for _ in _markers(output))
        if shards and not (output / jobs.DONE).exists():
            console.say(f"Continuing after {shards * SHARD:,} images that were scored before")
        names = sources.walk(Path(job.input))
        with console.progress_bar(job.photos, "Scoring", "images") as bar:
            for number, paths in enumerate(iter(lambda: list(itertools.islice(names, SHARD)), [])):
                marker = output / jobs.PROGRESS / f"{number:05d}.json"
                done = _finished(marker, output)
                if not done:
                    done = _score_shard(model, job, output, number, paths, bar)
                    _write_marker(marker, done)
                    counts["new"] += len(paths)
                elif done["paths"] != _digest(paths):
                    raise UserError(f"{job.input} holds other images than when {output} was begun; {jobs.REMEDY}")
                else:
                    bar.update(len(paths))
                counts.update({name: done[name] for name in ("photos", "unreadable", "unsure", "unknown")})
        _write_text(output / jobs.DONE, "")
    return counts


def _begin(job: jobs.Job, output: Path, force: bool) -> None:
    """Make sure that the output is this job's."""
    file = output / jobs.FILE
    before = file.read_text(encoding="utf-8", errors="replace") if file.exists() else None
    names = (path.name for path in output.iterdir() if path.name not in (_LOCK, jobs.PROGRESS))
    if jobs.continues(job, before, names, str(output), force):
        return
    # What marks something as complete goes first: a kill may end this, too.
    (output / jobs.DONE).unlink(missing_ok=True)
    for marker in _markers(output):
        marker.unlink()
    for folder in output.glob("label=*"):
        shutil.rmtree(folder)
    file.parent.mkdir(exist_ok=True)
    _write_text(file, job.text())


def _markers(output: Path) -> list[Path]:
    return list((output / jobs.PROGRESS).glob("[0-9]*.json"))


def _finished(marker: Path, output: Path) -> dict[str, Any]:
    """The content of a shard's marker; empty if the shard is unfinished or damaged."""
    if not marker.exists():
        return {}
    try:
        done = sealed.read(marker)
        if all(_file_digest(output / name) == digest for name, digest in done["files"].items()):
            return done
    except (OSError, ValueError, LookupError):
        pass
    console.warn(f"{output}: shard {marker.stem} is damaged; scoring its images again")
    return {}


def _digest(paths: list[str]) -> str:
    return hashlib.sha256(os.fsencode("\0".join(paths))).hexdigest()


def _file_digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _score_shard(
    model: stream.Model, job: jobs.Job, output: Path, number: int, paths: list[str], bar: "tqdm.tqdm[Any]"
) -> dict[str, Any]:
    """Write a shard's files; returns the content of its marker."""
    import pyarrow as pa
    import pyarrow.compute as pc

    folder, found = Path(job.input), []
    for batch in stream.batches(model, paths, lambda path: folder / path):
        # A name need not be valid UTF-8: other bytes are written as \xNN.
        shown = [os.fsencode(path).decode("utf-8", "backslashreplace") for path in batch.items]
        found.append(schema.rows(model, job, shown, batch))
        bar.update(len(shown))
    table = pa.concat_tables(found)
    files = _write_tables(table, output, f"part-{number:05d}.parquet")
    return {
        "paths": _digest(paths),
        "files": {file.relative_to(output).as_posix(): _file_digest(file) for file in files},
        "photos": len(table),
        "unreadable": len(table) - table["error"].null_count,
        "unsure": pc.sum(table["unsure"]).as_py() or 0,
        "unknown": pc.sum(pc.invert(table["known"])).as_py() or 0,
    }


def _write_tables(table: "pa.Table", output: Path, name: str) -> list[Path]:
    """Write the rows of each label, a file each; files of this shard that a killed run left are removed first."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    for leftover in (*output.glob(f"label=*/{name}"), *output.glob(f"label=*/.{name}")):
        leftover.unlink()
    labels, written = table["label"], []
    for label in labels.unique().to_pylist():
        chosen = pc.is_null(labels) if label is None else pc.equal(labels, label)
        folder = output / schema.partition(label)
        folder.mkdir(exist_ok=True)
        pq.write_table(table.filter(chosen).drop_columns(["label"]), folder / f".{name}")
        _move_synced(folder / f".{name}", folder / name)
        written.append(folder / name)
    return written


def _write_marker(file: Path, content: dict[str, Any]) -> None:
    temporary = file.with_name(f".{file.name}")
    sealed.write(content, temporary)
    _move_synced(temporary, file)


def _write_text(file: Path, text: str) -> None:
    temporary = file.with_name(f".{file.name}")
    temporary.write_text(text, encoding="utf-8")
    _move_synced(temporary, file)


def _move_synced(temporary: Path, file: Path) -> None:
    """Rename a file once its content is on the disk: a marker must not exist without the files it stands for."""
    with temporary.open("rb+") as content:
        os.fsync(content.fileno())
    temporary.replace(file)
