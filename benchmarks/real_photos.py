"""The whole pipeline on a folder of photos, in a fresh clone with an empty cache: scores, wall time and peak memory.

    python benchmarks/real_photos.py /photos/five_class /photos/oxford102

Each folder is tried with the default head, then with a linear one; a folder that has a val subset of its own is also
tried with a linear head on train and val together. Only the first run of a folder computes activations; the others find
them. The ImageNet weights come from the usual cache, so that no download is timed. Prints a Markdown table and
writes benchmarks/results/real_photos.json.
"""

import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from flowers import paths

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "benchmarks" / "results" / "real_photos.json"
LINEAR = ["-S", "head.units=[]"]


def main(folders: list[Path]) -> None:
    rows = []
    for folder in folders:
        heads = {"256-128-64": [], "linear": LINEAR}
        if (folder / "val").is_dir():
            heads["linear, train+val"] = [*LINEAR, "-S", "train.on=train+val"]
        with tempfile.TemporaryDirectory(prefix="flowers-photos-") as work:
            cache = Path(work) / "cache"
            shutil.copytree(paths.cache_folder() / "weights", cache / "weights")
            clone = Path(work) / "clone"
            subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
            for name, changes in heads.items():
                rows.append(measure(clone, cache, folder, name, changes))
                print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {best_precision()}"
    versions = {name: version(name) for name in ("keras", "numpy", "flowers")}
    content = {"machine": machine, "date": str(datetime.date.today()), "versions": versions, "rows": rows}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(content, indent=1) + "\n")
    print(table(rows), f"\n\n{machine}, {content['date']}")


def measure(clone: Path, cache: Path, folder: Path, head: str, changes: list[str]) -> dict:
    environment = os.environ | {
        "FLOWERS_CACHE": str(cache),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    start = time.perf_counter()
    command = ["dvc", "exp", "run", "-S", f"dataset.path={folder.resolve()}", *changes]
    process = subprocess.Popen(command, cwd=clone, env=environment)
    _, status, usage = os.wait4(process.pid, 0)  # of its children, too
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    scores = json.loads((clone / paths.METRICS).read_text())
    intervals = json.loads((clone / paths.INTERVALS).read_text())
    split = json.loads((clone / paths.SPLIT_REPORT).read_text())
    subprocess.run(["git", "checkout", "--quiet", "."], cwd=clone, check=True)
    return {
        "photos": folder.name,
        "split": split["totals"],
        "head": head,
        "scores": scores,
        "intervals": intervals,
        "wall_s": round(seconds, 1),
        "peak_mb": usage.ru_maxrss // 1024,  # resident, of the largest process
    }


def best_precision() -> str:
    from flowers.network.trunk import best_precision

    return best_precision()


def table(rows: list[dict]) -> str:
    lines = [
        "| Photos | Head | Top-1 | Mean per class (95 %) | Log-loss | Wall time | Peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["intervals"]["mean_per_class_accuracy"]
        mean = f"{row['scores']['mean_per_class_accuracy']:.1%} ({low:.1%} – {high:.1%})"
        lines.append(
            f"| {row['photos']} | {row['head']} | {row['scores']['accuracy']:.1%} | {mean} "
            f"| {row['scores']['log_loss']:.3f} | {row['wall_s']:.0f} s | {row['peak_mb']:,} MB |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
