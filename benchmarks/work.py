"""Inference compared with plain Keras: a folder, one image over HTTP, many clients, and Spark.

    python benchmarks/work.py                                # the drawn sample
    python benchmarks/work.py --photos /photos/five_class    # {train,val,test}/<class>/<file> or <class>/<file>
    python benchmarks/work.py --quick                        # a few images, once: a trial of the script

All sides use the same files and take turns, each timing in a process of its own, and medians are compared. Imports and
tracing are left out, except in the time to a server's first prediction and in Spark's. Plain Keras runs at half its
speed in some processes, so its fastest process counts. The script prints a table, and writes
benchmarks/results/work.json with every timing (--quick: build/work.json).
"""

import argparse
import importlib.util
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import bench
import scratch
from bench_summary import times
from rich import box
from rich.console import Console
from rich.table import Table

RESULT = scratch.ROOT / "benchmarks/results/work.json"
INT8 = "int8"


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    size: int = 800  # images: train 60 %, val 15 %, test 25 %
    folder: int = 320  # images in one timing of a folder
    alone: int = 60  # single images in one timing
    requests: int = 200
    clients: int = 16
    few: int = 200  # images of Spark's two runs, of which the difference is timed
    many: int = 1400
    repeats: int = 3


QUICK = Plan(size=48, folder=32, alone=5, requests=20, clients=4, few=16, many=48, repeats=1)


def measure(scene: bench.Scene, plan: Plan, extras: dict[str, bool]) -> dict[str, Any]:
    """All timings, by what was timed."""

    def timed(name: str, **arguments: Any) -> dict[str, Any]:
        return bench.timed(scene, name, scene.ours, **arguments)

    found: dict[str, Any] = {"trained": timed("measure_work:train", int8=INT8 if extras["openvino"] else None)}
    models = {"ours": "build/model"} | ({"int8": INT8} if extras["openvino"] else {})
    found |= {"usual": [], "alone": [], "served": [], "scoring": None} | {name: [] for name in models}
    for _ in range(plan.repeats):
        found["usual"].append(timed("measure_usual:files", count=plan.folder, repeats=1))
        for name, model in models.items():
            found[name].append(timed("measure_work:folder", model=model, count=plan.folder, repeats=3))
        found["alone"].append(timed("measure_work:alone", model="build/model", count=plan.alone))
        load = {"alone": plan.alone, "requests": plan.requests, "clients": plan.clients}
        found["served"].append(timed("measure_work:served", model="build/model", **load))
    if extras["pyspark"]:
        sizes = {"few": plan.few, "many": plan.many, "times": plan.repeats}
        found["scoring"] = timed("scoring:measure", photos="build/images", **sizes)
    return found


def lines(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of the table: what was measured, both figures, the target, and whether it was reached."""

    def rate(name: str, pick: Callable[[Any], float] = median) -> float:
        return pick(process["photos"] / median(process["seconds"]) for process in found[name])

    def line(
        name: str, here: str, usual: str = "", ratio: float | None = None, wanted: str = "", reached: bool | None = None
    ) -> dict[str, Any]:
        return {"name": name, "usual": usual, "here": here, "ratio": ratio, "wanted": wanted, "reached": reached}

    usual, rows = rate("usual", max), []
    for name, title, wanted in (("ours", "A folder, from files", 1.9), ("int8", "… with OpenVINO in int8", 3.5)):
        if name in found:
            here = rate(name)
            ratio = here / usual
            both = f"{here:.1f} images/s", f"{usual:.1f} images/s"
            rows.append(line(title, *both, ratio, f"≥ {wanted}×", ratio >= wanted))
    network = median(seconds for process in found["alone"] for seconds in process["seconds"])
    request = median(seconds for process in found["served"] for seconds in process["latency"])
    rows.append(line("One image through the network", f"{1000 * network:.1f} ms"))
    share = request / network
    rows.append(
        line("… over HTTP", f"{1000 * request:.1f} ms, {share:.2f} × that", wanted="≤ 1.3 ×", reached=share <= 1.3)
    )
    batches = median(process["batches"] for process in found["alone"])
    served = median(process["rate"] for process in found["served"])
    errors = sum(process["errors"] for process in found["served"])
    rows.append(
        line(
            f"{found['served'][0]['clients']} clients at once, {errors} errors",
            f"{served:.1f} images/s, {100 * served / batches:.0f} % of {batches:.1f} in batches",
            wanted="≥ 70 %",
            reached=served >= 0.7 * batches and not errors,
        )
    )
    first = median(process["first"] for process in found["served"])
    rows.append(line("First prediction after the start", f"{first:.1f} s", wanted="≤ 10 s", reached=first <= 10))
    if spark := found["scoring"]:
        speed = f"{spark['spark']['photos_per_second']:.1f} images/s, {100 * spark['ratio']:.0f} % of one process's"
        rows.append(line("Spark, two workers, same cores", speed, wanted="≥ 70 %", reached=spark["ratio"] >= 0.7))
    return rows


def show(content: dict[str, Any]) -> None:
    """Print the table."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # lines that can be copied
    photos = content["photos"]
    about = f"{content['processor']}, {content['cores']} cores, {content['precision']}; {content['date']}"
    console.print(f"\n{about}; images of {photos['classes']} classes ({photos['from']})\n", highlight=False)
    table = Table("Measured", "Plain Keras", "This project", "Ratio", "Target", "", box=box.MARKDOWN)
    for row in content["summary"]:
        mark = {True: "yes", False: "no", None: ""}[row["reached"]]
        table.add_row(row["name"], row["usual"], row["here"], times(row["ratio"]), row["wanted"], mark)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of images (without it: the drawn sample)")
    parser.add_argument("--quick", action="store_true", help="few images, one repeat")
    parser.add_argument("--repeats", type=int, help="timings of each (3)")
    parser.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    given = parser.parse_args()
    plan = QUICK if given.quick else Plan()
    plan = Plan(**asdict(plan) | ({"repeats": given.repeats} if given.repeats else {}))
    extras = {name: importlib.util.find_spec(name) is not None for name in ("openvino", "pyspark")}
    for name in (name for name, there in extras.items() if not there):
        bench.say(f"{name} is not installed and not measured (make extras)")
    with tempfile.TemporaryDirectory(prefix="flowers-bench-") as work:
        given.limit = None
        scene, about = bench.prepare(Path(work).resolve(), given, bench.Plan(size=plan.size))
        timings = measure(scene, plan, extras)
    content = about | {"plan": asdict(plan), "timings": timings, "summary": lines(timings)}
    show(content)
    report = scratch.ROOT / "build" / RESULT.name if given.quick else RESULT
    report.parent.mkdir(exist_ok=True)
    report.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    bench.say(f"wrote {os.path.relpath(report, scratch.ROOT)}")


if __name__ == "__main__":
    main()
