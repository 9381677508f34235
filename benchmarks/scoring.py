"""How fast photos are scored on this machine and by Spark with two tasks at once here, and how much memory that takes.

    python benchmarks/scoring.py --photos FOLDER        # in a checkout whose pipeline has run

Both engines, taking turns, score a few photos and then many; the difference of the two is the steady rate, and what the
few take beyond that is the start. Memory is the proportional set size of all of a run's processes together, which
counts shared pages once. Prints tables and writes benchmarks/results/scoring.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

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


def run(engine: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak MiB of a run."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "flowers", "score", "--input", str(folder), "--output", f"{output}/answers"]
        command += ["--model", str(paths.MODEL), *ENGINES[engine]]
        start, peak = time.perf_counter(), 0
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while running.poll() is None:
            peak = max(peak, memory(running.pid))
            time.sleep(0.5)
        if running.returncode:
            raise SystemExit(f"failed: {' '.join(command)}")
        return time.perf_counter() - start, peak / 2**20


def memory(process: int) -> int:
    total = 0
    try:
        for one in (parent := psutil.Process(process), *parent.children(recursive=True)):
            total += one.memory_full_info().pss
    except psutil.NoSuchProcess:
        pass
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2200)
    parser.add_argument("--times", type=int, default=3)
    asked = parser.parse_args()
    seconds: dict[tuple[str, int], list[float]] = {(name, n): [] for name in ENGINES for n in (asked.few, asked.many)}
    peaks: dict[tuple[str, int], list[float]] = {key: [] for key in seconds}
    with tempfile.TemporaryDirectory() as folder:
        sets = {
            count: linked(asked.photos.resolve(), count, Path(folder) / str(count)) for count in (asked.few, asked.many)
        }
        for _ in range(asked.times):
            for engine, count in seconds:
                taken, peak = run(engine, sets[count])
                print(f"{engine}, {count:,} photos: {taken:.1f} s, {peak:,.0f} MiB", flush=True)
                seconds[engine, count].append(taken)
                peaks[engine, count].append(peak)
    found = {}
    for engine in ENGINES:
        few, many = (statistics.median(seconds[engine, count]) for count in (asked.few, asked.many))
        rate = (asked.many - asked.few) / (many - few)
        found[engine] = {
            "photos_per_second": rate,
            "start_seconds": few - asked.few / rate,
            "photos_per_second_with_start": asked.many / many,
            "peak_mib_few": statistics.median(peaks[engine, asked.few]),
            "peak_mib_many": statistics.median(peaks[engine, asked.many]),
            "days_of_100_million_here": MANY / rate / 86400,
        }
        print(f"\n{engine}")
        for name, value in found[engine].items():
            print(f"  {name.replace('_', ' ')}: {value:,.1f}")
    found["ratio"] = found["spark"]["photos_per_second"] / found["local"]["photos_per_second"]
    found["hours_of_100_million_on_100_such_executors"] = MANY / found["spark"]["photos_per_second"] / 100 / 3600
    print(f"\nSpark's steady rate against this machine's: {found['ratio']:.0%}")
    print(f"100 million photos on 100 such executors: {found['hours_of_100_million_on_100_such_executors']:.1f} h")
    found["photos"], found["cores"] = [asked.few, asked.many], os.cpu_count()
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
