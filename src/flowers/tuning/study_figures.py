"""Figures of a study: its scores trial by trial, the parameters' importances, and where the good trials lie.

Drawn here, in the style of `reporting.figures`, and not by optuna.visualization.matplotlib (5.0), which leaves out
pruned trials, does not mark the best one, overlaps long names and choices, and uses the state of matplotlib.pyplot.
"""

import itertools
import json
import math
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial

from flowers.reporting import figures

_Of = Callable[[FrozenTrial], Any]
_COLUMNS = 4  # of panels
# From pale, yet visible on white, to dark.
_SHADES = LinearSegmentedColormap.from_list("shades", ["#BBD8EA", figures.SKY, figures.BLUE, "#00263D"])
_LONGEST_CHOICE = 24  # letters
_TICKS: dict[str, Any] = {"min_n_ticks": 1, "steps": [1, 2, 5, 10]}


class _Study:
    """The trials by state, the best of them, and the scale of the scores."""

    def __init__(self, trials: Sequence[FrozenTrial], importances: Mapping[str, float]) -> None:
        trials = sorted(trials, key=lambda trial: trial.number)
        self.done = [trial for trial in trials if trial.state.name == "COMPLETE"]
        self.pruned = [trial for trial in trials if trial.state.name == "PRUNED" and trial.value is not None]
        self.failed = [trial for trial in trials if trial.state.name == "FAIL"]
        self.last = max((trial.number for trial in (*self.done, *self.pruned, *self.failed)), default=0)
        self.importances = dict(sorted(importances.items(), key=lambda item: -item[1]))
        if self.done:
            self.best = max(self.done, key=lambda trial: trial.value)  # of equal ones the first
            self.names = sorted(self.best.params, key=lambda name: -importances.get(name, 0))
            self.best_in_words = f"best: {100 * self.best.value:.1f} %, trial {self.best.number}"
            # Without a few very low scores, which would compress all others.
            high, median = self.best.value, statistics.median(trial.value for trial in self.done)
            lowest = min(trial.value for trial in (*self.done, *self.pruned))
            self.low = max(0, min(high - 0.01, max(lowest, median - 4 * max(high - median, 0.02))))
            self.high = max(high, 0.01)

    def score(self, trial: FrozenTrial) -> Any:
        """A trial's score, a float; for one below the scale, the scale's low end."""
        return max(self.low, trial.value)


def draw(trials: Sequence[FrozenTrial], importances: Mapping[str, float], folder: Path) -> None:
    """Write history.png, importances.png, parallel_coordinates.png and slices.png of a study into a folder.

    The study maximises a score between 0 and 1, and may have been interrupted. `importances` are the parameters' shares
    of 1, as `optuna.importance.get_param_importances` returns them; empty if unknown. A figure that needs more trials
    holds a sentence instead.
    """
    study = _Study(trials, importances)
    # Of equal scores, Optuna returns equal shares.
    unknown = not importances or len({trial.value for trial in study.done}) < 2
    for draw_figure in (_history, _importances, _parallel_coordinates, _slices):
        path = folder / f"{draw_figure.__name__[1:]}.png"
        lack = "" if study.done else "no completed trial"
        if draw_figure is _importances and unknown:
            lack = lack or "too few different scores"
        if not lack:
            draw_figure(study, path)
            continue
        with figures.page(path, 5, 1.2) as figure:
            figure.text(0.5, 0.5, lack, ha="center", va="center", fontsize=10)


def _history(study: _Study, path: Path) -> None:
    """The score of each trial, and the best so far as a line of steps."""
    with figures.page(path, 8, 3.4) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xlabel="trial", ylabel="score")
        numbers = [*(trial.number for trial in study.done), study.last]
        best_so_far = [*itertools.accumulate(map(study.score, study.done), max), study.best.value]
        _dots(axes, study, lambda trial: trial.number, lambda _: figures.BLUE)
        axes.step(numbers, best_so_far, where="post", color=figures.ORANGE, label="best so far", zorder=2)
        if study.failed:
            below = study.low - 0.06 * (study.high - study.low)
            failed = [trial.number for trial in study.failed]
            axes.plot(failed, [below] * len(failed), "x", color=figures.GREY, markersize=4, label="failed")
        axes.set_xlim(-0.5 - 0.01 * study.last, study.last + 0.5 + 0.01 * study.last)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, **_TICKS))
        axes.set_title(f"Score of each trial ({study.best_in_words})", pad=28)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.015, 1), ncols=6)


