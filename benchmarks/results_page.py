"""Write docs/results.md and its picture from benchmarks/results/recipes.json and ablations.json.

python benchmarks/results_page.py
"""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import scratch
from recipes import PHOTOS, current, photos_of
from scipy import stats

from flowers.config import recipes
from flowers.runs import recipe_tables

matplotlib.use("Agg")
from matplotlib import pyplot

RESULTS = scratch.ROOT / "benchmarks" / "results"
PAGE, CURVES = scratch.ROOT / "docs" / "results.md", scratch.ROOT / "docs" / "curves.png"

# Published, or usual; of whole data sets, so beside ours for orientation, not for a verdict.
ELSEWHERE = {
    "oxford": [
        ("ResNet-50, logistic regression on frozen supervised features (arXiv 2002.05709, table B.5)", "94.7 %"),
        ("ResNet-50, all of it fine-tuned, 20,000 steps of 256 (the same)", "97.6 %"),
        ("ResNet-50, fine-tuned (Bi-Tuning)", "94.5 %"),
        ("ResNet-50, fine-tuned (Transfer-Learning-Library)", "93.0 %"),
    ],
    "five": [
        ("ResNet50 in usual Keras notebooks, validation photos", "85.7 – 86.8 %"),
        ("ResNet50, fine-tuned (OpenMMLab), validation photos", "93.9 %"),
        ("BiT-M R50x1, which learnt from ImageNet-21k, validation photos", "97.3 %"),
    ],
}


def main() -> None:
    measured = current(json.loads((RESULTS / "recipes.json").read_text(encoding="utf-8")))
    ablations = json.loads((RESULTS / "ablations.json").read_text(encoding="utf-8"))
    found = [recipes.load(name) for name in recipes.names()]
    parts = ["# Results", INTRODUCTION]
    for data, (_, measure) in PHOTOS.items():
        if not (rows := [row for row in measured if row["photos"] == data]):
            continue
        photos = photos_of(rows)
        parts += [f"## {photos}", MEASURES[measure], scores(found, photos, ELSEWHERE[data])]
        parts += ["What the best of them confuses most:", confusions(rows, measure)]
    draw(measured, CURVES)
    parts += ["## Learning curves", f"![Loss and accuracy by epoch]({CURVES.name})", CURVE_WORDS]
    parts += ["## What each piece is worth", *pieces(ablations)]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


INTRODUCTION = """\
What the recipes of `recipes/` reach, and what each piece of them is worth. This page is made by
`python benchmarks/results_page.py` from `benchmarks/results/recipes.json` (`make bench-recipes`) and
`benchmarks/results/ablations.json` (`python benchmarks/ablations.py`). Parameters were chosen by cross-validation over
the photos of train and val, the test photos read for the tables alone. But `linear`, `fast` and `balanced` took the
place of slower ones whose scores on these test photos were known by then."""

MEASURES = {
    "mean_per_class_accuracy": "Mean per-class accuracy on the test photos; trained on train and val, but "
    "`mlp-head` on train alone. Gain: points over the recipe `plain`, a "
    "logistic regression on the frozen features. Time: the whole pipeline from an empty store of activations, without "
    "installation and download of the ImageNet weights. What is from elsewhere is of the whole data set, 102 classes "
    "and 6,149 test photos, and not all of it is a mean per class: for orientation, not for a verdict.",
    "accuracy": "Top-1 accuracy on the test photos, another split for each seed. Gain and time as above. What is from "
    "elsewhere is of other splits, and of photos that decided when training ended.",
}

CURVE_WORDS = """\
Of the photos that are trained on, on Oxford 102, one line a seed: label smoothing keeps the loss above 0. A recipe that
trains on train and val has no photos to watch, so its length is fixed beforehand."""

PIECES = """\
On the {photos} photos of train and val of Oxford 102: each variant is trained on one half of them and scored on the
other half, twice, so every photo is judged once by a model that did not see it. Half of the photos are half of the
examples, so these scores lie below those of the recipes. The base is none of the recipes: three blocks and a linear
head that a regression on root-normalised features began, {views} views, {epochs} epochs of AdamW at {rate} with a
cosine, asked in {size} pixels. Gain: points of mean per-class accuracy over the mean of the {runs} runs of the base,
{mean:.1f} %, which differ in their seed and the processor and spread by {spread:.1f} points (standard deviation). A
single training is beyond that from {beyond:.1f} points on (95 %, Student's t), and with so many variants one of them
may be by chance. Where a variant is asked otherwise than the base, its gain is over the base asked alike, trained
once. Of what lies within the noise the recipes took what costs less; `best` alone took what costs more, too."""

ASKED = """\
The base asked otherwise, by the same trained networks; gain with a 95 % interval over photos."""

REGRESSED = """\
Logistic regressions alone, on the same halves, which no seed decides. Gain over the one that has none, with a 95 %
interval over photos."""


