"""A document of tables and pictures, shown on a terminal, as Markdown, or as one HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2
    from rich.console import Console

TEMPLATES = Path(__file__).parent / "templates"
DPI = 150  # of pictures, as `figures` draws them


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first `left` columns are words, the others numbers, aligned right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    folded: bool = False  # HTML and Markdown show it collapsed


@dataclass(frozen=True)
class Picture:
    """A PNG: embedded in HTML, linked as `file` in Markdown, left out on a terminal."""

    png: bytes
    alt: str
    file: str = ""

    @property
    def width(self) -> int:
        """The width on a page in CSS pixels, at which letters have the size that they were drawn in."""
        pixels = int.from_bytes(self.png[16:20])  # the header of a PNG
        return round(pixels * 96 / DPI)


@dataclass(frozen=True)
class Card:
    """A small picture (JPEG or PNG; None if missing) over lines of text, the first of them bold."""

    image: bytes | None
    lines: Sequence[str]
    tone: str = ""  # "good" or "bad": the colour of its edge
    beside: bytes | None = None  # a second picture, on the right of the first


@dataclass(frozen=True)
class Gallery:
    """Cards side by side, under a title if there is one. A terminal and Markdown show only the lines."""

    cards: Sequence[Card]
    title: str = ""

    @property
    def pairs(self) -> bool:
        """Whether its cards hold two pictures each."""
        return any(card.beside for card in self.cards)


Part = str | Table | Picture | Gallery  # a string is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading and the parts under it."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Document:
    """A title, one or two sentences with the main results, and sections."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section] = field(default_factory=tuple)


def show(document: Document, console: "Console") -> None:
    """Print it to a terminal."""
    from rich.markup import escape

    console.print(escape(document.title), style="bold")
    for line in document.lead:
        console.print(escape(line), highlight=False)
    for section in document.sections:
        console.print()
        console.print(escape(section.title), style="bold")
        for part in section.parts:
            if isinstance(part, str):
                console.print(escape(part), highlight=False)
            elif isinstance(part, Table):
                _print_table(part, console)
            elif isinstance(part, Gallery):
                if part.title:
                    console.print(escape(part.title), highlight=False)
                for card in part.cards:
                    console.print(f"  {escape(' · '.join(card.lines))}", highlight=False, soft_wrap=True)


def _print_table(table: Table, console: "Console") -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table as Grid

    grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, name in enumerate(table.header):
        grid.add_column(escape(name), justify="left" if number < table.left else "right")
    for row in table.rows:
        grid.add_row(*(escape(cell) for cell in row))
    console.print(grid)


def markdown(document: Document) -> str:
    """The document in GitHub's Markdown, headings from the second level on."""
    lines = [f"## {_plain(document.title)}", "", *(f"{_plain(line)}\n" for line in document.lead)]
    for section in document.sections:
        lines += [f"### {_plain(section.title)}", ""]
        for part in section.parts:
            lines += [*_markdown(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def _markdown(part: Part) -> list[str]:
    if isinstance(part, str):
        return [_plain(part)]
    if isinstance(part, Picture):
        return [f"![{_plain(part.alt)}]({part.file})"] if part.file else []
    if isinstance(part, Gallery):
        title = [f"**{_plain(part.title)}**", ""] if part.title else []
        return [*title, *(f"- {_plain(' · '.join(card.lines))}" for card in part.cards)]
    rows = [part.header, ["---" if n < part.left else "---:" for n in range(len(part.header))], *part.rows]
    lines = ["| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    if part.folded:
        return [f"<details><summary>{len(part.rows)} rows</summary>", "", *lines, "", "</details>"]
    return lines


def _plain(text: str) -> str:
    """Text with Markdown escaped: names of runs, classes and files may hold any character."""
    for sign in "\\`*_<>[]#":
        text = text.replace(sign, f"\\{sign}")
    return text


def html(document: Document) -> str:
    """The document as one self-contained page, without scripts and external addresses."""
    return _template().render(document=document)


@cache
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    kinds = {"table": Table, "picture": Picture, "gallery": Gallery}
    for name, kind in kinds.items():
        environment.tests[name] = lambda part, kind=kind: isinstance(part, kind)
    environment.filters["data"] = _data_address
    return environment.get_template("document.html")


def _data_address(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
