"""How fast photos are scored on this machine and by Spark with two tasks at once here, and how much memory that takes.

    python benchmarks/scoring.py --photos FOLDER        # in a checkout whose pipeline has run

Both engines, taking turns, score a few photos and then many; the difference of the two is the steady rate, and what the
few take beyond that is the start. Memory is the proportional set size of all of a run's processes together, which
counts shared pages once. Seconds of the processor are theirs, too: on a machine that does other work beside, they tell
more than the rates do. Prints a line a run and a table, and writes benchmarks/results/scoring.json.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from flowers import paths
from flowers.scoring import photos

ENGINES = {"local": [], "spark": ["--engine", "spark", "--master", "local[2]"]}
MANY = 100_000_000
RESULT = Path(__file__).parent / "results" / "scoring.json"


def linked(source: Path, count: int, folder: Path) -> Path:
    """A folder with that many photos, the same ones again where there are too few."""
    names = list(photos.walk(source))
    for number in range(count):
        name = names[number % len(names)]
        place = folder / f"{number // len(names)}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(source / name)
    return folder


def run(engine: str, folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, and peak MiB of a run."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "flowers", "score", "--input", str(folder), "--output", f"{output}/answers"]
        command += ["--model", str(paths.MODEL), *ENGINES[engine]]
        start, peak, busy = time.perf_counter(), 0, {}
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while running.poll() is None:
            peak = max(peak, watch(running.pid, busy))
            time.sleep(0.25)
        if running.returncode:
            raise SystemExit(f"failed: {' '.join(command)}")
        return time.perf_counter() - start, sum(busy.values()), peak / 2**20


def watch(process: int, busy: dict[int, float]) -> int:
    """Bytes that a process and those below it hold; what each has used of the processor goes into `busy`."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (parent := psutil.Process(process), *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_full_info().pss
                busy[one.pid] = sum(one.cpu_times()[:2])
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2200)
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    runs: dict[tuple[str, int], list[tuple[float, float, float]]] = {
        (engine, count): [] for engine in ENGINES for count in (asked.few, asked.many)
    }
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            count: linked(asked.photos.resolve(), count, Path(folder) / str(count)) for count in (asked.few, asked.many)
        }
        for _ in range(asked.times):
            for engine, count in runs:
                wall, busy, peak = run(engine, sets[count])
                print(f"{engine}, {count:,} photos: {wall:.1f} s, {busy:.1f} s busy, {peak:,.0f} MiB", flush=True)
                runs[engine, count].append((wall, busy, peak))
    found: dict[str, Any] = {}
    for engine in ENGINES:
        few, many = ([*map(statistics.median, zip(*runs[engine, count], strict=True))] for count in sets)
        rate = (asked.many - asked.few) / (many[0] - few[0])
        found[engine] = {
            "photos_per_second": rate,
            "processor_milliseconds_per_photo": 1000 * (many[1] - few[1]) / (asked.many - asked.few),
            "start_seconds": few[0] - asked.few / rate,
            "photos_per_second_with_start": asked.many / many[0],
            "peak_mib_few": few[2],
            "peak_mib_many": many[2],
            "days_of_100_million_here": MANY / rate / 86400,
        }
        print(f"\n{engine}")
        for name, value in found[engine].items():
            print(f"  {name.replace('_', ' ')}: {value:,.1f}")
    found["ratio"] = found["spark"]["photos_per_second"] / found["local"]["photos_per_second"]
    found["hours_of_100_million_on_100_such_executors"] = MANY / found["spark"]["photos_per_second"] / 100 / 3600
    used = [found[engine]["processor_milliseconds_per_photo"] for engine in ENGINES]
    found["ratio_by_the_processors_time"] = used[0] / used[1]
    print(f"\nSpark's steady rate against this machine's: {found['ratio']:.0%}")
    print(f"the same by the processor's time: {found['ratio_by_the_processors_time']:.0%}")
    print(f"100 million photos on 100 such executors: {found['hours_of_100_million_on_100_such_executors']:.1f} h")
    found["photos"], found["cores"] = [asked.few, asked.many], os.cpu_count()
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