def scores(found: list[recipes.Recipe], photos: str, elsewhere: list[tuple[str, str]]) -> str:
    rows = [(recipe, measured) for recipe in found for measured in recipe.measured if measured.photos == photos]
    lines = ["| Recipe | What it is | Score | Over seeds | Gain | Time | Memory |", "|---|---|---|---|---|---|---|"]
    for recipe, measured in sorted(rows, key=lambda pair: pair[1].score):
        score, *others = recipe_tables.figures(measured)
        lines.append(f"| {' | '.join((f'`{recipe.name}`', recipe.description, f'**{score}**', *others))} |")
    lines += [f"| elsewhere | {words} | {score} | | | | |" for words, score in elsewhere]
    machines: dict[str, list[str]] = {}
    for recipe, measured in rows:
        machines.setdefault(f"{measured.machine}, {measured.date}", []).append(f"`{recipe.name}`")
    where = "; ".join(f"{', '.join(names)}: {machine}" for machine, names in machines.items())
    return "\n".join(lines) + f"\n\n{where}."


def confusions(rows: list[dict[str, Any]], measure: str) -> str:
    best = max({row["recipe"] for row in rows}, key=lambda name: _mean(rows, name, measure))
    row = next(row for row in rows if row["recipe"] == best)
    lines = [f"| Is | Taken for | Photos (`{best}`, seed {row['seed']}) |", "|---|---|---|"]
    return "\n".join(lines + [f"| {is_} | {taken} | {count} |" for is_, taken, count in row["confusions"]]).replace(
        "_", " "
    )


def _mean(rows: list[dict[str, Any]], name: str, measure: str) -> float:
    return float(np.mean([row["scores"][measure] for row in rows if row["recipe"] == name]))


def draw(measured: list[dict[str, Any]], file: Path) -> None:
    rows = [row for row in measured if row["photos"] == "oxford" and len(row["curve"]["loss"]) > 1]
    names = list(dict.fromkeys(row["recipe"] for row in rows))
    figure, panels = pyplot.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for axes, what in zip(panels, ("loss", "accuracy"), strict=True):
        for number, name in enumerate(names):
            for row in (row for row in rows if row["recipe"] == name):
                label = name if row["seed"] == 0 else None
                epochs = [place for place, phase in enumerate(row["curve"]["phase"]) if phase != "regression"]
                axes.plot(
                    [row["curve"][what][place] for place in epochs], color=f"C{number}", label=label, linewidth=1.2
                )
        axes.set(xlabel="epoch", title=f"Training {what}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    figure.savefig(file, dpi=110, metadata={"Software": None})


def pieces(ablations: dict[str, Any]) -> list[str]:
    base, rows = ablations["base"], ablations["trained"]
    runs = [100 * row["score"] for row in rows if row["params"].keys() <= {"train.seed"}]
    mean, spread = float(np.mean(runs)), float(np.std(runs, ddof=1))
    words = PIECES.format(
        photos=f"{ablations['photos']:,}",
        views=base["augmentation.views"],
        epochs=base["train.fine_tune_epochs"],
        rate=base["train.fine_tune_learning_rate"],
        size=base["model.input_size"],
        runs=len(runs),
        mean=mean,
        spread=spread,
        beyond=spread * (1 + 1 / len(runs)) ** 0.5 * float(stats.t.ppf(0.975, len(runs) - 1)),
    )
    over = {(): mean} | {_asked(row): 100 * row["score"] for row in ablations["asked"]}
    lines = ["| Change | Score | Gain | Time of a training |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: -row["score"]):
        what = f"{row['what']} (taken out after {row['commit']})" if "commit" in row else row["what"]
        score = 100 * row["score"]
        gain = f"{score - over[_asked(row)]:+.1f}" if _asked(row) in over else ""
        lines.append(f"| {what} | {score:.1f} % | {gain} | {row['seconds']:.0f} s |")
    machines = dict.fromkeys(f"{row['machine']}, {row['date']}" for row in rows)
    parts = [words, "\n".join(lines), f"{'; '.join(machines)}; times beside other work."]
    for said, kind in ((ASKED, "asked"), (REGRESSED, "regressed")):
        parts += [said, paired_gains(ablations[kind])]
    return parts


def _asked(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a variant changes of how photos are asked."""
    asked = {key: value for key, value in row["params"].items() if key in ("model.input_size", "model.mirror")}
    return tuple(sorted(asked.items()))


def paired_gains(rows: list[dict[str, Any]]) -> str:
    lines = ["| What | Score | Gain (95 %) |", "|---|---|---|"]
    for row in sorted(rows, key=lambda row: row["score"]):
        found = [100 * number for number in row.get("gain", ())]
        gain = "{:+.1f} ({:+.1f} … {:+.1f})".format(*found) if found else ""
        lines.append(f"| {row['what']} | {100 * row['score']:.1f} % | {gain} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
