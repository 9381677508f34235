"""A document on a terminal, in Markdown and as a page."""

import io
import re

from rich.console import Console

from flowers.reporting import document
from flowers.reporting.document import Card, Document, Gallery, Picture, Section, Table

PNG = b"\x89PNG rest"
NASTY = "<b>|_a_ [bold]*"
WHOLE = Document(
    NASTY,
    ["A lead."],
    [
        Section("Numbers", ["A paragraph.", Table(["class", "photos"], [[NASTY, "3"], ["rose", "12"]])]),
        Section("Pictures", [Picture(PNG, "Curves", "evaluation/curves.png")]),
        Section("Photos", [Gallery([Card(b"\xff\xd8", ["rose", "tulip 90 %"], "bad"), Card(None, ["lost one"])])]),
        Section("Long", [Table(["class"], [["rose"]], folded=True)]),
    ],
)


def shown() -> str:
    out = io.StringIO()
    document.show(WHOLE, Console(file=out, width=100))
    return out.getvalue()


def test_a_terminal_shows_words_as_they_are_and_leaves_pictures_out():
    text = shown()
    assert text.count(NASTY) == 2
    assert "rose · tulip 90 %" in text and "lost one" in text
    assert "Curves" not in text


def test_numbers_stand_flush_right_on_a_terminal():
    one, other = (line.rstrip() for line in shown().splitlines() if line.rstrip().endswith((" 3", "12")))
    assert len(one) == len(other)


def test_markdown_is_a_document_whose_words_change_nothing_in_it():
    text = document.markdown(WHOLE)
    escaped = r"\<b\>|\_a\_ \[bold\]\*"
    assert text.startswith(f"## {escaped}\n\nA lead.\n")
    assert "| " + escaped.replace("|", r"\|") + " | 3 |" in text
    assert "| class | photos |\n| --- | ---: |" in text
    assert "![Curves](evaluation/curves.png)" in text
    assert "- rose · tulip 90 %" in text
    assert "<details><summary>1 rows</summary>\n\n| class |" in text


def test_a_page_escapes_what_it_is_given_and_needs_nothing_else():
    page = document.html(WHOLE)
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert not re.search(r"https?:|<script|<link|url\(", page)
    assert re.findall(r'src="data:image/(\w+);base64,', page) == ["png", "jpeg"]
    assert "not here" in page  # the card without a picture
    assert page == document.html(WHOLE)
