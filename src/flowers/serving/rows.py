"""Predictions written to standard output as they come: as a table, CSV or JSON lines."""

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import groupby
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray

from flowers.model.predicted import NEAREST
from flowers.serving.results import BEST, Prediction

Format = Literal["table", "csv", "jsonl"]
UNKNOWN = "unknown"  # in the table, in the place of a label


@dataclass(frozen=True)
class Row:
    """An image by its path, with its prediction and probabilities (classes,), or the error instead."""

    path: str
    prediction: Prediction | None
    probabilities: NDArray[np.float32]
    error: str | None


Write = Callable[[Sequence[Row]], None]


def writer(form: Format, classes: Sequence[str], every_class: bool) -> Write:
    """A function that writes some rows to standard output; `every_class` adds to CSV and JSON lines only."""
    # A file's name need not be valid UTF-8. CSV gets the bytes that it has on disk, JSON an escape.
    errors = {"table": "replace", "csv": "surrogateescape", "jsonl": "backslashreplace"}[form]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=None if form == "table" else "utf-8", errors=errors)
    if form == "table":
        return _table(sys.stdout, classes)
    line = (_csv if form == "csv" else _json_line)(sys.stdout, classes, every_class)

    def write(rows: Sequence[Row]) -> None:
        for row in rows:
            line(row)
        sys.stdout.flush()

    return write


def _csv(out: TextIO, classes: Sequence[str], every_class: bool) -> Callable[[Row], None]:
    ranks, near = range(2, min(BEST, len(classes)) + 1), range(1, min(NEAREST, len(classes)) + 1)
    header = ["path", "label", "probability", "unsure", "known", "novelty", *(f"nearest_{rank}" for rank in near)]
    header += [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
    header += [f"p({name})" for name in classes] if every_class else []
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow([*header, "error"])
    out.flush()

    def line(row: Row) -> None:
        values: list[str] = []
        if found := row.prediction:
            values = [found.label, f"{found.probability:.6g}", str(found.unsure).lower()]
            values += ["", ""] if found.known is None else [str(found.known).lower(), f"{found.novelty:.6g}"]
            values += found.nearest or [""] * len(near)
            for other in found.best[1:]:
                values += [other["label"], f"{other['probability']:.6g}"]
            if every_class:
                values += [f"{value:.6g}" for value in row.probabilities]
        lines.writerow([row.path, *(values or [""] * (len(header) - 1)), row.error or ""])

    return line


def _json_line(out: TextIO, classes: Sequence[str], every_class: bool) -> Callable[[Row], None]:
    def line(row: Row) -> None:
        found = row.prediction
        content: dict[str, Any] = {"path": row.path}
        content |= asdict(found) if found else dict.fromkeys(each.name for each in fields(Prediction))
        if every_class:
            content["probabilities"] = dict(zip(classes, row.probabilities.tolist(), strict=True)) if found else None
        exact = json.dumps({**content, "error": row.error})
        rounded = json.loads(exact, parse_float=lambda number: float(f"{float(number):.6g}"))
        out.write(json.dumps(rounded, ensure_ascii=False) + "\n")

    return line


def _table(out: TextIO, classes: Sequence[str]) -> Write:
    """Each call prints a piece of the table; the columns are as wide as the first piece makes them."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = Console(file=out, highlight=False, emoji=False)
    widest = max(cell_len(name) for name in ("flower", UNKNOWN, *classes))
    flower, probability, next_best = widest, len("low, > 99.9 %"), widest + len(" < 0.1 %")
    rest = max(terminal.width - flower - probability - next_best - 9, 16)  # 9: three gaps
    file = 0

    def piece(predictions: Sequence[tuple[str, Prediction]], show_header: bool = False) -> Table:
        found = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=show_header)
        found.add_column("file", width=file, overflow="fold")
        found.add_column("flower", width=flower, overflow="fold")
        found.add_column("probability", width=probability, justify="right")
        found.add_column("next best", width=next_best, overflow="fold")
        for path, row in predictions:
            other = "".join(f"{each['label']} {_percent(each['probability'])}" for each in row.best[1:2])
            share = Text(f"low, {_percent(row.probability)}", "yellow") if row.unsure else _percent(row.probability)
            if row.known is False:
                found.add_row(Text(path), Text(UNKNOWN, "yellow"), "", Text(f"like {row.nearest[0]}"))
            else:
                found.add_row(Text(path), Text(row.label), share, Text(other))
        return found

    def write(rows: Sequence[Row]) -> None:
        nonlocal file
        named = [(_printable(row.path), row) for row in rows]
        if not file:
            file = min(max(len("file"), *(cell_len(path) for path, _ in named)), rest)
            terminal.print(piece([], show_header=True))
        for bad, group in groupby(named, lambda pair: pair[1].prediction is None):
            if bad:  # a line of its own, because the columns are too narrow for an error
                for path, row in group:
                    gap = " " * max(file - cell_len(path), 0)
                    reason = Text(f"{path}{gap}   {_printable(row.error or '')}", "dim red")
                    terminal.print(reason, soft_wrap=True)
            else:
                terminal.print(piece([(path, row.prediction) for path, row in group if row.prediction]))
        out.flush()

    return write


def _percent(probability: float) -> str:
    """A probability as text; never 0 or 100 %."""
    shown = f"{100 * probability:.1f} %"
    return {"100.0 %": "> 99.9 %", "0.0 %": "< 0.1 %"}.get(shown, shown)


def _printable(text: str) -> str:
    """Text without control characters, whatever a file is called."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
