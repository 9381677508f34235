"""Medians and ratios from the timings of bench.py, and whether they reach their targets."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

import ceilings
from rich import box
from rich.console import Console
from rich.table import Table

STUDY_EPOCHS = 10
UNEVEN = 1.4  # times: between processes that do the same


@dataclass(frozen=True)
class Row:
    """A row of the table. `usual` and `ours` are in `unit`; `wanted` bounds ratio, share or `ours`."""

    key: str
    name: str
    unit: str
    ours: float
    usual: float | None = None
    wanted: float | None = None
    at_most: bool = False
    spread: tuple[float, float] | None = None  # standard deviations: of scores alone
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as fast, from rates or from times."""
        if self.usual is None or self.unit == "%":
            return None
        return self.ours / self.usual if self.unit == "images/s" else self.usual / self.ours

    @property
    def reached(self) -> bool | None:
        if self.wanted is None:
            return None
        if self.at_most:
            return self.ours <= self.wanted
        return (self.ratio or self.ours) >= self.wanted


def rows(content: dict[str, Any]) -> list[Row]:
    """A row per figure; a section that was not measured has none."""
    found: list[Any] = []
    for needed, lines in (
        (("extraction",), _extraction),
        (("extraction",), _shares),
        (("epochs",), _epochs),
        (("epochs", "study_extraction"), _study),
        (("commands",), _commands),
        (("accuracy",), _accuracy),
    ):
        if all(section in content["timings"] for section in needed):
            found += lines(content)
    return found


def _extraction(content: dict[str, Any]) -> Iterator[Row]:
    timings = content["timings"]["extraction"]
    usual = {name: [_rate(process, name) for process in timings["usual"]] for name in ("predict", "function", "files")}
    ours = {name: median(_rate(process, name) for process in timings["ours"]) for name in ("arrays", "files")}
    fast, slow = max(usual["predict"]), min(usual["predict"])
    note = f"predict in the fastest of {len(timings['usual'])} processes"
    if fast > UNEVEN * slow:
        note += f" (in the slowest {slow:.1f})"
    wanted = 2.0 if content["precision"] == "bfloat16" else 1.1
    yield Row("extraction", "Features of decoded images", "images/s", ours["arrays"], fast, wanted, note=note)
    yield Row("function", "… against tf.function(base)", "images/s", ours["arrays"], max(usual["function"]))
    note = "here they are also hashed and stored"
    yield Row("files", "… from JPEG files", "images/s", ours["files"], max(usual["files"]), note=note)
    plain = _rate(timings["usual_without_onednn"], "predict")
    note = "TF_ENABLE_ONEDNN_OPTS=0: on some processors TensorFlow's own choice"
    yield Row("without_onednn", "… against predict without oneDNN", "images/s", ours["arrays"], plain, note=note)


def _shares(content: dict[str, Any]) -> Iterator[Row]:
    rate = median(_rate(process, "arrays") for process in content["timings"]["extraction"]["ours"])
    measured = ceiling_figures(content)
    precision = content["precision"]
    if precision not in measured:
        return
    for kind, wanted in (("convolution", 85.0 if precision == "bfloat16" else None), ("matrix product", None)):
        fastest = max(speed for name, speed in measured[precision].items() if name.startswith(kind))
        share = 100 * rate / (fastest / ceilings.GFLOP_PER_IMAGE)
        yield Row(
            f"share_{kind.split()[0]}", f"… share of the {kind} ceiling", "%", share, wanted=wanted, note=precision
        )


def ceiling_figures(content: dict[str, Any]) -> dict[str, dict[str, float]]:
    """GFLOP/s by precision and operation: the median of all processes' timings."""
    processes = content["timings"]["extraction"]["ceilings"]
    return {
        precision: {
            name: median(value for process in processes for value in process[precision][name]) for name in of_one
        }
        for precision, of_one in processes[0].items()
    }


def _epochs(content: dict[str, Any]) -> Iterator[Row]:
    fine_tune = 4.0 if content["precision"] == "bfloat16" else 2.5
    for depth, name, wanted in (
        (0, "An epoch of the head, base frozen", 250.0),
        (1, "An epoch with 1 block unfrozen", None),
        (3, "An epoch with 3 blocks unfrozen", fine_tune),
    ):
        usual, ours = _sides(content, depth)
        photos = ours[0]["photos"]
        times = [process["epochs"][0] * photos / process["photos"] for process in usual]
        saved = median(seconds for process in ours for seconds in process["checkpoints"])
        notes = [f"{photos} images, validation included; here {text(saved, 's')} of it for the checkpoint"]
        if usual[0]["photos"] != photos:
            notes.append(f"usual script scaled from {usual[0]['photos']}")
        if max(times) > UNEVEN * min(times):
            notes.append(f"usual script uneven: {min(times):.1f} to {max(times):.1f} s")
        here = median(process["tail" if depth else "head"] for process in ours)
        yield Row(f"epoch_{depth}", name, "s", here, median(times), wanted, note="; ".join(notes))


def epoch_photos(content: dict[str, Any]) -> int:
    """The images of an epoch, those that it validates on included."""
    measured = content["timings"].get("epochs")
    return measured["0"]["ours"][0]["photos"] if measured else 0


