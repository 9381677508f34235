"""Pictures of a study: its scores trial by trial, what they depend on, and where in the space the good trials lie.

Drawn here, in the style of `figures`, and not by optuna.visualization.matplotlib (5.0): that leaves out pruned trials,
marks no best one, prints long names and choices over each other, and draws with the state of matplotlib.pyplot.
"""

import itertools
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowers.tuning.study_scales import Scale, StudyTrials

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.colors import Colormap
    from optuna.trial import FrozenTrial

    _Of = Callable[[FrozenTrial], Any]

_COLUMNS = 4  # of panels


def draw(trials: "Sequence[FrozenTrial]", importances: Mapping[str, float], folder: Path) -> None:
    """Write history.png, importances.png, parallel_coordinates.png and slices.png of a study into a folder.

    The study maximises a score between 0 and 1, and may have been interrupted. `importances` are the parameters' shares
    of 1, as `optuna.importance.get_param_importances` gives them; empty where they cannot be told. A picture for which
    there are too few trials says so.
    """
    study = StudyTrials(trials, importances)
    no_trial = study.no_trial()
    no_parameter = no_trial or ("" if study.names else "no parameter was searched")
    _write(folder / "history.png", study, _history, no_trial)
    _write(folder / "importances.png", study, _importances, no_parameter or study.no_importance())
    _write(folder / "parallel_coordinates.png", study, _parallel_coordinates, no_parameter)
    _write(folder / "slices.png", study, _slices, no_parameter)


def _write(path: Path, study: StudyTrials, picture: Callable[[StudyTrials, Path], None], lack: str) -> None:
    """Draw the picture, or say what it lacks."""
    from flowers.reporting import figures

    if not lack:
        picture(study, path)
        return
    with figures.page(path, 5, 1.2) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.set_facecolor("#F5F5F5")
        axes.text(0.5, 0.5, lack, ha="center", va="center", fontsize=10)


def _history(study: StudyTrials, path: Path) -> None:
    """The score of each trial, and the best so far as a line of steps."""
    from matplotlib.ticker import MaxNLocator

    from flowers.reporting import figures

    with figures.page(path, 8, 3.4) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xlabel="trial", ylabel="score", ylim=(-0.1, 1.14))
        axes.set_xlim(-0.5 - 0.01 * study.last, study.last + 0.5 + 0.01 * study.last)
        numbers = [*(trial.number for trial in study.done), study.last]
        best_so_far = [*itertools.accumulate(map(study.height, study.done), max), study.height(study.best)]
        _dots(axes, study, lambda trial: trial.number, lambda _: figures.BLUE)
        axes.step(numbers, best_so_far, where="post", color=figures.ORANGE, label="best so far", zorder=2)
        if study.failed:
            failed = [trial.number for trial in study.failed]
            axes.plot(failed, [-0.06] * len(failed), "x", color=figures.GREY, markersize=4, label="failed")
        side = study.best.number / max(study.last, 1)
        align = "left" if side < 0.2 else "right" if side > 0.8 else "center"
        place = (study.best.number, study.height(study.best))
        axes.annotate(study.best_in_words, place, (0, 8), textcoords="offset points", ha=align, color=figures.ORANGE)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
        _mark(axes.yaxis, study.score, 6)
        axes.grid(axis="y")
        axes.set_title("Score of each trial", pad=28)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.015, 1), ncols=6)


def _importances(study: StudyTrials, path: Path) -> None:
    """Bars, from the parameter that the score depends on most."""
    from flowers.reporting import figures

    ordered = sorted(study.importances.items(), key=lambda item: -item[1])
    with figures.page(path, 5, 0.34 * len(ordered)) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        bars = axes.barh(range(len(ordered)), [share for _, share in ordered], height=0.66, color=figures.BLUE)
        axes.bar_label(bars, [f"{100 * share:.0f} %" if share >= 0.005 else "< 1 %" for _, share in ordered], padding=4)
        axes.set_yticks(range(len(ordered)), [figures.shortened(name) for name, _ in ordered], fontsize=9)
        axes.set(xticks=[], ylim=(len(ordered) - 0.5, -0.5))
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_visible(False)
        figures.surround(figure, axes, "What the score depends on: each parameter's share")


def _parallel_coordinates(study: StudyTrials, path: Path) -> None:
    """A line for each completed trial, across one axis a parameter to its score; the better, the darker."""
    from flowers.reporting import figures

    scales = [*(study.scales[name] for name in study.names), study.score]
    longest = max(len(text) for scale in scales for text in scale.ticks().values())
    gap = max(1.4, 0.5 + 0.075 * longest, 4 / len(study.names))  # inches
    with figures.page(path, gap * len(study.names), 3.4) as figure:
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, len(study.names)), ylim=(0, 1), yticks=[])
        axes.spines[:].set_visible(False)
        shades, contrast = _shades(), 2  # most scores are near the best one
        for trial in sorted(study.done, key=lambda trial: (trial is study.best, trial.value)):
            places = [study.scales[n].place(trial.params[n]) if n in trial.params else math.nan for n in study.names]
            height = study.height(trial)
            colour, width = (figures.ORANGE, 2.5) if trial is study.best else (shades(height**contrast), 1)
            axes.plot([*places, height], color=colour, linewidth=width, clip_on=False, zorder=2)
        strip = axes.inset_axes((1, 0, 0.12 / gap / len(study.names), 1))
        strip.imshow([[(k / 255) ** contrast] for k in range(256)], cmap=shades, origin="lower", aspect="auto")
        strip.set_axis_off()
        for place, scale in enumerate(scales):
            _upright(axes, place, scale, 6 if place < len(study.names) else 14)
        axes.set_xticks(range(len(scales)), [*map(_broken, study.names), "score"])
        axes.tick_params(axis="x", length=0, pad=8)
        figures.surround(figure, axes, f"Completed trials, the best in orange ({study.best_in_words})")