def _importances(study: _Study, path: Path) -> None:
    """Bars, the most important parameter first."""
    names, shares = list(study.importances), list(study.importances.values())
    with figures.page(path, 5, 0.34 * len(names)) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        bars = axes.barh(range(len(names)), shares, height=0.66, color=figures.BLUE)
        axes.bar_label(bars, [f"{100 * share:.0f} %" if share >= 0.005 else "< 1 %" for share in shares], padding=4)
        axes.set_yticks(range(len(names)), [figures.shortened(name) for name in names], fontsize=9)
        axes.set(xticks=[], ylim=(len(names) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_visible(False)
        figures.surround(figure, axes, "Importance of each parameter for the score")


def _parallel_coordinates(study: _Study, path: Path) -> None:
    """A line for each completed trial, across one axis per parameter to its score; better ones are darker."""
    names = study.names
    ticks = [_ticks(study.best.distributions[name]) for name in names]
    ticks.append({0: f"{100 * study.low:.1f} %", 1: f"{100 * study.high:.1f} %"})
    longest = max(len(text) for of_axis in ticks for text in of_axis.values())
    gap = max(1.4, 0.5 + 0.075 * longest, 4 / len(names))  # inches
    with figures.page(path, gap * len(names), 3.4) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, len(names)), ylim=(0, 1), yticks=[])
        axes.spines[:].set_visible(False)
        for trial in sorted(study.done, key=lambda trial: (trial is study.best, trial.value)):
            height = (study.score(trial) - study.low) / (study.high - study.low)
            places = [_place(trial.distributions[name], trial.params[name]) for name in names]
            # Squared, because most scores are near the best one.
            colour, width = (figures.ORANGE, 2.5) if trial is study.best else (_SHADES(height**2), 1)
            axes.plot([*places, height], color=colour, linewidth=width, clip_on=False, zorder=2)
        paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
        for across, of_axis in enumerate(ticks):
            axes.axvline(across, color=figures.INK, linewidth=1, clip_on=False, zorder=3)
            for height, text in of_axis.items():
                axes.text(across + 0.06 / gap, height, text, fontsize=8, va="center_baseline", bbox=paper, zorder=4)
        axes.set_xticks(range(len(ticks)), [*map(_broken, names), "score"])
        axes.tick_params(axis="x", length=0, pad=12)
        figures.surround(figure, axes, f"Completed trials, the best in orange ({study.best_in_words})")


def _slices(study: _Study, path: Path) -> None:
    """A panel for each parameter: the scores by its values, later trials darker."""
    columns = min(_COLUMNS, len(study.names))
    rows = math.ceil(len(study.names) / columns)
    width, height = 2.5 * columns + 0.6, 2.4 * rows
    shades = ScalarMappable(Normalize(0, max(study.last, 1)), _SHADES)
    with figures.page(path, width, height) as figure:
        layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
        for panel in panels[len(study.names) :]:
            panel.remove()
        for name, panel in zip(study.names, panels, strict=False):
            _slice(panel, study, name, lambda trial: shades.to_rgba(trial.number))
        figure.supylabel("score", fontsize=9)
        ticks = MaxNLocator(5, integer=True, **_TICKS)
        bar = figure.colorbar(shades, ax=panels[: len(study.names)], label="trial", aspect=15 * rows, ticks=ticks)
        bar.outline.set_visible(False)
        layout.execute(figure)
        figure.set_layout_engine("none")  # the layout is done; title and legend are placed outside of it
        figure.text(0, 1 + 0.35 / height, "Score by the value of each parameter", fontsize=11)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.1 / width, 1), ncols=6)


