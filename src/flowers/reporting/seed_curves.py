"""The curves of several trainings: their mean by epoch, and a band from the lowest to the highest."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from flowers.reporting.figures import BLUE, ORANGE, page

LINES = {
    "Loss": {"loss": ("train", BLUE), "val_loss": ("validation", ORANGE)},
    "Accuracy": {"accuracy": ("train", BLUE), "val_accuracy": ("validation", ORANGE)},
}
METRICS = [metric for lines in LINES.values() for metric in lines]


def draw(histories: Mapping[str, Sequence[Sequence[float]]], path: Path) -> None:
    """Draw loss and accuracy as a PNG: `histories` holds, by metric, the values of each training by epoch.

    Trainings may end at different epochs; the mean is that of those that reached an epoch.
    """
    with page(path, 10.5, 4) as figure:
        for place, (measure, lines) in enumerate(LINES.items()):
            axes = figure.add_axes((0.53 * place, 0, 0.47, 1))
            for metric, (name, colour) in lines.items():
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
            axes.set_title(measure, pad=20)
            axes.set_xlabel("epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
            if measure == "Accuracy":
                axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
            else:
                axes.set_ylim(bottom=0)
            axes.grid(axis="y")
            axes.legend(loc="upper right" if measure == "Loss" else "lower right", borderaxespad=1)