def _study(content: dict[str, Any]) -> Iterator[Row]:
    """A trial of the usual script has ten epochs; one of this project ten of the head and, with blocks, ten of both."""
    extracted = content["timings"]["study_extraction"]
    trained = _sides(content, 0)[1][0]["photos"]  # train and val
    photos = trained / content["photos"]["ours"] * content["photos"]["all"]
    usual = 0.0
    ours = median(process["seconds"] for process in extracted) * photos / trained
    for depth, trials in content["depths"].items():
        theirs, here = _sides(content, int(depth))
        epoch = median(process["epochs"][0] / process["photos"] for process in theirs)  # of an image
        before = max(0.0, median(process["before"] - process["photos_before"] * epoch for process in theirs))
        usual += trials * (before + STUDY_EPOCHS * epoch * photos)
        of_photo = median(_epochs_of_trial(process) / process["photos"] for process in here)
        ours += trials * (median(process["before"] for process in here) + STUDY_EPOCHS * of_photo * photos)
    name = f"A study of {sum(content['depths'].values())} trials of {STUDY_EPOCHS} epochs"
    note = f"{photos:,.0f} images to train on, scaled from the epochs above; extraction and tracing included"
    yield Row("study", name, "s", ours, usual, 8.0, note=note)


def _epochs_of_trial(process: dict[str, Any]) -> float:
    """An epoch of the head, and one of both: a trial writes no checkpoint."""
    last = process["tail"] or process["head"]
    return float(last - median(process["checkpoints"]) + (process["head"] if process["tail"] else 0))


def _commands(content: dict[str, Any]) -> Iterator[Row]:
    timings = content["timings"]["commands"]
    beyond = median(timings["repro"]) - median(timings["repro_trivial"])
    note = f"dvc repro {median(timings['repro']):.2f} s, of trivial stages {median(timings['repro_trivial']):.2f} s"
    yield Row("repro", "dvc repro, nothing to do, beyond DVC's own", "s", beyond, None, 1.0, True, note=note)
    yield Row("help", "flowers --help", "s", median(timings["help"]), None, 0.5, True)
    share = timings["tracking"]
    note = f"mean of {len(share['epochs'])} epochs of a head"
    yield Row("mlflow", "MLflow's share of an epoch", "ms", 1000 * mean(share["epochs"]), None, 10.0, True, note=note)
    slow = 1000 * median(share["slow_epochs"])
    yield Row("mlflow_slow", "… of one that takes a second or more", "ms", slow, None, 10.0, True)
    yield Row("model", "The model logged to MLflow", "s", median(share["models"]), None, 1.0, True)


def _accuracy(content: dict[str, Any]) -> Iterator[Row]:
    sides = [
        [100 * process["accuracy"] for process in content["timings"]["accuracy"][side]] for side in ("usual", "ours")
    ]
    usual, ours = (float(stdev(scores)) if len(scores) > 1 else 0.0 for scores in sides)
    plan, tested = content["plan"], content["timings"]["accuracy"]["ours"][0]["photos"]
    note = f"mean ± sd, {plan['seeds']} × {plan['score_epochs']} epochs of the head; {tested} test images"
    yield Row("accuracy", "Test accuracy", "%", mean(sides[1]), mean(sides[0]), spread=(usual, ours), note=note)


def _sides(content: dict[str, Any], depth: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    both = content["timings"]["epochs"][str(depth)]
    return both["usual"], both["ours"]


def _rate(process: dict[str, Any], name: str) -> float:
    return float(process["photos"] / median(process[name]))


def show(content: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # lines that can be copied
    photos = content["photos"]
    console.print(
        f"\n{content['processor']}, {content['cores']} cores, {content['precision']}; {photos['ours']} images of "
        f"{photos['classes']} classes ({photos['from']}); {content['date']}\n",
        highlight=False,
    )
    table = Table(box=box.MARKDOWN)
    table.add_column("Measured", no_wrap=True)
    for column in ("Usual script", "This project", "Ratio", "Target", ""):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("Note", overflow="fold")
    for row in rows(content):
        usual, ours = (("" if v is None else text(v, row.unit)) for v in (row.usual, row.ours))
        if row.spread:
            usual, ours = (
                f"{value:.1f} ± {sd:.1f} %" for value, sd in zip((row.usual, row.ours), row.spread, strict=True)
            )
        mark = {True: "yes", False: "no", None: ""}[row.reached]
        table.add_row(row.name, usual, ours, times(row.ratio), _wanted(row), mark, row.note)
    console.print(table)
    if "extraction" in content["timings"]:
        console.print(_ceilings(content))


def _ceilings(content: dict[str, Any]) -> Table:
    measured = ceiling_figures(content)
    table = Table("Ceilings of the processor", box=box.MARKDOWN)
    for precision in ("float32", "bfloat16"):
        table.add_column(precision, justify="right")
    for name in measured["float32"]:
        speeds = [measured[precision][name] if precision in measured else None for precision in ("float32", "bfloat16")]
        shown = [
            f"{v:.0f} GFLOP/s, {v / ceilings.GFLOP_PER_IMAGE:.1f} images/s" if v else "not in hardware" for v in speeds
        ]
        table.add_row(name, *shown)
    return table


def text(value: float, unit: str) -> str:
    """A figure with its unit, in two to four digits."""
    if unit != "s":
        return f"{value:.1f} {unit}" if value < 100 else f"{value:.0f} {unit}"
    for size, name in ((3600, "h"), (60, "min")):
        if value >= 2 * size:
            return f"{value / size:.1f} {name}"
    return f"{value:.1f} s" if value >= 10 else f"{value:.2f} s" if value >= 0.1 else f"{1000 * value:.1f} ms"


def times(ratio: float | None) -> str:
    """2.043 as 2.04×, 21.35 as 21.4×, 213.4 as 213×."""
    if ratio is None:
        return ""
    digits = 0 if ratio >= 100 else 1 if ratio >= 10 else 2
    return f"{ratio:.{digits}f}×"


def _wanted(row: Row) -> str:
    if row.wanted is None:
        return ""
    if row.at_most:
        return f"≤ {row.wanted:g} {row.unit}"
    return f"≥ {row.wanted:g} %" if row.unit == "%" else f"≥ {row.wanted:g}×"
