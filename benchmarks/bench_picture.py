"""The figure of a bench report: two bars of time for each piece of work, the longer one at 100 %.

python benchmarks/bench_picture.py benchmarks/results/bench.json docs/bench.png
"""

import json
import sys
from pathlib import Path
from typing import Any

import bench_summary
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flowers.reporting.figures import BLUE, DPI, GREY, INK

USUAL = "#D3D7DB"
WIDTH, ROW, TOP, BOTTOM, LEFT = 8.8, 0.80, 0.72, 0.72, 2.52  # inches
BAR = 0.31  # of a row's height
GAP = 0.012  # of the longest bar, between a bar's end and its text
NAMES = {
    "extraction": ("Feature extraction", "100 images, decoded"),
    "epoch_0": ("An epoch of the head", "base frozen, {photos} images"),
    "epoch_1": ("An epoch, 1 block unfrozen", "{photos} images"),
    "epoch_3": ("An epoch, 3 blocks unfrozen", "{photos} images"),
    "study": ("A study of 20 trials", "of 10 epochs; with extraction"),
}


def draw(content: dict[str, Any], destination: Path) -> None:
    """Draw what the report has timings for; nothing where it has none of these."""
    found: dict[str, Any] = {row.key: row for row in bench_summary.rows(content)}
    shown = [found[key] for key in NAMES if key in found]
    if not shown:
        return
    height = TOP + ROW * len(shown) + BOTTOM
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((LEFT / WIDTH, BOTTOM / height, 1 - (LEFT + 0.3) / WIDTH, ROW * len(shown) / height))
    for place, row in enumerate(shown):
        _bars(axes, place, row)
        name, of_what = NAMES[row.key]
        axes.text(-0.025, place - 0.10, name, ha="right", va="center", fontsize=10.5, color=INK)
        of_what = of_what.format(photos=bench_summary.epoch_photos(content))
        axes.text(-0.025, place + 0.17, of_what, ha="right", va="center", fontsize=8.5, color=GREY)
    axes.set(xlim=(0, 1), ylim=(len(shown) - 0.5, -0.5), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.plot([0, 0], [-0.42, len(shown) - 0.58], color=GREY, linewidth=1, clip_on=False)
    figure.text(0.3 / WIDTH, 1 - 0.36 / height, "Time for the same work", fontsize=14, fontweight="bold", color=INK)
    handles = [Patch(color=USUAL, label="usual Keras script"), Patch(color=BLUE, label="this project")]
    anchor: dict[str, Any] = {"loc": "center right", "bbox_to_anchor": (1 - 0.2 / WIDTH, 1 - 0.31 / height), "ncols": 2}
    figure.legend(handles=handles, frameon=False, fontsize=10, labelcolor=INK, handlelength=1.1, **anchor)
    figure.text(0.3 / WIDTH, 0.16 / height, _footnote(content, found), fontsize=8, color=GREY, linespacing=1.5)
    destination.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(destination, metadata={"Software": None})


def _bars(axes: Axes, place: int, row: bench_summary.Row) -> None:
    """The longer one of the two takes the whole width."""
    assert row.usual is not None  # only such rows are drawn
    assert row.ours is not None
    usual, ours = (100 / row.usual, 100 / row.ours) if row.unit == "images/s" else (row.usual, row.ours)
    upper, lower = place - BAR / 2 - 0.015, place + BAR / 2 + 0.015
    for height, seconds, colour in ((upper, usual, USUAL), (lower, ours, BLUE)):
        axes.barh(height, seconds / max(usual, ours), BAR, color=colour, linewidth=0)
    end = usual / max(usual, ours) - GAP
    axes.text(end, upper, bench_summary.text(usual, "s"), ha="right", va="center", fontsize=9, color=INK)
    end = ours / max(usual, ours)
    inside = end > 0.6
    time, factor = bench_summary.text(ours, "s"), f"{bench_summary.times(row.ratio)} as fast"
    style: dict[str, Any] = {"va": "center", "fontsize": 9}
    if inside:
        axes.text(end - GAP, lower, time, ha="right", color="white", **style)
        axes.text(GAP, lower, factor, ha="left", color="white", fontweight="bold", **style | {"fontsize": 10})
        return
    drawn = axes.text(end + GAP, lower, time, ha="left", color=INK, **style)
    style |= {"fontsize": 10, "fontweight": "bold", "color": BLUE}
    axes.annotate(factor, (1, 0.5), (9, 0), xycoords=drawn, textcoords="offset points", **style)


def _footnote(content: dict[str, Any], found: dict[str, bench_summary.Row]) -> str:
    photos, versions = content["photos"], content["versions"]
    lines = []
    if "accuracy" in found:
        row = found["accuracy"]
        usual, ours = (f"{v:.1f} ± {sd:.1f} %" for v, sd in zip((row.usual, row.ours), row.spread or (), strict=True))
        seeds = content["plan"]["seeds"]
        scores = f"usual script {usual}, this project {ours}"
        lines.append(f"Test accuracy of the same training: {scores} (mean and sd over seeds: {seeds}).")
    lines.append(
        f"{content['processor']}, {content['cores']} cores, {content['precision']} · {photos['from']}, "
        f"{photos['ours']} images · TensorFlow {versions['tensorflow']}, Keras {versions['keras']} · {content['date']}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