def _slice(axes: Axes, study: _Study, name: str, colour: _Of) -> None:
    distribution = study.best.distributions[name]
    ticks = _ticks(distribution)
    spread = 0.2 / len(ticks) if hasattr(distribution, "choices") else 0

    def across(trial: FrozenTrial) -> float:
        beside = spread * (trial.number * 0.618 % 1 - 0.5)  # the golden ratio keeps trials of one choice apart
        return _place(distribution, trial.params[name]) + float(beside)

    _dots(axes, study, across, colour)
    slanted = sum(len(text) + 2 for text in ticks.values()) > 30
    axes.set_xticks(list(ticks), list(ticks.values()), rotation=30 * slanted, ha="right" if slanted else "center")
    axes.set_xlim(-0.1, 1.1)
    axes.set_title(figures.shortened(name), fontsize=9, pad=6)


def _dots(axes: Axes, study: _Study, across: _Of, colour: _Of) -> None:
    """The scores: of pruned trials hollow, of the best one in orange; those below the scale as arrows at its end."""
    others = [trial for trial in (*study.pruned, *study.done) if trial is not study.best]
    groups = {
        "pruned": [trial for trial in study.pruned if trial.value >= study.low],
        "completed": [trial for trial in others if trial.value >= study.low and trial.state.name == "COMPLETE"],
        "below this axis": [trial for trial in others if trial.value < study.low],
        "best": [study.best],
    }
    for label, trials in groups.items():
        if not trials:
            continue
        marker, size = "v" if label == "below this axis" else "o", 60 if label == "best" else 28
        inks = [figures.ORANGE if label == "best" else colour(trial) for trial in trials]
        places = [across(trial) for trial in trials], [study.score(trial) for trial in trials]
        fills, edges = ("white", inks) if label == "pruned" else (inks, "white")
        axes.scatter(*places, s=size, marker=marker, c=fills, edgecolors=edges, linewidths=0.9, zorder=3)
        key = figures.ORANGE if label == "best" else figures.BLUE
        fill = "white" if label == "pruned" else key
        axes.plot([], [], marker, color=key, markerfacecolor=fill, markersize=math.sqrt(size), label=label)
    margin = 0.08 * (study.high - study.low)
    axes.set_ylim(study.low - margin, study.high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(6, **_TICKS))
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g} %")
    axes.grid(axis="y")


def _place(distribution: Any, value: Any) -> float:
    """The place of a value on an axis of length 1: 0 is the low end or the first choice; 0.5 of a single value."""
    if hasattr(distribution, "choices"):
        last = len(distribution.choices) - 1
        return float(distribution.choices.index(value) / last) if last else 0.5
    scale = math.log if distribution.log else float
    low, high = scale(distribution.low), scale(distribution.high)
    return float((scale(value) - low) / (high - low)) if low < high else 0.5


def _ticks(distribution: Any) -> dict[float, str]:
    """Places and texts of all choices, or of both ends of a range and its middle."""
    if hasattr(distribution, "choices"):
        texts = [value if isinstance(value, str) else json.dumps(value) for value in distribution.choices]
        texts = [textwrap.shorten(text, _LONGEST_CHOICE, placeholder="…") for text in texts]
        return {_place(distribution, value): text for value, text in zip(distribution.choices, texts, strict=True)}
    low, high = distribution.low, distribution.high
    middle = math.sqrt(low * high) if distribution.log else (low + high) / 2
    return {_place(distribution, value): f"{value:.3g}" for value in (low, middle, high)}


def _broken(name: str) -> str:
    """A parameter's name on lines of at most 16 letters, broken after dots and underscores."""
    parts = [name] if len(name) <= 16 else [part + "." for part in name.split(".")]
    lines = [line for part in parts for line in textwrap.wrap(part.replace("_", "_ "), 17)]
    return "\n".join(lines).replace("_ ", "_").removesuffix(".")
