"""Every recipe on real images: the whole pipeline in a copy of this checkout, from one seed after another.

    python benchmarks/recipes.py --oxford /photos/oxford102 --five /photos/five_class [--recipes linear,fast]

Oxford 102 has its official split, and the seeds are those of augmented views and training. The five classes are split
70/15/15 by each seed, too. The time is that of the first seed, whose cache is empty; the other seeds reuse its
activations of shared images. The ImageNet weights come from the user's cache, so no download is timed. With --missing,
values that were measured before are not measured again, so a stopped measurement can be resumed. The script writes
benchmarks/results/recipes.json and the section `measured` of each recipe's file.
Then: python benchmarks/results_page.py
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scratch
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq

from flowers.common import paths
from flowers.config import recipes

RESULT = scratch.ROOT / "benchmarks" / "results" / "recipes.json"
SEEDS = 3
BASELINE = "plain"  # the recipe of which gains are differences
PAIRS = 10  # confusions that are kept

# The name of a data set by the option for its folder, and the measure on it.
DATA_SETS = {
    "oxford": ("Oxford 102, {classes} of its classes, official split", "mean_per_class_accuracy"),
    "five": ("Five classes, {photos:,} images, 70/15/15", "accuracy"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--oxford", type=Path, help="folder train/, val/ and test/ of one folder a class")
    parser.add_argument("--five", type=Path, help="folder of one folder a class")
    parser.add_argument("--recipes", help="names with commas between them, instead of all")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--missing", action="store_true", help="only what has not been measured")
    options = parser.parse_args()
    folders = {"oxford": options.oxford, "five": options.five}
    found = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else []
    for name in options.recipes.split(",") if options.recipes else recipes.names():
        for data, folder in folders.items():
            with tempfile.TemporaryDirectory(prefix="flowers-cache-") as cache:
                for seed in range(options.seeds if folder else 0):
                    which = {"recipe": name, "photos": data, "seed": seed}
                    what = which | {"params": _params(name)}
                    if options.missing and any(row.items() >= what.items() for row in found):
                        continue
                    row = what | measure(name, folder.resolve(), seed, Path(cache))
                    print({key: row[key] for key in (*which, "scores", "wall_s", "cold", "memory_mib")}, flush=True)
                    # Rows of the same recipe with other values are dropped.
                    found = [old for old in found if old["recipe"] != name or old["params"] == row["params"]]
                    found = [old for old in found if not old.items() >= which.items()] + [row]
                    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    now = current(found)
    for name in recipes.names():
        note(name, now)


def measure(name: str, folder: Path, seed: int, cache: Path) -> dict[str, Any]:
    """One run of a recipe: its scores, time, memory, curves and confusions."""
    cold = not any(cache.iterdir())
    with tempfile.TemporaryDirectory(prefix="flowers-recipes-") as temporary:
        clone = Path(temporary)
        if cold:
            shutil.copytree(paths.cache_folder() / "weights", cache / "weights")
        scratch.copy_checkout(clone)
        scratch.commit(clone)
        variables = scratch.environment(cache) | {"PYTHONPATH": str(clone / "src"), "FLOWERS_CACHE_LIMIT": "40GB"}
        recipe = [sys.executable, "-m", "flowers", "recipe", "show", name, "--set"]
        changes = scratch.run(recipe, clone, variables).split()
        seeds = ("train.seed", "augmentation.seed", "split.seed")
        changes += [word for key in seeds for word in ("-S", f"{key}={seed}")]
        command = ["dvc", "exp", "run", "-S", f"dataset.path={folder}", *changes]
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=clone, env=variables, stdout=sys.stderr)
        _, status, usage = os.wait4(process.pid, 0)  # of its children, too
        seconds = time.perf_counter() - start
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        predictions = pd.read_csv(clone / paths.PREDICTIONS)
        wrong = predictions[predictions["label"] != predictions["predicted"]]
        pairs = wrong.groupby(["label", "predicted"]).size().sort_values(ascending=False, kind="stable")
        history = pd.read_csv(clone / paths.HISTORY)
        split = json.loads((clone / paths.SPLIT_REPORT).read_text(encoding="utf-8"))
        return {
            "scores": json.loads((clone / paths.METRICS).read_text(encoding="utf-8")),
            "split": split["totals"],
            "classes": len(split["classes"]),
            "wall_s": round(seconds, 1),
            "cold": cold,
            "memory_mib": usage.ru_maxrss // 1024,  # resident, of the largest process
            "curve": history[["phase", "loss", "accuracy"]].round(4).to_dict("list"),
            "confusions": [
                [*labels, int(count)] for labels, count in zip(pairs.index[:PAIRS].tolist(), pairs[:PAIRS], strict=True)
            ],
            "machine": scratch.machine(recipes.values(recipes.load(name))["model.precision"]),
            "date": str(datetime.date.today()),
            "commit": scratch.run(["git", "describe", "--always", "--dirty"], scratch.ROOT, variables).strip(),
        }


def current(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of recipes with their current values."""
    now = {name: _params(name) for name in recipes.names()}
    return [row for row in found if row["params"] == now.get(row["recipe"])]


def photos_of(rows: list[dict[str, Any]]) -> str:
    """The name of these rows' data set."""
    row = rows[-1]
    return DATA_SETS[row["photos"]][0].format(classes=row["classes"], photos=sum(row["split"].values()))


def entry(data: str, rows: list[dict[str, Any]], plain: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """An entry of `measured` for rows of one data set; `plain` are the rows of the baseline by seed."""
    measure = DATA_SETS[data][1]
    scores = [row["scores"][measure] for row in rows]
    found = {
        "photos": photos_of(rows),
        "measure": measure,
        "score": round(float(np.mean(scores)), 4),
        "range": _row(round(min(scores), 4), round(max(scores), 4)),
        "seeds": len(rows),
    }
    if rows[0]["recipe"] != BASELINE and all(row["seed"] in plain for row in rows):
        gains = [row["scores"][measure] - plain[row["seed"]]["scores"][measure] for row in rows]
        found["gain"] = round(float(np.mean(gains)), 4)
    return found | {
        "wall_s": round(float(np.median([row["wall_s"] for row in rows if row["cold"]]))),
        "memory_mib": max(row["memory_mib"] for row in rows),
        "machine": rows[-1]["machine"],
        "date": datetime.date.fromisoformat(rows[-1]["date"]),
        "command": f"make bench-recipes {data.upper()}=/photos RECIPES={rows[0]['recipe']}",
    }


def note(name: str, found: list[dict[str, Any]]) -> None:
    """Write the measurements of a recipe's current values into its file."""
    measured = []
    for data in DATA_SETS:
        rows = [row for row in found if row["photos"] == data]
        if own := [row for row in rows if row["recipe"] == name]:
            measured.append(entry(data, own, {row["seed"]: row for row in rows if row["recipe"] == BASELINE}))
    yaml, path = YAML(), paths.RECIPES / f"{name}.yaml"
    yaml.width = 120
    yaml.indent(mapping=2, sequence=2, offset=0)
    document = yaml.load(path.read_text(encoding="utf-8"))
    if document.pop("measured", None) is None and not measured:
        return
    if measured:
        document.insert(1, "measured", measured)
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)


def _row(*numbers: float) -> CommentedSeq:
    """Numbers on one line."""
    found = CommentedSeq(numbers)
    found.fa.set_flow_style()
    return found


def _params(name: str) -> dict[str, Any]:
    """The values of all keys that decide the recipe's training, as JSON holds them."""
    values: dict[str, Any] = json.loads(json.dumps(recipes.values(recipes.load(name))))
    return values


if __name__ == "__main__":
    main()
