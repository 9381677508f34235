"""Figures of a result: the confusion matrix and the recall of each class; the style of all figures.

All share one style, with colours for the colour-blind (Okabe and Ito, https://jfly.uni-koeln.de/color/). They are drawn
without a display, without the state of matplotlib.pyplot and without a user's matplotlibrc, so that equal data give
equal bytes.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from flowers.metrics import classification

BLUE, ORANGE, SKY, INK, GREY, PALE = "#0072B2", "#D55E00", "#56B4E9", "#333333", "#8A8A8A", "#E6E6E6"
BLUES = LinearSegmentedColormap.from_list("right", ["#FFFFFF", "#9CCBE6", BLUE, "#003A5C"])
ORANGES = LinearSegmentedColormap.from_list("wrong", ["#FFFFFF", "#F6BF94", ORANGE, "#6B2F00"])
RIGHT = ScalarMappable(Normalize(0, 1), BLUES)
WRONG = ScalarMappable(PowerNorm(0.5, 0, 1), ORANGES)
DPI = 150
# For letters that DejaVu Sans (part of matplotlib) does not have; the installed ones of these are used.
OTHER_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "WenQuanYi Zen Hei", "PingFang SC", "Hiragino Sans", "SimHei")
STYLE: dict[str, Any] = {
    "figure.dpi": DPI,
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,  # a $ in a class name is a $
    "axes.labelcolor": INK,
    "axes.edgecolor": GREY,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
}
CELL_TEXT_UP_TO = 20  # classes
ALL_UP_TO = 150  # classes; of more, only those that tell most are drawn
PAIRS, BEST, WORST = 30, 10, 30
LONGEST_NAME = 32  # letters


def confusion(matrix: pd.DataFrame, path: Path) -> None:
    """Draw a confusion matrix of counts (true class down, predicted across, both in one order) as a PNG.

    Colour is the share of the true class: blue on the diagonal; orange off it, on a square-root scale that shows rare
    errors. Up to 20 classes the cells hold their counts; with more, names stand on all four sides. With more than 150
    classes the picture shows the most frequent confusions as bars instead.
    """
    if len(matrix) > ALL_UP_TO:
        _confused_pairs(matrix, path)
        return
    counts = matrix.to_numpy(dtype=np.float64)
    n = len(counts)
    many = n > CELL_TEXT_UP_TO
    cell = 0.17 if many else max(0.45, min(0.9, 4.5 / n))  # inches
    with page(path, n * cell, n * cell) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        diagonal = np.eye(n, dtype=bool)[..., None]
        colours = np.where(diagonal, RIGHT.to_rgba(shares, bytes=True), WRONG.to_rgba(shares, bytes=True))
        axes.imshow(colours, interpolation="nearest")
        axes.spines[:].set_visible(False)
        _name_cells(axes, [shortened(name) for name in matrix.index], many, cell)
        if not many:
            _write_counts(axes, counts, shares)
        images, correct = int(counts.sum()), counts.trace() / max(counts.sum(), 1)
        surround(figure, axes, f"Confusion matrix: {100 * correct:.1f} % of {images:,} images correct", scales=True)


def _confused_pairs(matrix: pd.DataFrame, path: Path) -> None:
    """The most frequent pairs of true and predicted class: the share of the true class's images, and their number."""
    counts, names = matrix.to_numpy(), [shortened(name) for name in matrix.index]
    total, images = int(counts.sum()), counts.sum(axis=1)
    label, predicted = np.nonzero(counts)
    label, predicted = label[label != predicted], predicted[label != predicted]
    times = counts[label, predicted]
    most = np.lexsort((-times / images[label], -times))[:PAIRS]  # of equal numbers the larger share first
    pairs = [f"{names[label[pair]]}  \N{RIGHTWARDS ARROW}  {names[predicted[pair]]}" for pair in most]
    rows = range(max(len(most), 1))
    with page(path, 4, 0.22 * len(rows)) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.barh(rows[: len(most)], times[most] / images[label[most]], height=0.72, color=ORANGE)
        for row, pair in enumerate(most):
            text = f"{times[pair]:,} of {images[label[pair]]:,}"
            axes.text(1.05, row, text, va="center_baseline", fontsize=8)
        axes.set_yticks(rows, pairs or ["no image is predicted as another class"], fontsize=8)
        _share_axis(axes, len(rows))
        correct = f"{100 * counts.trace() / max(total, 1):.1f} % of {total:,} images correct"
        drawn = f"{len(most)} most frequent of {len(times):,} confused pairs"
        title = f"{correct}; {drawn}:\ntrue \N{RIGHTWARDS ARROW} predicted class, as a share of the true class"
        surround(figure, axes, title)


