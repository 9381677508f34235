"""Speed and memory of scoring on this machine, with the local engine and with Spark's local[2].

    python benchmarks/scoring.py --photos FOLDER        # in a checkout whose pipeline has run

The engines take turns. Each scores a few images and then many: the difference gives the steady rate, and the rest of
the short run is the start-up. Memory is the proportional set size of all processes of a run, which counts shared pages
once. Processor seconds are also of all processes; on a busy machine they are more reliable than the rates. The script
prints a line per run and a table, and writes benchmarks/results/scoring.json.
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

from flowers.common import paths
from flowers.serving import sources

ENGINES = {"local": [], "spark": ["--engine", "spark", "--master", "local[2]"]}
MANY = 100_000_000
RESULT = Path(__file__).parent / "results" / "scoring.json"


def linked(source: Path, count: int, folder: Path) -> Path:
    """A folder with that many images, the same ones again where there are too few."""
    names = list(sources.walk(source))
    for number in range(count):
        name = names[number % len(names)]
        place = folder / f"{number // len(names)}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(source / name)
    return folder


def run(engine: str, folder: Path) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, and peak MiB of a run."""
    with tempfile.TemporaryDirectory() as output:
        command = [
            sys.executable,
            "-m",
            "flowers",
            "score",
            "--input",
            str(folder),
            "--output",
            f"{output}/rows",
        ]
        command += ["--model", str(paths.MODEL), *ENGINES[engine]]
        start, peak = time.perf_counter(), 0
        busy: dict[int, float] = {}
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while running.poll() is None:
            peak = max(peak, watch(running.pid, busy))
            time.sleep(0.25)
        if running.returncode:
            raise SystemExit(f"failed: {' '.join(command)}")
        return time.perf_counter() - start, sum(busy.values()), peak / 2**20


def watch(process: int, busy: dict[int, float]) -> int:
    """Bytes held by a process and its children; the processor seconds of each go into `busy`."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        for one in (parent := psutil.Process(process), *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += one.memory_full_info().pss
                busy[one.pid] = sum(one.cpu_times()[:2])
    return total


def measure(photos: str, few: int, many: int, times: int) -> dict[str, Any]:
    """Both engines on `few` and on `many` images, taking turns `times` times: rates, memory and derived figures."""
    runs: dict[tuple[str, int], list[tuple[float, float, float]]] = {
        (engine, count): [] for engine in ENGINES for count in (few, many)
    }
    with tempfile.TemporaryDirectory() as folder:
        sets = {count: linked(Path(photos).resolve(), count, Path(folder) / str(count)) for count in (few, many)}
        for _ in range(times):
            for engine, count in runs:
                wall, busy, peak = run(engine, sets[count])
                print(f"{engine}, {count:,} images: {wall:.1f} s, {busy:.1f} s busy, {peak:,.0f} MiB", file=sys.stderr)
                runs[engine, count].append((wall, busy, peak))
    found: dict[str, Any] = {"photos": [few, many], "cores": os.cpu_count()}
    for engine in ENGINES:
        short, long = ([*map(statistics.median, zip(*runs[engine, count], strict=True))] for count in (few, many))
        rate = (many - few) / (long[0] - short[0])
        found[engine] = {
            "photos_per_second": rate,
            "processor_milliseconds_per_photo": 1000 * (long[1] - short[1]) / (many - few),
            "start_seconds": short[0] - few / rate,
            "photos_per_second_with_start": many / long[0],
            "peak_mib_few": short[2],
            "peak_mib_many": long[2],
            "days_of_100_million_here": MANY / rate / 86400,
        }
    found["ratio"] = found["spark"]["photos_per_second"] / found["local"]["photos_per_second"]
    used = [found[engine]["processor_milliseconds_per_photo"] for engine in ENGINES]
    found["ratio_by_the_processors_time"] = used[0] / used[1]
    found["hours_of_100_million_on_100_such_executors"] = MANY / found["spark"]["photos_per_second"] / 100 / 3600
    return found


def show(found: dict[str, Any]) -> None:
    """Print the figures."""
    for engine in ENGINES:
        print(f"\n{engine}")
        for name, value in found[engine].items():
            print(f"  {name.replace('_', ' ')}: {value:,.1f}")
    print(f"\nSpark's steady rate, relative to the local engine: {found['ratio']:.0%}")
    print(f"the same by processor time: {found['ratio_by_the_processors_time']:.0%}")
    print(f"100 million images on 100 such executors: {found['hours_of_100_million_on_100_such_executors']:.1f} h")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", required=True)
    parser.add_argument("--few", type=int, default=200)
    parser.add_argument("--many", type=int, default=2200)
    parser.add_argument("--times", type=int, default=3)
    found = measure(**vars(parser.parse_args()))
    show(found)
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
