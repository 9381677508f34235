"""The project compared with a usual Keras script: every published speed and score, in one run.

    python benchmarks/bench.py                                 # the drawn sample
    python benchmarks/bench.py --photos /photos/oxford102      # {train,val,test}/<class>/<file> or <class>/<file>
    python benchmarks/bench.py --quick                         # a few images, once: a trial of the script

Both use the same images, augmented views, head and batches (usual.py). They take turns, each timing in a process of its
own, and medians are compared. Imports are left out on both sides, and so is tracing unless a note includes it. Images
are assigned to train, val and test at random, whatever subsets the folder has. The script prints tables, and writes
benchmarks/results/bench.json with every timing, and docs/bench.png. A partial measurement (--quick, --only, or a
section that failed) is written to build/ instead.
"""

import argparse
import datetime
import importlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bench_picture
import bench_summary
import scratch

DEPTHS = {0: 7, 1: 7, 3: 6}  # unfrozen blocks: trials of the study
STARTED = time.perf_counter()


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    size: int = 300  # images: train 60 %, val 15 %, test 25 %
    repeats: int = 3
    predicted: int = 96  # images in one timing of predict and of the backbone
    head_epochs: int = 60
    tail_epochs: int = 4
    starts: int = 5  # of `dvc repro` and `flowers --help`
    seeds: int = 3
    score_epochs: int = 6


QUICK = Plan(size=48, repeats=1, predicted=32, head_epochs=5, tail_epochs=2, starts=1, seeds=1, score_epochs=1)


@dataclass(frozen=True)
class Scene:
    """Where it is measured. `ours` holds all chosen images; `usual` fewer of them with --limit."""

    plan: Plan
    best_precision: str  # of this machine; elsewhere bfloat16 is emulated
    precision: str
    weights: Path
    work: Path
    ours: Path
    usual: Path

    @property
    def cache(self) -> Path:
        return self.work / "cache"


def extraction(scene: Scene) -> dict[str, Any]:
    """Each repeat is another process, because predict runs at half speed in some processes, for an unknown reason."""
    plan = scene.plan
    found: dict[str, Any] = {"ceilings": [], "usual": [], "ours": []}
    precisions = ["float32", "bfloat16"] if scene.best_precision == "bfloat16" else ["float32"]
    for _ in range(plan.repeats):
        found["ceilings"].append(timed(scene, "ceilings:measure", scene.ours, precisions=precisions, repeats=3))
        length: dict[str, Any] = {"count": plan.predicted, "repeats": plan.repeats}
        found["usual"].append(timed(scene, "measure_usual:predict", scene.ours, **length))
        found["ours"].append(timed(scene, "measure_ours:extract", scene.ours, **length))
    length = {"count": min(64, plan.predicted), "repeats": 1, "more": False}
    without = {"TF_ENABLE_ONEDNN_OPTS": "0"}
    return found | {"usual_without_onednn": timed(scene, "measure_usual:predict", scene.ours, without, **length)}


def study_extraction(scene: Scene) -> list[dict[str, Any]]:
    found: list[Any] = []
    for repeat in range(scene.plan.repeats):
        # The epochs use the cache of the last one.
        cache = scene.cache if repeat == scene.plan.repeats - 1 else scene.work / f"cache-{repeat}"
        variables = {"FLOWERS_CACHE": str(cache)}
        found.append(timed(scene, "measure_ours:extract_all", scene.ours, variables, depths=list(DEPTHS)))
    return found


def epochs(scene: Scene) -> dict[str, Any]:
    plan = scene.plan
    found: dict[str, Any] = {str(depth): {"usual": [], "ours": []} for depth in DEPTHS}
    for _ in range(plan.repeats):
        for depth in DEPTHS:
            usual = timed(scene, "measure_usual:epochs", scene.usual, unfreeze_blocks=depth, count=1)
            length: dict[str, Any] = {"head_epochs": plan.head_epochs, "tail_epochs": plan.tail_epochs if depth else 0}
            ours = timed(scene, "measure_ours:epochs", scene.ours, unfreeze_blocks=depth, **length)
            found[str(depth)]["usual"].append(usual)
            found[str(depth)]["ours"].append(ours)
    return found


def accuracy(scene: Scene) -> dict[str, Any]:
    found: dict[str, Any] = {"usual": [], "ours": []}
    for seed in range(scene.plan.seeds):
        for side, module in (("usual", "measure_usual"), ("ours", "measure_ours")):
            arguments: dict[str, Any] = {"epochs": scene.plan.score_epochs, "seed": seed}
            found[side].append(timed(scene, f"{module}:accuracy", scene.usual, **arguments))
    return found


def commands(scene: Scene) -> dict[str, Any]:
    """Seconds of `flowers --help`, of `dvc repro` with nothing to do, and of that in a pipeline of trivial stages."""
    say("making a checkout and running its pipeline once")
    ours = scratch.checkout(scene.work / "checkout", scene.weights, scene.precision, scene.cache)
    trivial = scratch.trivial_pipeline(scene.work / "trivial", scene.cache)
    lines = {
        "help": (["flowers", "--help"], ours),
        "repro": (["dvc", "repro"], ours),
        "repro_trivial": (["dvc", "repro"], trivial),
    }
    found: dict[str, Any] = {name: [] for name in lines}
    for turn in range(scene.plan.starts + 1):
        for name, (command, folder) in lines.items():
            start = time.perf_counter()
            scratch.run(command, folder, scratch.environment(scene.cache))
            if turn:  # the first one fills the file system's cache
                found[name].append(time.perf_counter() - start)
    say("flowers --help, dvc repro with nothing to do: done")
    share = timed(scene, "measure_ours:tracking_share", ours, slow_epochs=6, models=max(3, scene.plan.repeats))
    return found | {"tracking": share}


