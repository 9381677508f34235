"""A document of tables and pictures that is written once and shown on a terminal, as Markdown, or as one HTML page."""

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
    """Rows of text under a header; the first `left` columns are words, the others numbers, set flush right."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    folded: bool = False  # long: HTML and Markdown show it when it is asked for


@dataclass(frozen=True)
class Picture:
    """A PNG; HTML holds it whole, Markdown links to `file`, a terminal leaves it out."""

    png: bytes
    alt: str
    file: str = ""

    @property
    def width(self) -> int:
        """How wide it is shown, where there is room, in CSS pixels: letters have the size that they were drawn in."""
        pixels = int.from_bytes(self.png[16:20])  # the header of a PNG
        return round(pixels * 96 / DPI)


@dataclass(frozen=True)
class Card:
    """A small picture (JPEG or PNG; None where it could not be had) over lines of text, the first of them bold."""

    image: bytes | None
    lines: Sequence[str]
    tone: str = ""  # "good" or "bad": the colour of its edge
    beside: bytes | None = None  # a second picture, to the right of the first


@dataclass(frozen=True)
class Gallery:
    """Cards side by side under a title of their own, if they have one. A terminal and Markdown show the lines alone."""

    cards: Sequence[Card]
    title: str = ""

    @property
    def pairs(self) -> bool:
        """Whether its cards hold two pictures each."""
        return any(card.beside for card in self.cards)


@dataclass(frozen=True)
class Frame:
    """Cards that belong together, under lines of text, the first of them bold."""

    lines: Sequence[str]
    cards: Sequence[Card]


@dataclass(frozen=True)
class Frames:
    """Frames side by side. A terminal and Markdown show the lines of each and of its cards."""

    frames: Sequence[Frame]


Part = str | Table | Picture | Gallery | Frames  # a string is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True)
class Document:
    """A title, a sentence or two that say what matters, and sections."""

    title: str
    lead: Sequence[str]
    sections: Sequence[Section] = field(default_factory=tuple)


def show(document: Document, console: "Console") -> None:
    """Print it to a terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as Grid

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
                grid = Grid(box=box.SIMPLE_HEAD, pad_edge=False)
                for number, name in enumerate(part.header):
                    grid.add_column(escape(name), justify="left" if number < part.left else "right")
                for row in part.rows:
                    grid.add_row(*(escape(cell) for cell in row))
                console.print(grid)
            elif isinstance(part, Gallery):
                if part.title:
                    console.print(escape(part.title), highlight=False)
                for card in part.cards:
                    console.print(f"  {escape(' · '.join(card.lines))}", highlight=False, soft_wrap=True)
            elif isinstance(part, Frames):
                for frame in part.frames:
                    console.print(f"  {escape(' · '.join(frame.lines))}", highlight=False, soft_wrap=True)
                    for card in frame.cards:
                        console.print(f"    {escape(' · '.join(card.lines))}", highlight=False, soft_wrap=True)


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
    if isinstance(part, Frames):
        outline = [
            bullet_and_lines
            for frame in part.frames
            for bullet_and_lines in (("- ", frame.lines), *(("  - ", card.lines) for card in frame.cards))
        ]
        return [bullet + _plain(" · ".join(lines)) for bullet, lines in outline]
    rows = [part.header, ["---" if n < part.left else "---:" for n in range(len(part.header))], *part.rows]
    lines = ["| " + " | ".join(_plain(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    if part.folded:
        return [f"<details><summary>{len(part.rows)} rows</summary>", "", *lines, "", "</details>"]
    return lines


def _plain(text: str) -> str:
    """Text that Markdown leaves as it is: names of runs, classes and files may hold any sign."""
    for sign in "\\`*_<>[]#":
        text = text.replace(sign, f"\\{sign}")
    return text


def html(document: Document) -> str:
    """The document as one page that needs nothing else, with no script and no address in it."""
    return _template().render(document=document)


@cache
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    kinds = {"table": Table, "picture": Picture, "gallery": Gallery, "frames": Frames}
    for name, kind in kinds.items():
        environment.tests[name] = lambda part, kind=kind: isinstance(part, kind)
    environment.filters["data"] = _data_address
    return environment.get_template("document.html")


def _data_address(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"
