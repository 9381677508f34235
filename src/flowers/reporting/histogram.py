"""Histograms of the novelty of known and of unknown images, with the border between them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from flowers.reporting.figures import BLUE, GREY, INK, ORANGE, PALE, page

BINS = 40
COLOURS = (BLUE, GREY, ORANGE)


def draw(novelty: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Draw a histogram of each group of images, at most three, as lines over one axis, as a PNG.

    The ends of the axis hold 99 % of all images; the bars at the ends count the rest, too.
    """
    everything = np.concatenate([*novelty.values(), np.zeros(1)])  # nothing is drawn for a model that cannot tell
    low, high = np.quantile(everything[np.isfinite(everything)], [0.005, 0.995])
    edges = np.linspace(min(low, -1.0), max(high, 1.0), BINS + 1)
    with page(path, 6.2, 2.6) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        for (name, values), colour in zip(novelty.items(), COLOURS, strict=False):
            counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            share = counts / max(len(values), 1)
            label = f"{name} ({len(values):,}): {100 * np.mean(values > 0):.1f} % unknown"
            axes.stairs(share, edges, fill=True, color=colour, alpha=0.25)
            axes.stairs(share, edges, color=colour, linewidth=1.4, label=label)
        axes.axvline(0, color=INK, linestyle="--", linewidth=1)
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, None), xlabel="novelty", ylabel="images")
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="y", color=PALE)
        axes.text(0, 1.02, "known  ", ha="right", transform=axes.get_xaxis_transform())
        axes.text(0, 1.02, "  unknown", ha="left", transform=axes.get_xaxis_transform())
        if novelty:
            figure.legend(loc="upper left", bbox_to_anchor=(0, -0.16))
