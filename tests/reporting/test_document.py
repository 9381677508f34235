"""A document on a terminal, in Markdown and as a page."""

import re

import pytest

from flowers.reporting import document, figures
from flowers.reporting.document import Card, Document, Gallery, Picture, Section, Table

JPEG = b"\xff\xd8 one", b"\xff\xd8 two"


def png(width: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + width.to_bytes(4) + bytes(9)


NASTY = "<b>|_a_ [bold]*"
WHOLE = Document(
    NASTY,
    ["A lead."],
    [
        Section("Numbers", ["A paragraph.", Table(["class", "images"], [[NASTY, "3"], ["rose", "12"]])]),
        Section("Pictures", [Picture(png(900), "Curves", "evaluation/curves.png")]),
        Section("Images", [Gallery([Card(b"\xff\xd8", ["rose", "tulip 90 %"], "bad"), Card(None, ["lost one"])])]),
        Section("Long", [Table(["class"], [["rose"]], folded=True)]),
    ],
)


@pytest.fixture
def shown(capsys, monkeypatch):
    """Show a document on a terminal of 100 columns; returns its text."""
    monkeypatch.setenv("COLUMNS", "100")

    def show(whole: Document) -> str:
        document.show(whole)
        return capsys.readouterr().out

    return show


def test_a_terminal_shows_text_literally_and_leaves_pictures_out(shown):
    text = shown(WHOLE)
    assert text.count(NASTY) == 2
    assert "rose · tulip 90 %" in text and "lost one" in text
    assert "Curves" not in text


def test_numbers_are_aligned_right_on_a_terminal(shown):
    one, other = (line.rstrip() for line in shown(WHOLE).splitlines() if line.rstrip().endswith((" 3", "12")))
    assert len(one) == len(other)


def test_markdown_escapes_its_text():
    text = document.markdown(WHOLE)
    escaped = r"\<b\>|\_a\_ \[bold\]\*"
    assert text.startswith(f"## {escaped}\n\nA lead.\n")
    assert "| " + escaped.replace("|", r"\|") + " | 3 |" in text
    assert "| class | images |\n| --- | ---: |" in text
    assert "![Curves](evaluation/curves.png)" in text
    assert "- rose · tulip 90 %" in text
    assert "<details><summary>1 rows</summary>\n\n| class |" in text


def test_a_page_escapes_its_text_and_is_self_contained():
    page = document.html(WHOLE)
    assert "&lt;b&gt;" in page and "<b>" not in page
    assert not re.search(r"https?:|<script|<link|url\(", page)
    assert re.findall(r'src="data:image/(\w+);base64,', page) == ["png", "jpeg"]
    assert "missing" in page  # the card without a picture
    assert page == document.html(WHOLE)


def page(*parts, sections=1) -> str:
    return document.html(Document("A title", ["A lead."], [Section(f"Part {n}", parts) for n in range(sections)]))


def test_a_picture_is_shown_at_the_size_that_its_letters_were_drawn_in():
    assert document.DPI == figures.DPI
    assert 'width="96"' in page(Picture(png(150), "a figure"))


def test_a_picture_wider_than_a_page_has_a_hint_to_enlarge_it():
    assert 'class="picture large"' in page(Picture(png(3000), "a figure"))
    assert 'class="picture"' in page(Picture(png(900), "a figure"))


def test_a_card_holds_one_picture_or_two():
    one, two = (page(Gallery([Card(JPEG[0], ["rose"], beside=beside)])) for beside in (None, JPEG[1]))
    assert (one.count("<img"), two.count("<img")) == (1, 2)
    assert 'class="gallery"' in one and 'class="gallery pairs"' in two


def test_the_title_of_a_gallery_stands_above_its_cards_everywhere(shown):
    gallery = Gallery([Card(None, ["rose", "1.jpg"])], "rose taken for tulip")
    whole = Document("A title", [], [Section("Mistakes", [gallery])])
    for text in (document.html(whole), document.markdown(whole), shown(whole)):
        assert text.index("Mistakes") < text.index("rose taken for tulip") < text.index("1.jpg")


@pytest.mark.parametrize(("sections", "links"), [(2, 0), (5, 5)])
def test_a_long_page_begins_with_links_to_its_sections(sections, links):
    text = page("words", sections=sections)
    assert text.count('<a href="#s') == links
    assert text.count('<section id="s') == sections


def test_a_folded_table_holds_all_rows():
    text = page(Table(["class"], [["rose"], ["tulip"]], folded=True))
    assert "<summary>2 rows</summary>" in text and "rose" in text and "tulip" in text
