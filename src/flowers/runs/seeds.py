"""The command `flowers seeds`: params.yaml trained from several seeds, and in folds; scores with their spread."""

import gc
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flowers.common import console, paths
from flowers.common.errors import UserError
from flowers.config.params import Params
from flowers.metrics import classification, groups
from flowers.model.backbone import best_precision
from flowers.reporting import curves, document, measures
from flowers.reporting.document import Document, Section, Table
from flowers.reporting.measures import NAMES, count, number
from flowers.runs import find
from flowers.runs.predictions import Predictions
from flowers.tracking import store
from flowers.tracking.groups import GroupRuns
from flowers.training import fitting, folds, phases, subsets, trained

CURVES = "curves.png"


def seeds(settings: Params, n_seeds: int, n_folds: int) -> None:
    """Train from `n_seeds` seeds, from each in every fold, what the store does not hold yet, and print the scores.

    Every training is scored on the test images. Raises UserError where folds are impossible, no training
    is finished, or the store cannot be used; the same command resumes.
    """
    first = settings.train.seed
    if n_folds > 1:
        if settings.train.on != "train":
            raise UserError("params.yaml: train.on must be 'train': folds divide the images of train and val")
        divided = subsets.read("train", "val")
        folds.divide(divided, folds.groups_of(divided), n_folds, first)  # an error comes before there is a run
    wanted = [(seed, fold) for seed in range(first, first + n_seeds) for fold in range(n_folds)]
    precision = best_precision() if settings.model.precision == "auto" else settings.model.precision
    with store.explained("keeping trainings in"), store.patience(*store.LONG):
        runs = GroupRuns(settings, n_folds, precision)
        finished = runs.finished()
        missing = [each for each in wanted if _name(*each, n_folds) not in finished]
        if missing:
            in_folds = f", {n_folds} folds of train and val each" if n_folds > 1 else ""
            numbers = f"seeds {first} to {first + n_seeds - 1}" if n_seeds > 1 else f"seed {first}"
            seeds_of = f"{numbers}{in_folds}: {count(len(wanted), 'training')}"
            console.say(f"'{runs.parent.info.run_name}', {seeds_of}, {len(missing):,} to do")
            with runs.running():
                _train(settings, missing, n_folds, runs)
        group = find.group(runs.client, runs.parent, runs.parent.info.run_name)
        scores = [classification.scores(group.labels, each) for each in group.trainings]
        page = _document(group, scores, n_folds)
        with tempfile.TemporaryDirectory() as folder:
            histories = {metric: runs.histories(metric) for metric in curves.METRICS}
            curves.draw_band(histories, Path(folder, CURVES))
            runs.finish(len(group.group), _metrics(scores), document.markdown(page), Path(folder))
    document.show(page)
    short = runs.parent.info.run_id[:8]
    console.say(f"In MLflow it is run {short}. Against another run or group: flowers compare {short} NAME")


def _train(settings: Params, wanted: Sequence[tuple[int, int]], n_folds: int, runs: GroupRuns) -> None:
    """Train from these seeds, in these folds, and log each training; one that diverges is a warning."""
    model, head, validated = settings.model, settings.head, settings.train.on == "train"
    layer = fitting.feature_layer_of(model)
    data = fitting.Data(model.precision, settings.augmentation, [layer], validated, n_folds > 1)
    groups_of = folds.groups_of(data.train) if n_folds > 1 else []
    test = subsets.read("test")
    for place, (seed, held_out) in enumerate(wanted, start=1):
        name, began = _name(seed, held_out, n_folds), time.time()
        if name in runs.finished():  # another process may have trained it meanwhile
            continue
        train = settings.train.model_copy(update={"seed": seed})
        fold = folds.divide(data.train, groups_of, n_folds, seed)[held_out] if n_folds > 1 else None
        progress = phases.Progress()
        try:
            with console.without_progress():
                fitting.fit(model, head, train, data, progress, fold=fold)
        except phases.Diverged as error:
            console.warn(f"{name}: {error}; it is not in the scores")
            continue
        val = data.val if fold is None else data.train.at(fold.val)
        probabilities = trained.probabilities(trained.classifier(model, head, data, progress, val), test)
        scores, changed = (
            classification.scores(test.labels, probabilities),
            settings.model_copy(update={"train": train}),
        )
        with tempfile.TemporaryDirectory() as folder:
            predictions = Path(folder, paths.PREDICTIONS.name)
            trained.write_predictions(predictions, test, probabilities)
            runs.add(name, changed, began, progress.rows, scores, predictions)
        accuracy = number("accuracy", scores["accuracy"])
        console.say(f"{place}/{len(wanted)}  {name}: {accuracy} of the test images, {time.time() - began:.0f} s")
        gc.collect()  # a network is a circle of references


def _name(seed: int, fold: int, n_folds: int) -> str:
    return f"seed {seed}, fold {fold + 1} of {n_folds}" if n_folds > 1 else f"seed {seed}"


def _document(group: Predictions, scores: Sequence[Mapping[str, float]], n_folds: int) -> Document:
    """Mean, standard deviation (SD) and interval of every score."""
    values, rows = groups.values(group.labels, group.trainings), []
    for name in [name for name in NAMES if name in scores[0]]:
        each = [one[name] for one in scores]
        row = [NAMES[name], number(name, float(np.mean(each)))]
        row.append(number(name, float(np.std(each, ddof=1))) if len(each) > 1 else "")
        row.append(f"{number(name, min(each))} to {number(name, max(each))}")
        ends = groups.mean(group.labels, values[name]).interval() if name in values else ()
        possible = np.clip(ends, 0, None if name in measures.PLAIN else 1)  # that of few images is wide
        rows.append([*row, " to ".join(number(name, end) for end in possible)])
    header = ["measure", "mean", "SD", "range", "95 % interval"]
    images = count(len(group.labels), "test image")
    lead = f"{count(len(scores), 'training')}, each scored on the same {images}."
    explained = (
        "The interval is for the mean of trainings from any seed, on new images (two-way analysis of variance)."
        if len(scores) > 1
        else "One training: the interval holds other test images, and no other seeds."
    )
    explained += " Macro F1 is no mean over images and has none."
    if n_folds > 1:
        explained += (
            f" Each training learns from {n_folds - 1} of {n_folds} folds of train and val, so from another number of "
            f"images than without folds. {measures.FOLDS}"
        )
    return Document(f"'{group.name}'", [lead], [Section("Test scores", [Table(header, rows), explained])])


def _metrics(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean and standard deviation of every score, for the run of the group."""
    found = {f"test_{name}": float(np.mean([each[name] for each in scores])) for name in scores[0]}
    if len(scores) > 1:
        found |= {f"sd/test_{name}": float(np.std([each[name] for each in scores], ddof=1)) for name in scores[0]}
    return found