SECTIONS = (extraction, study_extraction, epochs, commands, accuracy)


def timed(
    scene: Scene, measurement: str, folder: Path, variables: dict[str, str] | None = None, **arguments: Any
) -> dict[str, Any]:
    """The result of `<module>:<function>` in a process of its own, in this folder."""
    shown = " ".join(f"{name}={value}" for name, value in arguments.items())
    start = time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--measure", measurement, json.dumps(arguments)]
    printed = scratch.run(command, folder, scratch.environment(scene.cache) | (variables or {}))
    say(f"{measurement} {shown}: {time.perf_counter() - start:.0f} s")
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of images (without it: the drawn sample)")
    parser.add_argument("--quick", action="store_true", help="few images, one repeat")
    parser.add_argument("--size", type=int, help="images to measure with, 0 for all of the folder (300)")
    parser.add_argument("--limit", type=int, help="images for the usual script; its times are scaled (as --size)")
    parser.add_argument("--repeats", type=int, help="timings of each (3)")
    parser.add_argument("--seeds", type=int, help="trainings of each side whose scores are compared (3)")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    parser.add_argument("--only", nargs="+", choices=[section.__name__ for section in SECTIONS], help="some sections")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(*given.measure)))
        return
    changes = {name: value for name in ("size", "repeats", "seeds") if (value := getattr(given, name)) is not None}
    plan = Plan(**(asdict(QUICK if given.quick else Plan()) | changes))
    with tempfile.TemporaryDirectory(prefix="flowers-bench-") as work:
        scene, about = prepare(Path(work).resolve(), given, plan)
        timings, failed = {}, []
        for section in SECTIONS:
            if given.only and section.__name__ not in given.only:
                continue
            try:
                timings[section.__name__] = section(scene)
            except subprocess.CalledProcessError as error:
                say(f"{section.__name__} failed: {error}")
                failed.append(section.__name__)
    content = about | {"plan": asdict(plan), "timings": timings}
    content["summary"] = [
        asdict(row) | {"ratio": row.ratio, "reached": row.reached} for row in bench_summary.rows(content)
    ]
    bench_summary.show(content)
    partial = given.quick or given.only or failed
    report, picture = (f"{'build' if partial else place}/bench" for place in ("benchmarks/results", "docs"))
    write(scratch.ROOT / f"{report}.json", scratch.ROOT / f"{picture}.png", content)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def measure(measurement: str, arguments: str) -> dict[str, Any]:
    module, function = measurement.split(":")
    found: dict[str, Any] = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    return found


def prepare(work: Path, given: argparse.Namespace, plan: Plan) -> tuple[Scene, dict[str, Any]]:
    """The folders to measure in, and the report's description of the machine and the images."""
    from flowers.model import weights
    from flowers.tracking import provenance

    question = "from flowers.model.backbone import best_precision; print(best_precision())"
    best = scratch.run([sys.executable, "-c", question], work, scratch.environment(work / "cache")).split()[-1]
    precision = best if given.precision == "auto" else given.precision
    folder = (given.photos or scratch.ROOT / "data").resolve()
    file = work / "resnet50.npz"
    weights.provide("imagenet", file)
    chosen = scratch.choose(folder, plan.size)
    say(f"preparing {len(chosen)} images of {folder.name}")
    ours = usual = scratch.world(work / "photos", chosen, file, precision, work / "cache")
    if given.limit and given.limit < len(chosen):
        usual = scratch.world(work / "fewer", scratch.choose(folder, given.limit), file, precision, work / "cache")
    about = {
        "date": str(datetime.date.today()),
        "machine": f"{platform.system()} {platform.machine()}",
        "processor": provenance.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "best_precision": best,
        "precision": precision,
        "versions": {name: installed(name) for name in ("tensorflow", "keras", "numpy", "mlflow", "dvc", "flowers")},
        "photos": {
            "from": folder.name if given.photos else "drawn sample",
            "all": len(scratch.choose(folder, 0)),
            "ours": len(chosen),
            "usual": given.limit if usual != ours else len(chosen),
            "classes": len({photo.label for photo in chosen}),
        },
        "depths": {str(depth): trials for depth, trials in DEPTHS.items()},
    }
    return Scene(plan, best, precision, file, work, ours, usual), about


def installed(name: str) -> str:
    if name == "tensorflow":
        from flowers.model import backend

        return backend.version()
    return version(name)


def write(report: Path, picture: Path, content: dict[str, Any]) -> None:
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    bench_picture.draw(content, picture)
    say(f"wrote {report.relative_to(scratch.ROOT)} and {picture.relative_to(scratch.ROOT)}")


def say(message: str) -> None:
    minutes, seconds = divmod(int(time.perf_counter() - STARTED), 60)
    print(f"[{minutes:2}:{seconds:02}] {message}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
