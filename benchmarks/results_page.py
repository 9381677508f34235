"""Write docs/results.md and its figure from benchmarks/results/recipes.json and ablations.json.

python benchmarks/results_page.py
"""

import json
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import scratch
from recipes import DATA_SETS, current, photos_of
from scipy import stats

from flowers.config import recipes
from flowers.runs import recipe_tables

matplotlib.use("Agg")
from matplotlib import pyplot

RESULTS = scratch.ROOT / "benchmarks" / "results"
PAGE, CURVES = scratch.ROOT / "docs" / "results.md", scratch.ROOT / "docs" / "curves.png"

# Published scores of whole data sets, for orientation only.
ELSEWHERE = {
    "oxford": [
        ("ResNet-50, logistic regression on frozen supervised features (arXiv 2002.05709, table B.5)", "94.7 %"),
        ("ResNet-50, all of it fine-tuned, 20,000 steps of 256 (the same)", "97.6 %"),
        ("ResNet-50, fine-tuned (Bi-Tuning)", "94.5 %"),
        ("ResNet-50, fine-tuned (Transfer-Learning-Library)", "93.0 %"),
    ],
    "five": [
        ("ResNet50 in usual Keras notebooks, validation images", "85.7 – 86.8 %"),
        ("ResNet50, fine-tuned (OpenMMLab), validation images", "93.9 %"),
        ("BiT-M R50x1, which learnt from ImageNet-21k, validation images", "97.3 %"),
    ],
}


def main() -> None:
    measured = current(json.loads((RESULTS / "recipes.json").read_text(encoding="utf-8")))
    ablations = json.loads((RESULTS / "ablations.json").read_text(encoding="utf-8"))
    found = [recipes.load(name) for name in recipes.names()]
    parts = ["# Results", INTRODUCTION]
    for data, (_, measure) in DATA_SETS.items():
        if not (rows := [row for row in measured if row["photos"] == data]):
            continue
        photos = photos_of(rows)
        parts += [f"## {photos}", MEASURES[measure], scores(found, photos, ELSEWHERE[data])]
        parts += ["The most frequent confusions of the best recipe:", confusions(rows, measure)]
    draw(measured, CURVES)
    parts += ["## Learning curves", f"![Loss and accuracy by epoch]({CURVES.name})", CURVE_WORDS]
    parts += ["## The effect of each piece", *pieces(ablations)]
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


INTRODUCTION = """\
The scores of the recipes in `recipes/`, and the effect of each piece of them. This page is made by
`python benchmarks/results_page.py` from `benchmarks/results/recipes.json` (`make bench-recipes`) and
`benchmarks/results/ablations.json` (`python benchmarks/ablations.py`). Parameters were chosen by cross-validation over
the images of train and val; test images are read only for the tables. One exception: the recipes
replaced others, whose test scores were known at that time."""

MEASURES = {
    "mean_per_class_accuracy": "Mean per-class accuracy on the test images. All recipes are trained on train and "
    "val, except `mlp-head`, which is trained on train. Gain: points over the recipe `plain`, a "
    "logistic regression on the frozen features. Time: the whole pipeline from an empty store of activations, without "
    "installation and download of the ImageNet weights. Scores from elsewhere are for orientation only: they are of "
    "the whole data set, 102 classes and 6,149 test images, and not all of them are means per class.",
    "accuracy": "Top-1 accuracy on the test images, another split for each seed. Gain and time as above. Scores from "
    "elsewhere are of other splits, and of validation images that were also used for early stopping.",
}

CURVE_WORDS = """\
Training images of Oxford 102, one line per seed. Label smoothing keeps the loss above 0. A recipe that trains on train
and val has no validation images, so its number of epochs is fixed."""

PIECES = """\
On the {photos} images of train and val of Oxford 102. Each variant is trained on one half of them and scored on the
other half, twice, so every image is scored once by a model that was not trained on it. With half of the training
images, these scores are lower than those of the recipes. The base is none of the recipes: three unfrozen blocks and a
linear head that starts from a regression on root-normalised features, {views} augmented views, {epochs} epochs of
AdamW at {rate} with a cosine schedule, predictions at {size} pixels. Gain: points of mean per-class accuracy over the
mean of the {runs} runs of the base, {mean:.1f} %, which differ in their seed and the processor and have a standard
deviation of {spread:.1f} points. The gain of a single training is significant from {beyond:.1f} points on (95 %,
Student's t), and with so many variants one of them may reach that by chance. If a variant predicts at another size or
with flips, its gain is over the base with the same predictions, trained once. Within the noise, the recipes use the
cheaper variant; only `best` also uses more expensive ones."""

PREDICTED = """\
Other predictions of the same trained networks; gain with a 95 % interval over images."""

TRIED = """\
Tried and not kept, neither was the code, by five-fold cross-validation over train and val of Oxford 102 (Intel Xeon,
family 6 model 207, features in int8): after three epochs of fine-tuning from an LDA head, 94.0 % on three folds,
weights at 0.3, 0.5 and 0.7 of the way from the pretrained ones (WiSE-FT, arXiv 2109.01903) give 92.8, 93.2 and 93.2 %;
after eight epochs, 95.8 % on two folds, an LDA head fitted anew to the fine-tuned features gives 95.4 %. On the test
images `balanced` with an LDA head to start from, and in int8, has 96.4 % (one seed), not more than as it is. For LDA,
more views of an image than two, or two sizes at once, add nothing."""

REGRESSED = """\
Linear heads alone, on the same halves; they depend on no seed. Gain over the row without one, with a 95 %
interval over images."""


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
    lines = [f"| Class | Predicted | Images (`{best}`, seed {row['seed']}) |", "|---|---|---|"]
    lines += [f"| {label} | {predicted} | {count} |" for label, predicted, count in row["confusions"]]
    return "\n".join(lines).replace("_", " ")


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
                epochs = [
                    place for place, phase in enumerate(row["curve"]["phase"]) if phase not in ("regression", "lda")
                ]
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
    over = {(): mean} | {_prediction(row): 100 * row["score"] for row in ablations["asked"]}
    lines = ["| Change | Score | Gain | Time of a training |", "|---|---|---|---|"]
    for row in sorted(rows, key=lambda row: -row["score"]):
        what = f"{row['what']} (taken out after {row['commit']})" if "commit" in row else row["what"]
        score = 100 * row["score"]
        gain = f"{score - over[_prediction(row)]:+.1f}" if _prediction(row) in over else ""
        lines.append(f"| {what} | {score:.1f} % | {gain} | {row['seconds']:.0f} s |")
    machines = dict.fromkeys(f"{row['machine']}, {row['date']}" for row in rows)
    parts = [words, "\n".join(lines), f"{'; '.join(machines)}; times beside other work."]
    for introduction, kind in ((PREDICTED, "asked"), (REGRESSED, "regressed")):
        parts += [introduction, paired_gains(ablations[kind])]
    return [*parts, TRIED]


def _prediction(row: dict[str, Any]) -> tuple[Any, ...]:
    """A variant's changes of input size and flips at prediction."""
    changed = {key: value for key, value in row["params"].items() if key in ("model.input_size", "model.mirror")}
    return tuple(sorted(changed.items()))


def paired_gains(rows: list[dict[str, Any]]) -> str:
    lines = ["| What | Score | Gain (95 %) |", "|---|---|---|"]
    for row in sorted(rows, key=lambda row: row["score"]):
        found = [100 * number for number in row.get("gain", ())]
        gain = "{:+.1f} ({:+.1f} … {:+.1f})".format(*found) if found else ""
        lines.append(f"| {row['what']} | {100 * row['score']:.1f} % | {gain} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