def per_class(table: pd.DataFrame, path: Path) -> None:
    """Draw the recall of each class with its 95 % interval and number of images, best class first, as a PNG.

    `table` has the columns class, photos, correct and recall (see `classification.per_class`). The interval is
    Wilson's. Classes without images come last, without a bar. Of more than 150 classes those of the highest and of the
    lowest recall are drawn.
    """
    ordered = table.sort_values(["recall", "photos", "class"], ascending=[False, False, True], na_position="last")
    mean, between = ordered["recall"].mean(), 0
    if len(ordered) > ALL_UP_TO:
        ordered = ordered[ordered["photos"] > 0]
        between = max(len(ordered) - BEST - WORST, 0)
        ordered = ordered.drop(ordered.index[BEST : BEST + between])
    photos = ordered["photos"].to_numpy(dtype=np.float64)
    recall = ordered["recall"].fillna(0).to_numpy(dtype=np.float64)
    rows = np.arange(len(ordered))
    if between:
        rows[BEST:] += 1  # a row for their number
    height = int(rows[-1]) + 1
    tested = photos > 0
    low, high = classification.wilson_interval(
        ordered["correct"].to_numpy()[tested], ordered["photos"].to_numpy()[tested]
    )
    many = len(ordered) > CELL_TEXT_UP_TO
    size = 7 if many else 9
    with page(path, 6, (0.17 if many else 0.3) * height) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.barh(rows, recall, height=0.72, color=SKY)
        axes.hlines(rows[tested], low, high, color=INK, linewidth=1)
        axes.plot(recall[tested], rows[tested], "o", color=INK, markersize=2.5, clip_on=False, linestyle="none")
        for place, count in zip(rows.tolist(), photos.tolist(), strict=True):
            text, colour = (f"{int(count):,}", INK) if count else ("no images", GREY)
            axes.text(1.05, place, text, va="center_baseline", fontsize=size, color=colour)
        axes.annotate("images", (1.05, 1), (0, 4), "axes fraction", "offset points", fontsize=8, color=GREY)
        if between:
            axes.axhspan(BEST - 0.4, BEST + 0.4, color="white", zorder=3)
            text = f"{between:,} classes between"
            axes.text(0.5, BEST, text, ha="center", va="center_baseline", fontsize=size, color=GREY, zorder=4)
        axes.set_yticks(rows, [shortened(name) for name in ordered["class"]], fontsize=size)
        _share_axis(axes, height, labeltop=many)
        if tested.any():
            axes.axvline(mean, color=ORANGE, linewidth=1, linestyle="--")
            title = f"Recall per class, 95 % interval; mean over classes {100 * mean:.1f} % (dashed)"
        else:
            title = "Recall per class"
        surround(figure, axes, title)


def _share_axis(axes: Axes, rows: int, labeltop: bool = True) -> None:
    """The scale of horizontal bars, 0 ... 100 %, the first row at the top."""
    axes.set(xlim=(0, 1), ylim=(rows - 0.5, -0.5))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labeltop=labeltop, length=0)
    axes.spines["left"].set_color(GREY)
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="x")


@contextmanager
def page(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of this size in inches in this module's style; saved as PNG with everything drawn outside its edges."""
    with matplotlib.style.context(["default", {**STYLE, "font.family": _fonts()}]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")  # drawn as a box
        figure = Figure(figsize=(width, height))
        FigureCanvasAgg(figure)
        yield figure
        path.parent.mkdir(parents=True, exist_ok=True)
        page = figure.get_tightbbox().padded(0.2)  # as bbox_inches="tight", which would draw everything twice
        figure.savefig(path, format="png", dpi=DPI, bbox_inches=page, metadata={"Software": None})


@cache
def _fonts() -> list[str]:
    """DejaVu Sans first, so that most names look the same everywhere."""
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(font for font in OTHER_FONTS if font in installed)]


def surround(figure: Figure, axes: Axes, title: str, scales: bool = False) -> None:
    """Add a title above, and for a confusion matrix two colour scales on the right, outside the names."""
    box = axes.get_tightbbox()
    assert box is not None
    width, height = figure.get_size_inches()
    figure.text(0, (box.y1 / DPI + 0.3) / height, title, fontsize=11, va="bottom")
    if not scales:
        return
    left, tall = box.x1 / DPI + 0.25, min(3.0, height)
    ticks = ((RIGHT, "correct", [0, 0.25, 0.5, 0.75, 1]), (WRONG, "wrong", [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1]))
    for place, (colours, name, marks) in enumerate(ticks):
        bar = figure.add_axes(((left + 0.75 * place) / width, 1 - tall / height, 0.16 / width, tall / height))
        figure.colorbar(colours, cax=bar, ticks=marks)
        bar.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        bar.tick_params(length=0)
        bar.minorticks_off()
        bar.spines[:].set_visible(False)
        bar.set_title(name, fontsize=8, pad=8)
    figure.text(left / width, 1 - (tall + 0.1) / height, "share of the true class", fontsize=8, va="top")


def _name_cells(axes: Axes, names: Sequence[str], many: bool, cell: float) -> None:
    """Class names along the sides, thin lines between the cells, and an outlined diagonal."""
    n = len(names)
    upright = many or 0.075 * max(map(len, names)) > cell  # inches
    axes.set_xticks(range(n), names, rotation=90 if upright else 0)
    axes.set_yticks(range(n), names)
    axes.tick_params(length=0, labelsize=7 if many else 9, labeltop=many, labelright=many)
    edges = np.arange(n + 1) - 0.5
    axes.hlines(edges, -0.5, n - 0.5, color=PALE, linewidth=0.5 if many else 1, clip_on=False)
    axes.vlines(edges, -0.5, n - 0.5, color=PALE, linewidth=0.5 if many else 1, clip_on=False)
    squares = [[(k, k), (k + 1, k), (k + 1, k + 1), (k, k + 1), (k, k)] for k in edges[:-1]]
    axes.add_collection(LineCollection(squares, colors=BLUE, linewidths=0.8, clip_on=False))
    axes.set_xlabel("predicted class", labelpad=8)
    axes.set_ylabel("true class", labelpad=8)


def _write_counts(axes: Axes, counts: NDArray[np.float64], shares: NDArray[np.float64]) -> None:
    """The count in each cell, white on dark cells; zeros only on the diagonal."""
    for row, column in np.argwhere((counts > 0) | np.eye(len(counts), dtype=bool)).tolist():
        colour = "white" if shares[row, column] > (0.5 if row == column else 0.3) else INK
        axes.text(column, row, f"{int(counts[row, column]):,}", ha="center", va="center", color=colour, fontsize=8)


def shortened(name: object) -> str:
    """A class name on one line, cut if it is very long."""
    text = " ".join(str(name).split()) or " "
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