def _upright(axes: "Axes", place: int, scale: Scale, offset: int) -> None:
    """One of the parallel axes, its values written beside it, readable over the lines."""
    from flowers.reporting import figures

    axes.axvline(place, color=figures.INK, linewidth=1, clip_on=False, zorder=3)
    ticks = scale.ticks()
    for heights, size in ((list(ticks), 7.0), (scale.small_ticks(), 3.5)):
        axes.plot([place] * len(heights), heights, "_", color=figures.INK, markersize=size, clip_on=False, zorder=3)
    paper = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8}
    for height, text in ticks.items():
        over: dict[str, Any] = {"textcoords": "offset points", "va": "center_baseline", "zorder": 4, "bbox": paper}
        axes.annotate(text, (place, height), (offset, 0), fontsize=8, **over)


def _slices(study: StudyTrials, path: Path) -> None:
    """A panel for each parameter: the scores by its values, later trials darker."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.ticker import MaxNLocator

    from flowers.reporting import figures

    columns = min(_COLUMNS, len(study.names))
    rows = math.ceil(len(study.names) / columns)
    width, height = 2.5 * columns + 0.6, 2.4 * rows
    shades = ScalarMappable(Normalize(0, max(study.last, 1)), _shades())
    with figures.page(path, width, height) as figure:
        layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
        panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
        for panel in panels[len(study.names) :]:
            panel.remove()
        for name, panel in zip(study.names, panels, strict=False):
            _slice(panel, study, name, lambda trial: shades.to_rgba(trial.number))
        _mark(panels[0].yaxis, study.score)
        figure.supylabel("score", fontsize=9)
        ticks = MaxNLocator(5, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10])
        bar = figure.colorbar(shades, ax=panels[: len(study.names)], label="trial", aspect=15 * rows, ticks=ticks)
        bar.outline.set_visible(False)
        layout.execute(figure)
        figure.set_layout_engine("none")  # the places are found; what follows lies outside
        figure.text(0, 1 + 0.35 / height, "Score by the value of each parameter", fontsize=11)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.1 / width, 1), ncols=6)


def _slice(axes: "Axes", study: StudyTrials, name: str, colour: "_Of") -> None:
    from flowers.reporting import figures

    scale = study.scales[name]
    spread = 0.2 / len(scale.choices) if scale.choices else 0

    def across(trial: "FrozenTrial") -> float:
        beside = spread * (trial.number * 0.618 % 1 - 0.5)  # the golden ratio keeps trials of one choice apart
        return scale.place(trial.params[name]) + beside if name in trial.params else math.nan

    _dots(axes, study, across, colour)
    axes.set(xlim=(-0.1, 1.1), ylim=(-0.08, 1.08))
    _mark(axes.xaxis, scale, 4)
    labels = axes.get_xticklabels()
    if sum(len(label.get_text()) + 2 for label in labels) > 30:
        for label in labels:
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.grid(axis="y")
    axes.set_title(figures.shortened(name), fontsize=9, pad=6)


def _dots(axes: "Axes", study: StudyTrials, across: "_Of", colour: "_Of") -> None:
    """The scores: of pruned trials hollow, of the best one in orange; what is below the scale, as arrows at its end."""
    from flowers.reporting import figures

    low = study.score.low
    groups: dict[str, tuple[str, list[FrozenTrial]]] = {
        "pruned": ("o", [trial for trial in study.pruned if trial.value >= low]),
        "completed": ("o", [trial for trial in study.done if trial.value >= low and trial is not study.best]),
        "below this axis": ("v", [trial for trial in (*study.pruned, *study.done) if trial.value < low]),
        "best": ("o", [study.best]),
    }
    for label, (marker, trials) in groups.items():
        if trials:
            shades = [figures.ORANGE if label == "best" else colour(trial) for trial in trials]
            hollow = [trial.state.name == "PRUNED" for trial in trials]
            inks = zip(shades, hollow, strict=True)
            fills, edges = zip(*(("white", ink) if empty else (ink, "white") for ink, empty in inks), strict=True)
            size = 60 if label == "best" else 28
            places = [across(trial) for trial in trials], [study.height(trial) for trial in trials]
            axes.scatter(*places, s=size, marker=marker, c=fills, edgecolors=edges, linewidths=0.9, zorder=3)
            key = figures.ORANGE if label == "best" else figures.BLUE
            fill = "white" if all(hollow) else key
            axes.plot([], [], marker, color=key, markerfacecolor=fill, markersize=math.sqrt(size), label=label)


def _mark(axis: "Axis", scale: Scale, n: int = 5) -> None:
    """Put a scale's ticks on an axis that runs from 0 to 1."""
    ticks = scale.ticks(n)
    axis.set_ticks(list(ticks), list(ticks.values()))
    axis.set_ticks(scale.small_ticks(), minor=True)


def _shades() -> "Colormap":
    """From pale, but seen on white, to dark."""
    from matplotlib.colors import LinearSegmentedColormap

    from flowers.reporting import figures

    return LinearSegmentedColormap.from_list("shades", ["#BBD8EA", figures.SKY, figures.BLUE, "#00263D"])


def _broken(name: str) -> str:
    """A parameter's name on lines of at most 16 letters, broken after dots and underscores."""
    parts = [name] if len(name) <= 16 else [part + "." for part in name.split(".")]
    lines = [line for part in parts for line in textwrap.wrap(part.replace("_", "_ "), 17)]
    return "\n".join(lines).replace("_ ", "_").removesuffix(".")
