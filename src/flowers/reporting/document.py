"""A document of tables and pictures, shown on a terminal, as Markdown, or as one HTML page."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import rich.box
import rich.table
from rich.console import Console
from rich.text import Text

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
    """A heading and the parts under it; a terminal leaves out what is `detail`."""

    title: str
    parts: Sequence[Part]
    detail: bool = False


@dataclass(frozen=True)
class Document:
    """A title, one or two sentences with the main results, and sections."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section] = field(default_factory=tuple)


def show(document: Document) -> None:
    """Print it to standard output."""
    console = Console(markup=False, emoji=False, highlight=False)  # text is printed as it is
    console.print(document.title, style="bold")
    for line in document.lead:
        console.print(line)
    for section in (section for section in document.sections if not section.detail):
        console.print()
        console.print(section.title, style="bold")
        for part in section.parts:
            if isinstance(part, str):
                console.print(part)
            elif isinstance(part, Table):
                console.print(grid(part, box=rich.box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)))
            elif isinstance(part, Gallery):
                if part.title:
                    console.print(part.title)
                for card in part.cards:
                    console.print(f"  {' · '.join(card.lines)}", soft_wrap=True)


def grid(table: Table, **style: Any) -> rich.table.Table:
    """The table for a terminal. A cell of the first column is not wrapped; a word wider than its column is folded."""
    drawn = rich.table.Table(**style)
    for number, name in enumerate(table.header):
        drawn.add_column(
            Text(name), justify="left" if number < table.left else "right", no_wrap=not number, overflow="fold"
        )
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    return drawn


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
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    for kind in (Table, Picture, Gallery):
        environment.tests[kind.__name__.lower()] = lambda part, kind=kind: isinstance(part, kind)
    environment.filters["data"] = _data_address
    return environment.get_template("document.html")


def _data_address(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
