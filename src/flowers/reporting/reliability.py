"""Reliability diagrams: the accuracy of predictions of each probability, and the share of images behind it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from flowers.metrics import classification
from flowers.reporting.figures import GREY, INK, PALE, SKY, page

WIDE, GAP, STRIP = 3.6, 0.75, 0.7  # inches: the side of a diagram, the space between two, the strip below
GAP_COLOUR = "#F6BF94"
BARS: dict[str, Any] = {"align": "edge", "edgecolor": "white", "linewidth": 0.8}


def diagrams(tables: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Draw reliability diagrams side by side, each under its title, as a PNG.

    The tables are those of `calibration.reliability`. Bars are the accuracy of each bin, with its 95 % interval. The
    gap between a bar and the bin's mean probability is orange. The strip below shows the share of the images.
    """
    width, height = len(tables) * (WIDE + GAP) - GAP, WIDE + 0.15 + STRIP
    with page(path, width, height) as figure:
        for place, (title, table) in enumerate(tables.items()):
            left, wide = place * (WIDE + GAP) / width, WIDE / width
            diagram = figure.add_axes((left, (STRIP + 0.15) / height, wide, WIDE / height))
            diagram.set_title(title)
            strip = figure.add_axes((left, 0, wide, STRIP / height), sharex=diagram)
            _draw(diagram, strip, table)
            if place == 0:
                diagram.set_ylabel("accuracy")
                strip.set_ylabel("images")
                entries = diagram.get_legend_handles_labels()
                figure.legend(*entries, loc="upper left", bbox_to_anchor=(0, -0.08), ncols=3)


def _draw(diagram: Axes, strip: Axes, table: pd.DataFrame) -> None:
    low, high, accuracy, confidence, images = (
        table[name].to_numpy(np.float64) for name in ("low", "high", "accuracy", "confidence", "photos")
    )
    wide = high - low
    diagram.bar(low, accuracy, wide, color=SKY, label="accuracy", **BARS)
    bottom, gap = np.minimum(accuracy, confidence), np.abs(accuracy - confidence)
    diagram.bar(low, gap, wide, bottom, color=GAP_COLOUR, label="gap to the mean probability", **BARS)
    limits = classification.wilson_interval(np.rint(accuracy * images).astype(int), images.astype(int))
    diagram.vlines(low + wide / 2, *limits, color=INK, linewidth=1)
    diagram.plot([0, 1], [0, 1], "--", color=INK, linewidth=1, label="perfect calibration")
    strip.bar(low, images / images.sum(), wide, color=GREY, **BARS)
    diagram.set(xlim=(0, 1), ylim=(0, 1))
    strip.set(ylim=(0, 1), yticks=[0, 0.5, 1], xlabel="predicted probability")
    for axis in (diagram.yaxis, strip.xaxis, strip.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    diagram.tick_params(length=0, labelbottom=False)
    strip.tick_params(length=0)
    diagram.grid(color=PALE)
    strip.grid(axis="y", color=PALE)
