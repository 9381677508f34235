"""Loss and accuracy by epoch: of one training, and of several as a band around their mean."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flowers.reporting.figures import BLUE, GREY, INK, ORANGE, PALE, page

# Column of the history or metric, label, colour and stroke
LINES = {
    "Loss": (("loss", "train", BLUE, "-"), ("val_loss", "validation", ORANGE, "-")),
    "Accuracy": (
        ("accuracy", "train", BLUE, "-"),
        ("val_accuracy", "validation", ORANGE, "-"),
        ("val_mean_per_class_accuracy", "validation, mean per class", ORANGE, ":"),
    ),
}
BAND = {measure: lines[:2] for measure, lines in LINES.items()}  # a third band would hide the others
METRICS = [metric for lines in BAND.values() for metric, *_ in lines]


def draw(history: pd.DataFrame, path: Path) -> None:
    """Draw loss and accuracy per epoch, phases shaded and the best epoch marked, as a PNG.

    Columns of `history`, one row per epoch: epoch, phase (head or fine_tune), loss, accuracy; with validation also
    val_loss, val_accuracy, val_mean_per_class_accuracy (else absent or NaN).
    """
    best = best_epoch(history)
    with _measures(path) as axes_of:
        for measure, axes in axes_of.items():
            for column, name, colour, stroke in LINES[measure]:
                if column in history and history[column].notna().any():
                    marker = "o" if len(history) <= 30 else None
                    values = history[column].to_numpy(dtype=np.float64)
                    axes.plot(history["epoch"], values, stroke, color=colour, label=name, marker=marker, markersize=3)
            if measure == "Accuracy":
                axes.set_ylim(top=min(1.01, axes.get_ylim()[1]))
            _shade_phases(axes, history)
            if best is not None:
                axes.axvline(best, color=INK, linewidth=1, linestyle="--", zorder=1, label=f"best epoch: {best}")


def draw_band(histories: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Draw the same of several trainings as a PNG: `histories` holds, by metric, the values of each one by epoch.

    Trainings may end at different epochs; the mean is that of those that reached an epoch.
    """
    with _measures(path) as axes_of:
        for measure, axes in axes_of.items():
            for metric, name, colour, _ in BAND[measure]:
                trainings = [values for values in histories.get(metric, ()) if values]
                if not trainings:
                    continue
                table = np.full((len(trainings), max(map(len, trainings))), np.nan)
                for row, values in zip(table, trainings, strict=True):
                    row[: len(values)] = values
                epochs = np.arange(table.shape[1])
                axes.plot(epochs, np.nanmean(table, axis=0), color=colour, label=f"{name}, mean")
                band = np.nanmin(table, axis=0), np.nanmax(table, axis=0)
                axes.fill_between(epochs, *band, color=colour, alpha=0.2, linewidth=0, label=f"{name}, all trainings")


@contextmanager
def _measures(path: Path) -> Iterator[dict[str, Axes]]:
    """Axes for loss and accuracy by epoch, side by side in a PNG."""
    with page(path, 10.5, 4) as figure:
        axes_of = {name: figure.add_axes((0.53 * place, 0, 0.47, 1)) for place, name in enumerate(LINES)}
        yield axes_of
        for measure, axes in axes_of.items():
            axes.set_title(measure, pad=20)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
            if measure == "Accuracy":
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
            else:
                axes.set_ylim(bottom=0)
            axes.grid(axis="y")
            axes.legend(loc="upper right" if measure == "Loss" else "lower right", borderaxespad=1)


def _shade_phases(axes: Axes, history: pd.DataFrame) -> None:
    """Shade every second phase, and name each at the top, except a short one that another follows."""
    epochs = history["epoch"].to_numpy(dtype=np.float64)
    phases = history["phase"].to_numpy()
    starts = [0, *(np.flatnonzero(phases[1:] != phases[:-1]) + 1)]
    axes.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    for place, (start, stop) in enumerate(itertools.pairwise([*starts, len(epochs)])):
        if place % 2:
            axes.axvspan(epochs[start] - 0.5, epochs[stop - 1] + 0.5, color=PALE, alpha=0.6, linewidth=0, zorder=0)
        if stop == len(epochs) or stop - start > 0.1 * len(epochs):
            name = " " + str(phases[start]).replace("_", "-")
            place_on = axes.get_xaxis_transform()
            axes.text(epochs[start] - 0.5, 1.0, name, transform=place_on, va="bottom", fontsize=8, color=GREY)


def best_epoch(history: pd.DataFrame) -> int | None:
    """The epoch that training keeps: the first one of the lowest validation loss; None without validation."""
    if "val_loss" not in history or history["val_loss"].isna().all():
        return None
    return int(history["epoch"].iloc[history["val_loss"].argmin()])
